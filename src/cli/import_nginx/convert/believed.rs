//! `set_real_ip_from`: whose word about the client counts. In nginx it is one server's and about the address alone; here it is everybody's, and about scheme and host too.

use super::{Importer, fault_of, listen};
use crate::cli::import_nginx::parse::Directive;

/// Said of trusted proxies where routes go by the scheme.
const ABOUT_SCHEME: &str = "CAUTION: these are believed about the scheme too, by which routes go here: let them set X-Forwarded-Proto, and pass none of a client's on";

impl Importer {
    /// Reads who is believed about clients.
    pub(super) fn believe(&mut self, http: &[Directive], everywhere: &[&Directive], lines: &mut Vec<String>) {
        let mut networks: Vec<String> = Vec::new();
        let is_said_of_all = |directive: &Directive| http.iter().any(|one| std::ptr::eq(one, directive));
        let all: Vec<&Directive> = everywhere.iter().copied().filter(|directive| directive.name == "set_real_ip_from").collect();
        for directive in &all {
            let network = directive.arg(0).to_owned();
            let fault = fault_of(&format!("[clients]\n{}", listen::trusted(std::slice::from_ref(&network))));
            if fault.is_some() {
                lines.push(self.notes.dropped(directive, "it is no address or network: names are not looked up"));
                continue;
            }
            if network.ends_with("/0") {
                lines.push(self.notes.changed(directive, "CAUTION: whoever comes is believed: name your proxies alone"));
            }
            if !is_said_of_all(directive) {
                lines.push(self.notes.changed(directive, "CAUTION: it holds for all servers, not for this one alone"));
            }
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
        let header = everywhere.iter().find(|directive| directive.name == "real_ip_header").copied();
        let why = match header.map(|header| header.arg(0).to_ascii_lowercase()).as_deref() {
            None if networks.is_empty() => None,
            None => Some("CAUTION: nginx takes X-Real-IP, since no `real_ip_header` is set; here X-Forwarded-For or Forwarded counts"),
            Some("x-forwarded-for" | "forwarded") => None,
            Some("proxy_protocol") if self.able.proxy_protocol => {
                self.notes.built_in += 1;
                None
            }
            Some("proxy_protocol") => Some("CAUTION: this version does not read the PROXY protocol"),
            Some(_) => Some("CAUTION: a client's address is taken from X-Forwarded-For or Forwarded of trusted proxies"),
        };
        if let (Some(why), Some(directive)) = (why, header.or_else(|| all.first().copied())) {
            lines.push(self.notes.dropped(directive, why));
        }
        for other in everywhere.iter().filter(|one| one.name == "real_ip_header") {
            if header.is_some_and(|first| !first.arg(0).eq_ignore_ascii_case(other.arg(0))) {
                lines.push(self.notes.dropped(other, "CAUTION: it holds for all servers, and the first that says one is followed"));
            }
        }
        // With `real_ip_header proxy_protocol` nobody's X-Forwarded-For is believed.
        let by_head = header.is_some_and(|header| header.arg(0) == "proxy_protocol");
        self.believed = (!by_head || !self.able.proxy_protocol) && !networks.is_empty();
        if self.believed {
            lines.push(listen::trusted(&networks));
        }
        self.trusted = networks;
    }

    /// Says that routes go by what trusted proxies say, once it is known whether they do.
    pub(super) fn caution_of_scheme(&mut self, http: &[Directive]) {
        let servers = http.iter().filter(|one| one.name == "server").flat_map(Directive::children);
        let first = http.iter().chain(servers).find(|one| one.name == "set_real_ip_from");
        if let Some(first) = first.filter(|_| self.believed && self.routes.iter().any(|route| route.scheme.is_some())) {
            let comment = self.notes.changed(first, ABOUT_SCHEME);
            let at = self.draft.clients.iter().position(|line| line.starts_with("trusted_proxies")).unwrap_or_default();
            self.draft.clients.insert(at, comment);
        }
    }
}
