//! The part of the file about backends: servers, health checks, replay.

use super::*;

#[derive(Debug)]
pub(in crate::config) struct Backend {
    pub servers: Option<At<Vec<At<ServerAddress>>>>,
    pub protocol: At<Protocol>,
    pub tls: Option<At<Tls>>,
    pub connect_timeout: At<Duration>,
    pub response_timeout: At<Duration>,
    pub idle_timeout: At<Duration>,
    pub tunnel_timeout: At<Duration>,
    pub resolve_interval: At<Duration>,
    pub concurrency: At<Concurrency>,
    pub health: Option<At<Health>>,
    pub replay: Replay,
}

impl Section for Backend {
    const ABOUT: &'static str = "One backend: servers that do the same work, and what they can take.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            servers: table.need(
                key("servers", "Addresses such as `http://127.0.0.1:9001`, `https://orders.internal` or `unix:/PATH`; several are balanced by least load of two.")
                    .not_empty(),
            ),
            protocol: table.or(
                key(
                    "protocol",
                    "What is spoken with the servers. `auto`: HTTP/2 with `https://` servers that offer it, else HTTP/1.1. `h2c`: HTTP/2 without TLS, which they \
                     have to know beforehand.",
                ),
                Protocol::Auto,
            ),
            tls: table.maybe(key("tls", Tls::ABOUT)),
            connect_timeout: table.or(key("connect_timeout", "Time to connect to a server, TLS included. TCP sends a lost first packet again after 1 s (RFC 6298): a longer time survives that.").range(MS, 60 * SECOND), 2 * SECOND),
            response_timeout: table.or(
                key("response_timeout", "Time from the whole request being sent to the headers of the response, and that a server may take no more of a body.").range(MS, DAY),
                30 * SECOND,
            ),
            idle_timeout: table.or(
                key(
                    "idle_timeout",
                    "Time that a kept connection may lie idle before it is not used any more; shorter than the servers' own. Where a server says how \
                     long it keeps one (`Keep-Alive: timeout=5`), it is used until a second before.",
                )
                .range(SECOND, DAY),
                45 * SECOND,
            ),
            tunnel_timeout: table.or(
                key("tunnel_timeout", "Time that both sides of a WebSocket, or of another connection that was upgraded, may be silent.").range(SECOND, 30 * DAY),
                HOUR,
            ),
            resolve_interval: table.or(
                key(
                    "resolve_interval",
                    "The longest time between two look-ups of a server's name; when its records in the DNS expire sooner, it is looked up then. Each of its addresses is a \
                     server; one that comes is eased in, one that goes gets nothing more, and a look-up that fails changes nothing.",
                )
                .range(SECOND, DAY),
                10 * SECOND,
            ),
            concurrency: table.or(
                key(
                    "concurrency",
                    "Requests at the backend at once, live and replayed together; what is more waits a moment, then spills or gets 503. \
                     `adaptive` finds out how many from how long they take; or a number.",
                )
                .range(Concurrency::Fixed(1), Concurrency::Fixed(100_000)),
                Concurrency::Adaptive,
            ),
            health: table.maybe(key("health", Health::ABOUT)),
            replay: table.section("replay"),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Tls {
    pub ca_file: Option<At<PathBuf>>,
    pub pin: Option<At<Vec<At<Fingerprint>>>>,
    pub server_name: Option<At<String>>,
    pub cert_file: Option<At<PathBuf>>,
    pub key_file: Option<At<PathBuf>>,
}

impl Section for Tls {
    const ABOUT: &'static str = "How `https://` servers are believed. Without it, their certificates have to be signed by an authority that the system trusts. Files are read at the \
                                 start and with each reload.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            ca_file: table.maybe(key("ca_file", "The certificates of the authorities that are trusted in place of the system's, PEM. That of a server itself will do.")),
            pin: table.maybe(
                key(
                    "pin",
                    "SHA-256 of the certificates, or of the public keys (`SubjectPublicKeyInfo`), one of which a server must have. Without `ca_file` nothing else is \
                     asked of a certificate, so that a self-signed one will do.",
                )
                .not_empty(),
            ),
            server_name: table.maybe(key("server_name", "The name that the servers' certificates are for. Default: the one in the address.")),
            cert_file: table.maybe(key("cert_file", "Our own certificate, for servers that ask for one, PEM; with `key_file`.")),
            key_file: table.maybe(key("key_file", "Its key, PEM.")),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Health {
    pub path: Option<At<String>>,
    pub interval: At<Duration>,
    pub timeout: At<Duration>,
    pub fall: At<u32>,
    pub rise: At<u32>,
}

impl Section for Health {
    const ABOUT: &'static str = "The active check of each server. Without it a server is asked only while it is out.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            path: table.need(key("path", "What is asked for with GET, path and query.")),
            interval: table.or(key("interval", "Time between two checks of one server.").range(100 * MS, HOUR), 2 * SECOND),
            timeout: table.or(key("timeout", "Time for the whole answer; not longer than the interval.").range(MS, HOUR), SECOND),
            fall: table.or(key("fall", "Failures in a row that take a server out.").range(1, 1000), 3),
            rise: table.or(key("rise", "Passes in a row that bring it back.").range(1, 1000), 2),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Replay {
    pub profile: At<Profile>,
    pub rate: Option<At<Rate>>,
    pub concurrency: Option<At<u32>>,
}

impl Section for Replay {
    const ABOUT: &'static str = "How what is queued goes to the backend once it can take it.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            profile: table.or(
                key(
                    "profile",
                    "How the pace is found: `gentle` takes what does not slow live traffic down, `fast` all that the backend's limit leaves, `fixed` \
                     the rate and concurrency written here.",
                ),
                Profile::Gentle,
            ),
            rate: table.maybe(key("rate", "Ceiling on the attempts started, such as `50/s`. Default: none.")),
            concurrency: table.maybe(
                key("concurrency", "Replayed requests at the backend at once, at most. Default: none, and 8 for `fixed`, or the backend's concurrency if that is less.")
                    .range(1, 100_000),
            ),
        }
    }
}
