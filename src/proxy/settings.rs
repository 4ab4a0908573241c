//! What the proxy is told: listeners, limits on clients, and routes.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use super::{route::Template, tls::CertificateFiles};
use crate::{
    backend::Floor,
    envelope::{Delivery, Name, Rate, order::Rule},
};

/// Everything that the proxy is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where it listens; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Limits on what clients may do.
    pub clients: Clients,
    /// Routes, in the order of the configuration.
    pub routes: Vec<RouteSettings>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it is.
    pub address: ListenAddress,
    /// Its certificates, the one for clients that name no host first; none for no TLS.
    pub tls: Vec<CertificateFiles>,
    /// Who says on whose behalf a connection comes; none when every peer speaks for itself.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// The PROXY protocol of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Peers that begin with a head of it, and are believed. Over a unix socket all are.
    pub from: Vec<IpNet>,
    /// What becomes of others.
    pub others: Strangers,
}

/// What becomes of a peer that may not speak the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// Its connection is closed.
    Refuse,
    /// It speaks for itself, without a head.
    Plain,
}

impl ListenerSettings {
    /// One that has nothing but an address.
    pub fn plain(address: ListenAddress) -> Self {
        Self { address, tls: Vec::new(), proxy_protocol: None }
    }
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Limits on clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once, over all listeners.
    pub max_connections: usize,
    /// Connections at once of one client (an address, or a /64 of IPv6).
    pub max_connections_per_client: Option<u32>,
    /// Time for a TLS handshake, and again to receive all headers of a request, from its first byte.
    pub header_timeout: Duration,
    /// Time that a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Time in which a client must take something of its answer.
    pub send_timeout: Duration,
    /// The least of a body that a client must send.
    pub min_body_rate: Option<Floor>,
    /// Bytes of request line and headers together.
    pub max_header_bytes: usize,
    /// Bytes of a request body.
    pub max_body: u64,
    /// How often one client may ask, for whatever.
    pub rate: Option<RateLimit>,
}

/// How often one client may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// On average.
    pub rate: Rate,
    /// Requests that it may make at once after a silence.
    pub burst: NonZeroU32,
    /// What makes a client one: the first of these that its request has, and else its address.
    pub by: Vec<Rule>,
}

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// This one path (`= /exact`).
    Exact(String),
    /// Every path that begins so.
    Prefix(String),
}

/// Which hosts a route takes, in lowercase without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// This one.
    Exact(String),
    /// All that end in a dot and this (`*.example.com`), but not this itself.
    Under(String),
}

/// How the client has sent a request: over TLS, to us or to a trusted proxy before us, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// To this backend.
    Backend(Name),
    /// To another URL.
    Redirect {
        /// A 3xx status.
        status: StatusCode,
        /// The URL.
        to: Template,
    },
    /// Nowhere: everybody gets this answer.
    Respond(Accepted),
}

/// What a route changes in requests and answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// What is taken off the beginning of the path, as it stands in a request.
    pub strip_prefix: Option<String>,
    /// What is put before the rest.
    pub add_prefix: Option<String>,
    /// `Host` for the backend; the client's when absent.
    pub host: Option<Template>,
    /// Changes of the request.
    pub request: FieldChanges,
    /// Changes of the answer.
    pub response: FieldChanges,
    /// Whether URLs in the answer's `Location`, `Content-Location` and `Refresh` get back the prefix and host that the client knows.
    pub put_back: bool,
}

/// Changes of header fields, in this order: removed, set, added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// Fields that are removed.
    pub remove: Vec<HeaderName>,
    /// Fields that take the place of those of the same name.
    pub set: Vec<(HeaderName, Template)>,
    /// Fields that are added to those of the same name.
    pub add: Vec<(HeaderName, Template)>,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSettings {
    /// Its name, unique.
    pub name: Name,
    /// Its paths.
    pub path: PathMatch,
    /// Its hosts; any when empty.
    pub hosts: Vec<HostMatch>,
    /// Its methods; all when empty.
    pub methods: Vec<Method>,
    /// How its requests come; either way when absent.
    pub scheme: Option<Scheme>,
    /// Where it leads.
    pub target: Target,
    /// What it changes in requests and answers, if anything.
    pub rewrite: Option<Rewrite>,
    /// Time from the whole request being sent to the head of the response, live and replayed; the backend's when absent.
    pub response_timeout: Option<Duration>,
    /// Bytes of a request body; as for all clients when absent.
    pub max_body: Option<u64>,
    /// Requests of this route at the backend at once, live and replayed together.
    pub concurrency: Option<u32>,
    /// The part of the backend's concurrency that it may have at most, in 0..=1.
    pub max_share: Option<f64>,
    /// How often one client may ask for it.
    pub rate: Option<RateLimit>,
    /// Whether and how its writes spill.
    pub spill: Option<Spill>,
}

impl RouteSettings {
    /// The backend that it leads to; none when it is answered here.
    pub fn backend(&self) -> Option<&Name> {
        match &self.target {
            Target::Backend(name) => Some(name),
            Target::Redirect { .. } | Target::Respond(_) => None,
        }
    }
}

/// How a route's writes spill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spill {
    /// Methods that may be queued.
    pub methods: Vec<Method>,
    /// When they are.
    pub when: When,
    /// What may be done about one that may have been executed.
    pub delivery: Delivery,
    /// Where the ordering key is found; empty for no order.
    pub order_by: Vec<Rule>,
    /// Bytes of a body that may be queued.
    pub max_body: u64,
    /// Age at which a queued request is given up.
    pub max_age: Duration,
    /// Attempts that a queued request gets.
    pub max_attempts: u32,
    /// What a dead letter means for the later ones of its key.
    pub on_dead_letter: OnDeadLetter,
    /// What a legacy client must see instead of the 202 and its body.
    pub accepted: Option<Accepted>,
}

/// When a write is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// When it cannot be passed on now.
    Needed,
    /// Each one, healthy or not.
    Always,
}

/// What a dead letter means for the later ones of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeadLetter {
    /// They go on.
    Continue,
    /// They wait for an operator.
    Hold,
}

/// An answer that is written in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its status; for a client that knows no 202, a 2xx or 3xx.
    pub status: StatusCode,
    /// Content type of the body.
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
}
