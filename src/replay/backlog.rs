//! Alarms on backlogs that grow although they are being replayed: of a backend, and of single ordering keys.
//!
//! One request of a key is at the backend at a time, so a key whose requests come faster than that never drains, however fast the rest is.

use std::{collections::hash_map::Entry, time::Duration};

use ahash::AHashMap;
use tokio::time::Instant;

use crate::envelope::OrderKey;

/// Backlogs are compared with those of a step before.
const STEP: Duration = Duration::from_secs(15);
/// So many steps of growth in a row, 60 s in all, raise the alarm.
const STEPS: u32 = 4;
/// Keys that are watched at once: a bound on memory. There can be no more that grow and have not been noticed for long.
const KEYS: usize = 10_000;
/// A key that was not heard of for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// One backlog over time.
#[derive(Debug)]
struct Growth {
    step_began: Instant,
    at_step: u64,
    steps: u32,
    last_seen: Instant,
}

impl Growth {
    fn new(backlog: u64, now: Instant) -> Self {
        Self { step_began: now, at_step: backlog, steps: 0, last_seen: now }
    }

    fn see(&mut self, backlog: u64, now: Instant) {
        self.last_seen = now;
        if backlog < self.at_step {
            *self = Self::new(backlog, now);
        } else if now.saturating_duration_since(self.step_began) >= STEP {
            self.steps = if backlog > self.at_step { self.steps.saturating_add(1) } else { 0 };
            (self.step_began, self.at_step) = (now, backlog);
        }
    }

    fn is_alarming(&self) -> bool {
        self.steps >= STEPS
    }
}

/// An alarm that was raised or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The backend's backlog has been growing; it is so long.
    Grows(u64),
    /// It grows no longer.
    Over(u64),
    /// The backlog of a key has been growing, the first of the backend's to do so.
    KeyGrows(OrderKey, u64),
    /// That of no key does any longer.
    KeysOver,
}

/// The backlogs of one backend.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    whole: Option<Growth>,
    keys: AHashMap<OrderKey, Growth>,
    growing_keys: u32,
}

impl Backlogs {
    /// So much is queued or under way, and is being replayed.
    pub(super) fn see(&mut self, backlog: u64, now: Instant) -> Option<Alarm> {
        let growth = self.whole.get_or_insert_with(|| Growth::new(backlog, now));
        let before = growth.is_alarming();
        growth.see(backlog, now);
        match (before, growth.is_alarming()) {
            (false, true) => Some(Alarm::Grows(backlog)),
            (true, false) => Some(Alarm::Over(backlog)),
            _ => None,
        }
    }

    /// It is not being replayed: that it grows then is no news.
    pub(super) fn stands(&mut self) -> Option<Alarm> {
        self.whole.take().filter(Growth::is_alarming).map(|growth| Alarm::Over(growth.at_step))
    }

    /// A request of a key is on its way, and so many of the key pend, this one included.
    pub(super) fn see_key(&mut self, key: OrderKey, pending: u32, now: Instant) -> Option<Alarm> {
        let known = self.keys.len();
        let (was, is) = match self.keys.entry(key) {
            Entry::Occupied(entry) if pending <= 1 => (entry.remove().is_alarming(), false),
            Entry::Occupied(mut entry) => {
                let was = entry.get().is_alarming();
                entry.get_mut().see(pending.into(), now);
                (was, entry.get().is_alarming())
            }
            Entry::Vacant(entry) => {
                if pending > 1 && known < KEYS {
                    entry.insert(Growth::new(pending.into(), now));
                }
                (false, false)
            }
        };
        let before = self.growing_keys;
        self.growing_keys = before + u32::from(is) - u32::from(was);
        match (before, self.growing_keys) {
            (0, 1) => Some(Alarm::KeyGrows(key, pending.into())),
            (1, 0) => Some(Alarm::KeysOver),
            _ => None,
        }
    }

