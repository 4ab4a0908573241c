//! Rounds of probes, as the task that asks the servers sees them: when one is due, whom to ask, and what came of it.

use std::time::Duration;

use super::Health;

/// Whom to ask, and how long.
pub(super) struct Round {
    pub(super) servers: Vec<usize>,
    pub(super) timeout: Option<Duration>,
}

impl Health {
    /// Resolves when a round of probes is due or the weights are to be raised; never while neither is in sight.
    pub(super) async fn round_is_due(&self) {
        loop {
            let next = self.policy.lock().next_wake(self.now());
            let rescheduled = self.rescheduled.notified();
            match next {
                None => rescheduled.await,
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.start + at) => return,
                        () = rescheduled => {}
                    }
                }
            }
        }
    }

    /// The round that is due now, if one is.
    pub(super) fn start_round(&self) -> Option<Round> {
        let now = self.now();
        let mut policy = self.policy.lock();
        self.set_weights(&policy, now);
        let servers = policy.start_round(now)?;
        Some(Round { servers, timeout: policy.check().map(|check| check.timeout) })
    }

    pub(super) fn resume_rounds(&self) {
        self.policy.lock().resume(self.now(), (self.random)());
    }

    pub(super) fn probed(&self, server: usize, passed: bool) {
        self.change(|policy, now, random| policy.probed(server, passed, now, random));
    }

    pub(super) fn end_round(&self) {
        self.policy.lock().end_round(self.now(), (self.random)());
    }
}
