//! One connection of a client, from its first byte to its end: TLS where the listener has it, HTTP/1.1 or HTTP/2, and its time.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderValue, Request, Response, Version, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use super::{
    Worker,
    body::ClientBody,
    client::Client,
    exchange::Exchange,
    h2,
    listener::{Connections, Counted, Shape},
    settings::Clients,
    stream::{Stream, Watched},
    watch::{Answering, Commitment, Committed, Phase, Watch},
};

/// Told to a client over the limit of connections, before anything is read.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nProxy-Status: forebay; error=http_request_denied\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Told to a client that speaks plain HTTP where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nProxy-Status: forebay; error=http_request_error\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 59\r\n\r\nThis port speaks TLS: use https:// instead of http:// here\n";
/// The first byte of a TLS connection: a record of type handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// What the ALPN of HTTP/2 is (RFC 9113 section 3.1).
const ALPN_H2: &[u8] = b"h2";

/// While stopping, how long a connection without a request is kept for one that is already on its way: who sends another request in this time gets its
/// answer, and with it the word that the connection closes. HTTP/1.1 has no other way to close without a race (RFC 9112 section 9.6).
const LAST_ORDERS: Duration = Duration::from_secs(1);
/// How long an idle client of HTTP/2 has to answer our farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Requests at a time on a connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's body that a client may send before we have passed them on: for one stream, and for all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that are held for a stream whose client does not take them.
const SEND_BUFFER: usize = 64 * 1024;

/// What a connection is told to keep to.
pub(super) struct Terms {
    pub(super) worker: Arc<Worker>,
    pub(super) limits: Clients,
    pub(super) shape: Arc<Shape>,
    pub(super) peer: Option<SocketAddr>,
    /// Whether the client came by TLS to the one that passes its connection on.
    pub(super) secure: bool,
    pub(super) counted: Counted,
}

/// A connection too many.
pub(super) async fn turn_away(mut stream: Stream, counted: Counted) {
    tell(&mut stream, TOO_MANY, || drop(counted)).await;
}

/// Writes an answer to who has not been read, `told` follows, and closes.
async fn tell(stream: &mut Stream, answer: &[u8], told: impl FnOnce()) {
    let said = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        told();
        // What it has sent is read, so that no reset overtakes our answer.
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    };
    // Whoever does not even read this is dropped.
    let _said = timeout(Duration::from_secs(1), said).await;
}

/// One connection, to its end.
pub(super) async fn serve(stream: Stream, terms: Terms) {
    let Terms { worker, limits, shape, peer, secure, counted } = terms;
    let Some(stream) = begin(stream, &shape, limits.header_timeout).await else { return };
    let client = Client::new(peer, &limits.trusted_proxies, secure || shape.tls.is_some());
    let http2 = stream.protocol() == Some(ALPN_H2);
    let watch = Watch::begin();
    let connections = counted.0.clone();
    let requests = Requests { worker, client, watch: watch.clone(), connections: connections.clone() };
    let socket = Watched::new(stream, watch.clone());
    let keeper = Keeper { watch, connections, limits };
    if http2 {
        keeper.serve_h2(socket, requests).await;
    } else {
        keeper.serve_h1(socket, requests).await;
    }
    drop(counted);
}

/// What comes before HTTP. None: there is nobody to serve.
async fn begin(mut stream: Stream, shape: &Shape, patience: Duration) -> Option<Stream> {
    let Some(tls) = &shape.tls else { return Some(stream) };
    let begun = async {
        let mut first = [0];
        if stream.peek(&mut first).await.is_ok_and(|_| first[0].is_ascii_uppercase() && first[0] != TLS_HANDSHAKE) {
            tell(&mut stream, NOT_TLS, || {}).await;
            return None;
        }
        match tokio_rustls::TlsAcceptor::from(tls.config.clone()).accept(stream).await {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
        }
    };
    timeout(patience, begun).await.ok().flatten()
}

/// Keeps the time of one connection.
struct Keeper {
    watch: Arc<Watch>,
    connections: Arc<Connections>,
    limits: Clients,
}

/// How a connection ended.
enum Ended {
    /// As it should.
    InPeace,
    /// It broke, or what came was not HTTP.
    Broken(hyper::Error),
    /// It was in this phase for too long.
    OutOfTime(Phase),
    /// It cancelled more than it asked for.
    Flooded,
}

