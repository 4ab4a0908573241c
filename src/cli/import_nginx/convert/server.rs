//! `server` blocks: hosts, and what answers before any location is looked at.

use super::{
    Importer, Scope, fault_of, general,
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

/// Directives that stand in a server alone, and are carried over.
const OF_SERVER: [&str; 3] = ["if", "allow", "deny"];

/// A server block, with what it needs of the others.
pub(super) struct Server<'a> {
    pub(super) directive: &'a Directive,
    pub(super) listens: Vec<Listen>,
    pub(super) certificate: Option<(String, String)>,
    /// Its names as forebay has them; none where it answers for all hosts that nobody names.
    pub(super) hosts: Vec<String>,
    pub(super) is_default: bool,
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
            }
        }
        if let Some(first) = servers.first_mut().filter(|_| nobody) {
            first.is_default = true;
        }
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
                    comments.push(self.notes.dropped(names, format!("{text}: a host is a name, or `*.` and a name")));
                } else if !matches!(text, "" | "_") {
                    let bad = fault_of(&format!("[[routes]]\nname = \"x\"\npath = \"/\"\nhost = {}\nrespond = {{}}", list(&several)));
                    match bad {
                        Some(why) => comments.push(self.notes.dropped(names, format!("{text}: {why}"))),
                        None => hosts.extend(several.into_iter().filter(|host| !hosts.contains(host)).collect::<Vec<_>>()),
                    }
                }
            }
        }
        Server { directive, listens, certificate, hosts, is_default: false, scheme: None, comments }
    }

    /// The routes of a server.
    pub(super) fn server(&mut self, server: &Server<'_>, http: &Scope<'_>) {
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
        self.conditions(server, &scope);
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
        for path in std::mem::take(&mut self.slashes) {
            // nginx sends clients to the path with the slash, unless there is a location for the one without.
            let to = quoted(&format!("{}/$is_args$args", path.replace('$', "$$")));
            let lines = vec![format!("redirect = {{ status = 301, to = {to} }}    # as nginx does by itself")];
            self.answer_if_free(server, &format!("= {path}"), Answer { lines, ..Answer::default() });
        }
        let has_root =
            block.iter().any(|one| one.name == "location" && ["/", "^~/"].contains(&one.args.concat().replace("^~", "").as_str()));
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
    fn conditions(&mut self, server: &Server<'_>, scope: &Scope<'_>) {
        for condition in server.directive.children().iter().filter(|one| one.name == "if") {
            let words: Vec<_> = condition.args.iter().map(|arg| arg.trim_matches(['(', ')'])).filter(|arg| !arg.is_empty()).collect();
            let [answer] = condition.children() else {
                let comment = self.notes.dropped(condition, super::super::reasons::why("if"));
                self.draft.routes.push(comment);
                continue;
            };
            let of = |hosts: Vec<String>, scheme: Option<&'static str>| (hosts, scheme);
            let (hosts, scheme) = match words.as_slice() {
                ["$host" | "$http_host", "=", host] if answer.name == "return" && is_host(host) => {
                    of(vec![host.to_ascii_lowercase()], server.scheme)
                }
                ["$scheme", "=", "http"] | ["$scheme", "!=", "https"] if answer.name == "return" => of(server.route_hosts(), Some("http")),
                _ => {
                    let comment = self.notes.dropped(condition, super::super::reasons::why("if"));
                    self.draft.routes.push(comment);
                    continue;
                }
            };
            let part = Server {
                directive: server.directive,
                listens: Vec::new(),
                certificate: None,
                is_default: hosts.is_empty(),
                hosts,
                scheme,
                comments: Vec::new(),
            };
            let answered = location::returned(self, &part, scope, answer);
            if !answered.is_everything {
                let comment = self.notes.changed(condition, "only requests that no longer path of another route takes");
                self.draft.routes.push(comment);
            }
            self.answer(&part, "/", &[], answered, condition);
        }
    }

    /// Writes a route without a backend.
    pub(super) fn answer(&mut self, server: &Server<'_>, path: &str, methods: &[String], answer: Answer, directive: &Directive) {
        self.draft.routes.extend(answer.comments);
        let scheme = answer.scheme.or(server.scheme);
        let route = Route { hosts: server.route_hosts(), scheme, path: path.into(), methods: methods.to_vec(), lines: answer.lines };
        self.push(server, route, directive);
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
