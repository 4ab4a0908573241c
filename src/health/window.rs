//! What happened in the last ten seconds, counted by the second. It judges nothing; that is the breaker's.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Seconds that the window reaches back, the current one included.
pub(super) const SECONDS: u64 = 10;

/// How requests went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Answers that show a working application.
    pub(super) successes: u32,
    /// Timeouts, resets, failed connects.
    pub(super) failures: u32,
    /// Answers that nobody worked on it.
    pub(super) refusals: u32,
    /// The application's own 500s.
    pub(super) application_errors: u32,
}

impl Counts {
    /// All of them.
    pub(super) fn total(self) -> u32 {
        self.successes.saturating_add(self.failures).saturating_add(self.refusals).saturating_add(self.application_errors)
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            successes: self.successes.saturating_add(other.successes),
            failures: self.failures.saturating_add(other.failures),
            refusals: self.refusals.saturating_add(other.refusals),
            application_errors: self.application_errors.saturating_add(other.application_errors),
        }
    }
}

/// A ring with one slot for each second. A slot is valid for as long as its second is one of the last [`SECONDS`], so that what is
/// summed is between nine and ten seconds old at most.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: [Slot; SECONDS as usize],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    counts: Counts,
}

impl Window {
    /// Counts what happened at `at`. What is older than the window is dropped.
    pub(super) fn add(&mut self, counts: Counts, at: Duration) {
        let second = at.as_secs();
        let slot = &mut self.slots[(second % SECONDS) as usize];
        if slot.second < second {
            *slot = Slot { second, counts };
        } else if slot.second == second {
            slot.counts = slot.counts.plus(counts);
        }
    }

    /// What happened in the ten seconds up to `now`.
    pub(super) fn sum(&self, now: Duration) -> Counts {
        let now = now.as_secs();
        self.slots
            .iter()
            .filter(|slot| slot.second <= now && now - slot.second < SECONDS)
            .fold(Counts::default(), |sum, slot| sum.plus(slot.counts))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Successes of one second, counted without a lock: the second in the upper half, their number in the lower. A success that is counted at the
/// turn of a second may be counted with its neighbour; none is lost.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    /// Counts a success; false, and nothing counted, when the tally is of another second and must be [drained](Self::drain) first.
    pub(super) fn add(&self, now: Duration) -> bool {
        let this_second = self.0.load(Relaxed) >> 32 == now.as_secs();
        if this_second {
            self.0.fetch_add(1, Relaxed);
        }
        this_second
    }

    /// Takes what was counted, with its second, and begins the second of `now`.
    pub(super) fn drain(&self, now: Duration) -> (u32, Duration) {
        let tally = self.0.swap(now.as_secs() << 32, Relaxed);
        ((tally & u64::from(u32::MAX)) as u32, Duration::from_secs(tally >> 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn failures(failures: u32) -> Counts {
        Counts { failures, ..Counts::default() }
    }

    #[test]
    fn what_is_ten_seconds_old_is_forgotten_and_what_is_younger_counts() {
        let mut window = Window::default();
        window.add(failures(1), seconds(3.0));
        window.add(failures(2), seconds(3.9));
        window.add(failures(4), seconds(12.9));
        assert_eq!(window.sum(seconds(12.999)), failures(7));
        assert_eq!(window.sum(seconds(13.0)), failures(4));
        assert_eq!(window.sum(seconds(100.0)), failures(0));
    }

    #[test]
    fn a_tally_gives_back_every_success_with_its_second() {
        let tally = Tally::default();
        assert!(!tally.add(seconds(7.5)), "it begins in another second");
        assert_eq!(tally.drain(seconds(7.5)), (0, Duration::ZERO));
        assert!(tally.add(seconds(7.6)) && tally.add(seconds(7.9)));
        assert!(!tally.add(seconds(8.0)));
        assert_eq!(tally.drain(seconds(8.0)), (2, seconds(7.0)));
        assert_eq!(tally.drain(seconds(8.0)), (0, seconds(8.0)));
    }

    #[test]
    fn a_count_that_comes_late_is_added_to_its_own_second_or_dropped() {
        let mut window = Window::default();
        window.add(failures(1), seconds(15.0));
        window.add(failures(2), seconds(14.0));
        window.add(failures(4), seconds(5.0));
        assert_eq!(window.sum(seconds(15.0)), failures(3), "second 5 shares its slot with second 15 and is out of the window");
    }
}