impl Keeper {
    /// HTTP/1.1, unless the first bytes are those of HTTP/2: a client that knows beforehand may begin with them (RFC 9113 section 3.3). That costs those who
    /// speak HTTP/1.1 nothing, for only what is no HTTP/1.1 is looked at.
    async fn serve_h1(&self, socket: Watched, requests: Requests) {
        let mut connection = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_buf_size(self.limits.max_header_bytes.max(8192))
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(socket), requests);
        let ended = self.keep(Pin::new(&mut connection), false).await;
        let is_h2 = matches!(&ended, Ended::Broken(error) if error.is_parse_version_h2());
        let tunnel = self.watch.take_tunnel();
        if !is_h2 && tunnel.is_none() {
            return ended.log();
        }
        let parts = connection.into_parts();
        let mut socket = parts.io.into_inner();
        // Boxed, so that what nearly no connection needs makes none of them larger.
        if let Some(tunnel) = tunnel {
            return Box::pin(tunnel.run(socket, parts.read_buf)).await;
        }
        socket.give_back(parts.read_buf);
        Box::pin(self.serve_h2(socket, parts.service)).await;
    }

    async fn serve_h2(&self, socket: Watched, requests: Requests) {
        self.watch.multiplex();
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(self.limits.max_header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(socket), requests);
        self.keep(pin!(connection), true).await.log();
    }

    /// Polls a connection until it ends or has to. `graceful`: it can be told to end with all that is under way (HTTP/2).
    async fn keep<C>(&self, mut connection: Pin<&mut C>, graceful: bool) -> Ended
    where
        C: Future<Output = hyper::Result<()>> + GracefulConnection<Error = hyper::Error>,
    {
        let Self { watch, connections, limits } = self;
        let mut timer = pin!(tokio::time::sleep(limits.header_timeout));
        let mut drain = pin!(connections.drained());
        drain.as_mut().enable();
        let mut first = true;
        let mut last_orders: Option<Instant> = None;
        let mut farewell = false;
        poll_fn(|cx| {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(Ended::Broken, |()| Ended::InPeace));
            }
            if watch.is_flooded() {
                return Poll::Ready(Ended::Flooded);
            }
            // Both wake this task when they have something to say, so they are asked only once to begin with, and then when they have.
            if first {
                first = false;
                let _registered = drain.as_mut().poll(cx).is_ready();
                let _registered = timer.as_mut().poll(cx).is_ready();
            }
            if !farewell && connections.is_draining() {
                let until = *last_orders.get_or_insert_with(|| Instant::now() + LAST_ORDERS);
                if graceful || (until <= Instant::now() && matches!(watch.phase(), Phase::Idle | Phase::Fresh)) {
                    farewell = true;
                    connection.as_mut().graceful_shutdown();
                    // It has an end to write, or to come to.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if until > Instant::now() && timer.deadline() > until {
                    timer.as_mut().reset(until);
                    let _registered = timer.as_mut().poll(cx).is_ready();
                    return Poll::Pending;
                }
            }
            // A head that begins on an idle connection is due sooner than the end of its idleness.
            let mut look = watch.stamp() && timer.deadline() > Instant::now() + limits.header_timeout;
            while look || timer.is_elapsed() {
                look = false;
                match watch.deadline(limits.header_timeout, limits.idle_timeout) {
                    Ok(deadline) => timer.as_mut().reset(deadline),
                    Err(Phase::Idle) if graceful && !farewell => {
                        farewell = true;
                        connection.as_mut().graceful_shutdown();
                        cx.waker().wake_by_ref();
                        timer.as_mut().reset(Instant::now() + FAREWELL);
                    }
                    Err(phase) => return Poll::Ready(Ended::OutOfTime(phase)),
                }
                let _registered = timer.as_mut().poll(cx).is_ready();
            }
            Poll::Pending
        })
        .await
    }
}

impl Ended {
    fn log(&self) {
        match self {
            Self::InPeace => {}
            Self::Broken(error) => tracing::debug!(%error, "a client's connection broke"),
            Self::OutOfTime(phase) => tracing::debug!(?phase, "a client's connection is out of time"),
            Self::Flooded => tracing::warn!("a client's connection was ended: it began requests only to cancel them"),
        }
    }
}

/// Answers the requests of one connection.
struct Requests {
    worker: Arc<Worker>,
    client: Client,
    watch: Arc<Watch>,
    connections: Arc<Connections>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ClientBody>;
    type Error = Infallible;
    type Future = Committed<Result<Self::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let answering = Answering::begin(&self.watch);
        let settled = if request.version() == Version::HTTP_2 { h2::settle(&mut request) } else { Ok(()) };
        let commitment = Commitment::default();
        let exchange = Exchange { worker: self.worker.clone(), client: self.client.clone(), commitment: commitment.clone() };
        let (watch, connections) = (self.watch.clone(), self.connections.clone());
        Committed::new(commitment, async move {
            let mut response = match settled {
                Ok(()) => exchange.answer(request).await,
                Err(what) => exchange.refuse(what, &request),
            };
            if let Some(tunnel) = response.body_mut().take_tunnel() {
                watch.hand_over(tunnel);
                // What ends with the connection needs no word that it will.
                return Ok(response.map(|body| body.ends(answering)));
            }
            let mut response = response.map(|body| body.ends(answering));
            if connections.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

impl Stream {
    /// What TLS has agreed on to speak.
    fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}
