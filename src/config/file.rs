//! The shape of `config.toml`: every table and key, with type, range, default and description.
//!
//! What stands here is what the file says, faults left out; what is true is said by `check`. The descriptions are those of the JSON Schema.

mod backends;
mod rates;
mod routes;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use super::{
    AccessFormat, AccessTarget,
    read::{At, Section, Table, key},
    values::{Concurrency, Engine, Named, OneOrMore, Size, Speed, Switch},
};
use crate::{
    backend::{Fingerprint, Protocol, ServerAddress},
    envelope::{Name, Rate},
    proxy::{ListenAddress, Strangers},
    replay::Profile,
};

pub(super) use backends::{Backend, Health, Tls};
pub(super) use rates::Rates;
pub(super) use routes::{Accepted, Changed, Fields, Matched, Redirect, Respond, Route, Spill};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A limit of 0 bytes would refuse every body, and is more likely meant as "no limit".
const BYTE: Size = Size(1);

pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
pub(super) const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);
pub(super) const SPILL_MAX_BODY: Size = Size(64 * MIB);
pub(super) const REPLAY_CONCURRENCY: u32 = 8;
pub(super) const STORE_FILE: &str = "forebay.redb";

/// The whole file.
#[derive(Debug)]
pub(super) struct File {
    pub workers: Option<At<u32>>,
    pub drain_timeout: At<Duration>,
    pub listeners: At<Vec<At<Listener>>>,
    pub clients: Clients,
    pub admin: Admin,
    pub store: Store,
    pub log: Log,
    pub backends: Option<At<Named<Backend>>>,
    pub routes: Option<At<Vec<At<Route>>>>,
}

impl Section for File {
    const ABOUT: &'static str = "Configuration of forebay, a load-shedding reverse proxy that never loses a write.";

