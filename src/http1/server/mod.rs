//! One connection of a client.
//!
//! What reads the body of a request may live longer than the answer to it, and elsewhere: an upload goes on although its answer came early. So a connection is
//! shared by who serves it and by the body that is being read, of which there is one at a time; each waits for the other where it has to.

mod shared;

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use http::{Method, StatusCode};
use http_body::Body;
use parking_lot::Mutex;

use super::{
    AnswerHead, Error, Fault, Finished, Origin, RequestHead, RequestOf, ResponseOf,
    decode::Decoder,
    encode::{Encoder, Sending, TURN},
    parse::{self, Said},
    pipe::{Piped, Socket},
    spare,
    wire::Wire,
    write::{self, Told},
};
pub use shared::Incoming;
use shared::Io;

/// How every connection of HTTP/2 begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose requests are answered one after the other.
#[derive(Debug)]
pub struct Connection<S> {
    io: Arc<Mutex<Io<S>>>,
    /// Bytes of a head.
    most: usize,
    /// What the request that is being answered said.
    said: Said,
    to_head: bool,
    /// Something may have been read that has not been looked at.
    unread: bool,
    /// No request has come yet.
    fresh: bool,
    /// Another request may come after the answer.
    stays: bool,
}

/// What comes on a connection.
#[derive(Debug)]
pub enum Next {
    /// A request.
    Request(RequestOf<Incoming>),
    /// The preface of HTTP/2; it is still to be read.
    Http2,
    /// No more. `unread`: the client may still be sending what nobody will read.
    End {
        /// See above.
        unread: bool,
    },
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another request, perhaps.
    Request,
    /// First the [rest](Connection::rest) of the request, whose answer came early.
    Rest,
    /// The end. `unread`: the client may still be sending what nobody will read.
    End {
        /// See above.
        unread: bool,
    },
    /// Another protocol.
    Switch,
}

/// Why an answer was not given whole.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client is gone.
    #[error(transparent)]
    Client(#[from] Error),
    /// The answer broke off at its source. `unseen`: a client could take it for whole, were the connection just closed.
    #[error("an answer broke off: {detail}")]
    Source {
        /// See above.
        unseen: bool,
        /// Why.
        detail: String,
    },
}

