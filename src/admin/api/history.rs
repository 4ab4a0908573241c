//! The counts of hours.

use serde::{Deserialize, Serialize};

/// What happened in each of the last hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The moment of the look.
    pub at: String,
    /// When the first of the hours that were asked for began.
    pub from: String,
    /// From when on all that happened is in it; later than the oldest request where the store is older than its history.
    pub since: String,
    /// Hours and routes in which anything happened, oldest first, then by backend and route.
    pub hours: Vec<HourCounts>,
}

/// One hour of one route: exact counts of what happened in it. A request that was given up, redriven and given up again is twice in `dead`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourCounts {
    /// When the hour began.
    pub hour: String,
    /// The backend.
    pub backend: String,
    /// The route.
    pub route: String,
    /// Acknowledged.
    pub accepted: u64,
    /// Taken by the backend.
    pub delivered: u64,
    /// Given up.
    pub dead: u64,
    /// Withdrawn.
    pub cancelled: u64,
    /// Dead letters thrown away.
    pub discarded: u64,
}
