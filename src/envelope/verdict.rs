//! What the outcome of an attempt means, for a live write and for a replayed one.
//!
//! One table, `Class`, and two readings of it. The table is that of the project's overload rules; statuses are those of RFC 9110
//! section 15 and RFC 6585.

use std::time::Duration;

use http::StatusCode;

use super::DeadReason;

/// What is known after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Not one byte of it was taken by the backend: refused, connect timeout, no name, no TLS, or handed back by the client library.
    NotSent,
    /// Some of it was sent, then a timeout, a reset, or an answer that cannot be read.
    NoAnswer,
    /// The backend answered.
    Answer {
        /// Its status.
        status: StatusCode,
        /// It redirects to something that looks like a login page.
        to_login: bool,
    },
}

/// The classes of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The backend certainly did not see it.
    NotSent,
    /// The backend said: not now (429, 503).
    Rejected,
    /// A passing condition of this request alone (408, 423, 425).
    Transient,
    /// It may have been executed (timeout or reset after bytes were sent; 500, 502, 504).
    Ambiguous,
    /// Done (2xx, 3xx).
    Delivered,
    /// No (other 4xx, 501, 505).
    Refused,
}

/// What becomes of a live write on a spill route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// The client gets the backend's answer, or our own 502 or 504 where there is none.
    PassOn,
    /// It is queued, and the client gets the 202.
    Spill,
}

/// What becomes of a replayed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// Done.
    Delivered,
    /// Try again later.
    Again {
        /// Whether this attempt counts against `max_attempts`.
        consumes_attempt: bool,
        /// Whether the backend as a whole is to be left alone: it said so itself.
        pauses_backend: bool,
    },
    /// Give it up.
    Dead(DeadReason),
}

/// Longest pause that a backend's `Retry-After` is granted.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The class of an outcome.
pub fn classify(_evidence: Evidence) -> Class {
    todo!()
}

/// What becomes of a live write: `may_be_resent` as its route and method say, `backend_failing` when the breaker holds that the
/// backend fails as a whole (only then is a 500 not the application's own answer).
pub fn live(_evidence: Evidence, _may_be_resent: bool, _backend_failing: bool) -> Live {
    todo!()
}

/// What becomes of a replayed request.
pub fn replayed(_evidence: Evidence, _may_be_resent: bool) -> Replayed {
    todo!()
}
