//! What a connection of a client shares with the body of the request that came on it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::http1::{
    AnswerHead, Error, Interim, Socket,
    decode::{Decoded, Decoder},
    parse::Said,
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

    /// The body that `decoder` finds on a connection.
    pub(super) fn on<S: Socket + Send + 'static>(io: Arc<Mutex<Io<S>>>, decoder: Decoder) -> Self {
        Self { source: Some(io), left: decoder.left() }
    }
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, Error>>>;

trait Source: Send + Sync {
    fn poll_frame(&self, cx: &mut Context<'_>) -> (PolledFrame, Decoder);
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

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
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
                if self.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                    self.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            if read? == 0 {
                return Poll::Ready(Some(Err(Error::Ended)));
            }
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
    fn poll_frame(&self, cx: &mut Context<'_>) -> (PolledFrame, Decoder) {
        let mut io = self.lock();
        (io.poll_frame(cx), io.decoder)
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
        write::response(answer, Version::HTTP_11, &mut wire.out.text);
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
        let Some(source) = &self.source else { return Poll::Ready(None) };
        let (polled, decoder) = source.poll_frame(cx);
        self.left = decoder.left();
        if decoder.is_over()
            && let Some(source) = self.source.take()
        {
            source.let_go();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
