//! One connection of a client, from its first byte to its end: TLS where the listener has it, HTTP/1.1 or HTTP/2, and its time.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, Version, header::CONNECTION};
use http_body::Body;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use crate::telemetry::Refusal;

use super::{
    Worker, access,
    answer::Unread,
    body::ClientBody,
    client::Client,
    exchange::{Exchange, Link},
    h2,
    inspect::Malformed,
    listener::{Counted, Door, Shape},
    settings::Clients,
    stream::{Stream, Watched},
    tls::Tls,
    tunnel::Tunnel,
    watch::{Answering, Commitment, Committed, Phase, Watch, in_place},
};
use crate::{
    backend::Incoming,
    http1::{
        Error, RequestOf, ResponseOf,
        server::{Broken, Connection, Next, Then},
    },
    http2::server,
};

/// What the ALPN of HTTP/2 is (RFC 9113 section 3.1).
const ALPN_H2: &[u8] = b"h2";

/// While draining, how long a connection without a request is kept for one that is on its way: who sends another request in this time gets its answer, and with
/// it the word that the connection closes. HTTP/1.1 has no other way to close without a race (RFC 9112 section 9.6).
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
    pub(super) limits: Arc<Clients>,
    pub(super) door: Arc<Door>,
    pub(super) peer: Option<SocketAddr>,
    /// Whether the client came by TLS, to us or to the one that passes its connection on.
    pub(super) secure: bool,
    pub(super) counted: Counted,
}

/// A connection too many.
pub(super) async fn turn_away(mut stream: Stream, shape: Arc<Shape>, why: Refusal, counted: Counted) {
    // Who speaks TLS would not understand us before a handshake, which is more than we have for him.
    if shape.tls.is_none() {
        tell(&mut stream, if why == Refusal::Client { Unread::FullOfOne } else { Unread::Full }, || drop(counted)).await;
    }
}

/// Writes an answer to who has not been read, `told` follows, and closes.
async fn tell(stream: &mut Stream, answer: Unread, told: impl FnOnce()) {
    let bytes = answer.answer().bytes();
    let said = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        told();
        // What it has sent is read, so that no reset overtakes our answer.
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    };
    // Whoever does not even read this is dropped.
    let _said = timeout(Duration::from_secs(1), said).await;
}

/// One connection, to its end.
pub(super) async fn serve(stream: Stream, shape: Arc<Shape>, mut terms: Terms) {
    let Some(tls) = &shape.tls else { return serve_http(stream, terms).await };
    // In a box of its own: a handshake has more to keep than what follows it, and is over soon.
    let Some(stream) = in_place(|| begin(stream, tls, terms.limits.header_timeout)).await else { return };
    terms.secure = true;
    serve_http(stream, terms).await;
}

/// One that HTTP is spoken on. No `async fn`, so that what it is made of is not kept for as long as it is there.
pub(super) fn serve_http(stream: Stream, terms: Terms) -> impl Future<Output = ()> + Send {
    let Terms { worker, limits, door, peer, secure, counted } = terms;
    let client = Client::new(peer, &limits.trusted_proxies, secure);
    let http2 = stream.protocol() == Some(ALPN_H2);
    let watch = Watch::begin();
    let socket = Watched::new(stream, watch.clone());
    let connection = Connection::new(socket, limits.max_header_bytes.max(8192));
    let keeper = Keeper { requests: Requests { link: Arc::new(Link { worker, client, door }), watch }, limits };
    async move {
        keeper.serve(connection, http2).await;
        drop(counted);
    }
}

