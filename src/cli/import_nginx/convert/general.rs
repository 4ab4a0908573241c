//! What holds for the whole program: workers, limits on clients, logs.

use std::time::Duration;

use super::{Importer, Scope, fault_of};
use crate::{
    cli::import_nginx::{parse::Directive, units, write::quoted},
    config::units::{show_duration, show_size},
};

/// `client_max_body_size` where nobody sets it.
pub(super) const MAX_BODY: u64 = 1 << 20;
/// forebay's largest limit on a body, which stands for none.
pub(super) const UNLIMITED: u64 = 16 << 40;

/// Directives of `http` and of a server that are carried over, here or where they hold.
pub(super) const ANYWHERE: [&str; 33] = [
    "listen",
    "server_name",
    "location",
    "return",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl",
    "access_log",
    "error_log",
    "default_type",
    "client_max_body_size",
    "client_header_timeout",
    "client_body_timeout",
    "keepalive_timeout",
    "large_client_header_buffers",
    "set_real_ip_from",
    "real_ip_header",
    "limit_req",
    "limit_conn",
    "proxy_ssl_verify",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_name",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
    "grpc_set_header",
    "grpc_connect_timeout",
    "grpc_read_timeout",
    "proxy_set_header",
    "proxy_hide_header",
    "proxy_redirect",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "add_header",
];

/// Those that stand in `http` alone.
const OF_HTTP: [&str; 13] = [
    "server",
    "upstream",
    "log_format",
    "limit_req_zone",
    "limit_conn_zone",
    "proxy_pass",
    "internal",
    "map",
    "limit_except",
    "try_files",
    "root",
    "alias",
    "index",
];

/// The body limit of a directive in bytes.
pub(super) fn body_limit(directive: &Directive) -> Option<u64> {
    match units::size(directive.arg(0))? {
        0 => Some(UNLIMITED),
        bytes => Some(bytes.min(UNLIMITED)),
    }
}

impl Importer {
    /// What stands outside of `http`.
    pub(super) fn main(&mut self, main: &[Directive]) {
        let mut comments = self.notes.rest(main, &["events", "worker_processes", "error_log"]);
        for directive in main {
            match directive.name.as_str() {
                "worker_processes" => match directive.arg(0).parse::<u32>() {
                    Ok(number) if (1..=1024).contains(&number) => self.draft.top.push(format!("workers = {number}")),
                    _ => self.notes.built_in += 1,
                },
                "events" => {
                    for inner in directive.children() {
                        comments.push(if inner.name == "worker_connections" {
                            self.notes
                                .dropped(inner, "it counts connections to backends too: see `clients.max_connections`, 10,000 if not set")
                        } else {
                            self.notes.dropped(inner, super::super::reasons::why(&inner.name))
                        });
                    }
                }
                "error_log" => self.error_log(directive),
                _ => {}
            }
        }
        comments.append(&mut self.draft.top);
        self.draft.top = comments;
    }

    /// What `http` says of clients, logs and proxies.
    pub(super) fn http(&mut self, http: &[Directive]) {
        let maps: Vec<_> = http.iter().filter(|directive| directive.name == "map").collect();
        for map in maps {
            // `map $http_upgrade $connection_upgrade` is the usual preparation of WebSockets.
            if map.arg(0) == "$http_upgrade" && self.able.upgrades {
                self.notes.built_in += 1;
            } else {
                let comment = self.notes.rest(std::slice::from_ref(map), &[]);
                self.draft.top.extend(comment);
            }
        }
        let comments = self.notes.rest(http, &[&ANYWHERE[..], &OF_HTTP].concat());
        self.draft.top.extend(comments);
        for unused in http.iter().filter(|directive| ["root", "index", "try_files", "default_type"].contains(&directive.name.as_str())) {
            let comment = self.notes.dropped(unused, "forebay serves no files");
            self.draft.top.push(comment);
        }
        self.clients(http);
        self.logs(http);
    }

    fn clients(&mut self, http: &[Directive]) {
        // Limits that forebay has once are looked for in the servers too; the first that is met holds.
        let everywhere: Vec<&Directive> =
            http.iter().chain(http.iter().filter(|one| one.name == "server").flat_map(Directive::children)).collect();
        let first = |name: &str| everywhere.iter().find(|directive| directive.name == name).copied();
        let mut lines = Vec::new();
        self.believe(http, &everywhere, &mut lines);
        self.durations(&first, &mut lines);
        self.max_body = http.iter().rev().find(|one| one.name == "client_max_body_size").and_then(body_limit).unwrap_or(MAX_BODY);
        let said = if http.iter().any(|one| one.name == "client_max_body_size") { "" } else { "                     # nginx's default" };
        lines.push(format!("max_body = {}{said}", quoted(&show_size(self.max_body))));
        if let Some(buffers) = first("large_client_header_buffers")
            && let (Ok(number), Some(size)) = (buffers.arg(0).parse::<u64>(), units::size(buffers.arg(1)))
        {
            let bytes = number.saturating_mul(size).clamp(8 << 10, 1 << 20);
            lines.push(format!("max_header_bytes = {}", quoted(&show_size(bytes))));
        }
        self.limits(http, &mut lines);
        self.draft.clients.push("[clients]".into());
        for line in lines {
            let with_it = format!("{}\n{line}", self.draft.clients.join("\n"));
            let fault = fault_of(&with_it);
            self.draft.clients.push(fault.map_or(line.clone(), |why| format!("# {line}: {why}")));
        }
    }

