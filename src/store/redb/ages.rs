//! Which requests may have reached an age, without a look at any that has not: minutes, and in each the span of positions to look at.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::{
    envelope::{State, Timestamp},
    store::Position,
};

const MINUTE: u64 = 60_000;

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

/// Requests by class and minute.
#[derive(Debug, Default)]
pub(super) struct Ages(BTreeMap<(Class, u64), Minute>);

#[derive(Debug)]
struct Minute {
    count: u64,
    /// Not later than the earliest moment in it.
    earliest: u64,
    first: Position,
    last: Position,
}

impl Ages {
    pub(super) fn add(&mut self, class: Class, moment: Timestamp, position: Position) {
        let moment = moment.as_millis();
        let empty = Minute { count: 0, earliest: moment, first: position, last: position };
        let minute = self.0.entry((class, moment / MINUTE)).or_insert(empty);
        minute.count += 1;
        minute.earliest = minute.earliest.min(moment);
        minute.first = minute.first.min(position);
        minute.last = minute.last.max(position);
    }

    pub(super) fn remove(&mut self, class: Class, moment: Timestamp) {
        let key = (class, moment.as_millis() / MINUTE);
        if let Some(minute) = self.0.get_mut(&key) {
            minute.count -= 1;
            if minute.count == 0 {
                self.0.remove(&key);
            }
        }
    }

    /// The minutes of `class` that may hold a moment up to `until`, oldest first, and where to look.
    pub(super) fn reached(&self, class: Class, until: Timestamp) -> Vec<(u64, RangeInclusive<Position>)> {
        let until = until.as_millis();
        self.0
            .range((class, 0)..=(class, until / MINUTE))
            .filter(|(_, minute)| minute.earliest <= until)
            .map(|(&(_, number), minute)| (number, minute.first..=minute.last))
            .collect()
    }

    /// A look at all of a minute found nothing before `earliest`.
    pub(super) fn looked(&mut self, class: Class, number: u64, earliest: Timestamp) {
        if let Some(minute) = self.0.get_mut(&(class, number)) {
            minute.earliest = earliest.as_millis();
        }
    }

    /// Which minute a moment is in.
    pub(super) fn minute(moment: Timestamp) -> u64 {
        moment.as_millis() / MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_minutes_that_may_hold_something_old_enough_are_looked_at() {
        let mut ages = Ages::default();
        let at = Timestamp::from_millis;
        ages.add(Class::Expires, at(5_000), 7);
        ages.add(Class::Expires, at(70_000), 3);
        ages.add(Class::Expires, at(65_000), 9);
        ages.add(Class::Dead, at(1), 4);
        assert_eq!(ages.reached(Class::Expires, at(4_999)), []);
        assert_eq!(ages.reached(Class::Expires, at(65_000)), [(0, 7..=7), (1, 3..=9)]);
        ages.looked(Class::Expires, 1, at(70_000));
        ages.remove(Class::Expires, at(5_000));
        assert_eq!(ages.reached(Class::Expires, at(69_999)), []);
        assert_eq!(ages.reached(Class::Expires, at(70_000)), [(1, 3..=9)]);
    }
}
