//! How good the estimates of when a queue will be empty turned out to be.
//!
//! During a drain an estimate is put down after 10 s, 20 s, 40 s and so on. When the queue is empty, each is compared with what came of it.

use std::time::Duration;

use tokio::time::Instant;

/// The first estimate of a drain is put down after so long: before, there is hardly anything to go by.
const FIRST: Duration = Duration::from_secs(10);

/// The estimates of one drain.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    began: Option<Instant>,
    /// When, and how much longer it was to take. A doubling of the spans bounds their number.
    taken: Vec<(Instant, Duration)>,
}

impl Estimates {
    /// The queue is not empty, and is expected to be in `left`. Whether a drain begins with this.
    pub(super) fn draining(&mut self, left: Option<Duration>, now: Instant) -> bool {
        let begins = self.began.is_none();
        let began = *self.began.get_or_insert(now);
        let due = FIRST.saturating_mul(2_u32.saturating_pow(u32::try_from(self.taken.len()).unwrap_or(u32::MAX)));
        if let Some(left) = left.filter(|_| now.saturating_duration_since(began) >= due) {
            self.taken.push((now, left));
        }
        begins
    }

    /// Whether the queue has not been empty of late.
    pub(super) fn is_draining(&self) -> bool {
        self.began.is_some()
    }

    /// The queue is empty. How long the drain took, and for each estimate how it compares with the truth: 2 said twice as long as it took.
    pub(super) fn empty(&mut self, now: Instant) -> Option<(Duration, Vec<f64>)> {
        let began = self.began.take()?;
        let ratio = |(taken, left): (Instant, Duration)| {
            let actual = now.saturating_duration_since(taken).as_secs_f64();
            (actual > 0.0).then(|| left.as_secs_f64() / actual)
        };
        let ratios = std::mem::take(&mut self.taken).into_iter().filter_map(ratio).collect();
        Some((now.saturating_duration_since(began), ratios))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn an_estimate_is_held_against_what_came_of_it() {
        let (mut estimates, now) = (Estimates::default(), Instant::now());
        for second in 0..100 {
            // It says 60 s all the time, and nothing in the first quarter of a minute.
            let begins = estimates.draining((second >= 15).then_some(secs(60)), now + secs(second));
            assert_eq!(begins, second == 0);
        }
        let (took, ratios) = estimates.empty(now + secs(100)).unwrap();
        assert_eq!(took, secs(100));
        // Taken at 15 s, 20 s, 40 s and 80 s.
        assert_eq!(ratios, [60.0 / 85.0, 60.0 / 80.0, 1.0, 3.0]);
        assert_eq!(estimates.empty(now + secs(101)), None);
    }

    #[test]
    fn a_short_drain_has_none() {
        let (mut estimates, now) = (Estimates::default(), Instant::now());
        estimates.draining(Some(secs(1)), now);
        estimates.draining(Some(secs(1)), now + secs(9));
        assert_eq!(estimates.empty(now + secs(9)), Some((secs(9), Vec::new())));
    }
}
