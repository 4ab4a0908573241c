//! Where a backend had enough a moment ago. Latency says nothing of a backend that refuses at once what it has no room for: all that it takes is as fast
//! as ever. Without a memory the limit would grow into the refusals again and again.

use std::time::Duration;

use super::limit::{LONGEST_TRIAL_WAIT, TRIAL_WAIT};

/// What is in flight when a backend has enough, and for how long the limit stays below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling {
    in_flight: f64,
    until: Duration,
    wait: Duration,
}

impl Ceiling {
    /// The backend had enough with so many in flight. Where it had `before`, and the limit has gone there again since, it is left alone for twice as long.
    pub(super) fn found(in_flight: f64, before: Option<Self>, now: Duration) -> Self {
        let wait = match before {
            Some(before) if now < before.until => before.wait,
            Some(before) if now < before.until + before.wait => (2 * before.wait).min(LONGEST_TRIAL_WAIT),
            Some(_) | None => TRIAL_WAIT,
        };
        Self { in_flight, until: now + wait, wait }
    }

    /// The most that a limit may be now, if this is more.
    pub(super) fn holds(self, limit: f64, now: Duration) -> Option<f64> {
        let most = self.in_flight.ceil() - 1.0;
        (now < self.until && limit > most).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_limit_stays_below_what_was_too_much_for_five_seconds_and_then_grows_on() {
        let ceiling = Ceiling::found(6.5, None, NOW);
        assert_eq!((ceiling.holds(7.0, NOW), ceiling.holds(6.0, NOW)), (Some(6.0), None));
        assert_eq!(ceiling.holds(7.0, NOW + Duration::from_millis(4_999)), Some(6.0));
        assert_eq!(ceiling.holds(7.0, NOW + Duration::from_secs(5)), None);
        assert_eq!(Ceiling::found(6.0, None, NOW).holds(5.5, NOW), Some(5.0), "6 were too many");
    }

    #[test]
    fn each_time_that_it_is_found_again_it_holds_for_twice_as_long_up_to_a_minute() {
        let (mut now, mut ceiling) = (NOW, Ceiling::found(8.0, None, NOW));
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                now = ceiling.until;
                ceiling = Ceiling::found(8.0, Some(ceiling), now);
                ceiling.wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
        let sooner = Ceiling::found(4.0, Some(ceiling), now);
        assert_eq!((sooner.wait.as_secs(), sooner.holds(9.0, now)), (60, Some(3.0)), "what fails on the way up is no trial");
        assert_eq!(Ceiling::found(8.0, Some(ceiling), ceiling.until + ceiling.wait).wait, TRIAL_WAIT);
    }
}
