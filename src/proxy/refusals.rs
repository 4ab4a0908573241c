//! Connections that are turned away: each is counted, and the log hears of them once a second at most, since who floods us must not flood the log.

use std::{fmt::Display, net::SocketAddr, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::telemetry::{ClientMetrics, Refusal};

/// Time between two lines about one kind of refusal.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: ClientMetrics,
    /// By kind: when the last line was written, and how many refusals there have been since.
    told: Mutex<[(Option<Instant>, u64); Refusal::ALL.len()]>,
}

impl Refusals {
    pub(super) fn new(metrics: ClientMetrics) -> Self {
        Self { metrics, told: Mutex::default() }
    }

    /// A connection is turned away.
    pub(super) fn note(&self, reason: Refusal, peer: Option<SocketAddr>, why: &dyn Display) {
        self.metrics.refused(reason);
        let Some(silent) = self.is_due(reason, Instant::now()) else { return };
        let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        tracing::warn!(reason = reason.as_str(), peer, not_logged = silent, "a connection was turned away: {why}");
    }

    /// Whether a line is due, and about how many refusals there was none since the last one.
    fn is_due(&self, reason: Refusal, now: Instant) -> Option<u64> {
        let (last, silent) = &mut self.told.lock()[reason as usize];
        if last.is_some_and(|last| now < last + PAUSE) {
            *silent += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_flood_of_refusals_is_counted_and_logged_once_a_second() {
        let metrics = Metrics::new().clients();
        let refusals = Refusals::new(metrics.clone());
        let begin = Instant::now();
        let due = |why, millis| refusals.is_due(why, begin + Duration::from_millis(millis));
        assert_eq!(due(Refusal::ProxyProtocol, 0), Some(0));
        assert_eq!(due(Refusal::ProxyProtocol, 1), None);
        assert_eq!(due(Refusal::Full, 2), Some(0), "each kind for itself");
        assert_eq!(due(Refusal::ProxyProtocol, 999), None);
        assert_eq!(due(Refusal::ProxyProtocol, 1000), Some(2));
        for _ in 0..3 {
            refusals.note(Refusal::Full, None, &"full");
        }
        assert_eq!((metrics.refusals(Refusal::Full), metrics.refusals(Refusal::ProxyProtocol)), (3, 0));
    }
}
