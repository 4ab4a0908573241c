//! Sending a request to a backend and getting a response, or an error that says whether it may have been executed.
//!
//! A [`Backend`] is shared by all threads: its servers, how busy each is, and which are up. A [`Pool`] belongs to one thread: the idle
//! connections, last in first out, so that few stay warm and the rest age out. What an error *means* for a request is not decided
//! here (`envelope::verdict`), nor whether the backend is fit to be asked (`health`).

mod address;
mod again;
mod balance;
mod body;
mod connect;
mod floor;
pub mod gather;
mod h2;
pub mod headers;
mod incoming;
mod patience;
mod pool;
mod send;
mod slots;
mod socket;
mod streaming;
mod tls;
mod unpaced;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use http::{Method, Request, StatusCode, header::HOST};

use crate::{envelope::Name, http1::ResponseOf};

pub use address::{Place, ServerAddress};
pub use body::{BodyError, RequestBody, ResponseBody};
pub use floor::{Floor, Meter, came};
pub use incoming::Incoming;
pub use pool::{Pool, SWEEP};
pub use slots::{ServerName, Shift};
pub use socket::Switched;
pub use tls::{Fingerprint, Tls, TlsError, TlsSettings};
pub use unpaced::unpace;

/// Where a backend is and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its servers, in the order of the configuration; at least one, at most 64.
    pub servers: Vec<ServerAddress>,
    /// What is spoken with them.
    pub protocol: Protocol,
    /// Where one of them speaks TLS.
    pub tls: Option<Tls>,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time from the whole request being sent to the head of the response, and that a server may take no more of a body.
    pub response_timeout: Duration,
    /// Time that a kept connection may lie idle before it is not used any more; at least a second.
    pub idle_timeout: Duration,
    /// Time that both sides of a connection that speaks another protocol may be silent.
    pub tunnel_timeout: Duration,
    /// Time between two look-ups of a server's name.
    pub resolve_interval: Duration,
}

impl Settings {
    /// How many servers there may be at a time: more than are configured where names may come to stand for more.
    pub fn room(&self) -> usize {
        slots::room(&self.servers)
    }
}

/// In a request's extensions: its own response timeout, in place of its backend's.
#[derive(Debug, Clone, Copy)]
pub struct ResponseTimeout(pub Duration);

/// What is spoken with a backend's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Over TLS, HTTP/2 where a server offers it; else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS, which the servers are known to speak (RFC 9113 section 3.3).
    H2c,
}

impl Protocol {
    /// Whether many requests share a connection, as is known beforehand.
    const fn is_shared(self) -> bool {
        matches!(self, Self::H2 | Self::H2c)
    }
}

/// What is known when there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No server of the backend is up, or none is left to be tried.
    NoServer,
    /// Refused, unreachable, no name.
    Connect,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// TLS could not be agreed on.
    Tls,
    /// The server's certificate is not believed.
    Certificate,
    /// The connection ended or broke before the head of a response.
    Reset,
    /// No head of a response within `response_timeout`.
    Timeout,
    /// What came is not HTTP.
    BadResponse,
    /// The body that we were sending failed at its source (a client that hung up, a store that could not read).
    RequestBody,
    /// The body that we were sending passed its limit.
    RequestTooLarge,
    /// The client stopped sending its body.
    RequestStalled,
}

impl ErrorKind {
    /// What happened, in the words of RFC 9209 section 2.3.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoServer => "destination_unavailable",
            Self::Connect => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::Tls => "tls_protocol_error",
            Self::Certificate => "tls_certificate_error",
            Self::Reset => "connection_terminated",
            Self::Timeout => "http_response_timeout",
            Self::BadResponse => "http_protocol_error",
            Self::RequestBody | Self::RequestTooLarge | Self::RequestStalled => "http_request_error",
        }
    }

    /// Whether it was the request's own body that failed, which says nothing about the server.
    pub const fn is_of_the_request(self) -> bool {
        matches!(self, Self::RequestBody | Self::RequestTooLarge | Self::RequestStalled)
    }
}

/// No response.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub struct SendError {
    /// What happened.
    pub kind: ErrorKind,
    /// Whether anything of the request may have reached the backend. `false` is certain.
    pub maybe_sent: bool,
    /// Which server it was, by its index; none when none was up.
    pub server: Option<usize>,
    /// The cause, for the log.
    pub detail: String,
    /// The request's body, where another server may be given the request: nothing of it was sent, or it is safe, and its connection broke or no answer came in time.
    pub spare: Option<Box<RequestBody>>,
}

