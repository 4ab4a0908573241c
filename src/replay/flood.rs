//! One alarm for many dead letters of one cause.
//!
//! When sessions have run out, every queued request of them is refused: a predictable flood. It is one fact, and is told as one.

use std::time::Duration;

use tokio::time::Instant;

/// So many within [`SPAN`] are a flood.
const MANY: u32 = 10;
/// A flood is over when none came for so long.
const SPAN: Duration = Duration::from_secs(60);

/// What is to be said of one dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// It, as any other.
    It,
    /// That there is a flood.
    Flood,
    /// Nothing: the flood has been told of.
    Nothing,
}

/// Dead letters of one cause.
#[derive(Debug, Default)]
pub(super) struct Flood {
    last: Option<Instant>,
    /// Since the last pause of [`SPAN`].
    count: u64,
}

impl Flood {
    /// One more.
    pub(super) fn see(&mut self, now: Instant) -> Say {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= SPAN) {
            self.count = 0;
        }
        self.last = Some(now);
        self.count += 1;
        match self.count.cmp(&u64::from(MANY)) {
            std::cmp::Ordering::Less => Say::It,
            std::cmp::Ordering::Equal => Say::Flood,
            std::cmp::Ordering::Greater => Say::Nothing,
        }
    }

    /// Whether there is a flood now.
    pub(super) fn is_on(&self) -> bool {
        self.count >= u64::from(MANY)
    }

    /// How many there were, when a flood has just ended.
    pub(super) fn ended(&mut self, now: Instant) -> Option<u64> {
        self.last.filter(|&last| now.saturating_duration_since(last) >= SPAN)?;
        self.last = None;
        let count = std::mem::take(&mut self.count);
        (count >= u64::from(MANY)).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn thousands_of_them_are_ten_lines() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        let said: Vec<Say> = (0..5000).map(|number| flood.see(now + secs(number / 100))).collect();
        assert!(said[..9].iter().all(|say| *say == Say::It));
        assert_eq!(said[9], Say::Flood);
        assert!(said[10..].iter().all(|say| *say == Say::Nothing));
        assert!(flood.is_on());
        assert_eq!(flood.ended(now + secs(49 + 59)), None);
        assert_eq!(flood.ended(now + secs(49 + 60)), Some(5000));
        assert_eq!((flood.is_on(), flood.ended(now + secs(500))), (false, None));
    }

    #[test]
    fn now_and_then_one_is_no_flood() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        for number in 0..50 {
            assert_eq!(flood.see(now + SPAN * number), Say::It);
        }
        assert_eq!(flood.ended(now + SPAN * 60), None);
    }
}
