//! One connection to a server.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};

pub use super::encode::Unsent;

use super::{
    AnswerHead, Error, Fault, RequestHead,
    decode::{Decoded, Decoder},
    encode::{Encoder, Sending, TURN},
    parse::{self, Said},
    pipe::{LONG, Pipe, Piped, Socket},
    spare,
    wire::Wire,
    write::{self, Told},
};

/// Bytes of the head of an answer.
const MOST_HEAD: usize = 400 * 1024;

/// A connection on which a request can be sent.
#[derive(Debug)]
pub struct Connection<S>(Box<Wire<S>>);

/// A request that is being sent.
#[derive(Debug)]
pub struct Exchange<B> {
    sending: Sending<B>,
    to_head: bool,
    /// Why the request cannot be sent any further. Perhaps there is an answer all the same.
    broken: Option<io::Error>,
    /// What had been written on the connection before.
    before: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer<E> {
    /// The request's body broke off at its source, or is not as long as was said.
    #[error(transparent)]
    Body(Unsent<E>),
    /// The connection broke, or what came is no HTTP.
    #[error(transparent)]
    Connection(#[from] Error),
}

/// The body of an answer, and what is left to be sent of its request.
#[derive(Debug)]
pub struct Answer<S, B> {
    connection: Connection<S>,
    exchange: Exchange<B>,
    ending: Ending,
    /// A part of it has come in a pipe.
    piped: bool,
}

/// What is left when an answer has ended.
#[derive(Debug)]
pub enum Left<S, B> {
    /// A connection on which another request can be sent.
    Connection(Connection<S>),
    /// A request that is still being sent: its answer came early.
    Request(Box<Answer<S, B>>),
    /// Nothing: the connection is of no use any more.
    Nothing,
}

impl<S: Socket> Connection<S> {
    /// One that has just been opened.
    pub fn new(socket: S) -> Self {
        Self(Box::new(Wire::new(socket)))
    }

    /// Whether it is open and silent, as far as has been heard: what a server says before it was asked is no answer, and the connection of no use.
    pub fn is_fit(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let heard = pin!(tokio::task::unconstrained(poll_fn(|cx| self.0.poll_read(cx)))).poll(&mut cx);
        heard.is_pending() && self.0.buffer.is_empty()
    }

    /// The socket, and what has been read from it and not used.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.0.socket, self.0.buffer.freeze())
    }

    /// Begins to send a request with this body.
    pub fn begin<B: Piped>(&mut self, head: &RequestHead, body: B) -> Exchange<B> {
        let before = self.0.out.total;
        let out = &mut self.0.out.text;
        let told = write::request(head, out);
        let encoder = framing(&told, &body, out);
        out.extend_from_slice(b"\r\n");
        Exchange { sending: Sending::new(body, encoder), to_head: head.method == Method::HEAD, broken: None, before }
    }

    /// Goes on with a request until the head of its answer is here. `heard` is told of interim answers.
    pub fn poll_answer<B: Piped>(
        &mut self,
        exchange: &mut Exchange<B>,
        heard: &mut impl FnMut(&mut AnswerHead),
        cx: &mut Context<'_>,
    ) -> Poll<Answered<B::Error>> {
        if let Poll::Ready(Err(failed)) = exchange.poll_send(&mut self.0, cx) {
            match failed {
                SendFailed::Body(unsent) => return Poll::Ready(Err(NoAnswer::Body(unsent))),
                // A server that has had enough may have said so before it closed.
                SendFailed::Write(error) => exchange.broken = Some(error),
            }
        }
        loop {
            match ready!(self.0.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(NoAnswer::Connection(exchange.broken.take().map_or(Error::Ended, Error::Io)))),
                Err(error) => return Poll::Ready(Err(NoAnswer::Connection(exchange.broken.take().unwrap_or(error).into()))),
                Ok(_) => {}
            }
            while let Some((mut head, said, length)) = parse::response(&mut self.0.buffer).map_err(Error::from)? {
                if length > MOST_HEAD {
                    return Poll::Ready(Err(NoAnswer::Connection(Fault::HeadTooLarge.into())));
                }
                self.0.release();
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                    heard(&mut head);
                    spare::give_answer(head);
                    continue;
                }
                let ending = Ending::of(head.status, &said, exchange.to_head);
                return Poll::Ready(Ok((head, ending)));
            }
            if self.0.buffer.len() > MOST_HEAD {
                return Poll::Ready(Err(NoAnswer::Connection(Fault::HeadTooLarge.into())));
            }
        }
    }
}

/// The head of an answer, and where what follows it ends.
pub type Answered<E> = Result<(Box<AnswerHead>, Ending), NoAnswer<E>>;

/// Where the body of an answer ends, and whether the connection with it.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    decoder: Decoder,
    stays: bool,
}

impl Ending {
    /// RFC 9112 section 6.3.
    fn of(status: StatusCode, said: &Said, to_head: bool) -> Self {
        let is_never = to_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let decoder = match said.length {
            _ if is_never => Decoder::Over,
            _ if said.chunked => Decoder::Size,
            Some(length) => Decoder::of(length),
            None => Decoder::Close,
        };
        Self { decoder, stays: said.stays() && decoder != Decoder::Close }
    }
}

