//! From the directives of nginx to a configuration of forebay.
//!
//! What is inherited in nginx (fields, timeouts, limits) is worked out for each location and written with its route. Whatever is written is shown to the
//! checker first, piece by piece: what that refuses is left out with its reason, so that the whole passes.

mod access;
mod answer;
mod backends;
mod believed;
mod conditions;
mod fields;
mod general;
mod limits;
mod listen;
mod location;
mod routes;
mod server;
mod values;

use crate::config::{self, Config, ConfigError};

use super::{
    notes::{Note, Notes},
    parse::{Directive, Place},
    write::Draft,
};

use backends::Backends;
use routes::Route;
use server::Server;

/// The result.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) text: String,
    pub(super) notes: Vec<Note>,
    /// Directives that need no counterpart, since forebay does by itself what they ask for.
    pub(super) built_in: usize,
    pub(super) backends: usize,
    pub(super) routes: usize,
}

/// Directives of the enclosing blocks, the innermost last.
#[derive(Clone)]
struct Scope<'a>(Vec<&'a [Directive]>);

impl<'a> Scope<'a> {
    fn within(&self, block: &'a [Directive]) -> Self {
        Self(self.0.iter().copied().chain([block]).collect())
    }

    /// The directive that holds here, where the innermost one does.
    fn last(&self, name: &str) -> Option<&'a Directive> {
        self.0.iter().rev().find_map(|level| level.iter().rev().find(|directive| directive.name == name))
    }

    /// All of the innermost block that has any: one of them hides all of the outer ones.
    fn all(&self, name: &str) -> Vec<&'a Directive> {
        let of = |level: &&'a [Directive]| level.iter().filter(|directive| directive.name == name).collect::<Vec<_>>();
        self.0.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }
}

/// What this version can be told, by its own schema.
struct Able {
    tls: bool,
    proxy_protocol: bool,
    rate: bool,
    https_servers: bool,
    upgrades: bool,
}

impl Able {
    fn now() -> Self {
        let schema = config::schema();
        let has = |pointer: &str| schema.pointer(pointer).is_some();
        let servers = "/properties/backends/additionalProperties/properties";
        Self {
            tls: has("/properties/listeners/items/properties/tls"),
            proxy_protocol: has("/properties/listeners/items/properties/proxy_protocol"),
            rate: has("/properties/clients/properties/rate"),
            https_servers: schema.pointer(&format!("{servers}/servers/items")).is_some_and(|items| items.to_string().contains("https")),
            upgrades: has(&format!("{servers}/tunnel_timeout")),
        }
    }
}

struct Importer {
    able: Able,
    notes: Notes,
    draft: Draft,
    backends: Backends,
    route_names: Vec<String>,
    routes: Vec<Route>,
    /// Hosts that any server names, each with whether it has TLS for them.
    named: Vec<(String, bool)>,
    /// Whether any request can come by https, be it that a trusted proxy says so.
    by_https: bool,
    /// Addresses that are listened on.
    listening: Vec<String>,
    /// Ports of servers on this machine.
    upstream_ports: Vec<u16>,
    /// Zones of `limit_req`.
    zones: Vec<limits::Zone>,
    /// Networks whose word about the client counts.
    trusted: Vec<String>,
    /// Their X-Forwarded-For and its like count.
    believed: bool,
    /// Comments about backends that there are none of.
    orphans: Vec<String>,
    /// `clients.max_body`.
    max_body: u64,
    /// Paths of proxied locations without the slash that they end in, and whether they are for nginx itself.
    slashes: Vec<(String, bool)>,
    /// Directives of which it was said that they keep nobody out any more.
    cautioned: Vec<Place>,
    /// It was said that `always` is not looked at.
    said_always: bool,
}

/// Converts a whole configuration; none when there is no server in it.
pub(super) fn convert(mut tree: Vec<Directive>, from: &str) -> Option<Converted> {
    values::settle_rewrites(&mut tree);
    let (main, http) = split(tree);
    let mut importer = Importer {
        able: Able::now(),
        notes: Notes::default(),
        draft: Draft::default(),
        backends: Backends::default(),
        route_names: Vec::new(),
        routes: Vec::new(),
        named: Vec::new(),
        by_https: false,
        listening: Vec::new(),
        upstream_ports: ports(&http),
        zones: Vec::new(),
        trusted: Vec::new(),
        believed: false,
        orphans: Vec::new(),
        max_body: general::MAX_BODY,
        slashes: Vec::new(),
        cautioned: Vec::new(),
        said_always: false,
    };
    let blocks: Vec<_> = http.iter().filter(|directive| directive.name == "server" && directive.block.is_some()).collect();
    if blocks.is_empty() {
        return None;
    }
    importer.main(&main);
    importer.http(&http);
    let servers: Vec<Server<'_>> = importer.servers(&blocks, &http);
    importer.write_listeners(&servers);
    let scope = Scope(vec![&http]);
    for server in &servers {
        importer.parts(server, &servers, &scope);
    }
    importer.caution_of_scheme(&http);
    importer.write_backends(&http);
    if importer.routes.is_empty() {
        importer.draft.routes.push(
            "[[routes]]                            # nothing of it could be carried over; a configuration needs a route all the same"
                .into(),
        );
        importer.draft.routes.push("name = \"none\"\npath = \"/\"\nrespond = { status = 404 }".into());
    }
    Some(Converted {
        text: importer.draft.text(from),
        backends: importer.backends.count(),
        routes: importer.routes.len(),
        built_in: importer.notes.built_in,
        notes: importer.notes.list,
    })
}

/// What stands outside and inside of `http`. A file that is included into `http` stands for its inside.
fn split(tree: Vec<Directive>) -> (Vec<Directive>, Vec<Directive>) {
    let (mut main, mut http) = (Vec::new(), Vec::new());
    for directive in tree {
        match directive.name.as_str() {
            "http" => http.extend(directive.block.unwrap_or_default()),
            "events" | "stream" | "mail" | "user" | "pid" | "daemon" | "load_module" | "env" | "error_log" => main.push(directive),
            name if name.starts_with("worker_") => main.push(directive),
            _ => http.push(directive),
        }
    }
    (main, http)
}

/// The ports that are named anywhere as those of servers: the admin listener keeps away from them.
fn ports(block: &[Directive]) -> Vec<u16> {
    let mut found = Vec::new();
    for directive in block {
        if matches!(directive.name.as_str(), "server" | "proxy_pass" | "grpc_pass") {
            let port: Option<u16> =
                directive.arg(0).rsplit(':').next().and_then(|rest| rest.split('/').next()).and_then(|port| port.parse().ok());
            found.extend(port);
        }
        found.extend(ports(directive.children()));
    }
    found
}

/// What the checker says of these lines, with a backend `a` and a route where they bring none.
fn fault_of(lines: &str) -> Option<String> {
    let backend = if lines.contains("[backends.") { "" } else { "[backends.a]\nservers = [\"http://192.0.2.1\"]\n" };
    let route = if lines.contains("[[routes]]") { "" } else { "[[routes]]\nname = \"a\"\npath = \"/\"\nrespond = {}\n" };
    match Config::parse("nginx", &format!("{lines}\n{backend}{route}")) {
        Err(ConfigError::Invalid(report)) => report.lines().next().map(|line| {
            // Without the place, which is one in no file.
            let text = line.split_once(": ").map_or(line.as_str(), |(_, text)| text);
            text.to_owned()
        }),
        _ => None,
    }
}
