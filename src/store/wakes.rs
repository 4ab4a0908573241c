//! One bell per backend, rung when something may have become claimable.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Wakes(Mutex<HashMap<Box<str>, Arc<Notify>>>);

impl Wakes {
    /// The bell of `backend`.
    pub(super) fn of(&self, backend: &str) -> Arc<Notify> {
        let mut wakes = self.0.lock();
        if let Some(wake) = wakes.get(backend) {
            return Arc::clone(wake);
        }
        Arc::clone(wakes.entry(backend.into()).or_default())
    }

    /// Rings all.
    pub(super) fn ring_all(&self) {
        self.0.lock().values().for_each(|wake| wake.notify_one());
    }

    /// Rings it; remembered until somebody listens.
    pub(super) fn ring(&self, backend: &str) {
        self.of(backend).notify_one();
    }
}
