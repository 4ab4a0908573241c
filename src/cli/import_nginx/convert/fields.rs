//! Fields: `proxy_set_header`, `proxy_hide_header`, `add_header`.

use super::{
    Importer, Scope, fault_of,
    values::{Known, template},
};
use crate::cli::import_nginx::{
    parse::Directive,
    write::{key, list, quoted},
};

/// What a route says of fields.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) comments: Vec<String>,
    pub(super) lines: Vec<String>,
    /// The route changes `Host`.
    pub(super) changes_host: bool,
}

#[derive(Default)]
struct Changes {
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

impl Changes {
    fn line(&self, key_of_route: &str) -> Option<String> {
        let table = |fields: &[(String, String)]| {
            format!(
                "{{ {} }}",
                fields.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect::<Vec<_>>().join(", ")
            )
        };
        let mut parts = Vec::new();
        if !self.set.is_empty() {
            parts.push(format!("set = {}", table(&self.set)));
        }
        if !self.add.is_empty() {
            parts.push(format!("add = {}", table(&self.add)));
        }
        if !self.remove.is_empty() {
            parts.push(format!("remove = {}", list(&self.remove)));
        }
        (!parts.is_empty()).then(|| format!("{key_of_route} = {{ {} }}", parts.join(", ")))
    }

    fn has(&self, name: &str) -> bool {
        self.set.iter().chain(&self.add).map(|(name, _)| name).chain(&self.remove).any(|known| known.eq_ignore_ascii_case(name))
    }
}

impl Importer {
    /// The changes of requests that hold in a location.
    pub(super) fn request_fields(&mut self, scope: &Scope<'_>, set_by: &str, known: Known<'_>) -> Lines {
        let mut lines = Lines::default();
        let mut changes = Changes::default();
        let sets = scope.all(set_by);
        let mut host = (!known.proxy_host.is_empty()).then(|| known.proxy_host.to_owned());
        // Of several that set one field, nginx sends all; the last is meant.
        for directive in sets.into_iter().rev() {
            let (name, value) = (directive.arg(0).to_ascii_lowercase(), directive.arg(1));
            if name == "host" {
                match value {
                    "$host" | "$http_host" | "$host:$server_port" | "$http_host:$server_port" | "$host:$proxy_port" => host = None,
                    _ => match template(value, known) {
                        Ok(text) => host = Some(text),
                        Err(variable) => {
                            host = None;
                            lines.comments.push(
                                self.notes.dropped(directive, format!("there is no variable ${variable}; the client's Host is sent")),
                            );
                        }
                    },
                }
            } else if self.is_done_anyway(&name, value) {
                self.notes.built_in += 1;
            } else if matches!(name.as_str(), "connection" | "upgrade") && !self.able.upgrades {
                lines.comments.push(self.notes.dropped(directive, "this version does not pass upgrades (WebSocket)"));
            } else if name.starts_with("x-forwarded-") && value.contains("$http_x_forwarded_") && self.trusted.is_empty() {
                let why = "CAUTION: what a client says of itself is believed from `clients.trusted_proxies` alone: name the balancer before this there";
                lines.comments.push(self.notes.dropped(directive, why));
            } else if !changes.has(&name) {
                self.field(directive, known, &mut changes, &mut lines.comments);
            }
        }
        changes.set.reverse();
        changes.remove.reverse();
        if let Some(host) = host {
            lines.changes_host = true;
            lines.lines.push(format!("host_header = {}", quoted(&host)));
        }
        lines.lines.extend(changes.line("request_headers"));
        lines
    }

    /// What forebay tells backends, and does with connections, without being told. A trusted proxy is believed of more than the address, where nginx has its own word.
    fn is_done_anyway(&self, name: &str, value: &str) -> bool {
        match name {
            "x-forwarded-for" => value == "$proxy_add_x_forwarded_for" || (value == "$remote_addr" && !self.believed),
            "x-forwarded-proto" => value == "$scheme",
            "x-forwarded-host" => matches!(value, "$host" | "$http_host") && !self.believed,
            "connection" => {
                matches!(value, "" | "close" | "keep-alive")
                    || (self.able.upgrades && value.eq_ignore_ascii_case("upgrade"))
                    || (self.able.upgrades && value.starts_with('$'))
            }
            "upgrade" => self.able.upgrades && value == "$http_upgrade",
            _ => false,
        }
    }

