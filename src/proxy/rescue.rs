//! Reading a write whole before it is sent, as nginx buffers requests: a slow phone then holds no worker of the backend, and a write whose
//! attempt fails halfway can be rescued whole.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::timeout;

use crate::{
    backend::{BodyError, Floor, Incoming, Meter, came},
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
    while let Some(frame) = next(&mut incoming, limits.stall, meter.as_mut()).await? {
        match frame.map_err(|_| Failed::Client)?.into_data() {
            Ok(data) => {
                if spool.len() + data.len() as u64 > limits.bytes {
                    return Err(Failed::TooLarge(limits.bytes));
                }
                if must_queue {
                    store.room(spool.len() + data.len() as u64, spool.written()).map_err(Failed::Store)?;
                }
                spool.push(data).await.map_err(Failed::Store)?;
            }
            Err(frame) => whole.trailers = frame.into_trailers().ok(),
        }
    }
    whole.payload = spool.finish().await.map_err(Failed::Store)?;
    Ok(whole)
}

/// The next frame. What has come already, as most small bodies have with their head, needs no timer, and no room for one.
async fn next(
    incoming: &mut Incoming,
    stall: Duration,
    mut meter: Option<&mut Meter>,
) -> Result<Option<Result<Frame<Bytes>, BodyError>>, Failed> {
    let mut frame = poll_fn(|cx| {
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        if meter.as_mut().is_some_and(|meter| meter.is_too_slow(cx, came(&polled))) {
            return Poll::Ready(Err(Failed::Stalled));
        }
        polled.map(Ok)
    });
    if let Some(come) = (&mut frame).now_or_never() {
        return come;
    }
    Box::pin(timeout(stall, frame)).await.map_err(|_| Failed::Stalled)?
}
