//! Taking connections, and telling them to end.
//!
//! Every worker thread has a listener of its own on the same address (`SO_REUSEPORT`), so that the kernel spreads connections and no thread wakes
//! for another's.

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Poll,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, futures::Notified, watch};

use crate::telemetry::{ClientMetrics, Refusal};

use super::{
    Worker,
    arrival::arrive,
    connection::{Terms, serve, serve_http, turn_away},
    crowd::Crowd,
    rates::network,
    refusals::Refusals,
    settings::{Clients, ListenerSettings, ProxyProtocol},
    sockets::{Listener, Socket},
    stream::Stream,
    tls::{CertificateError, CertificateState, Refreshed, Tls},
    watch::in_place,
};

/// How the connections of one listener begin, and how they are told to end. Shared by all threads; a reload may change it, for those that come later.
pub struct Door {
    shape: ArcSwap<Shape>,
    draining: AtomicBool,
    drain: Notify,
}

/// See [`Door`].
pub struct Shape {
    settings: ListenerSettings,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

impl Door {
    /// Reads the certificates of a listener.
    pub fn open(settings: &ListenerSettings) -> Result<Self, CertificateError> {
        let shape = ArcSwap::from_pointee(Shape::with(settings, None)?);
        Ok(Self { shape, draining: AtomicBool::new(false), drain: Notify::new() })
    }

    /// What its connections would begin with by other settings; none when that is what they begin with now. Certificates that stay are not read again.
    pub fn prepare(&self, settings: &ListenerSettings) -> Result<Option<Shape>, CertificateError> {
        let now = self.shape.load();
        if now.settings == *settings {
            return Ok(None);
        }
        let kept = now.tls.clone().filter(|_| now.settings.tls == settings.tls);
        Shape::with(settings, kept).map(Some)
    }

    /// From now on connections begin so; those that have begun go on.
    pub fn change(&self, shape: Shape) {
        self.shape.store(Arc::new(shape));
    }

    /// Tells every connection that came through it to end after the request that it is answering.
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

    /// Looks at the files of the certificates and takes over those that have changed; with `now` also those that were in vain before. Blocks.
    pub fn refresh(&self, now: bool) -> Vec<Refreshed> {
        self.shape.load().tls.as_ref().map_or_else(Vec::new, |tls| tls.refresh(now))
    }

    /// All certificates.
    pub fn certificates(&self) -> Vec<CertificateState> {
        self.shape.load().tls.as_ref().map_or_else(Vec::new, |tls| tls.states())
    }
}

impl Shape {
    fn with(settings: &ListenerSettings, kept: Option<Arc<Tls>>) -> Result<Self, CertificateError> {
        let tls = match kept {
            None if !settings.tls.is_empty() => Some(Arc::new(Tls::load(&settings.tls)?)),
            kept => kept,
        };
        Ok(Self { settings: settings.clone(), tls, proxy_protocol: settings.proxy_protocol.clone() })
    }
}

/// Connections that are taken from the kernel's queue after the order to stop: so many it may hold for us, and it would reset them.
const LAST_TAKEN: usize = 4096;
/// How long those have who had begun to connect then, to the end of it.
const HANDSHAKE: Duration = Duration::from_millis(250);
/// Connections too many at a time that are told so; more are closed without a word.
const TOLD: usize = 256;

/// The connections of all workers: how many there are, and which were turned away.
#[derive(Debug)]
pub struct Connections {
    metrics: ClientMetrics,
    pub(super) refusals: Refusals,
    crowd: Crowd,
    open: AtomicUsize,
    /// Sockets from which more of them may be taken.
    listening: AtomicUsize,
    closed: Notify,
}

impl Connections {
    /// None yet.
    pub fn new(metrics: ClientMetrics) -> Self {
        let refusals = Refusals::new(metrics.clone());
        Self {
            metrics,
            refusals,
            crowd: Crowd::default(),
            open: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            closed: Notify::new(),
        }
    }

    /// One more, and how many there were.
    fn enter(self: &Arc<Self>) -> (Counted, usize) {
        self.metrics.opened(1);
        let before = self.open.fetch_add(1, Relaxed);
        (Counted(self.clone(), None), before)
    }

