//! Bodies to and from a backend.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{
    ErrorKind,
    balance::Load,
    floor::Floor,
    incoming::Incoming,
    patience::{Alarm, Pace, with_response_timeout},
    pool::{Http1, Kept, Shelf, Stream},
    socket::Socket,
    streaming::Streaming,
};
use crate::{
    http1::{
        Pipe, Piped, ResponseOf,
        client::{Answer, Left},
    },
    http2::{self, client::Answered},
};

/// Why a body on its way to a backend ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's connection broke, or what it sent is malformed.
    #[error("the client's body ended early: {0}")]
    Client(#[source] Box<dyn Error + Send + Sync>),
    /// The client sent more than is allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// The client sends too slowly.
    #[error("the body comes too slowly")]
    TooSlow,
    /// Where it is kept could not be read.
    #[error("the body could not be read: {0}")]
    Source(#[source] io::Error),
}

/// A body on its way to a backend.
pub struct RequestBody(Kind);

enum Kind {
    Full(Option<Bytes>),
    /// None, in a request that asks for one of these protocols. Boxed, as are those below, so that what has no body is small to move.
    Switching(Box<HeaderValue>),
    Streaming(Box<Streaming>),
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>),
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// A body in memory.
    pub fn full(bytes: Bytes) -> Self {
        Self(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// A client's body as it comes, of at most `limit` bytes; it may `stall` for so long, and come no slower than `floor`.
    pub fn streaming(incoming: Incoming, limit: u64, stall: Duration, floor: Option<Floor>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Streaming(Box::new(Streaming::new(incoming, limit, stall, floor))))
    }

    /// No body, in a request that asks its server to switch to one of `protocols` (RFC 9110 section 7.8).
    pub fn switching(protocols: HeaderValue) -> Self {
        Self(Kind::Switching(Box::new(protocols)))
    }

    /// Any other body.
    pub fn boxed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    {
        Self(Kind::Boxed(Box::pin(body)))
    }

    /// Whether it comes from a client while it is sent.
    pub fn is_streaming(&self) -> bool {
        matches!(self.0, Kind::Streaming(_))
    }

    /// Keeps what is read of it, as long as that is little, so that it can be [rewound](Self::rewound).
    pub(super) fn keep(&mut self) {
        if let Kind::Streaming(streaming) = &mut self.0 {
            streaming.keep();
        }
    }

    /// From its beginning once more; none where that is gone.
    pub(super) fn rewound(mut self) -> Option<Self> {
        let Kind::Streaming(streaming) = &mut self.0 else { return None };
        streaming.rewind().then_some(self)
    }

    /// All of it, where it is kept in memory and has not been sent yet.
    pub(super) fn in_memory(&self) -> Option<Bytes> {
        match &self.0 {
            Kind::Full(bytes) => Some(bytes.clone().unwrap_or_default()),
            Kind::Switching(_) | Kind::Streaming(_) | Kind::Boxed(_) => None,
        }
    }

    /// The protocols that its request asks for.
    pub(super) fn protocols(&self) -> Option<HeaderValue> {
        match &self.0 {
            Kind::Switching(protocols) => Some(HeaderValue::clone(protocols)),
            Kind::Full(_) | Kind::Streaming(_) | Kind::Boxed(_) => None,
        }
    }

    pub(super) fn pace(&self) -> Option<Arc<Pace>> {
        match &self.0 {
            Kind::Streaming(streaming) => Some(streaming.pace()),
            Kind::Full(_) | Kind::Switching(_) | Kind::Boxed(_) => None,
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({:?})", self.size_hint())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Switching(_) => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx).map_err(BodyError::Source),
            Kind::Streaming(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Switching(_) => true,
            Kind::Streaming(streaming) => streaming.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Switching(_) => SizeHint::with_exact(0),
            Kind::Streaming(streaming) => streaming.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Piped for RequestBody {
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, BodyError>>> {
        let Kind::Streaming(streaming) = &mut self.0 else { return Poll::Ready(None) };
        streaming.poll_pipe(cx)
    }
}

/// What the failure of a request's body was.
pub(super) fn kind_of(error: &BodyError) -> ErrorKind {
    match error {
        BodyError::TooLarge(_) => ErrorKind::RequestTooLarge,
        BodyError::TooSlow => ErrorKind::RequestStalled,
        BodyError::Client(_) | BodyError::Source(_) => ErrorKind::RequestBody,
    }
}

/// A body on its way from a backend. Its end gives the connection back to the pool; dropping it early closes the connection.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Counts the request at its server until the body has ended.
    load: Option<Load>,
}

/// Where the body of an answer comes from.
#[derive(Debug)]
pub(super) enum Source {
    Http1(Box<Lease>),
    Http2 {
        /// Boxed, so that it makes no answer of HTTP/1.1 larger.
        incoming: Box<http2::Incoming>,
        /// Its stream, and who tells whoever still sends the request that the answer is over.
        _held: (Stream, Option<oneshot::Sender<Infallible>>),
    },
    /// It is over.
    Over,
}

/// A connection of HTTP/1.1 while an answer is read from it, and where it goes afterwards.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) answer: Answer<Socket, RequestBody>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) kept: Kept,
    /// For what is left to be sent of the request when its answer has ended.
    pub(super) timeout: Duration,
    pub(super) pace: Option<Arc<Pace>>,
}

impl Lease {
    /// The answer has been read.
    fn end(self) {
        let Self { answer, shelf, mut kept, timeout, pace } = self;
        match answer.left() {
            Left::Connection(connection) => shelf.give_back(Http1 { connection, kept }),
            Left::Request(mut answer) => {
                // The answer came early, and the server may still want the rest.
                tokio::spawn(async move {
                    let rest = with_response_timeout(poll_fn(|cx| answer.poll_rest(cx)), timeout, pace, &mut kept.alarm).await;
                    if rest.is_ok()
                        && let Left::Connection(connection) = answer.left()
                    {
                        shelf.give_back(Http1 { connection, kept });
                    }
                });
            }
            Left::Nothing => {}
        }
    }
}

impl Source {
    /// The answer on a stream. What is left of its request goes on meanwhile, and has its time once the answer is over.
    pub(super) fn on_stream(
        Answered { answer, rest }: Answered<RequestBody>,
        stream: Stream,
        timeout: Duration,
        pace: Option<Arc<Pace>>,
    ) -> ResponseOf<Self> {
        let over = rest.map(|rest| {
            let (over, is_over) = oneshot::channel::<Infallible>();
            tokio::spawn(async move {
                if let Either::Right((_over, rest)) = select(rest, is_over).await {
                    let _in_time = with_response_timeout(rest, timeout, pace, &mut Alarm::default()).await;
                }
            });
            over
        });
        ResponseOf::from(answer).map(|incoming| Self::Http2 { incoming: Box::new(incoming), _held: (stream, over) })
    }
}

impl ResponseBody {
    pub(super) fn new(source: Source, load: Load) -> Self {
        let mut body = Self { source, load: Some(load) };
        if body.is_end_stream() {
            body.ended();
        }
        body
    }

    /// What follows a 101 is no body of HTTP. The request counts until this is dropped.
    pub(super) fn switched(load: Load) -> Self {
        Self { source: Source::Over, load: Some(load) }
    }

    /// Whether its request will not be sent whole: the answer came early, and the server closes after it.
    pub fn gives_request_up(&self) -> bool {
        matches!(&self.source, Source::Http1(lease) if lease.answer.gives_request_up())
    }

    /// A part of it came, or broke off.
    fn came(&mut self, whole: bool) {
        if !whole {
            self.source = Source::Over;
            self.load = None;
        } else if self.is_end_stream() {
            self.ended();
        }
    }

    fn ended(&mut self) {
        self.load = None;
        if let Source::Http1(lease) = std::mem::replace(&mut self.source, Source::Over) {
            lease.end();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = match &mut self.source {
            Source::Http1(lease) => ready!(lease.answer.poll_frame(cx)).map(|frame| frame.map_err(io::Error::other)),
            Source::Http2 { incoming, .. } => ready!(Pin::new(&mut **incoming).poll_frame(cx)).map(|frame| frame.map_err(io::Error::other)),
            Source::Over => None,
        };
        match &frame {
            Some(frame) => self.came(frame.is_ok()),
            None => self.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Http1(lease) => lease.answer.is_over(),
            Source::Http2 { incoming, .. } => incoming.is_end_stream(),
            Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1(lease) => lease.answer.size_hint(),
            Source::Http2 { incoming, .. } => incoming.size_hint(),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

impl Piped for ResponseBody {
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, io::Error>>> {
        let Source::Http1(lease) = &mut self.source else { return Poll::Ready(None) };
        let pipe = ready!(lease.answer.poll_pipe(cx)).map(|pipe| pipe.map_err(io::Error::other));
        if let Some(pipe) = &pipe {
            self.came(pipe.is_ok());
        }
        Poll::Ready(pipe)
    }
}
