//! What a connection of a client shares with the body of the request that came on it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::http1::{
    AnswerHead, Error, Interim, Part, Pipe, Piped, Socket,
    decode::{Decoded, Decoder},
    parse::Said,
    pipe::LONG,
    wire::Wire,
    write,
};

/// Bytes of interim answers that one request may bring its client.
const MOST_INTERIM: usize = 64 * 1024;

/// What is shared with the body of a request.
#[derive(Debug)]
pub(super) struct Io<S> {
    /// None once the connection is over.
    pub(super) wire: Option<Wire<S>>,
    /// Where the body of the request is.
    pub(super) decoder: Decoder,
    /// Somebody may still read it.
    pub(super) held: bool,
    /// The client waits for a 100 before it sends it.
    expects: bool,
    /// A part of it has come in a pipe.
    piped: bool,
    pub(super) answered: bool,
    /// Bytes of interim answers so far.
    told: usize,
    /// Who reads the body, and who waits for its end.
    reader: Option<Waker>,
    pub(super) waiter: Option<Waker>,
}

/// The body of a request.
pub struct Incoming {
    /// None: there is no body, or it is over.
    source: Option<Arc<dyn Source>>,
    left: Option<u64>,
}

impl Incoming {
    /// Where there is no body.
    pub(super) fn none() -> Self {
        Self { source: None, left: Some(0) }
    }

    /// The next part of it. What of it can be is read into `place`, which must have room for all that is [still to come](Body::size_hint) of it.
    pub fn poll_place(&mut self, place: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        self.poll_source(|source| source.poll_place(place, cx))
    }

    fn poll_source<T>(&mut self, poll: impl FnOnce(&dyn Source) -> (Polled<T>, Decoder)) -> Polled<T> {
        let Some(source) = &self.source else { return Poll::Ready(None) };
        let (polled, decoder) = poll(&**source);
        self.left = decoder.left();
        if decoder.is_over()
            && let Some(source) = self.source.take()
        {
            source.let_go();
        }
        polled
    }

    /// The body that `decoder` finds on a connection.
    pub(super) fn on<S: Socket + Send + 'static>(io: Arc<Mutex<Io<S>>>, decoder: Decoder) -> Self {
        Self { source: Some(io), left: decoder.left() }
    }
}

type Polled<T> = Poll<Option<Result<T, Error>>>;