    /// Connections are taken from one more socket, until this is dropped.
    pub fn listening(self: &Arc<Self>) -> Listening {
        self.listening.fetch_add(1, Relaxed);
        Listening(self.clone())
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Resolves when none is open, and none can come any more.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            // In this order: what is taken from a socket is open before the socket is let go.
            if self.listening.load(Acquire) == 0 && self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// Counts a socket from which connections are taken.
#[derive(Debug)]
pub struct Listening(Arc<Connections>);

impl Drop for Listening {
    fn drop(&mut self) {
        if self.0.listening.fetch_sub(1, Release) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

/// Counts one connection, and for its client where that is known.
pub(super) struct Counted(pub(super) Arc<Connections>, Option<IpAddr>);

impl Counted {
    /// Counts it for its client; false where he has as many as he may. Trusted proxies are no clients, and a peer on this machine that has no address is none.
    pub(super) fn is_within(&mut self, peer: Option<SocketAddr>, limits: &Clients) -> bool {
        let (Some(most), Some(peer)) = (limits.max_connections_per_client, peer) else { return true };
        let client = peer.ip().to_canonical();
        if limits.trusted_proxies.iter().any(|net| net.contains(&client)) {
            return true;
        }
        let client = network(client);
        let may = self.0.crowd.enter(client, most);
        if may {
            self.1 = Some(client);
        } else {
            self.0.refusals.note(Refusal::Client, Some(peer), &"its client has as many as `clients.max_connections_per_client` allows");
        }
        may
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.opened(-1);
        if let Some(client) = self.1 {
            self.0.crowd.leave(client);
        }
        if self.0.open.fetch_sub(1, Relaxed) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

impl Worker {
    /// Accepts connections until `stop` changes or nobody is left to change it.
    pub async fn listen(self: Arc<Self>, socket: Socket, door: Arc<Door>, listening: Listening, mut stop: watch::Receiver<bool>) {
        let connections = Arc::clone(&listening.0);
        let listener = match socket.listen() {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "a worker cannot listen"),
        };
        let heard = stop.clone();
        // It wakes this task when it changes, so it is asked only once to begin with, and then whether it has.
        let mut changed = pin!(stop.changed());
        poll_fn(|cx| Poll::Ready(_ = changed.as_mut().poll(cx))).await;
        loop {
            let next = poll_fn(|cx| {
                if heard.has_changed().unwrap_or(true) {
                    return Poll::Ready(None);
                }
                listener.poll_accept(cx).map(Some)
            });
            let Some(accepted) = next.await else { break };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &door, &connections),
                Err(error) => {
                    // Out of file descriptors, most likely: the pause lets some connections end. Others mean one lost connection.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if listener.is_passed() {
            return;
        }
        let patience = if listener.turn_deaf() { HANDSHAKE } else { Duration::ZERO };
        // To yield is to look: the runtime asks the socket before it goes on here.
        tokio::task::yield_now().await;
        self.take_last(&listener, Duration::ZERO, &door, &connections).await;
        // The end of the program does not wait for those who have only begun to connect.
        drop(listening);
        self.take_last(&listener, patience, &door, &connections).await;
    }

    /// Takes those who wait, and those who come within `patience`.
    async fn take_last(self: &Arc<Self>, listener: &Listener, patience: Duration, door: &Arc<Door>, connections: &Arc<Connections>) {
        let mut over = pin!(tokio::time::sleep(patience));
        for _ in 0..LAST_TAKEN {
            let accepted = tokio::select! {
                biased;
                accepted = tokio::task::unconstrained(poll_fn(|cx| listener.poll_accept(cx))) => accepted,
                () = &mut over => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, door, connections),
                Err(_) => return,
            }
        }
    }

    fn admit(self: &Arc<Self>, mut stream: Stream, peer: Option<SocketAddr>, door: &Arc<Door>, connections: &Arc<Connections>) {
        let limits = self.shared.site.load().clients.clone();
        let shape = door.shape.load();
        let (mut counted, others) = connections.enter();
        if others >= limits.max_connections {
            connections.refusals.note(Refusal::Full, peer, &"there are as many as `clients.max_connections` allows");
            // Words cost, too: in a flood there are none.
            if others < limits.max_connections + TOLD {
                tokio::spawn(turn_away(stream, Arc::clone(&shape), Refusal::Full, counted));
            }
            return;
        }
        stream.set_patience(limits.send_timeout);
        // Whose it is may have to be heard first.
        let waits = shape.proxy_protocol.is_some();
        if !waits && !counted.is_within(peer, &limits) {
            tokio::spawn(turn_away(stream, Arc::clone(&shape), Refusal::Client, counted));
            return;
        }
        let terms = Terms { worker: self.clone(), limits, door: door.clone(), peer, secure: false, counted };
        // In a box of its own: the runtime moves what it is given to run several times, and overwrites all of its room at the end.
        if waits {
            tokio::spawn(in_place(|| arrive(stream, Arc::clone(&shape), terms)));
        } else if shape.tls.is_some() {
            tokio::spawn(in_place(|| serve(stream, Arc::clone(&shape), terms)));
        } else {
            tokio::spawn(in_place(|| serve_http(stream, terms)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_stop_waits_for_sockets_from_which_connections_may_still_come() {
        let connections = Arc::new(Connections::new(Metrics::new().clients()));
        let is_over = || connections.all_closed().now_or_never().is_some();
        let listening = connections.listening();
        assert!(!is_over());
        let (counted, _) = connections.enter();
        drop(listening);
        assert!(!is_over(), "one was taken");
        drop(counted);
        assert!(is_over());
    }
}
