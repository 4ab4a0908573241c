//! `server` blocks: hosts, and what answers before any location is looked at.

use std::collections::BTreeSet;

use super::{
    Importer, Scope,
    answer::{Answer, returned},
    fault_of, general,
    listen::{self, Listen},
    routes::Route,
};
use crate::cli::import_nginx::{
    notes::plain,
    parse::Directive,
    write::{list, quoted},
};

/// Said of a server that other addresses lead to than its own.
const WIDER: &str =
    "CAUTION: routes do not look at the address and port: what this server has is reached at those of all others, by its host";

/// Said of a server that nothing leads to.
const NAMELESS: &str = "no request comes here: it has no host of its own, and another server answers for those that nobody names";

/// Directives that stand in a server alone, and are carried over.
const OF_SERVER: [&str; 4] = ["if", "allow", "deny", "try_files"];

/// A server block, with what it needs of the others.
#[derive(Clone)]
pub(super) struct Server<'a> {
    pub(super) directive: &'a Directive,
    pub(super) listens: Vec<Listen>,
    /// Whether there was TLS on the addresses that did not carry over.
    pub(super) dropped: Vec<bool>,
    /// It ends the handshakes of its hosts.
    pub(super) rejects: bool,
    pub(super) certificate: Option<(String, String)>,
    /// Its names as forebay has them; none where it answers for all hosts that nobody names.
    pub(super) hosts: Vec<String>,
    /// Names that an earlier server has for the other kind of connections, with whether those with TLS are left.
    pub(super) partly: Vec<(String, bool)>,
    pub(super) is_default: bool,
    /// Of which kinds of connections: those with TLS, or those without.
    pub(super) default_of: Vec<bool>,
    pub(super) scheme: Option<&'static str>,
    /// Notes about what was looked at first.
    pub(super) comments: Vec<String>,
}

impl Server<'_> {
    /// `$server_port`, where all its addresses have one and the same.
    pub(super) fn port(&self) -> &str {
        let mut ports = self.listens.iter().map(|listen| listen.address.rsplit_once(':').map_or("", |(_, port)| port));
        let first = ports.next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or_default();
        if ports.all(|port| port == first) { first } else { "" }
    }

    /// The name in `$server_name`.
    pub(super) fn name(&self) -> &str {
        self.directive.children().iter().find(|one| one.name == "server_name").map_or("", |names| names.arg(0))
    }
}

