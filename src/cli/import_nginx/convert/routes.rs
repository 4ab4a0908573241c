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
}

impl Importer {
    /// As [`answer`](Self::answer), but nothing where another route takes its requests, or where there can be none.
    pub(super) fn answer_if_free(&mut self, server: &Server<'_>, path: &str, answer: Answer) {
        let route =
            Route { hosts: server.route_hosts(), scheme: server.scheme, path: path.into(), methods: Vec::new(), lines: answer.lines };
        if !self.is_taken(&route) && !self.is_for_nobody(&route) && self.fault_of_route(&route).is_none() {
            self.push(server, route, server.directive);
        }
    }

    /// Writes a route without a backend.
    pub(super) fn answer(&mut self, server: &Server<'_>, path: &str, methods: &[String], answer: Answer, directive: &Directive) {
        self.draft.routes.extend(answer.comments);
        // What is for https alone takes nothing from http.
        let scheme = if server.scheme == Some("https") { server.scheme } else { answer.scheme.or(server.scheme) };
        let route = Route { hosts: server.route_hosts(), scheme, path: path.into(), methods: methods.to_vec(), lines: answer.lines };
        if !self.push(server, route, directive) {
            // Nothing else may get what it was for.
            self.answer_if_free(server, path, Answer::status(404));
        }
    }

    /// The checker wants no route for https where none can come.
    fn is_for_nobody(&self, route: &Route) -> bool {
        route.scheme == Some("https") && !self.by_https
    }

    /// The methods that no other route takes of a host, or without one of all that nobody names; none where another one has all of them.
    fn left(&self, route: &Route, host: Option<&String>) -> Option<Vec<String>> {
        let is_beside = |known: &&Route| known.path == route.path && known.scheme == route.scheme;
        let has_it = |known: &&Route| host.map_or(known.hosts.is_empty(), |host| known.hosts.contains(host));
        let beside: Vec<&Route> = self.routes.iter().filter(is_beside).filter(has_it).collect();
        if route.methods.is_empty() {
            return beside.iter().all(|known| !known.methods.is_empty()).then(Vec::new);
        }
        let is_free = |method: &&String| !beside.iter().any(|known| known.methods.contains(*method));
        let left: Vec<String> = route.methods.iter().filter(is_free).cloned().collect();
        (!left.is_empty()).then_some(left)
    }

    pub(super) fn is_taken(&self, route: &Route) -> bool {
        if route.hosts.is_empty() {
            self.left(route, None).is_none()
        } else {
            route.hosts.iter().all(|host| self.left(route, Some(host)).is_none())
        }
    }

    /// Writes a route, unless another one takes its requests, or the checker refuses it: then there is a note, and `false`.
    pub(super) fn push(&mut self, server: &Server<'_>, mut route: Route, directive: &Directive) -> bool {
        if self.is_for_nobody(&route) {
            let comment = self.notes.dropped(directive, "it is for https, by which no request comes here");
            self.draft.routes.push(comment);
            return true;
        }
        if self.is_taken(&route) {
            let comment =
                self.notes.dropped(directive, "an earlier route takes the same requests; forebay's routes do not look at the port");
            self.draft.routes.push(comment);
            return true;
        }
        let others = self.keep_left(&mut route);
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
        others.is_none_or(|others| self.push(server, others, directive))
    }

    /// Takes from a route what others have. The route of its hosts of which they have other methods.
    fn keep_left(&self, route: &mut Route) -> Option<Route> {
        if route.hosts.is_empty() {
            route.methods = self.left(route, None).unwrap_or_default();
            return None;
        }
        let left: Vec<_> = route.hosts.iter().filter_map(|host| Some((host.clone(), self.left(route, Some(host))?))).collect();
        let methods = left.first().map(|(_, methods)| methods.clone()).unwrap_or_default();
        let (own, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, found)| *found == methods);
        let hosts_of = |some: Vec<(String, Vec<String>)>| some.into_iter().map(|(host, _)| host).collect::<Vec<_>>();
        let rest = Route { hosts: hosts_of(others), ..route.clone() };
        (route.hosts, route.methods) = (hosts_of(own), methods);
        (!rest.hosts.is_empty()).then_some(rest)
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