    fn durations<'a>(&mut self, first: &impl Fn(&str) -> Option<&'a Directive>, lines: &mut Vec<String>) {
        let mut time_of = |name: &str, most: u64| {
            let directive = first(name)?;
            let time = units::time(directive.arg(0)).filter(|time| *time >= Duration::from_millis(100));
            if time.is_none() {
                lines.push(self.notes.dropped(directive, "forebay needs a time here"));
            }
            time.map(|time| (directive, time.min(Duration::from_secs(most))))
        };
        let head = time_of("client_header_timeout", 3_600);
        let idle = [time_of("keepalive_timeout", 86_400), time_of("client_body_timeout", 86_400)];
        lines.extend(head.map(|(_, time)| format!("header_timeout = {}", quoted(&show_duration(time)))));
        if idle.iter().all(Option::is_none) {
            return;
        }
        // One time is for both here: the shorter one would cut off bodies, or connections, that nginx waits for.
        let or_default = |set: &Option<(&Directive, Duration)>, seconds: u64| set.map_or(Duration::from_secs(seconds), |(_, time)| time);
        let (kept, body) = (or_default(&idle[0], 0), or_default(&idle[1], 60));
        let longer = kept.max(body);
        for (directive, _) in idle.into_iter().flatten().filter(|(_, time)| *time != longer) {
            let why = "`clients.idle_timeout` is for connections without a request and for bodies that stop coming: the longer of both times of nginx is taken";
            lines.push(self.notes.changed(directive, why));
        }
        lines.push(format!("idle_timeout = {}", quoted(&show_duration(longer))));
    }

    fn logs(&mut self, http: &[Directive]) {
        for directive in http.iter().filter(|directive| directive.name == "error_log") {
            self.error_log(directive);
        }
        let in_servers = http.iter().filter(|one| one.name == "server").flat_map(Directive::children);
        let all: Vec<_> = http.iter().chain(in_servers).filter(|directive| directive.name == "access_log").collect();
        let Some((first, others)) = all.split_first() else {
            self.draft
                .log
                .push("access = \"./access.log\"              # nginx logs if it is not told otherwise; the place is yours".into());
            self.draft.log.push("access_format = \"combined\"".into());
            return self.draft.log.insert(0, "[log]".into());
        };
        let path = first.arg(0);
        let format = first.args.get(1).filter(|arg| !arg.contains('=')).map_or("combined", String::as_str);
        let written = if path == "off" { "off" } else { path };
        let lines = format!("[log]\naccess = {}", quoted(if path == "/dev/stdout" { "stdout" } else { written }));
        match fault_of(&lines) {
            _ if path.contains('$') || path.starts_with("syslog:") => {
                let comment = self.notes.dropped(first, "the access log is one file, or stdout");
                self.draft.log.push(comment);
            }
            Some(why) => {
                let comment = self.notes.dropped(first, why);
                self.draft.log.push(comment);
            }
            None => {
                self.draft.log.extend(lines.lines().skip(1).map(str::to_owned));
                self.log_format(http, first, format);
            }
        }
        for other in others.iter().filter(|other| other.args != first.args) {
            let comment = self.notes.dropped(other, "there is one access log for all servers; its JSON names host and route");
            self.draft.log.push(comment);
        }
        self.draft.log.insert(0, "[log]".into());
    }

    fn log_format(&mut self, http: &[Directive], log: &Directive, format: &str) {
        if log.arg(0) == "off" {
            return;
        }
        let declared = http.iter().find(|directive| directive.name == "log_format" && directive.arg(0) == format);
        let is_json = declared.is_some_and(|declared| declared.args.iter().any(|arg| arg == "escape=json"));
        let same = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
        let is_combined = declared.is_none_or(|declared| declared.args[1..].concat() == same);
        if let Some(declared) = declared.filter(|_| !is_combined) {
            let why = if is_json {
                "the fields of forebay's JSON have names of their own"
            } else {
                "it is written as `combined`; `json` has more"
            };
            let comment = self.notes.changed(declared, why);
            self.draft.log.push(comment);
        }
        self.draft.log.push(format!("access_format = {}", quoted(if is_json { "json" } else { "combined" })));
    }

    fn error_log(&mut self, directive: &Directive) {
        let level = match directive.arg(1) {
            "debug" => "debug",
            "info" => "info",
            "warn" => "warn",
            "error" | "crit" | "alert" | "emerg" => "error",
            _ => "",
        };
        let comment = self.notes.changed(directive, "logs go to stderr, for the service manager to keep");
        self.draft.log.push(comment);
        if !level.is_empty() && !self.draft.log.iter().any(|line| line.starts_with("level")) {
            self.draft.log.push(format!("level = {}", quoted(level)));
        }
    }
}

/// The body limit that holds in a scope.
pub(super) fn max_body(scope: &Scope<'_>) -> u64 {
    scope.last("client_max_body_size").and_then(body_limit).unwrap_or(MAX_BODY)
}
