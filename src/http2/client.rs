//! One connection to a server: many requests at a time, each on a stream of its own.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Request, Response, header::CONTENT_LENGTH};
use http_body::Body;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

use super::{
    Incoming,
    outgoing::{Broken, Outgoing},
    pulse::{Busy, Life, Pulse},
};

/// What a server is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of an answer's body that may come before they have been taken: of one stream, and of all.
    pub stream_window: u32,
    /// See `stream_window`.
    pub connection_window: u32,
    /// Bytes of a request that are kept for a server that does not take them.
    pub send_buffer: usize,
    /// Bytes of the fields of an answer, as RFC 9113 section 6.5.2 counts them.
    pub header_bytes: u32,
    /// While requests are under way: how often it is asked whether it is there …
    pub ping_after: Duration,
    /// … and how long it may take to say so.
    pub ping_timeout: Duration,
}

/// Sends requests on one connection, which ends when all of these are gone.
#[derive(Clone)]
pub struct Sender {
    requests: SendRequest<Bytes>,
    /// Streams that the server allows at a time, as it changes.
    most: Arc<AtomicUsize>,
    life: Arc<Life>,
    /// Wakes the connection when the last one is gone, which the library does not.
    _held: Arc<oneshot::Sender<Infallible>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer<B: Body> {
    /// Nothing was sent, for the connection takes no more requests.
    Unsent(Box<Request<B>>, h2::Error),
    /// The stream or its connection failed. With the body, as far as it has been read, where there was one.
    Stream(h2::Error, Option<B>),
    /// The body of the request broke off.
    Body(B::Error),
}

/// The answer to a request.
pub struct Answered<B> {
    /// Its head is here.
    pub answer: Response<Incoming>,
    /// What is left to be sent of the request: the answer came early.
    pub rest: Option<Rest<B>>,
}

/// Sends the rest of a request, also while nobody reads the answer.
pub struct Rest<B>(Outgoing<B>);

impl<B> Future for Rest<B>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "the rest of a request did not go out");
            }
        })
    }
}

/// Begins a connection. Somebody has to poll the second part until it is over.
///
/// # Errors
/// The socket failed.
pub async fn begin<S>(socket: S, limits: Limits) -> Result<(Sender, impl Future<Output = Result<(), h2::Error>>), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (requests, mut connection) = Builder::new()
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buffer_size(limits.send_buffer)
        .max_header_list_size(limits.header_bytes)
        .enable_push(false)
        .handshake(socket)
        .await?;
    let (held, mut let_go) = oneshot::channel::<Infallible>();
    let most = Arc::new(AtomicUsize::new(requests.current_max_send_streams()));
    let told = most.clone();
    let life = Arc::new(Life::default());
    let mut pulse = connection.ping_pong().map(|pings| Pulse::new(pings, life.clone(), limits.ping_after, limits.ping_timeout));
    let driven = async move {
        let mut is_held = true;
        poll_fn(|cx| {
            is_held = is_held && Pin::new(&mut let_go).poll(cx).is_pending();
            if let Some(pulse) = &mut pulse
                && pulse.poll(cx).is_ready()
            {
                return Poll::Ready(Err(Reason::NO_ERROR.into()));
            }
            let polled = Pin::new(&mut connection).poll(cx);
            told.store(connection.max_concurrent_send_streams(), Relaxed);
            polled
        })
        .await
    };
    Ok((Sender { requests, most, life, _held: Arc::new(held) }, driven))
}

impl Sender {
    /// Whether it takes requests, as far as has been heard.
    pub fn is_open(&self) -> bool {
        // A clone of its own, for a sender remembers the stream that it waits for.
        let mut requests = self.requests.clone();
        !matches!(requests.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Streams that the server allows at a time.
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Sends a request and waits for the head of its answer. `heard` is told of interim answers.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn send<B>(&mut self, request: Request<B>, mut heard: impl FnMut(Response<()>)) -> Result<Answered<B>, NoAnswer<B>>
    where
        B: Body<Data = Bytes, Error: Error + Send + 'static> + Unpin + Send + 'static,
    {
        if let Err(error) = poll_fn(|cx| self.requests.poll_ready(cx)).await {
            return Err(NoAnswer::Unsent(Box::new(request), error));
        }
        let (mut head, body) = request.into_parts();
        super::strip(&mut head.headers);
        let is_all = body.is_end_stream();
        if !is_all
            && let Some(length) = body.size_hint().exact()
            && !head.headers.contains_key(CONTENT_LENGTH)
        {
            head.headers.insert(CONTENT_LENGTH, length.into());
        }
        let sent = self.requests.send_request(Request::from_parts(head, ()), is_all);
        let (mut answer, stream) = match sent {
            Ok(sent) => sent,
            Err(error) => return Err(NoAnswer::Stream(error, Some(body))),
        };
        let busy = Busy::begin(&self.life);
        let mut sending = (!is_all).then(|| Outgoing::new(body, stream));
        let mut is_sent = is_all;
        let answered = poll_fn(|cx| {
            if let Some(sending) = sending.as_mut().filter(|_| !is_sent)
                && let Poll::Ready(ended) = sending.poll(cx)
            {
                is_sent = true;
                // Of what happened to the stream the answer tells, also where the server had enough of the body.
                if let Err(Broken::Body(error)) = ended {
                    return Poll::Ready(Err(NoAnswer::Body(error)));
                }
            }
            let mut heard = |interim| {
                busy.hears();
                heard(interim);
            };
            poll_answer(&mut answer, &mut heard, cx).map_err(|error| NoAnswer::Stream(error, None))
        });
        let answered = match answered.await {
            Err(NoAnswer::Stream(error, _)) => return Err(NoAnswer::Stream(error, sending.map(Outgoing::into_body))),
            answered => answered?,
        };
        let (mut head, stream) = answered.into_parts();
        super::trim(&mut head.headers);
        busy.hears();
        let body = Incoming::new(stream, &head.headers).of_answer(busy);
        Ok(Answered { answer: Response::from_parts(head, body), rest: sending.filter(|_| !is_sent).map(Rest) })
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("most", &self.most).finish_non_exhaustive()
    }
}

fn poll_answer(
    answer: &mut ResponseFuture,
    heard: &mut impl FnMut(Response<()>),
    cx: &mut Context<'_>,
) -> Poll<Result<Response<h2::RecvStream>, h2::Error>> {
    while let Poll::Ready(Some(Ok(mut interim))) = answer.poll_informational(cx) {
        super::trim(interim.headers_mut());
        heard(interim);
    }
    Pin::new(answer).poll(cx)
}