    fn keys(table: &mut Table<'_>) -> Self {
        let listener = Listener::plain(ListenAddress::Tcp(LISTEN));
        Self {
            workers: table.maybe(key("workers", "Threads that carry traffic. Default: the cores that the process may use.").range(1, 1024)),
            drain_timeout: table.or(
                key("drain_timeout", "How long requests that are under way may still take after TERM; then they are cut off.")
                    .range(Duration::ZERO, HOUR),
                30 * SECOND,
            ),
            listeners: table
                .or(key("listeners", "Where clients are awaited. Default: 127.0.0.1:8080.").not_empty(), vec![At::nowhere(listener)]),
            clients: table.section("clients"),
            admin: table.section("admin"),
            store: table.section("store"),
            log: table.section("log"),
            backends: table.need(key("backends", "The servers behind, by name: `[backends.NAME]`, at least one.").not_empty()),
            routes: table.need(
                key("routes", "Which requests go where: `[[routes]]`, at least one. An exact path goes first, then the longest prefix.")
                    .not_empty(),
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    pub address: Option<At<ListenAddress>>,
    pub tls: Option<At<OneOrMore<Certificate>>>,
    pub proxy_protocol: At<Switch<ProxyProtocol>>,
}

impl Listener {
    /// One that has nothing but an address.
    pub(super) fn plain(address: ListenAddress) -> Self {
        Self { address: Some(At::nowhere(address)), tls: None, proxy_protocol: At::nowhere(Switch::Off) }
    }
}

impl Section for Listener {
    const ABOUT: &'static str = "One address where clients are awaited.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            address: table
                .need(key("address", "An IP address and port such as `127.0.0.1:8080`, or `unix:/PATH`. `[::]:80` is IPv6 alone, as in nginx: write `0.0.0.0:80` beside it. Port 0 lets the system choose.")),
            tls: table.maybe(
                key(
                    "tls",
                    "Speak TLS, and HTTP/1.1 or HTTP/2 by ALPN. One certificate, or an array of several: a client gets the one for the host that it names, else the first. \
                     New files are taken over within seconds, or at HUP.",
                )
                .not_empty(),
            ),
            proxy_protocol: table.or(
                key(
                    "proxy_protocol",
                    "Each connection begins with a head of the PROXY protocol, version 1 or 2, which names the client. `true`, or a table: `from`, whose heads are believed \
                     (default: `clients.trusted_proxies`), and `others`, what becomes of everybody else: `refuse` (the default), or `plain` for no head.",
                ),
                Switch::Off,
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct ProxyProtocol {
    pub from: Option<At<Vec<At<IpNet>>>>,
    pub others: At<Strangers>,
}

impl Section for ProxyProtocol {
    const ABOUT: &'static str = "Who says on whose behalf a connection comes.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            from: table
                .maybe(key("from", "Addresses and networks whose heads are believed. Default: `clients.trusted_proxies`.").not_empty()),
            others: table.or(
                key("others", "What becomes of others: their connection is closed, or they speak for themselves, without a head."),
                Strangers::Refuse,
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Certificate {
    pub cert_file: Option<At<PathBuf>>,
    pub key_file: Option<At<PathBuf>>,
}

impl Section for Certificate {
    const ABOUT: &'static str = "A certificate and its key. The names that it is for are those in it.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            cert_file: table.need(key("cert_file", "A PEM file with the certificate, and behind it those that lead to its root.")),
            key_file: table.need(key("key_file", "A PEM file with its private key, without a passphrase.")),
        }
    }
}

#[derive(Debug)]
pub(super) struct Clients {
    pub trusted_proxies: At<Vec<At<IpNet>>>,
    pub max_connections: At<u32>,
    pub max_connections_per_client: Option<At<u32>>,
    pub header_timeout: At<Duration>,
    pub idle_timeout: At<Duration>,
    pub send_timeout: At<Duration>,
    pub min_body_rate: Option<At<Speed>>,
    pub min_body_window: At<Duration>,
    pub max_header_bytes: At<Size>,
    pub max_body: At<Size>,
    pub rates: Rates,
}

impl Section for Clients {
    const ABOUT: &'static str = "Limits on what clients may do.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            trusted_proxies: table
                .or(key("trusted_proxies", "Addresses and networks whose X-Forwarded-For and Forwarded are believed."), Vec::new()),
            max_connections: table.or(key("max_connections", "Connections at once, over all listeners.").range(1, 10_000_000), 10_000),
            max_connections_per_client: table.maybe(
                key(
                    "max_connections_per_client",
                    "Connections at once of one client: an address that is no trusted proxy's, or a /64 of IPv6; one more is told 429. Default: no limit.",
                )
                .range(1, 10_000_000),
            ),
            header_timeout: table.or(
                key("header_timeout", "Time to receive all headers of a request, and before that for a TLS handshake.")
                    .range(100 * MS, HOUR),
                10 * SECOND,
            ),
            idle_timeout: table.or(
                key(
                    "idle_timeout",
                    "Time that a connection may stay open between two requests, and that the body of one may stop coming; then 408.",
                )
                .range(100 * MS, DAY),
                75 * SECOND,
            ),
            send_timeout: table.or(
                key("send_timeout", "Time in which a client must take something of the answer that it is sent, over HTTP/2 16 KiB of each; then its connection ends.")
                    .range(100 * MS, DAY),
                60 * SECOND,
            ),
            min_body_rate: table.maybe(
                key("min_body_rate", "The least of a request's body that a client must send on average, such as `500B/s`, over each `min_body_window`; else 408. Default: no least.")
                    .range(Speed(1), Speed(GIB)),
            ),
            min_body_window: table.or(
                key("min_body_window", "The time for `min_body_rate`. Only time in which the client is waited for counts.").range(100 * MS, HOUR),
                30 * SECOND,
            ),
            max_header_bytes: table.or(
                key("max_header_bytes", "Bytes of a request's first line and headers together; past it 431, or 414 where the first line alone is past it.")
                    .range(Size(8 * KIB), Size(MIB)),
                Size(32 * KIB),
            ),
            max_body: table.or(key("max_body", "Bytes of a request's body; past it 413.").range(BYTE, Size(16 * TIB)), Size(GIB)),
            rates: Rates::keys(
                table,
                "Requests of one client, such as `100/s` or `600/min`; past it 429 with Retry-After. Default: no limit.",
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Admin {
    pub address: At<SocketAddr>,
    pub token_file: Option<At<PathBuf>>,
}

impl Section for Admin {
    const ABOUT: &'static str = "The operator's listener: API, /metrics, /healthz, /readyz.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            address: table.or(key("address", "An IP address and port. One that is not loopback needs a token_file."), ADMIN),
            token_file: table.maybe(key("token_file", "A file that holds the bearer token; spaces around it do not count.")),
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    pub engine: At<Engine>,
    pub path: At<PathBuf>,
    pub max_requests: At<u64>,
    pub max_bytes: At<Size>,
    pub min_free_disk: At<Size>,
    pub keep_delivered: At<Duration>,
    pub keep_dead: At<Duration>,
}

impl Section for Store {
    const ABOUT: &'static str = "The durable queue.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            engine: table.or(key("engine", "What keeps the queue."), Engine::Redb),
            path: table.or(
                key("path", "The file of the queue; bodies lie in a folder beside it. A relative path starts at the working directory."),
                PathBuf::from("data").join(STORE_FILE),
            ),
            max_requests: table
                .or(key("max_requests", "Requests that are queued or being delivered; past it 503.").range(1, 1_000_000_000), 1_000_000),
            max_bytes: table
                .or(key("max_bytes", "Bytes of those requests; past it 503.").range(Size(MIB), Size(1024 * TIB)), Size(8 * GIB)),
            min_free_disk: table.or(
                key("min_free_disk", "Free bytes of the disk below which nothing new is accepted into the queue.")
                    .range(Size(0), Size(1024 * TIB)),
                Size(512 * MIB),
            ),
            keep_delivered: table.or(
                key("keep_delivered", "How long the outcome and response of a delivered request stay readable.")
                    .range(Duration::ZERO, 365 * DAY),
                HOUR,
            ),
            keep_dead: table.or(
                key("keep_dead", "How long a dead letter waits for an operator; then it is discarded.").range(SECOND * 60, 3650 * DAY),
                14 * DAY,
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Log {
    pub level: At<LevelFilter>,
    pub access: At<AccessTarget>,
    pub access_format: At<AccessFormat>,
}

impl Section for Log {
    const ABOUT: &'static str = "What is logged.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            level: table.or(key("level", "The least severe event that is logged to stderr."), LevelFilter::INFO),
            access: table.or(key("access", "Where one line per request goes: `off`, `stdout`, or the path of a file."), AccessTarget::Off),
            access_format: table.or(
                key("access_format", "How that line looks: `json`, with everything that is known, or nginx's `combined`."),
                AccessFormat::Json,
            ),
        }
    }
}
