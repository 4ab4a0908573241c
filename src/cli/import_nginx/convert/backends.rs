//! `upstream` blocks and the servers that `proxy_pass` names: backends.

use std::time::Duration;

use super::{Importer, Scope, fault_of, values::Url};
use crate::{
    cli::import_nginx::{
        parse::Directive,
        write::{key, list, name, quoted},
    },
    config::units::show_duration,
};

/// The most servers of a backend.
const SERVERS_MAX: usize = 64;

/// What is spoken with servers of gRPC.
const H2C: &str = "protocol = \"h2c\"";

/// The backends that routes lead to, in the order in which they were met.
#[derive(Debug, Default)]
pub(super) struct Backends {
    list: Vec<Backend>,
    names: Vec<String>,
}

#[derive(Debug)]
struct Backend {
    /// Scheme and authority, as `proxy_pass` has them.
    url: String,
    /// What is said of TLS with it, as nginx has it.
    shown: Vec<String>,
    name: String,
    servers: Vec<String>,
    comments: Vec<String>,
    /// The line about TLS to them, or about HTTP/2 without it.
    tls: Option<String>,
    connect_timeout: Option<Duration>,
}

/// The directives about TLS to a backend that hold, each with the key of its counterpart.
fn said_of_tls<'a>(scope: &Scope<'a>) -> Vec<(&'a Directive, &'static str)> {
    let keys = [
        ("proxy_ssl_trusted_certificate", "ca_file"),
        ("proxy_ssl_name", "server_name"),
        ("proxy_ssl_certificate", "cert_file"),
        ("proxy_ssl_certificate_key", "key_file"),
    ];
    keys.into_iter().filter_map(|(name, key)| Some((scope.last(name)?, key))).collect()
}

impl Backends {
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }
}

impl Importer {
    /// The name of the backend that a `proxy_pass` leads to. Errors: why there can be none.
    pub(super) fn backend(&mut self, to: &Url, http: &[Directive], connect: Option<Duration>, scope: &Scope<'_>) -> Result<String, String> {
        let (scheme, authority) = (to.scheme.as_str(), to.authority.as_str());
        let url = format!("{scheme}://{authority}");
        let shown = if to.is_grpc {
            vec![H2C.to_owned()]
        } else if scheme == "https" {
            said_of_tls(scope).iter().map(|(one, key)| format!("{key} {}", one.arg(0))).collect()
        } else {
            Vec::new()
        };
        if let Some(known) = self.backends.list.iter_mut().find(|known| known.url == url && known.shown == shown) {
            known.connect_timeout = known.connect_timeout.max(connect);
            return Ok(known.name.clone());
        }
        if scheme == "https" && !self.able.https_servers {
            return Err("this version speaks no TLS to backends".into());
        }
        let upstream = http.iter().find(|one| one.name == "upstream" && one.arg(0).eq_ignore_ascii_case(authority));
        let mut comments = Vec::new();
        let servers = match upstream {
            Some(upstream) => self.servers_of(scheme, upstream, &mut comments),
            None => vec![address(scheme, authority)],
        };
        let listeners: String = self.listening.iter().map(|address| format!("[[listeners]]\naddress = {}\n", quoted(address))).collect();
        let admin = self.draft.admin.join("\n");
        let fault = fault_of(&format!("{listeners}{admin}\n[backends.a]\nservers = {}\n", list(&servers)));
        if let Some(why) = fault {
            // What was noted of its servers stands where it would have led.
            self.orphans.append(&mut comments);
            return Err(why);
        }
        let tls = match scheme {
            "https" => self.tls_of(scope, &servers, &mut comments),
            _ => to.is_grpc.then(|| H2C.to_owned()),
        };
        let wish = match upstream {
            Some(upstream) => upstream.arg(0).to_owned(),
            None => {
                authority.trim_start_matches("unix:").replace("127.0.0.1", "local").replace("localhost", "local").replace([':', '.'], "-")
            }
        };
        let name = name(&wish, &mut self.backends.names);
        self.backends.list.push(Backend { url, shown, name: name.clone(), servers, comments, tls, connect_timeout: connect });
        Ok(name)
    }

