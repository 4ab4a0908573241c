//! The body of a client's request, in whichever version of HTTP it comes.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{runtime::Handle, time::timeout};

use super::BodyError;
use crate::{
    http1::{Part, Pipe, Piped, server},
    http2,
};

/// How long what a client of HTTP/2 still sends is read and thrown away after it has been answered.
const LINGER: Duration = Duration::from_secs(5);

/// A body of HTTP/2. Who is answered before all of it has come may take the reset that would end it at once for the loss of the answer (RFC 9113 section 8.1 has
/// it that it must not, and clients do): the rest is read for a while, as on a connection of HTTP/1.1.
#[derive(Debug)]
pub struct Unread(Option<http2::Incoming>);

impl From<http2::Incoming> for Incoming {
    fn from(body: http2::Incoming) -> Self {
        Self::Http2(Unread(Some(body)))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = Handle::try_current() {
            let read = async move { while let Some(Ok(_)) = body.frame().await {} };
            runtime.spawn(timeout(LINGER, read));
        }
    }
}

/// The body of a client's request as it comes.
#[derive(Debug)]
pub enum Incoming {
    /// By HTTP/1.1.
    Http1(server::Incoming),
    /// By HTTP/2.
    Http2(Unread),
}

impl Incoming {
    /// The next part of it. What of it can be is read into `place`, which must have room for all that is still to come of it.
    pub fn poll_place(&mut self, place: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match self {
            Self::Http1(body) => body.poll_place(place, cx).map_err(|error| BodyError::Client(error.into())),
            Self::Http2(_) => Pin::new(self).poll_frame(cx).map_ok(Part::Frame),
        }
    }
}

impl Piped for Incoming {
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, BodyError>>> {
        match self {
            Self::Http1(body) => body.poll_pipe(cx).map_err(|error| BodyError::Client(error.into())),
            Self::Http2(_) => Poll::Ready(None),
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(|error| BodyError::Client(error.into())),
            Self::Http2(body) => match &mut body.0 {
                Some(body) => Pin::new(body).poll_frame(cx).map_err(|error| BodyError::Client(error.into())),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.0.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.0.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint),
        }
    }
}
