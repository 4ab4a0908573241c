//! `server` blocks: hosts, and what answers before any location is looked at.

use std::collections::BTreeSet;

use super::{
    Importer, Scope, access, fault_of, general,
    listen::{self, Listen},
    location::{self, Answer},
};
use crate::{
    cli::import_nginx::{
        parse::Directive,
        write::{list, name, quoted},
    },
    config::units::show_size,
};

/// Said of a server that other addresses lead to than its own.
const WIDER: &str =
    "CAUTION: routes do not look at the address and port: what this server has is reached at those of all others, by its host";

/// Directives that stand in a server alone, and are carried over.
const OF_SERVER: [&str; 4] = ["if", "allow", "deny", "try_files"];

/// A server block, with what it needs of the others.
#[derive(Clone)]
pub(super) struct Server<'a> {
    pub(super) directive: &'a Directive,
    pub(super) listens: Vec<Listen>,
    pub(super) certificate: Option<(String, String)>,
    /// Its names as forebay has them; none where it answers for all hosts that nobody names.
    pub(super) hosts: Vec<String>,
    pub(super) is_default: bool,
    /// Of which kinds of connections: those with TLS, or those without.
    default_of: Vec<bool>,
    pub(super) scheme: Option<&'static str>,
    /// Notes about what was looked at first.
    comments: Vec<String>,
}

/// A route that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) hosts: Vec<String>,
    pub(super) scheme: Option<&'static str>,
    /// `= /x` or `/x`.
    pub(super) path: String,
    pub(super) methods: Vec<String>,
    /// Lines after those of the match.
    pub(super) lines: Vec<String>,
}

impl Server<'_> {
    /// The name in `$server_name`.
    pub(super) fn name(&self) -> &str {
        self.directive.children().iter().find(|one| one.name == "server_name").map_or("", |names| names.arg(0))
    }
}

