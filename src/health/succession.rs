//! One backend's health after a reload has changed what it is made of: what is under way goes on, and holds its seats.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Health, Settings};

impl Health {
    /// One that takes the place of another, with other servers or another check. It has the same gate, so that the backend never has more than its limit; what
    /// the one before still hears of changes its own state and no seats.
    pub fn after(before: &Self, settings: Settings, servers: usize, room: usize) -> Arc<Self> {
        let policy = before.policy.lock();
        before.succeeded.store(true, Relaxed);
        before.shares.lock().clear();
        drop(policy);
        let health = Self::made(before.name.clone(), settings, (servers, room), before.random, before.gate.clone());
        let policy = health.policy.lock();
        health.set_gate();
        drop(policy);
        health
    }
}
