//! A payload as the body of an HTTP message.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::{Body, Frame, SizeHint};

use super::{Payload, StoreError};

/// A payload that is being sent, piece by piece; its length is known.
pub struct PayloadBody {
    pieces: Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>,
    left: u64,
}

impl Payload {
    /// The payload as a body, from the beginning. Bodies are independent of one another.
    pub fn body(&self) -> PayloadBody {
        let pieces = stream::unfold(self.reader(), |mut reader| async move { reader.next().await.map(|piece| (piece, reader)) });
        PayloadBody { pieces: Box::pin(pieces), left: self.len() }
    }
}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let piece = ready!(self.pieces.as_mut().poll_next(cx));
        if let Some(Ok(piece)) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl std::fmt::Debug for PayloadBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PayloadBody({} bytes left)", self.left)
    }
}