/// A response and where it came from.
#[derive(Debug)]
pub struct Reply {
    /// Head and streaming body.
    pub response: ResponseOf<ResponseBody>,
    /// With a 101 to a protocol that the request asked for: what follows it.
    pub switched: Option<Box<Switched>>,
    /// Index of the server that gave it.
    pub server: usize,
}

/// One backend: its servers and the choice among them. Shared by all threads.
#[derive(Debug)]
pub struct Backend {
    name: Name,
    settings: Settings,
    servers: balance::Servers,
    slots: slots::Slots,
    complaints: tls::Complaints,
    /// Tells the shelves of two generations of a backend apart after a reload.
    generation: u64,
}

impl Backend {
    /// A backend; `weights` are those of its servers in percent, 0 for one that is out.
    pub fn new(name: Name, settings: Settings, weights: Arc<[AtomicU32]>) -> Arc<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static GENERATIONS: AtomicU64 = AtomicU64::new(0);
        let servers = balance::Servers::new(settings.servers.len(), weights);
        let slots = slots::Slots::new(&settings.servers);
        Arc::new(Self {
            name,
            settings,
            servers,
            slots,
            complaints: tls::Complaints::default(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Time that both sides of a connection that speaks another protocol may be silent.
    pub fn tunnel_timeout(&self) -> Duration {
        self.settings.tunnel_timeout
    }

    /// Time between two look-ups of a server's name.
    pub fn resolve_interval(&self) -> Duration {
        self.settings.resolve_interval
    }

    /// The names that stand for its servers, and have to be looked up again and again.
    pub fn names(&self) -> Vec<ServerName> {
        slots::Slots::names(&self.settings.servers)
    }

    /// The name of the configured server number `index` stands for these addresses now: each is a server. What has changed; the new ones get no request before
    /// they have a weight.
    pub fn found(&self, index: usize, addresses: &[SocketAddr]) -> Vec<Shift> {
        let shifts = self.slots.found(index, addresses);
        self.servers.use_up_to(self.slots.used());
        shifts
    }

    /// Server number `server`, for people; none when there is none of that number now.
    pub fn server(&self, server: usize) -> Option<String> {
        self.slots.get(server).map(|server| server.to_string())
    }

    /// How many numbers of servers have been given away so far.
    pub fn numbers(&self) -> usize {
        self.slots.used()
    }

    /// Its servers, as configured.
    pub fn addresses(&self) -> &[ServerAddress] {
        &self.settings.servers
    }

    /// Requests at server number `server` now, to the end of their response bodies.
    pub fn in_flight(&self, server: usize) -> u32 {
        self.servers.load(server)
    }

    /// Whether a server is up that `avoid` does not name: its bit `n` stands for server number `n`.
    pub fn has_another(&self, avoid: u64) -> bool {
        self.servers.any_up(avoid)
    }

    /// Asks server number `server` on a connection of its own whether it is well: with a `path` by GET, which 2xx and 3xx pass; without one by
    /// `HEAD /`, which every answer passes but 502, 503 and 504: an application that says "not found" is up.
    pub async fn probe(&self, server: usize, path: Option<&str>, timeout: Duration) -> bool {
        let Some(server) = self.slots.get(server) else { return false };
        let address = &server.address;
        let method = if path.is_some() { Method::GET } else { Method::HEAD };
        let request = Request::builder()
            .method(method)
            .uri(path.unwrap_or("/"))
            .header(HOST, address.host())
            .header(http::header::USER_AGENT, "forebay (health check)")
            .header(http::header::CONNECTION, "close")
            .body(RequestBody::empty());
        let Ok(request) = request else { return false };
        let settings = Settings { connect_timeout: timeout, ..self.settings.clone() };
        let asked = async {
            match connect::open(&server, &settings, false).await.ok()? {
                connect::Opened::Http1(connection) => {
                    let how = send::How { timeout, reused: false, shelf: Arc::default() };
                    let (head, body) = request.into_parts();
                    match send::on_whole(connection, &head.into(), body, how).await {
                        send::Sent::Answered(response) => Some(response.head.status),
                        _ => None,
                    }
                }
                connect::Opened::Http2(mut sender) => {
                    Some(sender.send(h2::dressed(request, address.tls), |_| {}).await.ok()?.answer.status())
                }
            }
        };
        let status = tokio::time::timeout(timeout, asked).await.ok().flatten();
        status.is_some_and(|status| match path {
            Some(_) => status.is_success() || status.is_redirection(),
            None => !matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT),
        })
    }
}