/// What comes before HTTP where TLS is spoken. None: there is nobody to serve.
async fn begin(mut stream: Stream, tls: &Tls, patience: Duration) -> Option<Stream> {
    let begun = async {
        // What HTTP begins with is a letter, and what TLS begins with is none (22, RFC 8446 section 5.1).
        let mut first = [0];
        if stream.peek(&mut first).await.is_ok_and(|_| first[0].is_ascii_uppercase()) {
            tell(&mut stream, Unread::NoTls, || {}).await;
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
    requests: Requests,
    limits: Arc<Clients>,
}

/// How a connection ended.
enum Ended {
    /// As it should.
    InPeace,
    /// It broke, or what came was not HTTP.
    Broken(String),
    /// It was in this phase for too long.
    OutOfTime(Phase),
    /// It cancelled more than it asked for.
    Flooded,
    /// It speaks another protocol from now on.
    Switched(Box<Tunnel>),
    /// It speaks HTTP/2.
    Http2,
    /// It does not take what it asked for.
    Stuck,
}

impl Keeper {
    /// HTTP/1.1, unless TLS has agreed on HTTP/2 or the first bytes are those of it: a client that knows beforehand may begin with them (RFC 9113 section 3.3).
    async fn serve(&self, mut connection: Connection<Watched>, http2: bool) {
        let ended = if http2 {
            Ended::Http2
        } else {
            let answering = pin!(answer_all(&mut connection, &self.requests));
            self.keep(answering, false).await
        };
        // Boxed, so that what nearly no connection needs makes none of them larger.
        match ended {
            Ended::Switched(tunnel) => {
                if let Some((socket, early)) = connection.take() {
                    Box::pin(tunnel.run(socket, early)).await;
                }
            }
            Ended::Http2 => {
                if let Some((mut socket, bytes)) = connection.take() {
                    socket.give_back(bytes);
                    Box::pin(self.serve_h2(socket)).await;
                }
            }
            ended => {
                ended.log();
                if matches!(ended, Ended::OutOfTime(_)) {
                    // TLS has a word for that (RFC 9112 section 9.8), but nobody waits until it has been heard.
                    let _told = connection.shut_down().now_or_never();
                }
            }
        }
    }

    async fn serve_h2(&self, socket: Watched) {
        let requests = &self.requests;
        requests.watch.multiplex();
        let limits = server::Limits {
            streams: MAX_STREAMS,
            header_bytes: u32::try_from(self.limits.max_header_bytes).unwrap_or(u32::MAX),
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            send_buffer: SEND_BUFFER,
        };
        // With it end its requests: one that waits to send what nobody will take would keep its seat for ever. What must be seen to its end all the same goes on
        // elsewhere ([`Committed`]).
        let mut connection = server::Connection::new(socket, limits, |request: RequestOf<_>| requests.answer(request.map(Incoming::from)));
        let mut said = false;
        let served = poll_fn(|cx| {
            if requests.watch.has_farewell() && !std::mem::replace(&mut said, true) {
                connection.farewell();
            }
            connection.poll(cx).map(|ended| ended.map_or_else(|error| Ended::Broken(error.to_string()), |()| Ended::InPeace))
        });
        let ended = self.keep(pin!(served), true).await;
        if matches!(ended, Ended::OutOfTime(_)) {
            connection.give_up();
        }
        ended.log();
    }

    /// Polls what serves a connection until it ends or has to. `graceful`: told farewell, it ends with all that is under way (HTTP/2).
    async fn keep(&self, mut connection: Pin<&mut impl Future<Output = Ended>>, graceful: bool) -> Ended {
        let Self { requests: Requests { link, watch }, limits } = self;
        let door = &link.door;
        let mut drain = pin!(None);
        let mut timer = pin!(None);
        let mut last_orders: Option<Instant> = None;
        let mut farewell = false;
        poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if watch.is_flooded() {
                return Poll::Ready(Ended::Flooded);
            }
            // A request takes its time, and the end of its answer is the connection's to hear of: many a connection is over before there is anything to wait for.
            if !graceful && watch.phase() == Phase::Busy {
                return Poll::Pending;
            }
            // Both wake this task when they have something to say, so they are asked only once to begin with, and then when they have.
            if drain.is_none() {
                drain.set(Some(door.drained()));
                timer.set(Some(tokio::time::sleep(limits.header_timeout)));
                let _registered = drain.as_mut().as_pin_mut().is_some_and(|drain| drain.poll(cx).is_ready());
                let _registered = timer.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
            }
            let Some(mut timer) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
            let begins = watch.stamp(limits.header_timeout, limits.idle_timeout);
            if !farewell && door.is_draining() {
                let until = *last_orders.get_or_insert_with(|| Instant::now() + LAST_ORDERS);
                if graceful || (until <= Instant::now() && matches!(watch.phase(), Phase::Idle | Phase::Fresh)) {
                    farewell = true;
                    watch.farewell();
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
            // What begins may have less time than what was before it: a head than idleness, or idleness than a head.
            let mut look = begins.is_some_and(|over| over < timer.deadline());
            while look || timer.is_elapsed() {
                look = false;
                if graceful && watch.is_stuck(limits.send_timeout) {
                    return Poll::Ready(Ended::Stuck);
                }
                match watch.deadline(limits.header_timeout, limits.idle_timeout) {
                    Ok(deadline) => timer.as_mut().reset(deadline),
                    Err(Phase::Idle) if graceful && !farewell => {
                        farewell = true;
                        watch.farewell();
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
            Self::InPeace | Self::Switched(_) | Self::Http2 => {}
            Self::Broken(error) => tracing::debug!(%error, "a client's connection broke"),
            Self::OutOfTime(phase) => tracing::debug!(?phase, "a client's connection is out of time"),
            Self::Stuck => tracing::debug!("a client's connection was ended: it did not take an answer that it had asked for"),
            Self::Flooded => tracing::warn!("a client's connection was ended: it began requests only to cancel them"),
        }
    }
}

/// Answers what comes on a connection of HTTP/1.1, to its end.
async fn answer_all(connection: &mut Connection<Watched>, requests: &Requests) -> Ended {
    let watch = &requests.watch;
    loop {
        let request = match connection.next(|| watch.has_farewell()).await {
            Ok(Next::Request(request)) => request.map(Incoming::Http1),
            Ok(Next::Http2) => return Ended::Http2,
            Ok(Next::End { unread }) => return end(connection, watch, unread).await,
            // What it says may not be all that it was going to say.
            Err(Error::Fault(fault)) => {
                let unread = Unread::Fault(fault);
                let told = connection.refuse(&unread.answer()).await;
                let shared = &requests.link.worker.shared;
                if shared.access_log.is_on() {
                    access::unread(&shared.access_log, &shared.clock, requests.link.client.peer(), unread.status());
                }
                let ended = end(connection, watch, true).await;
                tracing::debug!(%fault, ?told, "what a client sent cannot be understood");
                return ended;
            }
            Err(error) => return Ended::Broken(error.to_string()),
        };
        // An old client sends a line end behind its body (RFC 9112 section 2.2).
        let has_body = !request.body.is_end_stream();
        let mut tunnel = None;
        let answering = requests.answer(request).map(|mut answer| {
            tunnel = answer.body.take_tunnel();
            answer
        });
        match connection.answer(answering).await {
            Ok(Then::Request) => {}
            Ok(Then::Rest) => {
                // How long that may take is the business of who sends it on.
                watch.enter(Phase::Busy);
                connection.rest().await;
                watch.enter(Phase::Idle);
            }
            Ok(Then::End { unread }) => return end(connection, watch, unread || has_body).await,
            Ok(Then::Switch) => return tunnel.map_or(Ended::InPeace, Ended::Switched),
            Err(broken) => {
                if matches!(broken, Broken::Source { unseen: true, .. } | Broken::Client(_)) {
                    connection.with_socket(Watched::break_off);
                }
                return Ended::Broken(broken.to_string());
            }
        }
    }
}

/// Closes a connection in peace. `unread`: its client may still be sending what nobody will read.
async fn end(connection: &mut Connection<Watched>, watch: &Watch, unread: bool) -> Ended {
    if unread {
        watch.refuse();
    }
    let mut ends_when_dropped = false;
    connection.with_socket(|socket| ends_when_dropped = socket.ends_when_dropped());
    if ends_when_dropped {
        return Ended::InPeace;
    }
    connection.shut_down().await.map_or_else(|error| Ended::Broken(error.to_string()), |()| Ended::InPeace)
}

/// Answers the requests of one connection.
struct Requests {
    link: Arc<Link>,
    watch: Arc<Watch>,
}

impl Requests {
    /// Answers one.
    fn answer(&self, mut request: RequestOf<Incoming>) -> Committed<ResponseOf<ClientBody>> {
        let answering = Answering::begin(&self.watch);
        let settled = match request.head.version {
            _ if self.link.client.is_insecure(&request.head.uri, &request.head.headers) => Err(Malformed::Insecure),
            Version::HTTP_2 => h2::settle(&mut request.head),
            _ => Ok(()),
        };
        let commitment = Commitment::default();
        let exchange = Exchange { link: self.link.clone(), commitment: commitment.clone() };
        Committed::new(commitment, || async move {
            let settled = match settled {
                Ok(()) if h2::says_nothing(&request.body) => h2::hear(&mut request.body, &exchange.link).await,
                settled => settled,
            };
            let mut response = match settled {
                Ok(()) => exchange.answer(request).await,
                Err(what) => exchange.refuse(what, &request.head),
            };
            // What ends with the connection needs no word that it will.
            let is_tunnel = response.head.status == StatusCode::SWITCHING_PROTOCOLS;
            response.body.ends(answering);
            if exchange.link.door.is_draining() && !is_tunnel {
                response.head.fields_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        })
    }
}
