//! Whether reads, and writes that may be queued, compete for a backend's seats. A read without a seat is a failure that somebody sees; a write that may be
//! queued loses nothing. So reads are served first among those who wait (that is the [`gate`](super::gate)'s doing), and for a while after reads have
//! suffered, or a backend has come back, such writes do not wait at all and leave a part of the seats free, as replay does.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
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

/// When reads last suffered. Read for each write that may be queued: one atomic load while all is well.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// Milliseconds since the start of the backend's health; 0 is never.
    last: AtomicU64,
}

impl Contest {
    /// A read has waited so long, and was `refused` or not.
    pub(super) fn waited(&self, waited: Duration, longest: Duration, refused: bool, now: Duration) {
        if suffers(waited, longest, refused) {
            self.begin(now);
        }
    }

    /// It is on from now.
    pub(super) fn begin(&self, now: Duration) {
        self.last.fetch_max(super::millis(now).max(1), Relaxed);
    }

    /// Whether it is on; `now` is asked only where it may be.
    pub(super) fn is_on(&self, now: impl FnOnce() -> Duration) -> bool {
        match self.last.load(Relaxed) {
            0 => false,
            last => is_on(Duration::from_millis(last), now()),
        }
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
        assert!(!contest.is_on(|| at(0)));
        contest.waited(at(10), WAIT, false, at(1_000));
        assert!(!contest.is_on(|| at(1_000)));
        contest.waited(WAIT, WAIT, true, at(1_000));
        assert!(contest.is_on(|| at(2_999)) && !contest.is_on(|| at(3_000)));
        contest.begin(at(2_500));
        contest.begin(at(2_000));
        assert!(contest.is_on(|| at(4_499)) && !contest.is_on(|| at(4_500)));
    }
}