impl<S: Socket + Send + 'static> Connection<S> {
    /// A connection that has been accepted; the head of a request may have so many bytes.
    pub fn new(socket: S, most: usize) -> Self {
        let io = Arc::new(Mutex::new(Io::new(socket)));
        Self { io, most, said: Said::default(), to_head: false, unread: false, fresh: true, stays: true }
    }

    /// The next request. Once `stop` says so, none that has not begun to come.
    pub async fn next(&mut self, stop: impl Fn() -> bool) -> Result<Next, Error> {
        poll_fn(|cx| self.poll_next(&stop, cx)).await
    }

    fn poll_next(&mut self, stop: &impl Fn() -> bool, cx: &mut Context<'_>) -> Poll<Result<Next, Error>> {
        let mut io = self.io.lock();
        let io = &mut *io;
        if !io.decoder.is_over() {
            return Poll::Ready(Ok(Next::End { unread: true }));
        }
        let Some(wire) = &mut io.wire else { return Poll::Ready(Ok(Next::End { unread: false })) };
        loop {
            if std::mem::take(&mut self.unread) && !wire.buffer.is_empty() {
                // RFC 9112 section 2.2 has us read over empty lines before a request.
                while wire.buffer.starts_with(b"\r\n") {
                    wire.advance(2);
                }
                if self.fresh && wire.buffer.starts_with(PREFACE) {
                    return Poll::Ready(Ok(Next::Http2));
                }
                // Should the rest of it be no head, it is answered as what it began to be (RFC 9110 section 9.3.2).
                self.to_head = wire.buffer.starts_with(b"HEAD ");
                let may_be_preface = self.fresh && PREFACE.starts_with(&wire.buffer);
                let found = if may_be_preface { None } else { parse::request(&mut wire.buffer)? };
                if found.as_ref().map_or(wire.buffer.len(), |(_, _, length)| *length) > self.most {
                    let head = found.as_ref().and_then(|(head, ..)| head.origin.as_ref()).map_or(&wire.buffer[..], Origin::head);
                    return Poll::Ready(Err(too_large(head, self.most).into()));
                }
                if let Some((head, said, _)) = found {
                    wire.release();
                    self.fresh = false;
                    self.said = said;
                    self.to_head = head.method == Method::HEAD;
                    self.stays = said.stays();
                    let is_more = !wire.buffer.is_empty();
                    io.begin(&said);
                    // Whoever reads the body may read on into the next request, and leaves it there.
                    self.unread = is_more || !io.decoder.is_over();
                    return Poll::Ready(Ok(Next::Request(self.request(head, io.decoder))));
                }
            }
            if stop() && wire.buffer.is_empty() {
                return Poll::Ready(Ok(Next::End { unread: false }));
            }
            let before = wire.buffer.len();
            if ready!(wire.poll_read(cx))? == 0 {
                return Poll::Ready(if before == 0 { Ok(Next::End { unread: false }) } else { Err(Error::Ended) });
            }
            // A head is looked at when it begins and whenever a line of it has ended; it costs who sends it byte by byte more than us.
            self.unread = before == 0 || wire.buffer.len() > self.most || memchr::memchr(b'\n', &wire.buffer[before..]).is_some();
        }
    }

    fn request(&self, mut head: Box<RequestHead>, decoder: Decoder) -> RequestOf<Incoming> {
        // RFC 9110 section 15.2: not in HTTP/1.0.
        if !self.said.is_old() {
            head.origin = head.origin.take().map(|origin| origin.heard_by(self.io.clone()));
        }
        let body = if decoder.is_over() { Incoming::none() } else { Incoming::on(self.io.clone(), decoder) };
        RequestOf::new(head, body)
    }

    /// Gives the answer to the request that came last, when `handling` has it. It is dropped when the client goes away before.
    pub async fn answer<B>(&mut self, mut handling: impl Future<Output = ResponseOf<B>> + Unpin) -> Result<Then, Broken>
    where
        B: Piped<Error: std::fmt::Display>,
    {
        let answer = poll_fn(|cx| match Pin::new(&mut handling).poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => self.poll_meanwhile(cx).map(Err),
        });
        let answer = answer.await?;
        let switches = answer.head.status == StatusCode::SWITCHING_PROTOCOLS;
        let mut sending = self.begin(answer).map_err(Error::from)?;
        poll_fn(|cx| self.poll_send(&mut sending, cx)).await?;
        drop(sending);
        if switches {
            return Ok(Then::Switch);
        }
        let mut io = self.io.lock();
        io.drain();
        let unread = !io.decoder.is_over();
        Ok(match unread && io.held {
            _ if !self.stays => Then::End { unread },
            true => Then::Rest,
            false if unread => Then::End { unread },
            false => Then::Request,
        })
    }

    /// Waits until nobody reads the body of the request any more that has been answered.
    pub async fn rest(&mut self) {
        poll_fn(|cx| {
            let mut io = self.io.lock();
            if !io.held {
                return Poll::Ready(());
            }
            io.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// While an answer is waited for: interim ones are written, and whether the client is gone is looked at where nothing else reads.
    fn poll_meanwhile(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let mut io = self.io.lock();
        let io = &mut *io;
        let Some(wire) = &mut io.wire else { return Poll::Ready(Error::Ended) };
        if let Poll::Ready(Err(error)) = wire.poll_flush(cx) {
            return Poll::Ready(error.into());
        }
        if io.decoder.is_over() && wire.buffer.is_empty() {
            match ready!(wire.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Error::Ended),
                Ok(_) => self.unread = true,
                Err(error) => return Poll::Ready(error.into()),
            }
        }
        Poll::Pending
    }

    /// Puts out the head of an answer.
    fn begin<B: Piped>(&mut self, answer: ResponseOf<B>) -> io::Result<Sending<B>> {
        let mut io = self.io.lock();
        io.answered = true;
        io.drain();
        let unread = !io.decoder.is_over() && !io.held;
        let Some(wire) = &mut io.wire else { return Err(io::ErrorKind::NotConnected.into()) };
        let out = &mut wire.out.text;
        let ResponseOf { mut head, body } = answer;
        if !self.said.trailers || self.said.is_old() {
            // They are not sent on.
            head.announce_none();
        }
        let told = write::response(&head, out);
        let encoder = self.framing(&head, &body, &told, out);
        self.stays &= !unread && !told.closes && encoder != Encoder::Close;
        match (self.stays, self.said.is_old()) {
            (false, _) if !told.closes && head.status != StatusCode::SWITCHING_PROTOCOLS => {
                out.extend_from_slice(b"Connection: close\r\n");
            }
            (true, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            _ => {}
        }
        if !told.dated {
            write::date(out);
        }
        out.extend_from_slice(b"\r\n");
        spare::give_answer(head);
        Ok(Sending::new(body, encoder))
    }

    /// Writes how the body of an answer is framed (RFC 9112 section 6).
    fn framing<B: Body>(&self, head: &AnswerHead, body: &B, told: &Told<'_>, out: &mut Vec<u8>) -> Encoder {
        let (said, status) = (told.length(), head.status);
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            return Encoder::Over;
        }
        if self.to_head || status == StatusCode::NOT_MODIFIED {
            // The length of what would have come, where somebody knows.
            let of_body = body.size_hint().exact().filter(|_| self.to_head && !body.is_end_stream());
            if let Some(length) = said.or(of_body) {
                told.write_length(length, out);
            }
            return Encoder::Over;
        }
        if let Some(length) = said.or_else(|| body.size_hint().exact()) {
            told.write_length(length, out);
            return Encoder::of(length);
        }
        if self.said.is_old() {
            return Encoder::Close;
        }
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        Encoder::Chunks { trailers: self.said.trailers }
    }

    fn poll_send<B>(&mut self, sending: &mut Sending<B>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>
    where
        B: Piped<Error: std::fmt::Display>,
    {
        let mut turn = 0;
        loop {
            let mut waits = false;
            while !waits && !sending.is_over() {
                let Some(pipes) = self.room() else { break };
                // The body of an answer may be reading that of its request, so that nothing is held here.
                match sending.poll_next(pipes, cx) {
                    Poll::Ready(Ok(Some(framed))) => {
                        turn += framed.len();
                        self.with_wire(|wire| framed.put(&mut wire.out))?;
                    }
                    Poll::Ready(Ok(None)) => {}
                    Poll::Ready(Err(error)) => {
                        let _as_far_as_it_goes = self.with_wire(|wire| wire.poll_flush(cx))?;
                        return Poll::Ready(Err(Broken::Source { unseen: sending.encoder == Encoder::Close, detail: error.to_string() }));
                    }
                    Poll::Pending => waits = true,
                }
            }
            ready!(self.with_wire(|wire| wire.poll_flush(cx))?).map_err(Error::from)?;
            if sending.is_over() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return self.poll_meanwhile(cx).map(|error| Err(error.into()));
            }
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Whether more may be put out, and then, whether a pipe may.
    fn room(&self) -> Option<bool> {
        self.io.lock().wire.as_ref().map_or(Some(false), |wire| wire.out.has_room().then(|| wire.socket.takes_pipes()))
    }

    fn with_wire<T>(&self, with: impl FnOnce(&mut Wire<S>) -> T) -> Result<T, Error> {
        self.io.lock().wire.as_mut().map(with).ok_or(Error::Ended)
    }

    /// Tells the client that what it sends cannot be understood.
    pub async fn refuse(&mut self, answer: &Finished) -> io::Result<()> {
        let flushing = self.with_wire(|wire| match self.to_head {
            true => answer.write_head(&mut wire.out.text),
            false => answer.write(&mut wire.out.text),
        });
        match flushing {
            Ok(()) => poll_fn(|cx| self.with_wire(|wire| wire.poll_flush(cx)).unwrap_or(Poll::Ready(Ok(())))).await,
            Err(_) => Ok(()),
        }
    }

    /// Closes our side of the connection.
    pub async fn shut_down(&mut self) -> io::Result<()> {
        poll_fn(|cx| match &mut self.io.lock().wire {
            Some(wire) => Pin::new(&mut wire.socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Does something to the socket, where it is still there.
    pub fn with_socket(&mut self, with: impl FnOnce(&mut S)) {
        if let Some(wire) = &mut self.io.lock().wire {
            with(&mut wire.socket);
        }
    }

    /// The socket, and what has been read from it and not used; none when it is gone.
    pub fn take(&mut self) -> Option<(S, BytesMut)> {
        self.io.lock().wire.take().map(|wire| (wire.socket, wire.buffer))
    }
}

/// What is too large of a head of more than `most` bytes. RFC 9112 section 3 wants to hear of a target: where a first line that has come as far as that does not end by then.
fn too_large(head: &[u8], most: usize) -> Fault {
    let first = &head[..most.min(head.len())];
    if memchr::memchr(b'\n', first).is_none() && memchr::memchr(b' ', first).is_some() { Fault::TargetTooLong } else { Fault::HeadTooLarge }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.io.lock().end();
    }
}

#[cfg(test)]
mod tests;
