//! Connections: taking them, answering their requests, and ending them in time.
//!
//! Every worker thread has a listener of its own on the same address (`SO_REUSEPORT`), so that the kernel spreads connections and no thread wakes
//! for another's.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    sync::{Notify, watch},
};

use super::{
    Worker,
    body::ClientBody,
    client::Client,
    exchange::Exchange,
    settings::Clients,
    sockets::Listener,
    stream::{Stream, Watched},
    watch::{Commitment, Committed, LAST_WORD, Phase, Watch},
};

/// Told to a client over the limit of connections, before anything is read.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nProxy-Status: forebay; error=http_request_denied\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Connections that are taken from the kernel's queue after the order to stop: so many it may hold for us, and it would reset them.
const LAST_TAKEN: usize = 4096;

/// The connections of all workers: how many there are, and how they are told to end.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    draining: AtomicBool,
    drain: Notify,
    closed: Notify,
}

impl Connections {
    /// Tells every connection to end after the request that it is answering.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.drain.notify_waiters();
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
struct Counted(Arc<Connections>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Relaxed) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

impl Worker {
    /// Accepts connections until `stop` changes.
    pub async fn listen(self: Arc<Self>, listener: Listener, connections: Arc<Connections>, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.clone().admit(stream, peer, &connections),
                Err(error) => {
                    // Out of file descriptors, most likely: the pause lets some connections end. Others mean one lost connection.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        for _ in 0..LAST_TAKEN {
            match tokio::task::unconstrained(listener.accept()).now_or_never() {
                Some(Ok((stream, peer))) => self.clone().admit(stream, peer, &connections),
                Some(Err(_)) | None => return,
            }
        }
    }

    fn admit(self: Arc<Self>, stream: Stream, peer: Option<SocketAddr>, connections: &Arc<Connections>) {
        let site = self.shared.site.load();
        if connections.open.fetch_add(1, Relaxed) >= site.clients.max_connections {
            let counted = Counted(connections.clone());
            tokio::spawn(turn_away(stream, counted));
            return;
        }
        let counted = Counted(connections.clone());
        let client = Client::new(peer, &site.clients.trusted_proxies);
        tokio::spawn(serve(stream, client, self.clone(), site.clients.clone(), counted));
    }
}

async fn turn_away(mut stream: Stream, counted: Counted) {
    let told = async {
        stream.write_all(TOO_MANY).await?;
        stream.shutdown().await?;
        drop(counted);
        // What it has sent is read, so that no reset overtakes our answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Whoever does not even read this is dropped.
    let _told = tokio::time::timeout(Duration::from_secs(1), told).await;
}

/// One connection, to its end.
async fn serve(stream: Stream, client: Client, worker: Arc<Worker>, limits: Clients, counted: Counted) {
    let watch = Watch::begin();
    let connections = counted.0.clone();
    let requests = Requests { worker, client, watch: watch.clone() };
    let mut connection = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_buf_size(limits.max_header_bytes.max(8192))
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Watched::new(stream, watch.clone())), requests);
    let mut pinned = std::pin::Pin::new(&mut connection);
    let mut timer = std::pin::pin!(tokio::time::sleep(limits.header_timeout));
    let mut drain = std::pin::pin!(connections.drain.notified());
    drain.as_mut().enable();
    // Runs from when it is told to end until it does without a last request.
    let mut last_word = None;
    let mut ending = false;
    let mut first = true;
    poll_fn(|cx| {
        if !ending && connections.draining.load(Relaxed) {
            let last_word = last_word.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORD)));
            ending = last_word.as_mut().poll(cx).is_ready() || watch.is_busy();
            if ending {
                pinned.as_mut().graceful_shutdown();
            }
        }
        if let Poll::Ready(result) = pinned.as_mut().poll(cx) {
            if let Err(error) = result {
                tracing::debug!(%error, "a client's connection broke");
            }
            return Poll::Ready(());
        }
        // Its last request has come: the answer will say so (RFC 9112 section 9.6).
        if last_word.is_some() && !ending && watch.is_busy() {
            ending = true;
            pinned.as_mut().graceful_shutdown();
        }
        // Both wake this task when they have something to say, so they are asked only once to begin with, and then when they have.
        if first {
            first = false;
            let _registered = drain.as_mut().poll(cx).is_ready();
            let _registered = timer.as_mut().poll(cx).is_ready();
        }
        // A head that begins on an idle connection is due sooner than the end of its idleness.
        let mut look = watch.stamp() && timer.deadline() > tokio::time::Instant::now() + limits.header_timeout;
        while look || timer.is_elapsed() {
            look = false;
            match watch.deadline(limits.header_timeout, limits.idle_timeout) {
                Ok(deadline) => {
                    timer.as_mut().reset(deadline);
                    let _registered = timer.as_mut().poll(cx).is_ready();
                }
                Err(phase) => {
                    tracing::debug!(?phase, "a client's connection is out of time");
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    })
    .await;
    if let Some(tunnel) = watch.take_tunnel() {
        let parts = connection.into_parts();
        // Boxed, so that what nearly no connection needs makes none of them larger.
        Box::pin(tunnel.run(parts.io.into_inner(), parts.read_buf)).await;
    }
    drop(counted);
}

/// Answers the requests of one connection.
struct Requests {
    worker: Arc<Worker>,
    client: Client,
    watch: Arc<Watch>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ClientBody>;
    type Error = Infallible;
    type Future = Committed<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.watch.enter(Phase::Busy);
        let commitment = Commitment::default();
        let exchange = Exchange { worker: self.worker.clone(), client: self.client.clone(), commitment: commitment.clone() };
        let watch = self.watch.clone();
        Committed::new(commitment, async move {
            let mut response = exchange.answer(request).await;
            if let Some(tunnel) = response.body_mut().take_tunnel() {
                watch.hand_over(tunnel);
            }
            Ok(response.map(|body| body.then_idle(watch)))
        })
    }
}
