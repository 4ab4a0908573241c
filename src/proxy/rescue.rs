//! Reading a write whole before it is sent, as nginx buffers requests: a slow phone then holds no worker of the backend, and a write whose
//! attempt fails halfway can be rescued whole.

use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::store::{Payload, Store, StoreError};

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
    /// There is no room for it.
    Store(StoreError),
}

/// Reads a body of at most `limit` bytes. With `must_queue`, nothing but the queue is left for it, so that the queue's room is asked as it grows.
pub(super) async fn collect(mut incoming: Incoming, limit: u64, store: &dyn Store, must_queue: bool) -> Result<Whole, Failed> {
    let mut whole = Whole { payload: Payload::from(bytes::Bytes::new()), trailers: None };
    if incoming.is_end_stream() {
        return Ok(whole);
    }
    let mut spool = store.spooler().begin();
    while let Some(frame) = incoming.frame().await {
        match frame.map_err(|_| Failed::Client)?.into_data() {
            Ok(data) => {
                if spool.len() + data.len() as u64 > limit {
                    return Err(Failed::TooLarge(limit));
                }
                if must_queue {
                    store.room(spool.len() + data.len() as u64).map_err(Failed::Store)?;
                }
                spool.push(data).await.map_err(Failed::Store)?;
            }
            Err(frame) => whole.trailers = frame.into_trailers().ok(),
        }
    }
    whole.payload = spool.finish().await.map_err(Failed::Store)?;
    Ok(whole)
}
