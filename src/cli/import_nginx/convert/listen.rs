//! `listen`: addresses, TLS, and who answers for hosts that nobody names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Importer, Server, fault_of};
use crate::cli::import_nginx::{
    parse::Directive,
    write::{list, quoted},
};

/// Where a load balancer most likely is: private networks (RFC 1918, RFC 4193) and this machine.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7"];

/// One address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    /// As forebay writes it.
    pub(super) address: String,
    pub(super) tls: bool,
    pub(super) default: bool,
    pub(super) proxy_protocol: bool,
}

/// The addresses of a server block; its port 80 when it says nothing. Of those that did not carry over, whether there was TLS.
pub(super) fn of(importer: &mut Importer, server: &Directive, comments: &mut Vec<String>) -> (Vec<Listen>, Vec<bool>) {
    let given: Vec<_> = server.children().iter().filter(|directive| directive.name == "listen").collect();
    // Before nginx 1.25 a directive of its own switched TLS on.
    let all_tls = server.children().iter().any(|directive| directive.name == "ssl" && directive.arg(0) == "on");
    let (mut listens, mut dropped) = (Vec::new(), Vec::new());
    for directive in &given {
        let has = |word: &str| directive.args.iter().skip(1).any(|arg| arg == word);
        let tls = has("ssl") || has("quic") || all_tls;
        let carried = listens.len();
        match address(directive.arg(0)) {
            _ if has("quic") => comments.push(importer.notes.dropped(directive, "HTTP/3 is not spoken")),
            None => comments.push(importer.notes.dropped(directive, "write the IP address of the listener")),
            Some(_) if tls && !importer.able.tls => {
                comments.push(importer.notes.dropped(directive, "this version speaks no TLS to clients: keep a proxy that does before it"));
            }
            Some(address) => {
                let default = has("default_server") || has("default");
                let proxy_protocol = has("proxy_protocol");
                if proxy_protocol && !importer.able.proxy_protocol {
                    comments.push(importer.notes.changed(directive, "CAUTION: this version does not read the PROXY protocol"));
                } else if proxy_protocol && importer.trusted.is_empty() {
                    let why =
                        "CAUTION: only who is named in `proxy_protocol.from` is let in, and nothing here says who: name your load balancer";
                    comments.push(importer.notes.changed(directive, why));
                }
                let known = ["backlog=", "ipv6only="];
                if directive.args.iter().skip(1).any(|arg| arg.contains('=') && !known.iter().any(|known| arg.starts_with(known))) {
                    comments.push(importer.notes.changed(directive, "options of the socket are left to the system"));
                }
                let proxy_protocol = proxy_protocol && importer.able.proxy_protocol;
                // Said so, one socket of nginx takes both; here there is one for each.
                let four = address.strip_prefix("[::]:").filter(|_| has("ipv6only=off")).map(|port| format!("0.0.0.0:{port}"));
                listens.extend([Some(address), four].into_iter().flatten().map(|address| Listen { address, tls, default, proxy_protocol }));
            }
        }
        if listens.len() == carried {
            dropped.push(tls);
        }
    }
    if given.is_empty() {
        listens.push(Listen { address: "0.0.0.0:80".into(), tls: false, default: false, proxy_protocol: false });
    }
    (listens, dropped)
}

fn address(text: &str) -> Option<String> {
    let any = Ipv4Addr::UNSPECIFIED;
    if text.starts_with("unix:") {
        return Some(text.to_owned());
    }
    if let Ok(port) = text.parse::<u16>() {
        return Some(format!("{any}:{port}"));
    }
    if let Some(port) = text.strip_prefix("*:") {
        return Some(format!("{any}:{}", port.parse::<u16>().ok()?));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.to_string());
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 80).to_string());
    }
    match text.strip_prefix("localhost")? {
        "" => Some("127.0.0.1:80".into()),
        port => Some(format!("127.0.0.1:{}", port.strip_prefix(':')?.parse::<u16>().ok()?)),
    }
}