    /// What the certificate of https servers is checked against, and what they are shown.
    fn tls_of(&mut self, scope: &Scope<'_>, servers: &[String], comments: &mut Vec<String>) -> Option<String> {
        let said = said_of_tls(scope);
        let parts: Vec<_> = said.iter().map(|(directive, key)| format!("{key} = {}", quoted(directive.arg(0)))).collect();
        let (first, _) = said.first()?;
        let line = format!("tls = {{ {} }}", parts.join(", "));
        let variable = said.iter().any(|(directive, _)| directive.arg(0).contains('$'));
        let fault = fault_of(&format!("[backends.a]\nservers = {}\n{line}\n", list(servers)));
        match fault.or_else(|| variable.then(|| "names and files are not made of variables".to_owned())) {
            None => Some(line),
            Some(why) => {
                comments.push(self.notes.dropped(first, why));
                None
            }
        }
    }

    fn servers_of(&mut self, scheme: &str, upstream: &Directive, comments: &mut Vec<String>) -> Vec<String> {
        let mut servers: Vec<String> = Vec::new();
        for directive in upstream.children().iter().filter(|one| one.name == "server") {
            let options: Vec<&str> = directive.args.iter().skip(1).map(String::as_str).collect();
            if options.contains(&"backup") || options.contains(&"down") {
                let why = if options.contains(&"backup") {
                    "there are no backup servers: it would get its part of the load"
                } else {
                    "it is marked as down"
                };
                comments.push(self.notes.dropped(directive, why));
                continue;
            }
            let with_port = match directive.arg(0) {
                unix if unix.starts_with("unix:") => unix.to_owned(),
                plain if plain.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => plain.to_owned(),
                plain => format!("{plain}:80"),
            };
            let server = address(scheme, &with_port);
            if servers.contains(&server) {
                comments.push(self.notes.dropped(directive, "it is there already"));
                continue;
            }
            if servers.len() == SERVERS_MAX {
                comments.push(self.notes.dropped(directive, format!("a backend has at most {SERVERS_MAX} servers")));
                continue;
            }
            let mut whys: Vec<&str> = Vec::new();
            for option in &options {
                let why = match option.split('=').next().unwrap_or_default() {
                    "weight" => "servers get load by how much they have to do",
                    "max_fails" | "fail_timeout" | "slow_start" => {
                        "forebay finds out by itself when a server is out, and eases it in again (see `health`)"
                    }
                    "max_conns" => "`concurrency` is found out by itself",
                    "resolve" => continue,
                    _ => "not all of it is known to forebay",
                };
                whys.extend(Some(why).filter(|why| !whys.contains(why)));
            }
            if !whys.is_empty() {
                comments.push(self.notes.changed(directive, whys.join("; ")));
            }
            servers.push(server);
        }
        let rest = self.notes.rest(upstream.children(), &["server", "keepalive_timeout", "keepalive_requests", "keepalive_time"]);
        comments.extend(rest);
        servers
    }

    /// Writes the backends that routes lead to.
    pub(super) fn write_backends(&mut self, http: &[Directive]) {
        let mut lines = Vec::new();
        for backend in &self.backends.list {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.extend(backend.comments.iter().cloned());
            lines.push(format!("[backends.{}]", key(&backend.name)));
            lines.push(format!("servers = {}", list(&backend.servers)));
            lines.extend(backend.tls.clone());
            if let Some(time) = backend.connect_timeout {
                let time = time.clamp(Duration::from_millis(1), Duration::from_secs(60));
                lines.push(format!("connect_timeout = {}", quoted(&show_duration(time))));
            }
            lines.push("response_timeout = \"1m\"              # nginx's default; routes may have their own".into());
        }
        if self.backends.list.is_empty() {
            // The checker wants one, and an operator who adds a route needs one.
            lines.push("[backends.none]                       # nothing is proxied; a configuration needs a backend all the same".into());
            lines.push("servers = [\"http://127.0.0.1:1\"]".into());
        }
        for upstream in http.iter().filter(|one| one.name == "upstream") {
            let is_used = self.backends.list.iter().any(|known| known.url.ends_with(&format!("://{}", upstream.arg(0))));
            if !is_used {
                lines.push(self.notes.dropped(upstream, "nothing leads there"));
            }
        }
        lines.append(&mut self.orphans);
        self.draft.backends = lines;
    }
}

fn address(scheme: &str, authority: &str) -> String {
    if authority.starts_with("unix:") { authority.to_owned() } else { format!("{scheme}://{authority}") }
}
