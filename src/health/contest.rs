//! Whether reads, and writes that may be queued, compete for a backend's seats. A read without a seat is a failure that somebody sees; a write that may be
//! queued loses nothing. So reads are served first among those who wait (that is the [`gate`](super::gate)'s doing), and for a while after reads have
//! suffered, or a backend has come back, such writes do not wait at all and leave a part of the seats free, as replay does.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How long it lasts after the last sign of it.
const LASTS: Duration = Duration::from_secs(2);

/// Whether a read suffered that waited so long of the longest wait, and then was `refused` or not. Half of the wait: a burst that is over in a few
/// milliseconds is nobody's trouble, and one that waits longer is about to be refused.
fn suffers(waited: Duration, longest: Duration, refused: bool) -> bool {
    refused || 2 * waited >= longest
}

/// Whether it is on at `now`, `last` being the last sign of it.
fn is_on(last: Duration, now: Duration) -> bool {
    now < last + LASTS
}

/// When reads last suffered. Read for each live request: one atomic load while all is well.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// Milliseconds since the start of the backend's health; 0 while it is off.
    last: AtomicU64,
    /// The first of the reads that have suffered in it, and how many they are.
    first: AtomicU64,
    reads: AtomicU32,
}

/// A contest in which reads suffered is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// From the first that suffered to the last sign of it.
    pub(super) lasted: Duration,
    /// How many suffered.
    pub(super) reads: u32,
}

impl Contest {
    /// A read has waited so long, and was `refused` or not. True when it is the first to suffer in this contest.
    pub(super) fn waited(&self, waited: Duration, longest: Duration, refused: bool, now: Duration) -> bool {
        if !suffers(waited, longest, refused) {
            return false;
        }
        self.begin(now);
        let first = self.reads.fetch_add(1, Relaxed) == 0;
        if first {
            self.first.store(super::millis(now), Relaxed);
        }
        first
    }

    /// It is on from now.
    pub(super) fn begin(&self, now: Duration) {
        self.last.fetch_max(super::millis(now).max(1), Relaxed);
    }

    /// Whether it is on; `now` is asked only where it may be. `ended` is told once that it is over, if a read suffered in it.
    pub(super) fn is_on(&self, now: impl FnOnce() -> Duration, ended: impl FnOnce(Ended)) -> bool {
        let last = self.last.load(Relaxed);
        if last == 0 {
            return false;
        }
        let on = is_on(Duration::from_millis(last), now());
        if !on && self.last.compare_exchange(last, 0, Relaxed, Relaxed).is_ok() {
            let reads = self.reads.swap(0, Relaxed);
            let lasted = Duration::from_millis(last.saturating_sub(self.first.load(Relaxed)));
            if reads > 0 {
                ended(Ended { lasted, reads });
            }
        }
        on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(250);

    #[test]
    fn a_read_suffers_that_is_refused_or_waits_for_half_of_the_wait() {
        for (waited, longest, refused, expected) in [
            (Duration::from_millis(124), WAIT, false, false),
            (Duration::from_millis(125), WAIT, false, true),
            (Duration::ZERO, WAIT, true, true),
            (Duration::ZERO, Duration::ZERO, true, true),
        ] {
            assert_eq!(suffers(waited, longest, refused), expected, "{waited:?} of {longest:?}, {refused}");
        }
    }

    #[test]
    fn it_lasts_for_two_seconds_after_the_last_sign_of_it() {
        let at = Duration::from_millis;
        let contest = Contest::default();
        let is_on = |millis| contest.is_on(|| at(millis), |_| ());
        assert!(!is_on(0));
        contest.waited(at(10), WAIT, false, at(1_000));
        assert!(!is_on(1_000));
        contest.waited(WAIT, WAIT, true, at(1_000));
        assert!(is_on(2_999));
        contest.begin(at(2_500));
        contest.begin(at(2_000));
        assert!(is_on(4_499) && !is_on(4_500));
    }

    #[test]
    fn its_first_read_and_its_end_are_told_once_with_what_it_was() {
        let at = Duration::from_millis;
        let contest = Contest::default();
        let end = |millis| {
            let mut told = None;
            contest.is_on(|| at(millis), |ended| told = Some(ended));
            told
        };
        let suffers = |millis| contest.waited(WAIT, WAIT, true, at(millis));
        contest.begin(at(100));
        assert_eq!([suffers(1_000), suffers(2_000), suffers(3_000)], [true, false, false]);
        assert_eq!(end(4_999), None);
        assert_eq!(end(5_000), Some(Ended { lasted: at(2_000), reads: 3 }));
        assert_eq!(end(5_001), None);
        contest.begin(at(6_000));
        assert_eq!(end(8_000), None, "no read suffered in it");
        assert!(suffers(9_000));
    }
}
