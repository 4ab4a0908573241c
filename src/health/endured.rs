//! A backend that is slow and keeps up with what comes: whether that is its new normal. In overload more and more is in flight; where nothing is held back and
//! no more is in flight than before, the slowness is not a queue that grows. Pure.

use std::time::Duration;

use super::samples::Seen;

/// Windows in a row, and time, after which such slowness is taken for normal,
const WINDOWS: u32 = 4;
const SPAN: Duration = Duration::from_secs(2);
/// while no more than so many times as much is in flight as in the first of them.
const STEADY: f64 = 1.25;

/// A mean over windows, weighted by their requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    pub(super) requests: u32,
    pub(super) slowdown: f64,
    pub(super) in_flight: f64,
}

impl Mean {
    pub(super) fn add(&mut self, slowdown: f64, seen: Seen) {
        self.requests += seen.requests;
        let part = f64::from(seen.requests) / f64::from(self.requests.max(1));
        self.slowdown += part * (slowdown - self.slowdown);
        self.in_flight += part * (seen.in_flight - self.in_flight);
    }
}

/// Slow windows in a row in which nothing was held back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endured {
    since: Duration,
    windows: u32,
    first_in_flight: f64,
    pub(super) mean: Mean,
}

impl Endured {
    /// These, and one more at `now`. Where more is in flight than before, it is the first.
    pub(super) fn with(before: Option<Self>, slowdown: f64, seen: Seen, now: Duration) -> Self {
        let fresh = Self { since: now, windows: 0, first_in_flight: seen.in_flight, mean: Mean::default() };
        let mut endured = before.filter(|before| seen.in_flight <= STEADY * before.first_in_flight).unwrap_or(fresh);
        endured.windows += 1;
        endured.mean.add(slowdown, seen);
        endured
    }

    /// Whether it has lasted long enough.
    pub(super) fn is_normal(&self, now: Duration) -> bool {
        self.windows >= WINDOWS && now.saturating_sub(self.since) >= SPAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether so much in flight, a window each, that many milliseconds apart, is the new normal in the last of them.
    fn is_normal(in_flight: &[f64], apart: u64) -> bool {
        let (mut endured, mut now) = (None, Duration::ZERO);
        for &in_flight in in_flight {
            now += Duration::from_millis(apart);
            let seen =
                Seen { requests: 20, bad: 0, refused: 0, slowdown: Some(2.5), in_flight, most_in_flight: 20, rejected: 0, replayed: false };
            endured = Some(Endured::with(endured, 2.5, seen, now));
        }
        endured.unwrap().is_normal(now)
    }

    #[test]
    fn the_fourth_window_after_two_seconds_is_normal_unless_more_is_in_flight_than_in_the_first() {
        for (in_flight, apart, expected) in [
            (&[12.0; 4][..], 700, true),
            (&[12.0; 3][..], 1_500, false),
            (&[12.0; 4][..], 660, false),
            (&[12.0; 5][..], 500, true),
            (&[12.0, 12.0, 12.0, 15.0][..], 700, true),
            (&[12.0, 12.0, 12.0, 15.1][..], 700, false),
            (&[9.0, 12.0, 12.0, 12.0][..], 700, false),
            (&[9.0, 12.0, 12.0, 12.0, 12.0][..], 700, true),
        ] {
            assert_eq!(is_normal(in_flight, apart), expected, "{in_flight:?} every {apart} ms");
        }
    }
}