    /// Forgets keys that have not been heard of for long.
    pub(super) fn forget(&mut self, now: Instant) -> Option<Alarm> {
        let before = self.growing_keys;
        self.keys.retain(|_, growth| {
            let keep = now.saturating_duration_since(growth.last_seen) < FORGET_AFTER;
            self.growing_keys -= u32::from(!keep && growth.is_alarming());
            keep
        });
        (before > 0 && self.growing_keys == 0).then_some(Alarm::KeysOver)
    }

    /// Whether the backend's backlog grows.
    pub(super) fn grows(&self) -> bool {
        self.whole.as_ref().is_some_and(Growth::is_alarming)
    }

    /// Keys whose backlog grows.
    pub(super) fn growing_keys(&self) -> u32 {
        self.growing_keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: OrderKey = OrderKey::from_u64(7);

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    /// The alarms of a backlog that is so long at each of these seconds.
    fn alarms(backlogs: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, Alarm)> {
        let (start, mut seen) = (Instant::now(), Backlogs::default());
        backlogs.into_iter().filter_map(|(second, backlog)| Some((second, seen.see(backlog, at(start, second))?))).collect()
    }

    #[test]
    fn a_backlog_that_grows_for_a_minute_is_an_alarm_once() {
        assert_eq!(alarms((0..300).step_by(5).map(|second| (second, 100 + second))), [(60, Alarm::Grows(160))]);
        assert_eq!(alarms((0..60).map(|second| (second, second))), []);
    }

    #[test]
    fn one_that_shrinks_or_stands_between_is_none() {
        assert_eq!(alarms((0..600).map(|second| (second, 50 + second % 50))), []);
        assert_eq!(alarms((0..600).map(|second| (second, 1000))), []);
        assert_eq!(alarms((0..600).map(|second| (second, 1000 - second))), []);
    }

    #[test]
    fn the_alarm_is_over_when_it_shrinks() {
        let up_and_down = (0..=75).chain((0..75).rev()).enumerate().map(|(second, backlog)| (second as u64, backlog));
        assert_eq!(alarms(up_and_down), [(60, Alarm::Grows(60)), (76, Alarm::Over(74))]);
    }

    #[test]
    fn what_grows_while_nothing_is_replayed_does_not_count() {
        let (start, mut seen) = (Instant::now(), Backlogs::default());
        for second in 0..200 {
            if second % 50 == 0 {
                assert_eq!(seen.stands(), None);
            }
            assert_eq!(seen.see(second, at(start, second)), None);
        }
    }

    #[test]
    fn keys_that_outrun_their_replay_are_one_alarm_together() {
        let (start, mut seen) = (Instant::now(), Backlogs::default());
        let other = OrderKey::from_u64(8);
        let mut alarms = Vec::new();
        for second in 0..100 {
            let pending = 2 + u32::try_from(second).unwrap();
            alarms.extend(seen.see_key(KEY, pending, at(start, second)));
            alarms.extend(seen.see_key(other, pending, at(start, second)));
        }
        assert_eq!(alarms, [Alarm::KeyGrows(KEY, 62)]);
        assert_eq!(seen.growing_keys(), 2);
        assert_eq!(seen.see_key(KEY, 1, at(start, 100)), None);
        assert_eq!(seen.see_key(other, 90, at(start, 100)), Some(Alarm::KeysOver));
    }

    #[test]
    fn a_key_that_drains_is_none_and_one_that_is_gone_is_forgotten() {
        let (start, mut seen) = (Instant::now(), Backlogs::default());
        for second in 0..100 {
            assert_eq!(seen.see_key(KEY, 200 - u32::try_from(second).unwrap(), at(start, second)), None);
        }
        let alarms: Vec<_> = (100..200).filter_map(|second| seen.see_key(KEY, u32::try_from(second).unwrap(), at(start, second))).collect();
        assert!(matches!(alarms[..], [Alarm::KeyGrows(KEY, _)]), "{alarms:?}");
        assert_eq!(seen.forget(at(start, 498)), None);
        assert_eq!(seen.forget(at(start, 499)), Some(Alarm::KeysOver));
        assert!(seen.keys.is_empty());
    }
}
