//! `if` of a server, or for a method of a location, with nothing but a `return` in it.

use super::{Importer, Scope, access, answer, fault_of, server::Server};
use crate::cli::import_nginx::{parse::Directive, write::quoted};

/// Whom an `if` answers.
enum Whom {
    Host(String),
    Http,
}

impl Importer {
    /// The route of an `if` for a method.
    pub(super) fn answer_method(&mut self, server: &Server<'_>, scope: &Scope<'_>, path: &str, condition: &Directive) {
        let answer = condition.children().iter().find(|one| one.name == "return");
        let (Some(answer), Some(method)) = (answer, method_of(condition)) else { return };
        let answered = answer::returned(self, server, &scope.within(condition.children()), path, answer);
        self.answer(server, path, &[method], answered, condition);
    }

    /// `if` with a host or scheme and a `return` in it, as certbot and many others write it. The others did not carry over.
    /// What is left of the server: others than the hosts and the scheme that have been answered.
    pub(super) fn conditions<'a>(&mut self, server: &Server<'a>, scope: &Scope<'_>) -> Option<Server<'a>> {
        let (mut left, mut is_left) = (server.clone(), true);
        for condition in server.directive.children().iter().filter(|one| one.name == "if") {
            let (Some(whom), [directive]) = (whom(condition), condition.children()) else {
                let comment = self.notes.dropped(condition, access::why_not(condition));
                self.draft.routes.push(comment);
                continue;
            };
            let Some(asked) = self.asked(&left, &whom) else {
                let comment = self.notes.dropped(condition, "no request for this host comes here");
                self.draft.routes.push(comment);
                continue;
            };
            let part = match &whom {
                Whom::Host(host) => Server { hosts: vec![host.clone()], is_default: false, scheme: asked, ..left.clone() },
                Whom::Http => Server { scheme: Some("http"), ..left.clone() },
            };
            if server.scheme == Some("https") && matches!(whom, Whom::Http) {
                self.notes.built_in += 1;
                continue;
            }
            let answered = answer::returned(self, &part, scope, "/", directive);
            // One that is for http alone leaves its host to https.
            let is_all = answered.scheme.is_none() || answered.scheme == left.scheme || !server.speaks(true);
            match &whom {
                Whom::Host(host) if is_all => left.hosts.retain(|known| known != host),
                // The part for http alone has nothing else; that for https is another one.
                Whom::Http if left.scheme == Some("http") => is_left = false,
                Whom::Http if server.listens.iter().any(|listen| listen.tls) => left.scheme = Some("https"),
                Whom::Http if !server.speaks(true) => is_left = false,
                _ if answered.is_everything => {}
                _ => {
                    let comment = self.notes.changed(condition, "only requests that no longer path of another route takes");
                    self.draft.routes.push(comment);
                }
            }
            self.answer(&part, "/", &[], answered, condition);
        }
        (is_left && (left.is_default || !left.hosts.is_empty())).then_some(left)
    }

    /// The scheme of the requests that an `if` is asked about, of both with `Some(None)`; none where another server has them all.
    fn asked(&self, server: &Server<'_>, whom: &Whom) -> Option<Option<&'static str>> {
        let Whom::Host(host) = whom else { return Some(server.scheme) };
        if server.hosts.contains(host) {
            return Some(server.scheme);
        }
        let is_own = |tls: bool| server.speaks(tls) && server.scheme.is_none_or(|scheme| (scheme == "https") == tls);
        let own: Vec<bool> = [false, true].into_iter().filter(|tls| is_own(*tls)).collect();
        let left: Vec<bool> = own.iter().copied().filter(|tls| !self.named.contains(&(host.clone(), *tls))).collect();
        match left[..] {
            _ if left.is_empty() || !server.answers(host) => None,
            [tls] if own.len() > 1 => Some(Some(if tls { "https" } else { "http" })),
            _ => Some(server.scheme),
        }
    }
}

/// The method of an `if` in a location that answers its requests by itself, such as those that ask before a request from another origin.
pub(super) fn method_of(condition: &Directive) -> Option<String> {
    let words: Vec<_> = condition.args.iter().map(|arg| arg.trim_matches(['(', ')'])).filter(|arg| !arg.is_empty()).collect();
    let is_answer = condition.children().iter().all(|one| ["return", "add_header"].contains(&one.name.as_str()))
        && condition.children().iter().filter(|one| one.name == "return").count() == 1;
    match words.as_slice() {
        ["$request_method", "=", method] if condition.name == "if" && is_answer && is_method(method) => Some((*method).to_owned()),
        _ => None,
    }
}

fn is_method(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whom an `if` is for, where that can be said without variables.
fn whom(condition: &Directive) -> Option<Whom> {
    let words: Vec<_> = condition.args.iter().map(|arg| arg.trim_matches(['(', ')'])).filter(|arg| !arg.is_empty()).collect();
    let is_answer = condition.children().first().is_some_and(|answer| answer.name == "return");
    match words.as_slice() {
        ["$host" | "$http_host", "=", host] if is_answer && is_host(host) => Some(Whom::Host(host.to_ascii_lowercase())),
        ["$scheme", "=", "http"] | ["$scheme", "!=", "https"] if is_answer => Some(Whom::Http),
        _ => None,
    }
}

fn is_host(text: &str) -> bool {
    fault_of(&format!("[[routes]]\nname = \"x\"\npath = \"/\"\nhost = {}\nrespond = {{}}", quoted(text))).is_none()
}