impl Importer {
    /// All servers, each name in one of them for each kind of connections: which of them answer for unnamed hosts, and which for http or https alone.
    pub(super) fn servers<'a>(&mut self, blocks: &[&'a Directive], http: &'a [Directive]) -> Vec<Server<'a>> {
        let mut servers: Vec<Server<'a>> = blocks.iter().map(|block| self.read(block, http)).collect();
        let of_kind = |tls: bool| servers.iter().filter(move |server| server.speaks(tls)).flat_map(|server| &server.hosts);
        self.named = [false, true].into_iter().flat_map(|tls| of_kind(tls).map(move |host| (host.clone(), tls))).collect();
        self.need_certificates(&mut servers);
        self.once_named(&mut servers);
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
        let some = |tls: bool| servers.iter().any(|server| server.speaks(tls));
        // The checker wants somebody who can say that a request came by https.
        self.by_https = self.believed || servers.iter().flat_map(|server| &server.listens).any(|listen| listen.tls);
        let mixed = some(true) && some(false) && self.by_https;
        for server in servers.iter_mut().filter(|server| mixed && server.scheme.is_none()) {
            server.scheme = match (server.speaks(false), server.speaks(true)) {
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
            let all: BTreeSet<_> = servers.iter().filter(|server| server.is_led_to()).flat_map(|server| places(server, tls)).collect();
            for server in servers.iter_mut().filter(|server| server.is_led_to()) {
                let own = places(server, tls);
                // One that has no address left is reached by its hosts all the same.
                let is_elsewhere =
                    if server.listens.is_empty() { !server.dropped.is_empty() && !all.is_empty() } else { !own.is_empty() && own != all };
                if is_elsewhere && !server.comments.iter().any(|comment| comment.contains(WIDER)) {
                    let listen = server.directive.children().iter().find(|one| one.name == "listen").unwrap_or(server.directive);
                    server.comments.push(self.notes.changed(listen, WIDER));
                }
            }
        }
    }

    /// Of servers with one name the first has it, as in nginx. There it is the first at each address; routes do not look at that.
    fn once_named(&mut self, servers: &mut [Server<'_>]) {
        for at in 1..servers.len() {
            let (before, rest) = servers.split_at_mut(at);
            let Some(server) = rest.first_mut() else { return };
            let has = |host: &String, tls: bool| {
                let is_its = |other: &&Server<'_>| other.speaks(tls) && other.hosts.contains(host);
                before.iter().any(|other| is_its(&other) || other.partly.contains(&(host.clone(), tls)))
            };
            let own: Vec<bool> = [false, true].into_iter().filter(|tls| server.speaks(*tls)).collect();
            let left = |host: &String| own.iter().copied().filter(|tls| !has(host, *tls)).collect::<Vec<_>>();
            if server.hosts.iter().all(|host| left(host) == own) {
                continue;
            }
            // All of its names are left to it for https alone, or for http.
            let is_default = server.listens.iter().any(|listen| listen.default);
            if let [tls] = left(&server.hosts[0])[..]
                && !is_default
                && server.hosts.iter().all(|host| left(host) == [tls])
            {
                server.scheme = Some(if tls { "https" } else { "http" });
                continue;
            }
            let (kept, others): (Vec<_>, Vec<_>) = std::mem::take(&mut server.hosts).into_iter().partition(|host| left(host) == own);
            let (gone, partly): (Vec<_>, Vec<_>) = others.into_iter().partition(|host| left(host).is_empty());
            server.hosts = kept;
            server.partly = partly.into_iter().flat_map(|host| left(&host).into_iter().map(move |tls| (host.clone(), tls))).collect();
            if gone.is_empty() {
                continue;
            }
            let first = before.iter().find(|other| other.hosts.contains(&gone[0])).map_or(0, |other| other.directive.place.line);
            let names = server.directive.children().iter().find(|one| one.name == "server_name").unwrap_or(server.directive);
            let why = format!("CAUTION: the server of line {first} has the requests for {}, whatever the address", gone.join(", "));
            server.comments.push(self.notes.dropped(names, why));
        }
    }

    fn read<'a>(&mut self, directive: &'a Directive, http: &'a [Directive]) -> Server<'a> {
        let mut comments = Vec::new();
        let scope = Scope(vec![http, directive.children()]);
        let file =
            |name: &str| scope.last(name).map(|one| one.arg(0).to_owned()).filter(|file| !file.contains('$') && !file.starts_with("data:"));
        let rejects = scope.last("ssl_reject_handshake").is_some_and(|one| one.arg(0) == "on");
        let certificate = file("ssl_certificate").zip(file("ssl_certificate_key")).filter(|_| !rejects);
        let (listens, dropped) = listen::of(self, directive, &mut comments);
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
        let (partly, is_default, default_of, scheme) = (Vec::new(), false, Vec::new(), None);
        Server { directive, listens, dropped, rejects, certificate, hosts, partly, is_default, default_of, scheme, comments }
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
        let mut parts: Vec<Server<'_>> = Vec::new();
        for (tls, scheme) in [(false, "http"), (true, "https")] {
            let hosts: Vec<String> = server.partly.iter().filter(|(_, left)| *left == tls).map(|(host, _)| host.clone()).collect();
            if !hosts.is_empty() && (self.by_https || !tls) {
                parts.push(Server { hosts, scheme: Some(scheme), is_default: false, ..server.clone() });
            }
        }
        if is_named {
            parts.push(Server { is_default: false, ..server.clone() });
        }
        if server.is_default || !server.hosts.is_empty() || parts.is_empty() {
            parts.push(Server { scheme: one_kind.or(server.scheme), ..server.clone() });
        }
        for (at, part) in parts.iter().enumerate() {
            let (said, built_in, from) = (self.notes.list.len(), self.notes.built_in, self.draft.routes.len());
            self.server(part, http);
            if at > 0 {
                // All of it has been told of.
                self.notes.list.truncate(said);
                self.notes.built_in = built_in;
                let routes = self.draft.routes.split_off(from);
                self.draft.routes.extend(routes.into_iter().filter(|line| !line.starts_with('#')));
            }
        }
    }

    /// A server that ends handshakes: by https its hosts get an answer that says nothing. What is left of it for http.
    fn rejected<'a>(&mut self, server: &Server<'a>) -> Option<Server<'a>> {
        let by_tls = server.rejects && server.listens.iter().any(|listen| listen.tls) && server.scheme != Some("http");
        if !by_tls {
            return Some(server.clone());
        }
        let lines = vec!["respond = { status = 400 }              # nginx ends the handshake".to_owned()];
        self.answer_if_free(&Server { scheme: Some("https"), ..server.clone() }, "/", Answer { lines, ..Answer::default() });
        let has_more = server.scheme.is_none() && server.listens.iter().any(|listen| !listen.tls);
        has_more.then(|| Server { scheme: Some("http"), ..server.clone() })
    }

    /// The routes of a server.
    fn server(&mut self, server: &Server<'_>, http: &Scope<'_>) {
        let block = server.directive.children();
        let scope = http.within(block);
        let mut comments = vec![format!("# --- server of {}:{}", plain(&server.directive.place.file), server.directive.place.line)];
        comments.extend(server.comments.iter().cloned());
        comments.extend(self.notes.rest(block, &[&general::ANYWHERE[..], &OF_SERVER].concat()));
        self.draft.routes.extend([String::new()].into_iter().filter(|_| !self.routes.is_empty()).chain(comments));
        if !server.is_default && server.hosts.is_empty() {
            let is_open = server.listens.iter().all(|listen| self.listening.contains(&listen.address));
            let why = if is_open { NAMELESS.to_owned() } else { format!("CAUTION: {NAMELESS}: nor is its address listened on") };
            let comment = self.notes.dropped(server.directive, why);
            return self.draft.routes.push(comment);
        }
        let Some(server) = self.rejected(server).and_then(|left| self.conditions(&left, &scope)) else { return };
        let server = &server;
        if let Some(answer) = block.iter().find(|one| one.name == "return") {
            let answered = returned(self, server, &scope, "/", answer);
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
        for (path, is_internal) in std::mem::take(&mut self.slashes) {
            let known =
                Route { hosts: server.route_hosts(), scheme: server.scheme, path: path.clone(), methods: Vec::new(), lines: Vec::new() };
            if self.is_taken(&known) {
                continue;
            }
            // nginx sends clients to the path with the slash, unless there is a location for the one without.
            let to = quoted(&format!("{}/$is_args$args", path.replace('$', "$$")));
            let moved = vec![format!("redirect = {{ status = 301, to = {to} }}    # as nginx does by itself")];
            let answer = if is_internal { Answer::status(404) } else { Answer { lines: moved, ..Answer::default() } };
            self.answer_if_free(server, &format!("= {path}"), answer);
        }
        if !has_root {
            let lines = vec!["respond = { status = 404 }              # nginx would look for a file, and forebay has none".into()];
            self.answer_if_free(server, "/", Answer { lines, ..Answer::default() });
        }
    }
}

impl Server<'_> {
    /// Whether it is there for connections with TLS, or for those without, in nginx.
    pub(super) fn speaks(&self, tls: bool) -> bool {
        self.listens.iter().any(|listen| listen.tls == tls) || self.dropped.contains(&tls)
    }

    /// Whether any request comes to it.
    pub(super) fn is_led_to(&self) -> bool {
        self.is_default || !self.hosts.is_empty() || !self.partly.is_empty()
    }

    /// Whether a host that nobody names comes to it.
    pub(super) fn answers(&self, host: &str) -> bool {
        self.is_default || self.hosts.iter().filter_map(|known| known.strip_prefix('*')).any(|end| host.ends_with(end))
    }

    /// The hosts of its routes; none where it answers for every host that nobody else names.
    pub(super) fn route_hosts(&self) -> Vec<String> {
        if self.is_default { Vec::new() } else { self.hosts.clone() }
    }
}
