//! How many attempts may be second ones.
//!
//! Why a budget beside a number of attempts per request: when everything fails, eight attempts each are eight times the load, at the worst
//! moment (Google SRE book, chapter 22, "Retries"). Each attempt earns a fifth of a retry and each second a whole one. A retry that has not been
//! earned yet is put off to the moment at which it will be: nothing is given up for it, and its place in the budget is in its due time, so that
//! a restart forgets nothing that matters.

use std::time::Duration;

use tokio::time::Instant;

/// Retries that one attempt earns.
const PER_ATTEMPT: f64 = 0.2;
/// Retries that a second earns.
const PER_SECOND: f64 = 1.0;
/// Retries that may be saved up.
const MOST: f64 = 100.0;
/// What there is at the start.
const FIRST: f64 = 10.0;
/// No retry is put off for longer, in seconds: as long as the longest delay between two attempts.
const LONGEST: f64 = 300.0;

/// The retries that a backend's attempts have earned, less those that they have used up; below zero it is owed time.
#[derive(Debug)]
pub(in crate::replay) struct Budget {
    retries: f64,
    at: Instant,
}

impl Budget {
    pub(in crate::replay) fn new(now: Instant) -> Self {
        Self { retries: FIRST, at: now }
    }

    /// An attempt begins, be it a first one or not.
    pub(in crate::replay) fn attempted(&mut self, now: Instant) {
        self.earn(now);
        self.retries = (self.retries + PER_ATTEMPT).min(MOST);
    }

    /// Takes one retry; it is not to begin sooner than after the returned time.
    pub(in crate::replay) fn take(&mut self, now: Instant) -> Duration {
        self.earn(now);
        self.retries = (self.retries - 1.0).max(-LONGEST * PER_SECOND);
        Duration::from_secs_f64((-self.retries).max(0.0) / PER_SECOND)
    }

    fn earn(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.retries = (self.retries + seconds * PER_SECOND).min(MOST);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// How long each of so many retries at once has to wait, in seconds.
    fn waits(budget: &mut Budget, count: usize, now: Instant) -> Vec<u64> {
        (0..count).map(|_| budget.take(now).as_secs()).collect()
    }

    #[test]
    fn ten_retries_are_free_and_then_one_a_second() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(waits(&mut budget, 13, now), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(waits(&mut budget, 1, now + secs(3)), [1]);
        assert_eq!(waits(&mut budget, 3, now + secs(7)), [0, 0, 0], "what was put off has its time, and three seconds more have passed");
        assert_eq!(waits(&mut budget, 1, now + secs(7)), [1]);
    }

    #[test]
    fn a_fifth_of_the_attempts_may_be_retried_for_as_long_as_they_go_on() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        waits(&mut budget, 10, now);
        for attempt in 1..=1000 {
            budget.attempted(now);
            if attempt % 5 == 0 {
                assert!(budget.take(now) < Duration::from_micros(1), "attempt {attempt}");
            }
        }
        assert_eq!(budget.take(now).as_secs_f64().round(), 1.0, "one more than a fifth waits");
    }

    #[test]
    fn a_rest_saves_up_no_flood() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let later = now + secs(3600);
        assert_eq!(waits(&mut budget, 102, later)[98..], [0, 0, 1, 2]);
    }

    #[test]
    fn no_retry_is_put_off_for_more_than_five_minutes() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(waits(&mut budget, 10_000, now).last(), Some(&300));
        assert_eq!(waits(&mut budget, 1, now + secs(300)), [1], "and what is owed is bounded");
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_earns_nothing() {
        let now = Instant::now() + secs(10);
        let mut budget = Budget::new(now);
        waits(&mut budget, 10, now);
        assert_eq!(waits(&mut budget, 1, now - secs(5)), [1]);
        assert_eq!(waits(&mut budget, 1, now), [2]);
    }
}
