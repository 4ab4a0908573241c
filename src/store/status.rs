//! How the store itself is: how much of each limit is used, which of them refuse, and what reaches an age next.

use crate::envelope::Timestamp;

/// Health of the store itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// `Some(why)` while nothing can be accepted.
    pub failing: Option<String>,
    /// Queued and delivering requests, of `max_requests`.
    pub requests: u64,
    /// Their bytes, of `max_bytes`.
    pub bytes: u64,
    /// Free bytes on the file system; `u64::MAX` for an engine without one.
    pub free_disk: u64,
    /// What each limit has refused.
    pub refusals: Refusals,
    /// What reaches an age next.
    pub ages: Ages,
    /// Records set aside since the start because their bytes did not match their checksum, and frames of the journal that were lost.
    pub damaged: u64,
    /// Commits since the start, and requests, settlements and claims that rode in them.
    pub commits: u64,
    /// See `commits`.
    pub committed_operations: u64,
}

/// What the limits on what is new have refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// As many requests as may be held.
    pub max_requests: Refused,
    /// As many bytes as may be held.
    pub max_bytes: Refused,
    /// Too little room on the disk.
    pub min_free_disk: Refused,
}

/// What one limit has refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Requests, since the start.
    pub requests: u64,
    /// Since when it has been refusing; none when it has refused nothing for a while.
    pub since: Option<Timestamp>,
}

/// What becomes of requests by their age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ages {
    /// Queued ones, which are given up (`expired`).
    pub max_age: Age,
    /// Delivered and cancelled ones, whose outcome is forgotten.
    pub keep_delivered: Age,
    /// Dead letters, which are discarded.
    pub keep_dead: Age,
}

/// Requests that reach one of those ages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Age {
    /// All that will, unless something else becomes of them before.
    pub requests: u64,
    /// When the first of them do, to the second below, and how many do within that second.
    pub next: Option<(Timestamp, u64)>,
}
