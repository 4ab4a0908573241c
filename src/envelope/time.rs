//! Wall-clock time as the domain sees it: a number that somebody else read.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long `self` is after `earlier`; zero when it is not, since wall clocks may step back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `span` more, at millisecond grain.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// RFC 3339 in UTC with milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(moment) => write!(f, "{moment:.3}"),
            // Past the year 9999 there is no RFC 3339 text; the number is at least true.
            Err(_) => write!(f, "{millis}ms"),
        }
    }
}

/// A text that is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a moment: expected RFC 3339 such as 2026-11-22T12:00:00.007Z")]
pub struct InvalidMoment;

/// What [`Timestamp`] prints.
impl FromStr for Timestamp {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let millis = match text.strip_suffix("ms") {
            Some(millis) => millis.parse().ok(),
            None => text.parse::<jiff::Timestamp>().ok().and_then(|moment| u64::try_from(moment.as_millisecond()).ok()),
        };
        millis.map(Self).ok_or(InvalidMoment)
    }
}

/// Where wall-clock time comes from: the system in the program, the test in a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Timestamp::default().after(since_epoch)
        }))
    }

    /// A clock that says whatever `read` says.
    pub fn from_fn(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The current moment.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339_in_utc() {
        assert_eq!(Timestamp::from_millis(1_795_348_800_007).to_string(), "2026-11-22T12:00:00.007Z");
    }

    #[test]
    fn what_a_timestamp_prints_reads_back_as_itself() {
        for millis in [0, 7, 1_795_348_800_007, 253_402_300_799_999, i64::MAX as u64] {
            let moment = Timestamp::from_millis(millis);
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        assert_eq!("yesterday".parse::<Timestamp>(), Err(InvalidMoment));
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_negative_age() {
        let (early, late) = (Timestamp::from_millis(5), Timestamp::from_millis(9));
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.after(Duration::MAX), Timestamp::from_millis(u64::MAX));
    }
}
