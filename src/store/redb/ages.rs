//! Which requests may have reached an age, without a look at any that has not: seconds, and in each the span of positions to look at.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::{
    envelope::{State, Timestamp},
    store::{Age, Position},
};

const SECOND: u64 = 1_000;

/// What happens to a request at an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Queued: by when it expires.
    Expires,
    /// Delivered or cancelled: by when it became that.
    Kept,
    /// Dead: by when it died.
    Dead,
}

impl Class {
    pub(super) fn of(state: State) -> Option<Self> {
        match state {
            State::Queued => Some(Self::Expires),
            State::Delivering => None,
            State::Delivered | State::Cancelled => Some(Self::Kept),
            State::Dead => Some(Self::Dead),
        }
    }
}

/// Requests by class and second.
#[derive(Debug, Default)]
pub(super) struct Ages {
    seconds: BTreeMap<(Class, u64), Second>,
    /// Requests of each class.
    requests: [u64; 3],
}

#[derive(Debug)]
struct Second {
    count: u64,
    /// Not later than the earliest moment in it.
    earliest: u64,
    first: Position,
    last: Position,
}

impl Ages {
    pub(super) fn add(&mut self, class: Class, moment: Timestamp, position: Position) {
        let moment = moment.as_millis();
        let empty = Second { count: 0, earliest: moment, first: position, last: position };
        let second = self.seconds.entry((class, moment / SECOND)).or_insert(empty);
        second.count += 1;
        second.earliest = second.earliest.min(moment);
        second.first = second.first.min(position);
        second.last = second.last.max(position);
        self.requests[class as usize] += 1;
    }

    pub(super) fn remove(&mut self, class: Class, moment: Timestamp) {
        let key = (class, Self::second(moment));
        if let Some(second) = self.seconds.get_mut(&key) {
            second.count -= 1;
            if second.count == 0 {
                self.seconds.remove(&key);
            }
            self.requests[class as usize] -= 1;
        }
    }

    /// The seconds of `class` that may hold a moment up to `until`, oldest first, and where to look.
    pub(super) fn reached(&self, class: Class, until: Timestamp) -> Vec<(u64, RangeInclusive<Position>)> {
        let until = until.as_millis();
        self.seconds
            .range((class, 0)..=(class, until / SECOND))
            .filter(|(_, second)| second.earliest <= until)
            .map(|(&(_, number), second)| (number, second.first..=second.last))
            .collect()
    }

    /// A look at all of a second found nothing before `earliest`.
    pub(super) fn looked(&mut self, class: Class, number: u64, earliest: Timestamp) {
        if let Some(second) = self.seconds.get_mut(&(class, number)) {
            second.earliest = earliest.as_millis();
        }
    }

    /// How many of `class` there are, and which come first; what happens to them does so `keep` after their moment.
    pub(super) fn next(&self, class: Class, keep: Duration) -> Age {
        let first = self.seconds.range((class, 0)..=(class, u64::MAX)).next();
        let next = first.map(|(&(_, number), second)| (Timestamp::from_millis(number * SECOND).after(keep), second.count));
        Age { requests: self.requests[class as usize], next }
    }

    /// Which second a moment is in.
    pub(super) fn second(moment: Timestamp) -> u64 {
        moment.as_millis() / SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seconds_that_may_hold_something_old_enough_are_looked_at() {
        let mut ages = Ages::default();
        let at = Timestamp::from_millis;
        ages.add(Class::Expires, at(5_000), 7);
        ages.add(Class::Expires, at(7_900), 3);
        ages.add(Class::Expires, at(7_500), 9);
        ages.add(Class::Dead, at(1), 4);
        assert_eq!(ages.reached(Class::Expires, at(4_999)), []);
        assert_eq!(ages.reached(Class::Expires, at(7_500)), [(5, 7..=7), (7, 3..=9)]);
        ages.looked(Class::Expires, 7, at(7_900));
        ages.remove(Class::Expires, at(5_000));
        assert_eq!(ages.reached(Class::Expires, at(7_899)), []);
        assert_eq!(ages.reached(Class::Expires, at(7_900)), [(7, 3..=9)]);
        assert_eq!(ages.next(Class::Expires, Duration::ZERO), Age { requests: 2, next: Some((at(7_000), 2)) });
        assert_eq!(ages.next(Class::Dead, Duration::from_secs(9)), Age { requests: 1, next: Some((at(9_000), 1)) });
        assert_eq!(ages.next(Class::Kept, Duration::ZERO), Age::default());
    }
}
