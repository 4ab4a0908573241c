//! A route that may take only a part of a backend's seats: its gate follows the backend's limit.

use std::sync::Arc;

use super::{Gate, Health};

/// A route's gate and its part.
#[derive(Debug)]
pub(super) struct Share {
    gate: Arc<Gate>,
    part: f64,
    at_most: Option<u32>,
}

impl Share {
    /// The backend has so many seats now.
    pub(super) fn apply(&self, limit: u32) {
        let part = (f64::from(limit) * self.part) as u32;
        self.gate.set_limit(part.min(self.at_most.unwrap_or(u32::MAX)).max(1));
    }
}

impl Health {
    /// Lets these gates have no more than their part of the seats each (in 0..=1, at least one seat), and no more than their own number where
    /// they have one. In place of all that were given before.
    pub fn set_shares(&self, shares: impl IntoIterator<Item = (Arc<Gate>, f64, Option<u32>)>) {
        let shares: Vec<Share> = shares.into_iter().map(|(gate, part, at_most)| Share { gate, part, at_most }).collect();
        let policy = self.policy.lock();
        let mut own = self.shares.lock();
        *own = shares;
        let limit = self.load.limit();
        own.iter().for_each(|share| share.apply(limit));
        drop(own);
        drop(policy);
    }
}
