//! Routes: which requests one takes, and whether another one has them already.

use super::{Importer, answer::Answer, fault_of, server::Server};
use crate::{
    cli::import_nginx::{
        parse::Directive,
        write::{list, name, quoted},
    },
    config::units::show_size,
};

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

impl Route {
    /// Its lines, without its name.
    fn written(&self) -> Vec<String> {
        let mut lines = vec![format!("path = {}", quoted(&self.path))];
        match self.hosts.as_slice() {
            [] => {}
            [one] => lines.push(format!("host = {}", quoted(one))),
            several => lines.push(format!("host = {}", list(several))),
        }
        if !self.methods.is_empty() {
            lines.push(format!("methods = {}", list(&self.methods)));
        }
        lines.extend(self.scheme.map(|scheme| format!("scheme = \"{scheme}\"")));
        lines.extend(self.lines.iter().cloned());
        lines
    }

    fn shares_a_method(&self, other: &Self) -> bool {
        self.methods.is_empty() && other.methods.is_empty() || self.methods.iter().any(|method| other.methods.contains(method))
    }

    /// Whether both take the same requests of a host that both have.
    fn meets(&self, other: &Self) -> bool {
        self.path == other.path && self.scheme == other.scheme && self.shares_a_method(other)
    }
}

impl Importer {
    /// As [`answer`](Self::answer), but nothing where another route takes its requests, or where there can be none.
    pub(super) fn answer_if_free(&mut self, server: &Server<'_>, path: &str, answer: Answer) {
        let route =
            Route { hosts: server.route_hosts(), scheme: server.scheme, path: path.into(), methods: Vec::new(), lines: answer.lines };
        if !self.is_taken(&route) && self.fault_of_route(&route).is_none() {
            self.push(server, route, server.directive);
        }
    }

    /// Writes a route without a backend.
    pub(super) fn answer(&mut self, server: &Server<'_>, path: &str, methods: &[String], answer: Answer, directive: &Directive) {
        self.draft.routes.extend(answer.comments);
        let scheme = server.scheme.filter(|own| *own == "https").or(answer.scheme).or(server.scheme);
        let route = Route { hosts: server.route_hosts(), scheme, path: path.into(), methods: methods.to_vec(), lines: answer.lines };
        if !self.push(server, route, directive) {
            // Nothing else may get what it was for.
            self.answer_if_free(server, path, Answer::status(404));
        }
    }

    pub(super) fn is_taken(&self, route: &Route) -> bool {
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
        if let Some(why) = self.fault_of_route(&route) {
            let comment = self.notes.dropped(directive, why);
            self.draft.routes.push(comment);
            return false;
        }
        let name = name(&wish, &mut self.route_names);
        self.draft.routes.extend([format!("[[routes]]\nname = {}", quoted(&name))].into_iter().chain(route.written()));
        self.draft.routes.push(String::new());
        self.routes.push(route);
        true
    }

    /// Why the checker does not take a route.
    fn fault_of_route(&self, route: &Route) -> Option<String> {
        let lines = route.written();
        let shown: Vec<_> = lines.iter().map(|line| if line.starts_with("backend = ") { "backend = \"a\"" } else { line }).collect();
        // With a trusted proxy, since it is not known here whether there will be a listener with TLS.
        let clients = format!("[clients]\nmax_body = {}\ntrusted_proxies = [\"192.0.2.1\"]\n", quoted(&show_size(self.max_body)));
        let stub = "[backends.a]\nservers = [\"http://192.0.2.1\"]\n[[routes]]\nname = \"x\"\n";
        fault_of(&format!("{clients}{stub}{}\n", shown.join("\n")))
    }
}
