//! What is counted of clients before their requests are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::metrics::Labels;
use crate::envelope::Name;

/// Why a connection was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There were as many as may be.
    Full,
    /// Its client had as many as one may have.
    Client,
    /// It was to speak the PROXY protocol, and may not or did not.
    ProxyProtocol,
}

impl Refusal {
    /// In order of declaration.
    pub const ALL: [Self; 3] = [Self::Full, Self::Client, Self::ProxyProtocol];

    /// The name that metrics, logs and the status show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Client => "client",
            Self::ProxyProtocol => "proxy_protocol",
        }
    }
}

/// The metric handles of clients' connections. Clones share them.
#[derive(Debug, Clone)]
pub struct ClientMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    open: Gauge,
    /// Indexed by [`Refusal`], in order of declaration.
    refused: [Counter; Refusal::ALL.len()],
    limited: Family<Labels<1>, Counter>,
    all_limited: Arc<AtomicU64>,
}

/// Counts the requests that one limit has refused.
#[derive(Debug, Clone)]
pub struct RateLimited {
    own: Counter,
    all: Arc<AtomicU64>,
}

impl RateLimited {
    /// One more.
    pub fn inc(&self) {
        self.own.inc();
        self.all.fetch_add(1, Relaxed);
    }
}

impl ClientMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let (open, refused, limited) = (Gauge::default(), Family::<Labels<1>, Counter>::default(), Family::<Labels<1>, Counter>::default());
        registry.register("connections", "Connections of clients that are open", open.clone());
        registry.register("connections_refused", "Connections of clients that were turned away", refused.clone());
        registry.register(
            "rate_limited",
            "Requests of clients that asked too often, by the route whose limit it was; none for that of all",
            limited.clone(),
        );
        let refused = Refusal::ALL.map(|why| refused.get_or_create_owned(&[("reason", Name::from(why.as_str()))]));
        Self(Arc::new(Handles { open, refused, limited, all_limited: Arc::default() }))
    }

    /// So many more connections are open, or fewer.
    pub fn opened(&self, change: i64) {
        self.0.open.inc_by(change);
    }

    /// One was turned away.
    pub fn refused(&self, why: Refusal) {
        self.0.refused[why as usize].inc();
    }

    /// The counter of a limit: that of a route, or `""` for that of all requests.
    pub fn rate_limited(&self, route: &str) -> RateLimited {
        let own = self.0.limited.get_or_create_owned(&[("route", Name::from(route))]);
        RateLimited { own, all: self.0.all_limited.clone() }
    }

    /// Requests that any limit has refused so far.
    pub fn all_rate_limited(&self) -> u64 {
        self.0.all_limited.load(Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        u64::try_from(self.0.open.get()).unwrap_or_default()
    }

    /// How many were turned away so far.
    pub fn refusals(&self, why: Refusal) -> u64 {
        self.0.refused[why as usize].get()
    }
}