impl Importer {
    /// All servers: which of them answer for unnamed hosts, and which for http or https alone.
    pub(super) fn servers<'a>(&mut self, blocks: &[&'a Directive], http: &'a [Directive]) -> Vec<Server<'a>> {
        let mut servers: Vec<Server<'a>> = blocks.iter().map(|block| self.read(block, http)).collect();
        let nobody = servers.iter().all(|server| server.listens.is_empty());
        for tls in [false, true] {
            let of_kind =
                |server: &Server<'_>, default: bool| server.listens.iter().any(|listen| listen.tls == tls && (listen.default || !default));
            let chosen = servers
                .iter()
                .position(|server| of_kind(server, true))
                .or_else(|| servers.iter().position(|server| of_kind(server, false)));
            if let Some(chosen) = chosen {
                servers[chosen].is_default = true;
                servers[chosen].default_of.push(tls);
            }
        }
        if let Some(first) = servers.first_mut().filter(|_| nobody) {
            first.is_default = true;
        }
        self.caution_of_ports(&mut servers);
        let some = |tls: bool| servers.iter().flat_map(|server| &server.listens).any(|listen| listen.tls == tls);
        let mixed = some(true) && some(false);
        for server in servers.iter_mut().filter(|_| mixed) {
            let has = |tls: bool| server.listens.iter().any(|listen| listen.tls == tls);
            server.scheme = match (has(false), has(true)) {
                (true, false) => Some("http"),
                (false, true) => Some("https"),
                _ => None,
            };
        }
        servers
    }

    /// Tells of each server that is not reached at all addresses of its kind, and would be: routes do not look at where a request came in.
    fn caution_of_ports(&mut self, servers: &mut [Server<'_>]) {
        let places = |server: &Server<'_>, tls: bool| {
            let of_kind = server.listens.iter().filter(|listen| listen.tls == tls);
            // All addresses of both families are one.
            let any = |address: &str| address.replace("[::]:", "0.0.0.0:");
            of_kind.map(|listen| any(&listen.address)).collect::<BTreeSet<_>>()
        };
        for tls in [false, true] {
            let all: BTreeSet<_> = servers.iter().flat_map(|server| places(server, tls)).collect();
            for server in servers.iter_mut() {
                let own = places(server, tls);
                if !own.is_empty() && own != all && !server.comments.iter().any(|comment| comment.contains(WIDER)) {
                    let listen = server.directive.children().iter().find(|one| one.name == "listen").unwrap_or(server.directive);
                    server.comments.push(self.notes.changed(listen, WIDER));
                }
            }
        }
    }

    fn read<'a>(&mut self, directive: &'a Directive, http: &'a [Directive]) -> Server<'a> {
        let mut comments = Vec::new();
        let scope = Scope(vec![http, directive.children()]);
        let file =
            |name: &str| scope.last(name).map(|one| one.arg(0).to_owned()).filter(|file| !file.contains('$') && !file.starts_with("data:"));
        let certificate = file("ssl_certificate").zip(file("ssl_certificate_key"));
        let listens = listen::of(self, directive, certificate.is_some(), &mut comments);
        let mut hosts: Vec<String> = Vec::new();
        for names in directive.children().iter().filter(|one| one.name == "server_name") {
            for text in &names.args {
                let text = text.strip_suffix('.').unwrap_or(text);
                let several = match text.strip_prefix('.') {
                    Some(under) => vec![under.to_ascii_lowercase(), format!("*.{}", under.to_ascii_lowercase())],
                    None => vec![text.to_ascii_lowercase()],
                };
                if text.starts_with('~') || text.ends_with('*') || text == "$hostname" {
                    comments.push(self.notes.dropped(
                        names,
                        format!("CAUTION: {text}: a host is a name, or `*.` and a name: its requests go to the default server"),
                    ));
                } else if !matches!(text, "" | "_") {
                    let bad = fault_of(&format!("[[routes]]\nname = \"x\"\npath = \"/\"\nhost = {}\nrespond = {{}}", list(&several)));
                    match bad {
                        Some(why) => comments.push(self.notes.dropped(names, format!("{text}: {why}"))),
                        None => hosts.extend(several.into_iter().filter(|host| !hosts.contains(host)).collect::<Vec<_>>()),
                    }
                }
            }
        }
        Server { directive, listens, certificate, hosts, is_default: false, default_of: Vec::new(), scheme: None, comments }
    }

    /// The routes of a server: those for its own hosts where another one would get these else, or where it answers for unnamed ones by http or by https alone; and
    /// those for all hosts that nobody names.
    pub(super) fn parts(&mut self, server: &Server<'_>, others: &[Server<'_>], http: &Scope<'_>) {
        let has = |tls: bool| server.listens.iter().any(|listen| listen.tls == tls);
        let one_kind = match server.default_of.as_slice() {
            [tls] if has(!tls) => Some(if *tls { "https" } else { "http" }),
            _ => None,
        };
        let under = |host: &String| {
            let all = others.iter().flat_map(|other| &other.hosts).filter_map(|other| other.strip_prefix('*'));
            all.into_iter().any(|end| host.ends_with(end) && host.strip_prefix('*') != Some(end))
        };
        let is_named = server.is_default && !server.hosts.is_empty() && (one_kind.is_some() || server.hosts.iter().any(under));
        if is_named {
            self.server(&Server { is_default: false, ..server.clone() }, http);
        }
        let (said, built_in, from) = (self.notes.list.len(), self.notes.built_in, self.draft.routes.len());
        self.server(&Server { scheme: one_kind.or(server.scheme), ..server.clone() }, http);
        if is_named {
            // All of it has been told of.
            self.notes.list.truncate(said);
            self.notes.built_in = built_in;
            let routes = self.draft.routes.split_off(from);
            self.draft.routes.extend(routes.into_iter().filter(|line| !line.starts_with('#')));
        }
    }

    /// The routes of a server.
    fn server(&mut self, server: &Server<'_>, http: &Scope<'_>) {
        let block = server.directive.children();
        let scope = http.within(block);
        let mut comments = vec![format!("# --- server of {}:{}", server.directive.place.file, server.directive.place.line)];
        comments.extend(server.comments.iter().cloned());
        comments.extend(self.notes.rest(block, &[&general::ANYWHERE[..], &OF_SERVER].concat()));
        self.draft.routes.extend([String::new()].into_iter().filter(|_| !self.routes.is_empty()).chain(comments));
        if !server.is_default && server.hosts.is_empty() {
            let comment =
                self.notes.dropped(server.directive, "no request comes here: it names no host, and another server answers for those");
            return self.draft.routes.push(comment);
        }
        let secure = self.conditions(server, &scope);
        let server = &secure.unwrap_or_else(|| server.clone());
        if let Some(answer) = block.iter().find(|one| one.name == "return") {
            let answered = location::returned(self, server, &scope, answer);
            self.answer(server, "/", &[], answered, answer);
            for location in block.iter().filter(|one| one.name == "location") {
                let comment = self.notes.dropped(location, "`return` of its server answers first");
                self.draft.routes.push(comment);
            }
            return;
        }
        for location in block.iter().filter(|one| one.name == "location") {
            self.location(server, &scope, location);
        }
        let has_root =
            block.iter().any(|one| one.name == "location" && ["/", "^~/"].contains(&one.args.concat().replace("^~", "").as_str()));
        let files = block.iter().find(|one| one.name == "try_files");
        if let Some(files) = files.filter(|_| !has_root) {
            // What no location is for.
            let root =
                Directive { name: "location".into(), args: vec!["/".into()], block: Some(vec![files.clone()]), place: files.place.clone() };
            self.location(server, &scope, &root);
        }
        for path in std::mem::take(&mut self.slashes) {
            let known =
                Route { hosts: server.route_hosts(), scheme: server.scheme, path: path.clone(), methods: Vec::new(), lines: Vec::new() };
            if self.is_taken(&known) {
                continue;
            }
            // nginx sends clients to the path with the slash, unless there is a location for the one without.
            let to = quoted(&format!("{}/$is_args$args", path.replace('$', "$$")));
            let lines = vec![format!("redirect = {{ status = 301, to = {to} }}    # as nginx does by itself")];
            self.answer_if_free(server, &format!("= {path}"), Answer { lines, ..Answer::default() });
        }
        if !has_root {
            let lines = vec!["respond = { status = 404 }              # nginx would look for a file, and forebay has none".into()];
            self.answer_if_free(server, "/", Answer { lines, ..Answer::default() });
        }
    }

    /// As [`answer`](Self::answer), but nothing where another route takes its requests.
    pub(super) fn answer_if_free(&mut self, server: &Server<'_>, path: &str, answer: Answer) {
        let route =
            Route { hosts: server.route_hosts(), scheme: server.scheme, path: path.into(), methods: Vec::new(), lines: answer.lines };
        if !self.is_taken(&route) {
            self.push(server, route, server.directive);
        }
    }

    /// `if` with a host or scheme and a `return` in it, as certbot and many others write it. The others did not carry over.
    /// Where all of http is answered so, the server that is left for https.
    fn conditions<'a>(&mut self, server: &Server<'a>, scope: &Scope<'_>) -> Option<Server<'a>> {
        let mut left = None;
        for condition in server.directive.children().iter().filter(|one| one.name == "if") {
            let words: Vec<_> = condition.args.iter().map(|arg| arg.trim_matches(['(', ')'])).filter(|arg| !arg.is_empty()).collect();
            let [answer] = condition.children() else {
                let comment = self.notes.dropped(condition, access::why_not(condition));
                self.draft.routes.push(comment);
                continue;
            };
            let of = |hosts: Vec<String>, scheme: Option<&'static str>| (hosts, scheme);
            let (hosts, scheme) = match words.as_slice() {
                ["$host" | "$http_host", "=", host] if answer.name == "return" && is_host(host) => {
                    of(vec![host.to_ascii_lowercase()], server.scheme)
                }
                ["$scheme", "=", "http"] | ["$scheme", "!=", "https"] if answer.name == "return" => {
                    if server.listens.iter().any(|listen| listen.tls) {
                        left = Some(Server { scheme: Some("https"), ..server.clone() });
                    }
                    of(server.route_hosts(), Some("http"))
                }
                _ => {
                    let comment = self.notes.dropped(condition, access::why_not(condition));
                    self.draft.routes.push(comment);
                    continue;
                }
            };
            let part = Server {
                directive: server.directive,
                listens: Vec::new(),
                certificate: None,
                is_default: hosts.is_empty(),
                default_of: Vec::new(),
                hosts,
                scheme,
                comments: Vec::new(),
            };
            let answered = location::returned(self, &part, scope, answer);
            if !answered.is_everything && left.is_none() {
                let comment = self.notes.changed(condition, "only requests that no longer path of another route takes");
                self.draft.routes.push(comment);
            }
            self.answer(&part, "/", &[], answered, condition);
        }
        left
    }

    /// Writes a route without a backend.
    pub(super) fn answer(&mut self, server: &Server<'_>, path: &str, methods: &[String], answer: Answer, directive: &Directive) {
        self.draft.routes.extend(answer.comments);
        let scheme = answer.scheme.or(server.scheme);
        let route = Route { hosts: server.route_hosts(), scheme, path: path.into(), methods: methods.to_vec(), lines: answer.lines };
        if !self.push(server, route, directive) {
            // Nothing else may get what it was for.
            self.answer_if_free(server, path, Answer::status(404));
        }
    }

    fn is_taken(&self, route: &Route) -> bool {
        let mut same = self.routes.iter().filter(|known| known.meets(route));
        if route.hosts.is_empty() {
            same.any(|known| known.hosts.is_empty())
        } else {
            let taken: Vec<_> = same.flat_map(|known| &known.hosts).collect();
            route.hosts.iter().all(|host| taken.contains(&host))
        }
    }

    /// Writes a route, unless another one takes its requests, or the checker refuses it: then there is a note, and `false`.
    pub(super) fn push(&mut self, server: &Server<'_>, mut route: Route, directive: &Directive) -> bool {
        if self.is_taken(&route) {
            let comment =
                self.notes.dropped(directive, "an earlier route takes the same requests; forebay's routes do not look at the port");
            self.draft.routes.push(comment);
            return true;
        }
        let taken: Vec<String> = self.routes.iter().filter(|known| known.meets(&route)).flat_map(|known| known.hosts.clone()).collect();
        route.hosts.retain(|host| !taken.contains(host));
        let wish = format!("{}{}", if server.is_default { "" } else { server.name() }, route.path.trim_start_matches("= "));
        let mut lines = vec![format!("path = {}", quoted(&route.path))];
        match route.hosts.as_slice() {
            [] => {}
            [one] => lines.push(format!("host = {}", quoted(one))),
            several => lines.push(format!("host = {}", list(several))),
        }
        if !route.methods.is_empty() {
            lines.push(format!("methods = {}", list(&route.methods)));
        }
        if let Some(scheme) = route.scheme {
            lines.push(format!("scheme = \"{scheme}\""));
        }
        lines.extend(route.lines.iter().cloned());
        let shown: Vec<_> = lines.iter().map(|line| if line.starts_with("backend = ") { "backend = \"a\"" } else { line }).collect();
        // With a trusted proxy, since it is not known here whether there will be a listener with TLS.
        let clients = format!("[clients]\nmax_body = {}\ntrusted_proxies = [\"192.0.2.1\"]\n", quoted(&show_size(self.max_body)));
        let stub = "[backends.a]\nservers = [\"http://192.0.2.1\"]\n[[routes]]\nname = \"x\"\n";
        if let Some(why) = fault_of(&format!("{clients}{stub}{}\n", shown.join("\n"))) {
            let comment = self.notes.dropped(directive, why);
            self.draft.routes.push(comment);
            return false;
        }
        let name = name(&wish, &mut self.route_names);
        self.draft.routes.extend([format!("[[routes]]\nname = {}", quoted(&name))].into_iter().chain(lines));
        self.draft.routes.push(String::new());
        self.routes.push(route);
        true
    }
}

impl Route {
    /// Whether both take the same requests of a host that both have.
    fn meets(&self, other: &Self) -> bool {
        self.path == other.path && self.scheme == other.scheme && self.methods.is_empty() == other.methods.is_empty()
    }
}

impl Server<'_> {
    /// The hosts of its routes; none where it answers for every host that nobody else names.
    pub(super) fn route_hosts(&self) -> Vec<String> {
        if self.is_default { Vec::new() } else { self.hosts.clone() }
    }
}

fn is_host(text: &str) -> bool {
    fault_of(&format!("[[routes]]\nname = \"x\"\npath = \"/\"\nhost = {}\nrespond = {{}}", quoted(text))).is_none()
}
