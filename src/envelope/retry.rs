//! When to try again, and how often.

use std::time::Duration;

use super::Timestamp;

/// What a request's attempts may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts that count, the first included.
    pub max_attempts: u32,
    /// When it is given up in any case.
    pub expires_at: Timestamp,
}

/// What a failed attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this moment.
    At(Timestamp),
    /// No more attempts left.
    Exhausted,
    /// Too old.
    Expired,
}

/// Delay before the next attempt after `failures` (at least 1) failed ones: full jitter, U(0, min(300 s, 1 s * 2^failures)), at least
/// 500 ms. `unit` is a random number in 0..1. (Exponential Backoff And Jitter, M. Brooker, AWS Architecture Blog, 2015.)
pub fn backoff(_failures: u32, _unit: f64) -> Duration {
    todo!()
}

/// What follows after `counted` attempts that count have failed, at `now`; `not_before` is the backend's own `Retry-After`.
pub fn next(_policy: Policy, _counted: u32, _now: Timestamp, _not_before: Option<Timestamp>, _unit: f64) -> Next {
    todo!()
}
