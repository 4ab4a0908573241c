//! Reading a write whole before it is sent, as nginx buffers requests: a slow phone then holds no worker of the backend, and a write whose
//! attempt fails halfway can be rescued whole.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout;

use crate::{
    backend::{BodyError, Floor, Incoming, Meter, came},
    http1::Part,
    store::{Payload, Store, StoreError},
};

/// A body that has arrived whole.
pub(super) struct Whole {
    pub(super) payload: Payload,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why there is no whole body.
#[derive(Debug)]
pub(super) enum Failed {
    /// It passed the limit, in bytes.
    TooLarge(u64),
    /// The client hung up or sent garbage: what was not whole is not queued.
    Client,
    /// Nothing more came for too long, or too little.
    Stalled,
    /// There is no room for it.
    Store(StoreError),
}

/// How a body is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes that it may have.
    pub(super) bytes: u64,
    /// Time in which something more of it must come.
    pub(super) stall: Duration,
    /// The least of it that must come in a time.
    pub(super) floor: Option<Floor>,
}

/// Reads a body. With `must_queue`, nothing but the queue is left for it, so that the queue's room is asked as it grows.
pub(super) async fn collect(mut incoming: Incoming, limits: Limits, store: &dyn Store, must_queue: bool) -> Result<Whole, Failed> {
    let mut whole = Whole { payload: Payload::from(Bytes::new()), trailers: None };
    if incoming.is_end_stream() {
        return Ok(whole);
    }
    let mut meter = limits.floor.map(Meter::new);
    let mut spool = store.spooler().begin(incoming.size_hint().exact());
    while let Some(part) = next(&mut incoming, spool.place(), limits.stall, meter.as_mut()).await? {
        let part = part.map_err(|_| Failed::Client)?;
        let length = spool.len() + part.bytes() as u64;
        if length > limits.bytes {
            return Err(Failed::TooLarge(limits.bytes));
        }
        if must_queue {
            store.room(length, spool.written()).map_err(Failed::Store)?;
        }
        match part {
            Part::Placed(_) => spool.placed(),
            Part::Frame(frame) => match frame.into_data() {
                Ok(data) => spool.push(data).await.map_err(Failed::Store)?,
                Err(frame) => whole.trailers = frame.into_trailers().ok(),
            },
        }
    }
    whole.payload = spool.finish().await.map_err(Failed::Store)?;
    Ok(whole)
}

/// The next part. What has come already, as most small bodies have with their head, needs no timer, and no room for one.
async fn next(
    incoming: &mut Incoming,
    mut place: Option<&mut BytesMut>,
    stall: Duration,
    mut meter: Option<&mut Meter>,
) -> Result<Option<Result<Part, BodyError>>, Failed> {
    let mut part = poll_fn(|cx| {
        let polled = match &mut place {
            Some(place) => incoming.poll_place(place, cx),
            None => Pin::new(&mut *incoming).poll_frame(cx).map_ok(Part::Frame),
        };
        if meter.as_mut().is_some_and(|meter| meter.is_too_slow(cx, came(&polled, Part::bytes))) {
            return Poll::Ready(Err(Failed::Stalled));
        }
        polled.map(Ok)
    });
    if let Some(come) = (&mut part).now_or_never() {
        return come;
    }
    Box::pin(timeout(stall, part)).await.map_err(|_| Failed::Stalled)?
}
