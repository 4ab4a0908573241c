//! Bodies that go out on a stream, no faster than the other side takes them.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

/// A body on its way.
pub(super) struct Outgoing<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// What waits until the other side takes more, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

/// Why a body did not go out whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken<E> {
    /// The other side has reset the stream, or the connection is over.
    #[error("the stream is over: {0}")]
    Stream(#[from] h2::Error),
    /// The body itself broke off.
    #[error(transparent)]
    Body(E),
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    pub(super) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: None }
    }

    /// The body, of which some has been read.
    pub(super) fn into_body(self) -> B {
        self.body
    }

    /// Goes on until all of it is with the library, or cannot be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        loop {
            // Also so that a reset wakes who waits for the body.
            if let Poll::Ready(reason) = self.stream.poll_reset(cx)? {
                return Poll::Ready(Err(h2::Error::from(reason).into()));
            }
            if self.waiting.is_some() {
                ready!(self.poll_room(cx))?;
            }
            if let Some((mut data, is_last)) = self.waiting.take() {
                // The library keeps nothing that the other side does not take: who is done has been taken.
                let room = self.stream.capacity();
                if room < data.len() {
                    self.stream.send_data(data.split_to(room), false)?;
                    self.waiting = Some((data, is_last));
                    continue;
                }
                self.stream.send_data(data, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                self.stream.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(()));
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    self.waiting = Some((data, self.body.is_end_stream()));
                }
                Ok(Err(frame)) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        self.stream.send_trailers(trailers)?;
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(error) => {
                    self.stream.send_reset(reason_of(&error));
                    return Poll::Ready(Err(Broken::Body(error)));
                }
            }
        }
    }

    /// Waits until the other side takes some of what waits.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let length = self.waiting.as_ref().map_or(0, |(data, _)| data.len());
        if length > 0 {
            // Only now: what is set aside for a body that does not come is missing to the other streams of the connection.
            self.stream.reserve_capacity(length);
        }
        while length > 0 && self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What the other side is told of a body that broke off: the reason that its own source gave, where that speaks HTTP/2 too.
fn reason_of(error: &(dyn Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
