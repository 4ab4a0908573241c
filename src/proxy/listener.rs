//! Taking connections, and telling them to end.
//!
//! Every worker thread has a listener of its own on the same address (`SO_REUSEPORT`), so that the kernel spreads connections and no thread wakes
//! for another's.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::sync::{Notify, futures::Notified, watch};

use crate::telemetry::{ClientMetrics, Refusal};

use super::{
    Worker,
    arrival::arrive,
    connection::{Terms, serve, turn_away},
    refusals::Refusals,
    settings::{ListenerSettings, ProxyProtocol},
    sockets::Listener,
    stream::Stream,
    tls::{CertificateError, CertificateState, Refreshed, Tls},
};

/// How the connections of one listener begin. Shared by all threads; a reload may change it, for those that come later.
pub struct Door(ArcSwap<Shape>);

/// See [`Door`].
pub(super) struct Shape {
    pub(super) tls: Option<Tls>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

impl Door {
    /// Reads the certificates of a listener.
    pub fn open(settings: &ListenerSettings) -> Result<Self, CertificateError> {
        Ok(Self(ArcSwap::from_pointee(Shape::of(settings)?)))
    }

    /// Looks at the files of the certificates and takes over those that have changed; with `now` also those that were in vain before. Blocks.
    pub fn refresh(&self, now: bool) -> Vec<Refreshed> {
        self.0.load().tls.as_ref().map_or_else(Vec::new, |tls| tls.refresh(now))
    }

    /// All certificates.
    pub fn certificates(&self) -> Vec<CertificateState> {
        self.0.load().tls.as_ref().map_or_else(Vec::new, Tls::states)
    }
}

impl Shape {
    fn of(settings: &ListenerSettings) -> Result<Self, CertificateError> {
        let tls = if settings.tls.is_empty() { None } else { Some(Tls::load(&settings.tls)?) };
        Ok(Self { tls, proxy_protocol: settings.proxy_protocol.clone() })
    }
}

/// Connections that are taken from the kernel's queue after the order to stop: so many it may hold for us, and it would reset them.
const LAST_TAKEN: usize = 4096;

/// The connections of all workers: how many there are, which were turned away, and how they are told to end.
#[derive(Debug)]
pub struct Connections {
    metrics: ClientMetrics,
    pub(super) refusals: Refusals,
    open: AtomicUsize,
    draining: AtomicBool,
    drain: Notify,
    closed: Notify,
}

impl Connections {
    /// None yet.
    pub fn new(metrics: ClientMetrics) -> Self {
        let refusals = Refusals::new(metrics.clone());
        let (drain, closed) = (Notify::new(), Notify::new());
        Self { metrics, refusals, open: AtomicUsize::new(0), draining: AtomicBool::new(false), drain, closed }
    }

    /// One more, and whether there are more than `most` with it.
    fn enter(self: &Arc<Self>, most: usize) -> (Counted, bool) {
        self.metrics.opened(1);
        let full = self.open.fetch_add(1, Relaxed) >= most;
        (Counted(self.clone()), full)
    }

    /// Tells every connection to end after the request that it is answering.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.drain.notify_waiters();
    }

    /// Whether they have been told.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Resolves when they are told, from its first poll on.
    pub(super) fn drained(&self) -> Notified<'_> {
        self.drain.notified()
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Resolves when none is open.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// Counts one connection.
pub(super) struct Counted(pub(super) Arc<Connections>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.opened(-1);
        if self.0.open.fetch_sub(1, Relaxed) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

impl Worker {
    /// Accepts connections until `stop` changes.
    pub async fn listen(
        self: Arc<Self>,
        listener: Listener,
        door: Arc<Door>,
        connections: Arc<Connections>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.clone().admit(stream, peer, &door, &connections),
                Err(error) => {
                    // Out of file descriptors, most likely: the pause lets some connections end. Others mean one lost connection.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        for _ in 0..LAST_TAKEN {
            match tokio::task::unconstrained(listener.accept()).now_or_never() {
                Some(Ok((stream, peer))) => self.clone().admit(stream, peer, &door, &connections),
                Some(Err(_)) | None => return,
            }
        }
    }

    fn admit(self: Arc<Self>, stream: Stream, peer: Option<SocketAddr>, door: &Door, connections: &Arc<Connections>) {
        let site = self.shared.site.load();
        let shape = door.0.load_full();
        let (counted, full) = connections.enter(site.clients.max_connections);
        if full {
            connections.refusals.note(Refusal::Full, peer, &"there are as many connections as `clients.max_connections` allows");
            // Who speaks TLS would not understand us before a handshake, which is more than we have for him.
            if shape.tls.is_none() {
                tokio::spawn(turn_away(stream, counted));
            }
            return;
        }
        let limits = site.clients.clone();
        let waits = shape.proxy_protocol.is_some();
        let terms = Terms { worker: self.clone(), limits, shape, peer, secure: false, counted };
        if waits {
            tokio::spawn(arrive(stream, terms));
        } else {
            tokio::spawn(serve(stream, terms));
        }
    }
}
