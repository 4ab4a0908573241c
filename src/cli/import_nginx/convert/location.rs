//! `location` blocks: routes.

use std::time::Duration;

use super::{
    Importer, Scope,
    access::is_internal,
    answer::{Answer, returned},
    conditions,
    fields::Lines,
    general,
    routes::Route,
    server::Server,
    values::{self, Known, Url, exchange_of, target_of},
};
use crate::{
    cli::import_nginx::{parse::Directive, reasons, units, write::quoted},
    config::units::{show_duration, show_size},
};

/// Directives of a location that are carried over.
pub(super) const OF_LOCATION: [&str; 29] = [
    "location",
    "proxy_pass",
    "grpc_pass",
    "grpc_set_header",
    "grpc_connect_timeout",
    "grpc_read_timeout",
    "return",
    "proxy_set_header",
    "proxy_hide_header",
    "proxy_redirect",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "add_header",
    "client_max_body_size",
    "limit_except",
    "internal",
    "default_type",
    "limit_req",
    "proxy_ssl_verify",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_name",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
    "access_log",
    "try_files",
    "rewrite",
    "allow",
    "deny",
    "if",
];

/// Where a location leads.
enum Handler<'a> {
    /// With the scope that it stands in.
    Return(&'a Directive, Scope<'a>),
    /// With the scope that it stands in.
    Proxy(&'a Directive, Scope<'a>),
    /// A fixed status, and why.
    Fixed(u16, &'static str),
}

impl Importer {
    /// The routes of a location and of those within it.
    pub(super) fn location(&mut self, server: &Server<'_>, outer: &Scope<'_>, location: &Directive) {
        let block = location.children();
        let scope = outer.within(block);
        let Some(path) = path_of(location) else {
            if !location.arg(0).starts_with('@') {
                let comment =
                    self.notes.dropped(location, "CAUTION: there are no regular expressions: its requests go by the other routes");
                self.draft.routes.push(comment);
            }
            return;
        };
        for inner in block.iter().filter(|one| one.name == "location") {
            if is_hidden(inner, &scope) {
                let comment = self.notes.dropped(inner, "no request comes here: a longer location beside an outer one has them");
                self.draft.routes.push(comment);
                continue;
            }
            self.location(server, &scope, inner);
        }
        match self.handler(server, location, &scope) {
            Handler::Fixed(status, why) => {
                // What stands in it goes with it, but for what holds within locations in it.
                if block.iter().any(|one| one.name == "location") {
                    self.leftovers(block);
                }
                if !why.is_empty() {
                    let comment = self.notes.dropped(location, why);
                    self.draft.routes.push(comment);
                }
                self.answer(server, &path, &[], Answer::status(status), location);
            }
            Handler::Return(directive, target) => {
                let (methods, denied) = self.limited_with(block, target.0.last().copied().unwrap_or_default(), |_| false);
                let answered = returned(self, server, &target, &path, directive);
                self.answer(server, &path, &methods, answered, directive);
                if let Some(limit) = denied {
                    self.answer(server, &path, &[], Answer::status(403), limit);
                }
            }
            Handler::Proxy(directive, target) => {
                for condition in block.iter().filter(|one| conditions::method_of(one).is_some()) {
                    self.answer_method(server, &scope, &path, condition);
                }
                let (methods, denied) =
                    self.limited_with(block, target.0.last().copied().unwrap_or_default(), |one| conditions::method_of(one).is_some());
                if denied.is_none() || !methods.is_empty() {
                    self.proxied(server, &path, methods, [&scope, &target], directive);
                }
                if let Some(limit) = denied {
                    self.answer(server, &path, &[], Answer::status(403), limit);
                }
            }
        }
        // Whatever answers at the path with the slash, closed or not; but not where another location has the `…_pass`.
        let matched = path.trim_start_matches("= ");
        if matched.ends_with('/') && matched.len() > 1 && block.iter().any(|one| one.name.ends_with("_pass")) {
            self.slashes.push((matched.trim_end_matches('/').to_owned(), is_internal(&scope)));
        }
    }

