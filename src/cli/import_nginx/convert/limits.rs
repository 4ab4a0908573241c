//! How often a client may ask, and how many connections it may have: `limit_req` and `limit_conn`.

use super::{Importer, Scope};
use crate::cli::import_nginx::{parse::Directive, units, write::quoted};

/// A zone whose key is the address of the client.
#[derive(Debug)]
pub(super) struct Zone {
    name: String,
    rate: String,
    /// Requests of a client in a minute.
    per_minute: u64,
}

fn option(directive: &Directive, name: &str) -> Option<String> {
    directive.args.iter().find_map(|arg| arg.strip_prefix(name)).map(str::to_owned)
}

fn is_by_client(zone: &Directive) -> bool {
    ["$binary_remote_addr", "$remote_addr"].contains(&zone.arg(0))
}

fn zone_name(zone: &Directive) -> String {
    option(zone, "zone=").and_then(|zone| zone.split(':').next().map(str::to_owned)).unwrap_or_default()
}

/// Said of a limit by what forebay does not count by.
const UNLIMITED: &str = "CAUTION: its zone is not carried over: nothing is limited by it";
/// Said of limits beside the slowest. Its own burst stays with it: that of a fast one beside it would turn away whoever loads a page.
const SLOWEST: &str = "CAUTION: there is one rate for a client: the slowest of these is taken, with its burst";

impl Importer {
    /// The limits of `http`. What is limited in a server or location is a limit of its routes.
    pub(super) fn limits(&mut self, http: &[Directive], lines: &mut Vec<String>) {
        for zone in http.iter().filter(|directive| directive.name == "limit_req_zone") {
            match option(zone, "rate=").and_then(|rate| units::rate(&rate)) {
                _ if !self.able.rate => lines.push(self.notes.dropped(zone, "this version limits no rates")),
                Some(rate) if is_by_client(zone) => {
                    let (number, unit) = rate.split_once('/').unwrap_or((&rate, ""));
                    let per_minute = number.parse::<u64>().unwrap_or(0) * if unit == "s" { 60 } else { 1 };
                    self.zones.push(Zone { name: zone_name(zone), rate, per_minute });
                }
                _ => lines.push(
                    self.notes
                        .dropped(zone, "CAUTION: a rate is that of one client, by its address or by what `rate_by` finds in a request"),
                ),
            }
        }
        lines.extend(self.rate(&http.iter().filter(|one| one.name == "limit_req").collect::<Vec<_>>()));
        self.connections(http, lines);
    }

    /// The rate that holds in a location, where it is not that of `http`.
    pub(super) fn rate_of(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let inner = Scope(scope.0.iter().copied().skip(1).collect());
        self.rate(&inner.all("limit_req"))
    }

    /// The lines of the slowest of these that can be carried over, and notes about the others.
    fn rate(&mut self, limits: &[&Directive]) -> Vec<String> {
        let zone_of = |limit: &Directive| self.zones.iter().find(|zone| option(limit, "zone=").is_some_and(|name| name == zone.name));
        let Some((slowest, zone)) =
            limits.iter().filter_map(|limit| Some((*limit, zone_of(limit)?))).min_by_key(|(_, zone)| zone.per_minute)
        else {
            return limits.iter().map(|limit| self.notes.dropped(limit, UNLIMITED)).collect();
        };
        // nginx lets one through, and so many more.
        let burst = option(slowest, "burst=").and_then(|burst| burst.parse::<u32>().ok()).unwrap_or(0).saturating_add(1);
        let written = [format!("rate = {}", quoted(&zone.rate)), format!("burst = {}", burst.min(10_000_000))];
        let others: Vec<_> =
            limits.iter().filter(|limit| !std::ptr::eq(**limit, slowest)).map(|limit| (*limit, zone_of(limit).is_some())).collect();
        let mut lines = Vec::new();
        for (limit, is_known) in others {
            let why = if is_known { SLOWEST } else { UNLIMITED };
            lines.push(self.notes.dropped(limit, why));
        }
        lines.extend(written);
        lines
    }

    /// `limit_conn` by client address, where it holds for all of `http` or of a server, is the number of connections of each client.
    fn connections(&mut self, http: &[Directive], lines: &mut Vec<String>) {
        let zones: Vec<_> = http.iter().filter(|one| one.name == "limit_conn_zone").collect();
        let servers = http.iter().filter(|one| one.name == "server").flat_map(Directive::children);
        let mut found = false;
        for limit in http.iter().chain(servers).filter(|one| one.name == "limit_conn") {
            let by_client = zones.iter().any(|zone| zone_name(zone) == limit.arg(0) && is_by_client(zone));
            match limit.arg(1).parse::<u32>() {
                Ok(most @ 1..=10_000_000) if by_client && !std::mem::replace(&mut found, true) => {
                    lines.push(
                        self.notes.changed(limit, "connections are counted, over all servers together, and not the requests on them"),
                    );
                    lines.push(format!("max_connections_per_client = {most}"));
                }
                _ => lines.push(self.notes.dropped(limit, "CAUTION: there is one number of connections, that of each client address")),
            }
        }
        if !found {
            for zone in zones {
                lines.push(self.notes.dropped(zone, "no limit that is carried over is by this zone"));
            }
        }
    }
}
