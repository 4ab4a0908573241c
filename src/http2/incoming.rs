//! Bodies that come on a stream.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};

use super::pulse::Busy;
use crate::http1::keep_trailing;

/// The body of a message.
pub struct Incoming {
    stream: RecvStream,
    /// What is still to come, where the message says how long it is.
    left: Option<u64>,
    /// The last of a body of known length, until its stream has ended there: what goes on is malformed (RFC 9113 section 8.1.1), and must not look whole before
    /// that is known.
    last: Option<Bytes>,
    /// Its data has ended; trailers may follow.
    no_more_data: bool,
    /// Told when somebody waits for a body that has not begun to come.
    wanted: Option<Arc<dyn Wanted>>,
    /// Of the body of an answer: its request.
    request: Option<Busy>,
}

/// Who is told that a body is waited for.
pub(super) trait Wanted: Send + Sync {
    fn is_wanted(&self);
}

impl Incoming {
    /// The body of a message with these fields.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        // The library has refused a length that is no number, and holds the body to it.
        let left = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, left, last: None, no_more_data: false, wanted: None, request: None }
    }

    /// Tells `wanted` when it is waited for.
    pub(super) fn telling(mut self, wanted: Arc<dyn Wanted>) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// It is the body of the answer to this request. Its server may reset the stream behind it, so that no more of the request is sent (RFC 9113 section 8.1): the
    /// library remembers whether the answer had ended.
    pub(super) fn of_answer(mut self, request: Busy) -> Self {
        self.request = Some(request);
        self
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let polled = self.stream.poll_data(cx);
        let Poll::Ready(data) = polled else {
            if let Some(wanted) = self.wanted.take() {
                wanted.is_wanted();
            }
            return Poll::Pending;
        };
        self.wanted = None;
        if let Some(Ok(data)) = &data {
            if let Some(request) = &self.request {
                request.hears();
            }
            // It is taken, so that as much again may come. What has failed meanwhile is told by the next look.
            let _over = self.stream.flow_control().release_capacity(data.len());
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Poll::Ready(data)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        while !this.no_more_data {
            match ready!(this.poll_data(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(data)) if this.left == Some(0) && !this.stream.is_end_stream() => {
                    // An empty one may follow it.
                    this.last.get_or_insert(data);
                }
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(this.last.take().unwrap_or(data))))),
                None => {
                    this.no_more_data = true;
                    if let Some(last) = this.last.take() {
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                }
            }
        }
        let trailers = match ready!(this.stream.poll_trailers(cx)) {
            Err(error) => return Poll::Ready(Some(Err(error))),
            Ok(trailers) => trailers,
        };
        Poll::Ready(trailers.map(|mut trailers| {
            match this.request {
                Some(_) => super::trim(&mut trailers),
                None if super::is_padded(&trailers) => return Err(Reason::PROTOCOL_ERROR.into()),
                None => {}
            }
            keep_trailing(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let last = self.last.as_ref().map_or(0, |last| last.len() as u64);
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + last))
    }
}
