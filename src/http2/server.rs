//! One connection of a client: its requests are answered side by side, and end with it.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{
    Reason,
    server::{Builder, Handshake, SendResponse},
};
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, DATE, EXPECT, TE},
};
use http_body::Body;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Incoming,
    incoming::Wanted,
    outgoing::{Broken, Outgoing},
    strip,
};
use crate::http1::{AnswerHead, Interim, Origin, RequestHead, RequestOf, ResponseOf, now};

/// Bytes of interim answers that one request may bring its client, as RFC 9113 section 6.5.2 counts fields.
const MOST_INTERIM: usize = 64 * 1024;

/// What a client is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests at a time.
    pub streams: u32,
    /// Bytes of the fields of a request, as RFC 9113 section 6.5.2 counts them.
    pub header_bytes: u32,
    /// Bytes of a request's body that may come before they have been taken: of one stream, and of all.
    pub stream_window: u32,
    /// See `stream_window`.
    pub connection_window: u32,
    /// Bytes of an answer that are kept for a client that does not take them.
    pub send_buffer: usize,
}

/// One connection of a client. `A` answers its requests.
pub struct Connection<S, A, F, B> {
    state: State<S>,
    answer: A,
    streams: FuturesUnordered<Stream<F, B>>,
    farewell: bool,
}

enum State<S> {
    Beginning(Handshake<S, Bytes>),
    Open(h2::server::Connection<S, Bytes>),
}

impl<S, A, F, B> Connection<S, A, F, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(RequestOf<Incoming>) -> F,
    F: Future<Output = ResponseOf<B>> + Unpin,
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    /// One on which nothing has been said.
    pub fn new(socket: S, limits: Limits, answer: A) -> Self {
        let handshake = Builder::new()
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_send_buffer_size(limits.send_buffer)
            .handshake(socket);
        Self { state: State::Beginning(handshake), answer, streams: FuturesUnordered::new(), farewell: false }
    }

    /// Takes no other request, and ends with those that are under way (RFC 9113 section 6.8).
    pub fn farewell(&mut self) {
        self.farewell = true;
        if let State::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    /// Ends it here and now, and says so as far as the socket takes that at once.
    pub fn give_up(&mut self) {
        if let State::Open(connection) = &mut self.state {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            let _as_far_as_it_goes = connection.poll_closed(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Goes on with all that is under way, until the connection is over.
    ///
    /// # Errors
    /// What broke it, or what the client did that HTTP/2 does not allow.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let connection = loop {
            match &mut self.state {
                State::Open(connection) => break connection,
                State::Beginning(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if self.farewell {
                        connection.graceful_shutdown();
                    }
                    self.state = State::Open(connection);
                }
            }
        };
        loop {
            // First they say what they have to say, and then the connection writes it down.
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
            let Some(accepted) = ready!(connection.poll_accept(cx)) else { return Poll::Ready(Ok(())) };
            let (request, respond) = accepted?;
            let respond = Arc::new(Respond(Mutex::new(Said { stream: respond, interim: 0 })));
            let answering = (self.answer)(received(request, &respond));
            self.streams.push(Stream { respond, state: Answering::Waiting(answering) });
        }
    }
}

/// A request as it is handed on: with its body, and with who hears of interim answers.
fn received(request: Request<h2::RecvStream>, respond: &Arc<Respond>) -> RequestOf<Incoming> {
    let (head, stream) = request.into_parts();
    let mut head = Box::new(RequestHead::from(head));
    head.origin = Some(Origin::unwritten(respond.clone()));
    let mut body = Incoming::new(stream, &head.headers);
    if head.headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        body = body.telling(respond.clone());
    }
    RequestOf::new(head, body)
}

/// Where the answer of one stream goes.
struct Respond(Mutex<Said>);

struct Said {
    stream: SendResponse<Bytes>,
    /// Bytes of interim answers so far.
    interim: usize,
}

impl Interim for Respond {
    fn interim(&self, answer: &mut AnswerHead) {
        let fields = answer.fields_mut();
        strip(fields);
        let mut said = self.0.lock();
        said.interim += fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>() + 32;
        if said.interim <= MOST_INTERIM {
            let mut interim = Response::new(());
            *interim.headers_mut() = std::mem::take(fields);
            *interim.status_mut() = answer.status;
            // One that comes too late is no loss.
            let _sent = said.stream.send_informational(interim);
        }
    }
}

impl Wanted for Respond {
    /// RFC 9110 section 10.1.1: the client waits for this word before it sends the body.
    fn is_wanted(&self) {
        let mut go_on = Response::new(());
        *go_on.status_mut() = StatusCode::CONTINUE;
        let _sent = self.0.lock().stream.send_informational(go_on);
    }
}

/// One request and its answer.
struct Stream<F, B> {
    respond: Arc<Respond>,
    state: Answering<F, B>,
}

enum Answering<F, B> {
    /// Its answer is waited for.
    Waiting(F),
    /// The body of its answer goes out.
    Sending(Outgoing<B>),
}

impl<F, B> Stream<F, B>
where
    F: Future<Output = ResponseOf<B>> + Unpin,
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        loop {
            match &mut self.state {
                Answering::Waiting(answering) => {
                    let Poll::Ready(answer) = Pin::new(answering).poll(cx) else {
                        // Who takes his request back does not get it answered.
                        let reset = ready!(self.respond.0.lock().stream.poll_reset(cx))?;
                        return Poll::Ready(Err(h2::Error::from(reset).into()));
                    };
                    let ResponseOf { mut head, body } = answer;
                    complete(head.fields_mut(), &body);
                    let is_all = body.is_end_stream();
                    let stream = self.respond.0.lock().stream.send_response(Response::from_parts((*head).into(), ()), is_all)?;
                    if is_all {
                        return Poll::Ready(Ok(()));
                    }
                    self.state = Answering::Sending(Outgoing::new(body, stream));
                }
                Answering::Sending(body) => return body.poll(cx),
            }
        }
    }
}

impl<F, B> Future for Stream<F, B>
where
    F: Future<Output = ResponseOf<B>> + Unpin,
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().poll_answer(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "an answer did not go out whole");
            }
        })
    }
}

// Nothing in it is pinned: what is polled in place is `Unpin` itself.
impl<F, B> Unpin for Stream<F, B> {}

/// Makes the fields of an answer those of one of HTTP/2 that has this body.
fn complete(headers: &mut HeaderMap, body: &impl Body) {
    strip(headers);
    headers.remove(TE);
    if !headers.contains_key(DATE) {
        headers.insert(DATE, now());
    }
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

#[cfg(test)]
mod tests;
