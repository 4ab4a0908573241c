//! The seam between replay and the wire: what is sent, what comes back, and who carries it.
//!
//! The program's courier is a `Backend` with idle connections of replay's own; a test's is a script.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{
    Stream,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{
    backend::SendError,
    store::{Payload, PayloadReader, StoreError},
};

/// A backend's answer and the index of the server that gave it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<AnswerBody>,
    pub(super) server: usize,
}

/// The body of an answer; why it broke off does not matter, since its head has said what became of the request.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, ()>;

/// Carries requests to one backend.
pub(super) trait Courier: Send + Sync {
    /// Sends a request and waits for the head of its answer.
    fn send(&self, request: Request<Outgoing>) -> BoxFuture<'_, Result<Answered, SendError>>;

    /// Lets go of what has been idle for too long. Called every few seconds.
    fn sweep(&self);
}

/// A body on its way out.
pub(super) enum Outgoing {
    /// All of it is in memory, and it has no trailers.
    Memory(Bytes),
    /// It is read as it is sent.
    Stored(StoredBody),
}

impl Outgoing {
    /// The body `payload` with these trailers. What keeps it from being read is put into `failure`, for him who sees only that sending failed.
    pub(super) fn new(payload: &Payload, trailers: HeaderMap, failure: Arc<OnceLock<StoreError>>) -> Self {
        match payload.as_memory() {
            Some(bytes) if trailers.is_empty() => Self::Memory(bytes.clone()),
            _ => Self::Stored(StoredBody::new(payload, trailers, failure)),
        }
    }
}

/// A body that is read from the store as it is sent, and its trailers.
pub(super) struct StoredBody {
    frames: BoxStream<'static, io::Result<Frame<Bytes>>>,
    /// Bytes to come; none when trailers follow, since those demand chunks (RFC 9112 section 7.1.2).
    left: Option<u64>,
}

struct Reading {
    reader: PayloadReader,
    trailers: Option<HeaderMap>,
    failure: Arc<OnceLock<StoreError>>,
}

impl StoredBody {
    fn new(payload: &Payload, trailers: HeaderMap, failure: Arc<OnceLock<StoreError>>) -> Self {
        let left = trailers.is_empty().then_some(payload.len());
        let reading = Reading { reader: payload.reader(), trailers: (!trailers.is_empty()).then_some(trailers), failure };
        Self { frames: Box::pin(stream::unfold(reading, Reading::next)), left }
    }
}

impl Reading {
    async fn next(mut self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        let frame = match self.reader.next().await {
            Some(Ok(bytes)) => Ok(Frame::data(bytes)),
            Some(Err(error)) => {
                // Set at most once: nothing is read after an error.
                let _ = self.failure.set(error.clone());
                self.trailers = None;
                Err(io::Error::other(error))
            }
            None => Ok(Frame::trailers(self.trailers.take()?)),
        };
        Some((frame, self))
    }
}

impl Body for StoredBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.frames).poll_next(cx));
        if let (Some(left), Some(Ok(frame))) = (&mut self.left, &frame) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
