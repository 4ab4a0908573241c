//! Which requests were at the backend when it went down.
//!
//! A request that kills a backend shows it in one of two ways: it is still there when the breaker trips, or its connection broke a moment
//! before and only what followed made the breaker trip. An attempt sees the first for itself and says so when it is settled. The second is
//! kept here until the request is claimed again; a restart in between forgets it, which costs one more trial.

use std::{collections::VecDeque, time::Duration};

use ahash::AHashMap;
use tokio::time::Instant;

use crate::envelope::RequestId;

/// An attempt without an answer that ended so long before a trip may have caused it: the breaker looks back as far.
const LATELY: Duration = Duration::from_secs(10);
/// Most attempts and requests that are remembered: a bound on memory, far above any window.
const MOST: usize = 10_000;
/// Trips after which a request is replayed alone.
const SUSPECT: u32 = 2;

/// Whether a request that was at the backend during so many trips is to be replayed alone.
pub(super) fn is_suspect(trips: u32) -> bool {
    trips >= SUSPECT
}

/// Whether it is to be given up: the backend went down again while it was alone.
pub(super) fn is_poison(trips: u32) -> bool {
    trips > SUSPECT
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Attempts without an answer, by the time of their end.
    lately: VecDeque<(RequestId, Instant)>,
    /// Trips that the store does not know of yet.
    trips: AHashMap<RequestId, u32>,
}

impl Suspects {
    /// An attempt ended without an answer while the breaker had not tripped.
    pub(super) fn unanswered(&mut self, id: RequestId, ended: Instant, last_trip: Option<Instant>) {
        if last_trip.is_some_and(|trip| ended <= trip) {
            self.count(id);
        } else {
            self.lately.push_back((id, ended));
            if self.lately.len() > MOST {
                self.lately.pop_front();
            }
        }
    }

    /// The breaker has tripped.
    pub(super) fn tripped(&mut self, now: Instant) {
        for (id, ended) in std::mem::take(&mut self.lately) {
            if now.saturating_duration_since(ended) <= LATELY {
                self.count(id);
            }
        }
    }

    /// Takes the trips that the store does not know of.
    pub(super) fn take(&mut self, id: RequestId) -> u32 {
        self.trips.remove(&id).unwrap_or(0)
    }

    fn count(&mut self, id: RequestId) {
        if self.trips.len() < MOST {
            *self.trips.entry(id).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_broke_off_just_before_a_trip_is_counted_for_it_and_what_did_long_before_is_not() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        let (old, new) = (RequestId::new(), RequestId::new());
        suspects.unanswered(old, now, None);
        suspects.unanswered(new, now + secs(5), None);
        suspects.tripped(now + secs(11));
        suspects.tripped(now + secs(12));
        assert_eq!((suspects.take(old), suspects.take(new), suspects.take(new)), (0, 1, 0));
    }

    #[test]
    fn one_that_is_heard_of_only_after_the_trip_is_counted_all_the_same() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        let (before, after) = (RequestId::new(), RequestId::new());
        suspects.tripped(now);
        suspects.unanswered(before, now, Some(now));
        suspects.unanswered(after, now + secs(1), Some(now));
        assert_eq!((suspects.take(before), suspects.take(after)), (1, 0));
    }

    #[test]
    fn two_trips_make_a_suspect_and_a_third_one_a_poison() {
        assert_eq!([0, 1, 2, 3].map(is_suspect), [false, false, true, true]);
        assert_eq!([0, 1, 2, 3].map(is_poison), [false, false, false, true]);
    }
}
