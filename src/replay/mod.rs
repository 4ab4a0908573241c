//! From the queue to the backend: gate, pace, claim, deliver, settle.

mod pace;

use std::num::NonZeroU32;

/// How a backend's queue is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Ceiling on attempts started, in requests per `per`; none for no ceiling.
    pub rate: Option<Rate>,
    /// Replayed requests at the backend at once, at most.
    pub concurrency: u32,
}

/// So many per span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In what time.
    pub per: std::time::Duration,
}
