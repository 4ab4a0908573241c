//! When to try again, and how often. Whether at all is [`verdict`](super::verdict)'s business.

use std::time::{Duration, UNIX_EPOCH};

use super::{Timestamp, verdict::RETRY_AFTER_MAX};

/// The delay before the second attempt is drawn from up to twice this.
const BASE: Duration = Duration::from_secs(1);
/// No delay is longer, however often it failed.
const CEILING: Duration = Duration::from_secs(300);
/// No delay is shorter, whatever was drawn.
const FLOOR: Duration = Duration::from_millis(500);

/// What a request's attempts may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts that count, the first included.
    pub max_attempts: u32,
    /// When it is given up in any case.
    pub expires_at: Timestamp,
}

/// What a failed attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this moment.
    At(Timestamp),
    /// No more attempts left.
    Exhausted,
    /// Too old.
    Expired,
}

/// Delay before the next attempt after `failures` (at least 1) failed ones: full jitter, U(0, min(300 s, 1 s * 2^failures)), at least
/// 500 ms. `unit` is a random number in 0..1. (Exponential Backoff And Jitter, M. Brooker, AWS Architecture Blog, 2015.)
pub fn backoff(failures: u32, unit: f64) -> Duration {
    let most = BASE.saturating_mul(2_u32.saturating_pow(failures.max(1))).min(CEILING);
    most.mul_f64(unit.clamp(0.0, 1.0)).max(FLOOR)
}

/// What follows after `counted` attempts that count have failed, at `now`; `not_before` is the backend's own `Retry-After`.
///
/// An attempt that does not count leads to the delay of the first one that does. A moment past `expires_at` may come out: the store gives the
/// request up when that comes, not sooner, so that an operator can still send it before.
pub fn next(policy: Policy, counted: u32, now: Timestamp, not_before: Option<Timestamp>, unit: f64) -> Next {
    if now >= policy.expires_at {
        return Next::Expired;
    }
    if counted >= policy.max_attempts {
        return Next::Exhausted;
    }
    let due = now.after(backoff(counted, unit));
    Next::At(not_before.map_or(due, |moment| moment.max(due)))
}

/// The moment that a `Retry-After` field names (RFC 9110 section 10.2.3: seconds, or an HTTP-date), at most [`RETRY_AFTER_MAX`] after `now`
/// and not before it. None when it is neither.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    let latest = now.after(RETRY_AFTER_MAX);
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is a long time all the same.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(now.after(Duration::from_secs(seconds)).min(latest));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let moment = Timestamp::default().after(date.duration_since(UNIX_EPOCH).unwrap_or_default());
    Some(moment.clamp(now, latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000); // Sun, 22 Nov 2026 12:00:00 GMT
    const POLICY: Policy = Policy { max_attempts: 3, expires_at: Timestamp::from_millis(1_795_348_800_000 + 60_000) };

    fn in_millis(millis: u64) -> Timestamp {
        NOW.after(Duration::from_millis(millis))
    }

    #[test]
    fn the_delay_doubles_up_to_its_ceiling() {
        for (failures, most) in [(0, 2), (1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (40, 300), (u32::MAX, 300)] {
            assert_eq!(backoff(failures, 1.0), Duration::from_secs(most), "{failures}");
            assert_eq!(backoff(failures, 0.5), Duration::from_secs(most) / 2, "{failures}");
        }
    }

    #[test]
    fn the_delay_is_never_below_its_floor() {
        for (failures, unit) in [(1, 0.0), (1, 0.2), (9, 0.001)] {
            assert_eq!(backoff(failures, unit), FLOOR);
        }
    }

    #[test]
    fn attempts_and_age_end_the_trying() {
        assert_eq!(next(POLICY, 2, NOW, None, 1.0), Next::At(in_millis(4000)));
        assert_eq!(next(POLICY, 3, NOW, None, 1.0), Next::Exhausted);
        assert_eq!(next(POLICY, 4, NOW, None, 1.0), Next::Exhausted);
        assert_eq!(next(POLICY, 0, POLICY.expires_at, None, 1.0), Next::Expired);
        assert_eq!(next(POLICY, 1, in_millis(59_999), None, 1.0), Next::At(in_millis(61_999)));
    }

    #[test]
    fn a_backend_that_asks_for_more_time_gets_it() {
        assert_eq!(next(POLICY, 1, NOW, Some(in_millis(30_000)), 1.0), Next::At(in_millis(30_000)));
        assert_eq!(next(POLICY, 1, NOW, Some(in_millis(100)), 1.0), Next::At(in_millis(2000)));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        for (value, expected) in [
            ("0", Some(NOW)),
            ("120", Some(in_millis(120_000))),
            (" 7 ", Some(in_millis(7000))),
            ("3601", Some(in_millis(3_600_000))),
            ("99999999999999999999999", Some(in_millis(3_600_000))),
            ("Sun, 22 Nov 2026 12:00:30 GMT", Some(in_millis(30_000))),
            ("Sunday, 22-Nov-26 12:00:30 GMT", Some(in_millis(30_000))),
            ("Sun Nov 22 12:00:30 2026", Some(in_millis(30_000))),
            ("Sun, 22 Nov 2026 11:00:00 GMT", Some(NOW)),
            ("Mon, 23 Nov 2026 12:00:00 GMT", Some(in_millis(3_600_000))),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, NOW), expected, "{value}");
        }
    }
}