trait Source: Send + Sync {
    fn poll_frame(&self, cx: &mut Context<'_>) -> (Polled<Frame<Bytes>>, Decoder);
    fn poll_place(&self, place: &mut BytesMut, cx: &mut Context<'_>) -> (Polled<Part>, Decoder);
    fn poll_pipe(&self, cx: &mut Context<'_>) -> (Polled<Pipe>, Decoder);
    fn let_go(&self);
}

impl<S: Socket> Io<S> {
    /// One of a connection that has just begun.
    pub(super) fn new(socket: S) -> Self {
        Self {
            wire: Some(Wire::new(socket)),
            decoder: Decoder::Over,
            held: false,
            expects: false,
            piped: false,
            answered: false,
            told: 0,
            reader: None,
            waiter: None,
        }
    }

    /// A request has come.
    pub(super) fn begin(&mut self, said: &Said) {
        self.decoder = if said.chunked { Decoder::Size } else { Decoder::of(said.length.unwrap_or(0)) };
        self.held = !self.decoder.is_over();
        self.expects = said.expects && self.held;
        self.piped = false;
        self.answered = false;
        self.told = 0;
    }

    /// Reads over what has come of a body that nobody wants.
    pub(super) fn drain(&mut self) {
        if self.held || self.expects {
            return;
        }
        if let Some(wire) = &mut self.wire {
            while let Ok(Decoded::Data(_) | Decoded::Trailers(_)) = self.decoder.decode(&mut wire.buffer) {}
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled<Frame<Bytes>> {
        loop {
            let Some(wire) = &mut self.wire else { return Poll::Ready(Some(Err(Error::Ended))) };
            match self.decoder.decode(&mut wire.buffer)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Decoded::Over => return Poll::Ready(None),
                Decoded::More => {}
            }
            if std::mem::take(&mut self.expects) && wire.buffer.is_empty() && !self.answered {
                // Who serves the connection writes it.
                wire.out.text.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let Poll::Ready(read) = wire.poll_read_body(self.decoder.left(), cx) else {
                self.is_read_by(cx);
                return Poll::Pending;
            };
            if read? == 0 {
                return Poll::Ready(Some(Err(Error::Ended)));
            }
        }
    }

    /// Reads into `place` what has come of a body whose length is known.
    fn poll_place(&mut self, place: &mut BytesMut, cx: &mut Context<'_>) -> Polled<Part> {
        let (Some(wire), Decoder::Length(left), false) = (&mut self.wire, self.decoder, self.expects) else {
            return self.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(Part::Frame)));
        };
        let Poll::Ready(placed) = wire.poll_place(left, place, cx) else {
            self.is_read_by(cx);
            return Poll::Pending;
        };
        let placed = placed?;
        if placed == 0 {
            return Poll::Ready(Some(Err(Error::Ended)));
        }
        self.decoder.pass(placed);
        Poll::Ready(Some(Ok(Part::Placed(placed))))
    }

    /// What has come of a long body, in a pipe; none where it has to be read.
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Polled<Pipe> {
        let (Some(wire), Decoder::Length(left), false) = (&mut self.wire, self.decoder, self.expects) else { return Poll::Ready(None) };
        if left < LONG && !self.piped {
            return Poll::Ready(None);
        }
        let Poll::Ready(pipe) = wire.poll_pipe(left, cx) else {
            self.is_read_by(cx);
            return Poll::Pending;
        };
        let Some(pipe) = pipe? else { return Poll::Ready(None) };
        self.piped = true;
        self.decoder.pass(pipe.len());
        Poll::Ready(Some(Ok(pipe)))
    }

    /// Who is to be woken when the connection is over.
    fn is_read_by(&mut self, cx: &Context<'_>) {
        if self.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
    }
}

impl<S> Io<S> {
    /// The connection is over, whoever still reads from it.
    pub(super) fn end(&mut self) {
        self.wire = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl<S: Socket + Send> Source for Mutex<Io<S>> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> (Polled<Frame<Bytes>>, Decoder) {
        let mut io = self.lock();
        (io.poll_frame(cx), io.decoder)
    }

    fn poll_place(&self, place: &mut BytesMut, cx: &mut Context<'_>) -> (Polled<Part>, Decoder) {
        let mut io = self.lock();
        (io.poll_place(place, cx), io.decoder)
    }

    fn poll_pipe(&self, cx: &mut Context<'_>) -> (Polled<Pipe>, Decoder) {
        let mut io = self.lock();
        (io.poll_pipe(cx), io.decoder)
    }

    fn let_go(&self) {
        let mut io = self.lock();
        io.held = false;
        io.reader = None;
        if let Some(waiter) = io.waiter.take() {
            waiter.wake();
        }
    }
}

impl<S: Socket + Send> Interim for Mutex<Io<S>> {
    fn interim(&self, answer: &mut AnswerHead) {
        let mut io = self.lock();
        let io = &mut *io;
        let Some(wire) = &mut io.wire else { return };
        if io.answered || io.told > MOST_INTERIM {
            return;
        }
        let before = wire.out.text.len();
        write::response(answer, &mut wire.out.text);
        wire.out.text.extend_from_slice(b"\r\n");
        io.told += wire.out.text.len() - before;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.let_go();
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.poll_source(|source| source.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Piped for Incoming {
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, Error>>> {
        self.poll_source(|source| source.poll_pipe(cx))
    }
}