/// Writes how the body of a request is framed.
fn framing<B: Body>(told: &Told<'_>, body: &B, out: &mut Vec<u8>) -> Encoder {
    let said = told.length();
    let mut of_length = |length| {
        told.write_length(length, out);
        Encoder::of(length)
    };
    if told.coded {
        // Its trailers want chunks.
    } else if body.is_end_stream() {
        return if said == Some(0) { of_length(0) } else { Encoder::Over };
    } else if let Some(length) = said.or_else(|| body.size_hint().exact()) {
        return of_length(length);
    }
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    Encoder::Chunks { trailers: true }
}

enum SendFailed<E> {
    Body(Unsent<E>),
    Write(io::Error),
}

impl<B: Piped> Exchange<B> {
    /// Whether nothing of the request has left us.
    pub fn is_untouched<S>(&self, connection: &Connection<S>) -> bool {
        connection.0.out.total == self.before
    }

    /// The request's body, where nothing has been taken from it.
    pub fn into_whole_body(self) -> Option<B> {
        if self.sending.begun { None } else { Some(self.sending.body) }
    }

    /// Whether all of the request has left us.
    fn is_sent<S>(&self, connection: &Connection<S>) -> bool {
        self.sending.is_over() && connection.0.is_flushed()
    }

    /// Sends what there is; ready when all has been sent, or no more can be.
    fn poll_send<S: Socket>(&mut self, wire: &mut Wire<S>, cx: &mut Context<'_>) -> Poll<Result<(), SendFailed<B::Error>>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut turn = 0;
        loop {
            let mut waits = false;
            while wire.out.has_room() && !self.sending.is_over() && !waits {
                match self.sending.poll_next(wire.socket.takes_pipes(), cx) {
                    Poll::Ready(Ok(Some(framed))) => {
                        turn += framed.len();
                        framed.put(&mut wire.out);
                    }
                    Poll::Ready(Ok(None)) => {}
                    Poll::Ready(Err(error)) => {
                        let _as_far_as_it_goes = wire.poll_flush(cx);
                        return Poll::Ready(Err(SendFailed::Body(error)));
                    }
                    Poll::Pending => waits = true,
                }
            }
            ready!(wire.poll_flush(cx)).map_err(SendFailed::Write)?;
            if self.sending.is_over() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<S: Socket, B: Piped> Answer<S, B> {
    /// The body that follows the head of an answer.
    pub fn new(connection: Connection<S>, exchange: Exchange<B>, ending: Ending) -> Self {
        Self { connection, exchange, ending, piped: false }
    }

    /// Whether all of it has been read.
    pub fn is_over(&self) -> bool {
        self.ending.decoder.is_over()
    }

    /// How long the rest of it is.
    pub fn size_hint(&self) -> SizeHint {
        self.ending.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The next part of it in a pipe; none where that has to be read. Meanwhile the request goes on.
    pub fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, Error>>> {
        let wire = &mut self.connection.0;
        let most = match self.ending.decoder {
            Decoder::Length(left) if left >= LONG || self.piped => left,
            Decoder::Close if wire.is_fast() => u64::MAX,
            _ => return Poll::Ready(None),
        };
        if !self.exchange.is_sent(&self.connection) {
            let _goes_on = self.poll_rest(cx);
        }
        let Some(pipe) = ready!(self.connection.0.poll_pipe(most, cx))? else { return Poll::Ready(None) };
        self.ending.decoder.pass(pipe.len());
        self.piped = true;
        Poll::Ready(Some(Ok(pipe)))
    }

    /// The next part of it; meanwhile the request goes on.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.exchange.is_sent(&self.connection) {
            let _goes_on = self.poll_rest(cx);
        }
        loop {
            let wire = &mut self.connection.0;
            match self.ending.decoder.decode(&mut wire.buffer) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Decoded::Over) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault.into()))),
            }
            match ready!(wire.poll_read_body(self.ending.decoder.left(), cx)) {
                Ok(0) if self.ending.decoder == Decoder::Close => {
                    self.ending.decoder = Decoder::Over;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Error::Ended))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Whether what is left of the request when it is over will not be sent.
    pub fn gives_request_up(&self) -> bool {
        !self.ending.stays && !self.exchange.is_sent(&self.connection)
    }

    /// What is left when it is over.
    pub fn left(self) -> Left<S, B> {
        if !self.is_over() || !self.ending.stays || self.exchange.broken.is_some() || !self.connection.0.buffer.is_empty() {
            return Left::Nothing;
        }
        if self.exchange.is_sent(&self.connection) { Left::Connection(self.connection) } else { Left::Request(Box::new(self)) }
    }

    /// Sends the rest of the request; ready when there is none.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.exchange.poll_send(&mut self.connection.0, cx)) {
            Ok(()) => {}
            Err(SendFailed::Write(error)) => self.exchange.broken = Some(error),
            Err(SendFailed::Body(_)) => self.exchange.broken = Some(io::ErrorKind::InvalidInput.into()),
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