impl Importer {
    /// Takes TLS from servers that have no certificate of their own, and find none of another at their address: with that one a handshake comes to an end there, and what
    /// their hosts are asked for is theirs.
    pub(super) fn need_certificates(&mut self, servers: &mut [Server<'_>]) {
        let some: Vec<String> = servers
            .iter()
            .filter(|server| server.certificate.is_some())
            .flat_map(|server| server.listens.iter().filter(|listen| listen.tls).map(|listen| listen.address.clone()))
            .collect();
        for server in servers {
            let (kept, gone): (Vec<_>, Vec<_>) =
                std::mem::take(&mut server.listens).into_iter().partition(|listen| !listen.tls || some.contains(&listen.address));
            server.dropped.extend(gone.iter().map(|_| true));
            server.listens = kept;
            if server.certificate.is_some() || server.rejects {
                continue;
            }
            let is_at =
                |listens: &[Listen], at: &Option<String>| listens.iter().any(|listen| listen.tls && Some(&listen.address) == at.as_ref());
            for directive in server.directive.children().iter().filter(|one| one.name == "listen") {
                let at = address(directive.arg(0));
                if is_at(&gone, &at) {
                    server
                        .comments
                        .push(self.notes.dropped(directive, "CAUTION: there is no certificate in a file for it: nobody comes in by it"));
                } else if is_at(&server.listens, &at) {
                    server
                        .comments
                        .push(self.notes.changed(directive, "there is no certificate in a file for it: that of another server is shown"));
                }
            }
        }
    }

    /// One listener for each address that leads to a server; its certificates are those of all servers there. At one that only servers without a host of their own have
    /// another one would answer, which nginx has there for nobody.
    pub(super) fn write_listeners(&mut self, servers: &[Server<'_>]) {
        let mut written: Vec<String> = Vec::new();
        let led_to = servers.iter().filter(|server| server.is_led_to());
        for listen in led_to.flat_map(|server| &server.listens) {
            if written.contains(&listen.address) {
                continue;
            }
            let here = servers.iter().filter(|server| server.listens.iter().any(|other| other.address == listen.address));
            let mut certificates: Vec<(String, String)> = Vec::new();
            if servers.iter().flat_map(|server| &server.listens).any(|other| other.address == listen.address && other.tls) {
                for pair in here.filter_map(|server| server.certificate.clone()) {
                    if !certificates.contains(&pair) {
                        certificates.push(pair);
                    }
                }
            }
            let mut lines = vec!["[[listeners]]".to_owned(), format!("address = {}", quoted(&listen.address))];
            let pairs: Vec<_> =
                certificates.iter().map(|(cert, key)| format!("{{ cert_file = {}, key_file = {} }}", quoted(cert), quoted(key))).collect();
            match pairs.as_slice() {
                [] => {}
                [one] => lines.push(format!("tls = {one}")),
                several => lines.push(format!("tls = [{}]", several.join(", "))),
            }
            if listen.proxy_protocol {
                let from = if self.trusted.is_empty() { list(&PRIVATE.map(str::to_owned)) } else { list(&self.trusted) };
                lines.push(format!("proxy_protocol = {{ from = {from} }}"));
            }
            let without_files: Vec<_> = lines.iter().filter(|line| !line.starts_with("tls")).cloned().collect();
            let others = written.iter().map(|address| format!("[[listeners]]\naddress = {}\n", quoted(address))).collect::<String>();
            match fault_of(&format!("{others}{}", without_files.join("\n"))) {
                Some(why) => self.draft.listeners.push(format!("# listen {}: not carried over: {why}", listen.address)),
                None => {
                    written.push(listen.address.clone());
                    self.draft.listeners.extend(lines);
                }
            }
        }
        self.listening = written;
        self.write_admin();
    }

    /// The admin listener goes where nobody else is.
    fn write_admin(&mut self) {
        let taken = |port: u16| {
            let end = format!(":{port}");
            self.listening.iter().any(|address| address.ends_with(&end)) || self.upstream_ports.contains(&port)
        };
        if let Some(port) = [8081, 9081, 18081, 28081].into_iter().find(|port| !taken(*port)).filter(|port| *port != 8081) {
            self.draft.admin.push(format!("[admin]\naddress = \"127.0.0.1:{port}\"               # 8081, where it usually is, is taken"));
        }
    }
}

/// The trusted proxies as a line.
pub(super) fn trusted(networks: &[String]) -> String {
    format!("trusted_proxies = {}", list(networks))
}
