//! From the client to us: listen, find the route, decide, and pass on, queue or refuse.
//!
//! [`Site`] is what all worker threads share, and is replaced as a whole when the configuration is reloaded. A [`Worker`] is one thread's: its own
//! listeners and its own connections to backends. The way of one request is `exchange::Exchange::answer`, which fits one screen.

mod access;
mod answer;
mod arrival;
mod body;
mod client;
mod connection;
mod crowd;
mod decide;
mod dispatch;
mod exchange;
mod forward;
mod grpc;
mod h2;
mod inspect;
mod listener;
mod outcome;
mod page;
mod proxy_protocol;
mod proxy_status;
mod rates;
mod refusals;
mod rescue;
mod route;
mod sending;
mod settings;
mod sockets;
mod spill;
mod stream;
mod taking;
mod tls;
mod tunnel;
mod watch;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{backend::Pool, envelope::Clock, store::Store, telemetry::AccessLog};

pub use listener::{Connections, Door, Listening, Shape};
pub use rates::Rates;
pub(crate) use route::path::{can_be_matched, decoded};
pub use route::{Estimate, Own, Route, Table, Template, TemplateError, Upstream, VARIABLES, Way};
pub use settings::{
    Accepted, Clients, FieldChanges, HostMatch, ListenAddress, ListenerSettings, OnDeadLetter, PathMatch, ProxyProtocol, RateLimit,
    Rewrite, RouteSettings, Scheme, Settings, Spill, Strangers, Target, When,
};
pub use sockets::{BindError, Socket, Sockets};
pub use tls::{CertificateError, CertificateFiles, CertificateState, Refreshed, check as check_certificate};

/// What is configured and may change while we run.
pub struct Site {
    /// All routes.
    pub routes: Table,
    /// Limits on clients.
    pub clients: Arc<Clients>,
    /// How often they may ask.
    pub rates: Rates,
}

/// What all requests share.
#[derive(Clone)]
pub struct Shared {
    /// Replaced as a whole by a reload.
    pub site: Arc<ArcSwap<Site>>,
    /// Where writes are queued.
    pub store: Arc<dyn Store>,
    /// Wall-clock time.
    pub clock: Clock,
    /// Where requests are logged.
    pub access_log: AccessLog,
}

/// What one thread's requests share.
pub struct Worker {
    shared: Shared,
    pool: Pool,
}

impl Worker {
    /// A thread's share.
    pub fn new(shared: Shared) -> Arc<Self> {
        Arc::new(Self { shared, pool: Pool::default() })
    }

    /// Drops idle connections to backends that are too old. Called every [`SWEEP`](crate::backend::SWEEP).
    pub fn sweep(&self) {
        self.pool.sweep();
    }
}