    fn field(&mut self, directive: &Directive, known: Known<'_>, changes: &mut Changes, comments: &mut Vec<String>) {
        let name = directive.arg(0);
        let value = template(directive.arg(1), known).unwrap_or_else(|variable| {
            // The client's own must not pass for it.
            let why = format!("CAUTION: there is no variable ${variable}: the backend gets no such field");
            comments.push(self.notes.dropped(directive, why));
            String::new()
        });
        let mut one = Changes::default();
        if value.is_empty() {
            one.remove.push(name.to_owned());
        } else {
            one.set.push((name.to_owned(), value));
        }
        match refused(&one, "request_headers") {
            Some(why) => {
                // The client's own must not pass for it, where forebay lets it be taken away at all.
                let away = Changes { remove: vec![name.to_owned()], ..Changes::default() };
                let is_away = refused(&away, "request_headers").is_none();
                let why = if is_away { format!("CAUTION: {why}: the backend gets no such field") } else { why };
                comments.push(self.notes.dropped(directive, why));
                changes.remove.extend(away.remove.into_iter().filter(|_| is_away));
            }
            None => {
                changes.set.extend(one.set);
                changes.remove.extend(one.remove);
            }
        }
    }

    /// The changes of answers that hold in a location, but for a field that is written elsewhere.
    pub(super) fn response_fields(&mut self, scope: &Scope<'_>, known: Known<'_>, elsewhere: &str) -> Lines {
        let mut lines = Lines::default();
        let mut changes = Changes::default();
        for directive in scope.all("proxy_hide_header") {
            let one = Changes { remove: vec![directive.arg(0).to_owned()], ..Changes::default() };
            match refused(&one, "response_headers") {
                _ if changes.has(directive.arg(0)) => {}
                Some(why) => lines.comments.push(self.notes.dropped(directive, why)),
                None => changes.remove.extend(one.remove),
            }
        }
        for directive in scope.all("add_header").into_iter().filter(|field| !field.arg(0).eq_ignore_ascii_case(elsewhere)) {
            let value = match template(directive.arg(1), known) {
                Ok(value) if value.is_empty() => continue,
                Ok(value) => value,
                Err(variable) => {
                    let why = format!("{}there is no variable ${variable}", caution_of(directive.arg(0)));
                    lines.comments.push(self.notes.dropped(directive, why));
                    continue;
                }
            };
            let one = Changes { add: vec![(directive.arg(0).to_owned(), value)], ..Changes::default() };
            let is_there = changes.add.iter().any(|(name, _)| name.eq_ignore_ascii_case(directive.arg(0)));
            match refused(&one, "response_headers") {
                _ if is_there => lines.comments.push(self.notes.dropped(directive, "CAUTION: a field is added once, with its first value")),
                Some(why) => {
                    let why = format!("{}{why}", caution_of(directive.arg(0)));
                    lines.comments.push(self.notes.dropped(directive, why));
                }
                None => {
                    if directive.arg(2) != "always" && !self.said_always {
                        self.said_always = true;
                        lines.comments.push(self.notes.changed(directive, "it is added whatever the status, here and in all routes"));
                    }
                    changes.add.extend(one.add);
                }
            }
        }
        lines.lines.extend(changes.line("response_headers"));
        lines
    }
}

/// With a word of caution where browsers keep somebody out by a field.
fn caution_of(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let guards = ["content-security-policy", "cross-origin-", "x-frame-options", "x-content-type-options", "x-xss-protection"];
    let others = ["strict-transport-security", "referrer-policy", "permissions-policy", "feature-policy", "access-control-", "set-cookie"];
    let keeps_out = guards.iter().chain(&others).any(|guard| name.starts_with(guard));
    if keeps_out { "CAUTION: answers go without it: " } else { "" }
}

/// Why the checker does not take these changes.
fn refused(changes: &Changes, key_of_route: &str) -> Option<String> {
    let line = changes.line(key_of_route)?;
    fault_of(&format!("[backends.a]\nservers = [\"http://192.0.2.1\"]\n[[routes]]\nname = \"x\"\npath = \"/\"\nbackend = \"a\"\n{line}\n"))
}