    /// Notes and `limit_except` of a location, and of the named one that its `try_files` leads to: what either refuses is refused.
    fn limited_with<'a>(
        &mut self,
        block: &'a [Directive],
        own: &'a [Directive],
        is_carried: impl Fn(&Directive) -> bool,
    ) -> (Vec<String>, Option<&'a Directive>) {
        self.leftovers_but(block, is_carried);
        let (mut methods, denied) = self.limited_methods(block);
        if std::ptr::eq(own, block) {
            return (methods, denied);
        }
        self.leftovers(own);
        let (of_target, limit) = self.limited_methods(own);
        if denied.is_some() && limit.is_some() {
            methods.retain(|method| of_target.contains(method));
        } else if limit.is_some() {
            methods = of_target;
        }
        (methods, denied.or(limit))
    }

    fn handler<'a>(&mut self, server: &Server<'a>, location: &'a Directive, scope: &Scope<'a>) -> Handler<'a> {
        let block = location.children();
        let one = |name: &str| block.iter().find(|one| one.name == name);
        if is_internal(scope) {
            return Handler::Fixed(404, "no client comes here");
        }
        if let Some(handler) = self.handler_of(block, scope) {
            return handler;
        }
        if let Some(files) = one("try_files")
            && let Some(named) = files.args.last().filter(|last| last.starts_with('@'))
            && let Some(target) =
                server.directive.children().iter().find(|other| other.name == "location" && other.arg(0) == named.as_str())
            && let own = Scope(scope.0.iter().copied().take(2).collect()).within(target.children())
            && let Some(handler) = self.handler_of(target.children(), &own)
        {
            let comment = self.notes.changed(files, format!("forebay looks for no files: everything goes to `{named}`"));
            self.draft.routes.push(comment);
            return handler;
        }
        let speaks_another = block.iter().any(|one| one.name.ends_with("_pass") || one.name.ends_with("_by_lua_block"));
        if one("stub_status").is_some() {
            Handler::Fixed(404, "see /metrics and `forebay status`")
        } else if speaks_another {
            Handler::Fixed(502, "forebay speaks HTTP to its backends and runs no code")
        } else {
            Handler::Fixed(404, "forebay serves no files: let a backend do it")
        }
    }

    /// What a location does by itself, in the order in which nginx looks at it.
    fn handler_of<'a>(&mut self, block: &'a [Directive], scope: &Scope<'a>) -> Option<Handler<'a>> {
        let one = |name: &str| block.iter().find(|one| one.name == name);
        if let Some(directive) = one("return") {
            return Some(Handler::Return(directive, scope.clone()));
        }
        if self.is_closed(scope) {
            return Some(Handler::Fixed(403, ""));
        }
        // gRPC over TLS has directives of its own about certificates.
        let pass = one("proxy_pass").or_else(|| one("grpc_pass").filter(|pass| !pass.arg(0).starts_with("grpcs:")));
        pass.map(|directive| Handler::Proxy(directive, scope.clone()))
    }

    /// The route to a backend. `scopes` are that of the location and that of the `proxy_pass`, which a `try_files` may lead to.
    fn proxied(&mut self, server: &Server<'_>, path: &str, methods: Vec<String>, scopes: [&Scope<'_>; 2], directive: &Directive) {
        let [outer, scope] = scopes;
        let module = directive.name.trim_end_matches("_pass");
        let connecting = scope.last(&format!("{module}_connect_timeout"));
        let connect = connecting.and_then(|one| units::time(one.arg(0)));
        if let Some(one) = connecting {
            self.shortened(one, connect > Some(Duration::from_secs(60)), "`connect_timeout` is a minute at most");
        }
        let (Some(url), Some(http)) = (target_of(directive, scope), scope.0.first().copied()) else {
            let comment = self.notes.dropped(directive, "a backend is named, and not made of variables");
            self.draft.routes.push(comment);
            return self.answer(server, path, &[], Answer::status(502), directive);
        };
        let backend = match self.backend(&url, http, connect, scope) {
            Ok(backend) => backend,
            Err(why) => {
                let comment = self.notes.dropped(directive, why);
                self.draft.routes.push(comment);
                return self.answer(server, path, &[], Answer::status(502), directive);
            }
        };
        let is_checked = scope.last("proxy_ssl_verify").is_some_and(|verify| verify.arg(0) == "on");
        if url.scheme == "https" && !is_checked {
            let why = "nginx does not check this server's certificate, and forebay does: where no authority of the system has signed it, set `tls` of the backend";
            let comment = self.notes.changed(directive, format!("CAUTION: {why}"));
            self.draft.routes.push(comment);
        }
        let mut lines = vec![format!("backend = {}", quoted(&backend))];
        let exchanged = self.prefixes(path, &url, &rewrites_of(outer, scope), directive);
        lines.extend(exchanged.iter().cloned());
        let known = Known { server_name: server.name(), proxy_host: url.host(), server_port: server.port() };
        let Lines { comments, lines: of_request, changes_host } = self.request_fields(scope, &format!("{module}_set_header"), known);
        self.draft.routes.extend(comments);
        lines.extend(of_request);
        let of_response = self.response_fields(scope, known, "");
        self.draft.routes.extend(of_response.comments);
        lines.extend(of_response.lines);
        self.redirects(scope, changes_host || !exchanged.is_empty(), &mut lines);
        if let Some((one, asked)) = scope.last(&format!("{module}_read_timeout")).and_then(|one| Some((one, units::time(one.arg(0))?))) {
            let time = asked.clamp(Duration::from_millis(1), Duration::from_secs(86_400));
            self.shortened(one, asked > time, "`response_timeout` is a day at most");
            lines.push(format!("response_timeout = {}", quoted(&show_duration(time))));
        }
        // nginx counts a request once, where it comes first.
        let of_outer = self.rate_of(outer);
        lines.extend(if of_outer.is_empty() { self.rate_of(scope) } else { of_outer });
        // There it looks at a body's length too; what a named location says of itself holds for bodies without one.
        let says = scope.0.last().is_some_and(|level| level.iter().any(|one| one.name == "client_max_body_size"));
        let of_target = if says { general::max_body(scope) } else { general::UNLIMITED };
        let max_body = general::max_body(outer).min(of_target);
        if max_body != self.max_body {
            lines.push(format!("max_body = {}", quoted(&show_size(max_body))));
        }
        let route = Route { hosts: server.route_hosts(), scheme: server.scheme, path: path.into(), methods, lines };
        if !self.push(server, route, directive) {
            self.answer_if_free(server, path, Answer::status(502));
        }
    }

    /// What of the path is exchanged: nginx puts the URI of `proxy_pass` in place of what the location has matched. The usual `rewrite … break` does the same.
    fn prefixes(&mut self, path: &str, url: &Url, rewrites: &[&Directive], pass: &Directive) -> Vec<String> {
        let matched = path.trim_start_matches("= ");
        let mut exchange = url.uri.as_ref().map(|uri| (matched.to_owned(), uri.clone()));
        for rewrite in rewrites {
            if pass.arg(0).ends_with("$request_uri") && rewrite.arg(2) == "break" {
                let comment = self.notes.dropped(rewrite, "`$request_uri` of `proxy_pass` is the path as it came");
                self.draft.routes.push(comment);
                continue;
            }
            match exchange_of(rewrite).filter(|_| exchange.is_none()) {
                Some(found) if matched.starts_with(found.0.as_str()) => exchange = Some(found),
                Some((from, to)) if from == format!("{matched}/") && to.ends_with('/') => {
                    let to_root = if to == "/" { "/" } else { to.trim_end_matches('/') };
                    let why = format!("it holds for the path without the last slash too: `{matched}` itself goes out as `{to_root}`");
                    let comment = self.notes.changed(rewrite, why);
                    self.draft.routes.push(comment);
                    exchange = Some((matched.to_owned(), to.trim_end_matches('/').to_owned()));
                }
                _ => {
                    let comment = self.notes.dropped(rewrite, reasons::why_of(rewrite));
                    self.draft.routes.push(comment);
                }
            }
        }
        match exchange {
            Some((from, to)) if from != to => {
                let is_nothing = to.is_empty() || (to == "/" && from.ends_with('/'));
                let add = (!is_nothing).then(|| format!("add_prefix = {}", quoted(&to)));
                std::iter::once(format!("strip_prefix = {}", quoted(&from))).chain(add).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Says once that a time is shorter than nginx has it.
    fn shortened(&mut self, directive: &Directive, is_shorter: bool, why: &str) {
        if is_shorter && !self.cautioned.contains(&directive.place) {
            self.cautioned.push(directive.place.clone());
            let comment = self.notes.changed(directive, why);
            self.draft.routes.push(comment);
        }
    }

    fn redirects(&mut self, scope: &Scope<'_>, changes_place: bool, lines: &mut Vec<String>) {
        for directive in scope.all("proxy_redirect") {
            match directive.arg(0) {
                "off" if changes_place => lines.push("locations = \"keep\"".into()),
                "off" | "default" => self.notes.built_in += 1,
                _ => {
                    let comment = self.notes.dropped(
                        directive,
                        "the backend's redirects get back the prefix and host that the route has changed, and no other",
                    );
                    self.draft.routes.push(comment);
                }
            }
        }
    }
}

/// Whether a location beside one of those around this one has its requests: at each level nginx looks within the longest alone.
fn is_hidden(inner: &Directive, scope: &Scope<'_>) -> bool {
    let Some(path) = path_of(inner) else { return false };
    scope.0[1..].windows(2).any(|levels| {
        let around = levels[0].iter().find(|one| one.name == "location" && std::ptr::eq(one.children(), levels[1])).and_then(path_of);
        let length = around.map_or(usize::MAX, |around| around.len());
        levels[0].iter().filter(|one| one.name == "location").filter_map(path_of).any(|other| {
            let is_longer = other.len() > length && !other.starts_with("= ") && path.trim_start_matches("= ").starts_with(&other);
            is_longer || (other.starts_with("= ") && other == path)
        })
    })
}

/// The rewrites of a location, and of the named one that its `try_files` leads to.
fn rewrites_of<'a>(outer: &Scope<'a>, target: &Scope<'a>) -> Vec<&'a Directive> {
    let of = |scope: &Scope<'a>| scope.0.last().copied().unwrap_or_default();
    let first = if std::ptr::eq(of(outer), of(target)) { &[] } else { of(outer) };
    first.iter().chain(of(target)).filter(|one| one.name == "rewrite").collect()
}

/// The path of a location as forebay writes it; none for regular expressions and names.
fn path_of(location: &Directive) -> Option<String> {
    let text = location.args.concat();
    let (exact, path) = match text.as_str() {
        text if text.starts_with('~') || text.starts_with('@') => return None,
        text if text.starts_with('=') => ("= ", &text[1..]),
        text => ("", text.strip_prefix("^~").unwrap_or(text)),
    };
    Some(format!("{exact}{}", values::path(path)))
}
