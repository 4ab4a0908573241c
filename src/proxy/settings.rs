//! What the proxy is told: listeners, limits on clients, and routes.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use crate::envelope::{Delivery, Name, order::Rule};

/// Everything that the proxy is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where it listens; at least one.
    pub listeners: Vec<ListenAddress>,
    /// Limits on what clients may do.
    pub clients: Clients,
    /// Routes, in the order of the configuration.
    pub routes: Vec<RouteSettings>,
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
    /// Time to receive all headers of a request, from its first byte.
    pub header_timeout: Duration,
    /// Time that a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Bytes of request line and headers together.
    pub max_header_bytes: usize,
    /// Bytes of a request body.
    pub max_body: u64,
}

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// This one path (`= /exact`).
    Exact(String),
    /// Every path that begins so.
    Prefix(String),
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSettings {
    /// Its name, unique.
    pub name: Name,
    /// Its paths.
    pub path: PathMatch,
    /// Its host, in lowercase without a port; any when absent.
    pub host: Option<String>,
    /// The backend that it leads to.
    pub backend: Name,
    /// Requests of this route at the backend at once, live and replayed together.
    pub concurrency: Option<u32>,
    /// The part of the backend's concurrency that it may have at most, in 0..=1.
    pub max_share: Option<f64>,
    /// Whether and how its writes spill.
    pub spill: Option<Spill>,
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

/// An answer for legacy clients that know no 202.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// A 2xx or 3xx status.
    pub status: StatusCode,
    /// Content type of the body.
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
}
