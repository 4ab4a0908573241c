//! What is queued under each ordering key, and which of it comes next.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::store::Position;

/// A queued request: its position and its route, in 8 bytes that sort by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u64);

const ROUTE_BITS: u32 = 16;

impl Slot {
    /// There are fewer than 2^16 routes (the ledger sees to it), and 2^48 positions last for 8,900 years at 1,000 a second.
    pub(super) fn new(position: Position, route: u32) -> Self {
        Self(position << ROUTE_BITS | u64::from(route))
    }

    pub(super) fn position(self) -> Position {
        self.0 >> ROUTE_BITS
    }

    pub(super) fn route(self) -> usize {
        (self.0 & ((1 << ROUTE_BITS) - 1)) as usize
    }
}

/// All keys under which something is queued or being delivered, or that a dead letter holds.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: HashMap<u64, Key, ahash::RandomState>,
    /// Dead letters that hold their keys; seldom any.
    held: HashMap<u64, BTreeSet<Position>, ahash::RandomState>,
}

#[derive(Debug, Default)]
struct Key {
    /// The one that is being delivered; 0 for none, since no position is 0.
    busy: Position,
    queue: Queue,
}

/// Most keys have one request, a few have many.
#[derive(Debug, Default)]
enum Queue {
    #[default]
    Empty,
    One(Slot),
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many(VecDeque<Slot>);

impl Queue {
    fn first(&self) -> Option<Slot> {
        match self {
            Self::Empty => None,
            Self::One(slot) => Some(*slot),
            Self::Many(many) => many.0.front().copied(),
        }
    }

    fn insert(&mut self, slot: Slot) {
        match self {
            Self::Empty => *self = Self::One(slot),
            Self::One(other) => {
                let both = [slot.min(*other), slot.max(*other)];
                *self = Self::Many(Box::new(Many(both.into())));
            }
            Self::Many(many) => {
                let place = many.0.partition_point(|other| *other < slot);
                many.0.insert(place, slot);
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        match self {
            Self::One(other) if *other == slot => *self = Self::Empty,
            Self::Many(many) => {
                if let Ok(place) = many.0.binary_search(&slot) {
                    many.0.remove(place);
                }
                if let (1, Some(&last)) = (many.0.len(), many.0.front()) {
                    *self = Self::One(last);
                }
            }
            Self::Empty | Self::One(_) => {}
        }
    }
}

impl Keys {
    /// The one that would come next if nothing outside the queue held it back.
    pub(super) fn first(&self, key: u64) -> Option<Slot> {
        self.keys.get(&key)?.queue.first()
    }

    /// The one that comes next, unless another is being delivered or an earlier one is dead and holds the key.
    pub(super) fn next(&self, key: u64) -> Option<Slot> {
        let state = self.keys.get(&key).filter(|state| state.busy == 0)?;
        let slot = state.queue.first()?;
        let holder = self.held.get(&key).and_then(BTreeSet::first);
        holder.is_none_or(|&holder| slot.position() < holder).then_some(slot)
    }

    pub(super) fn queue(&mut self, key: u64, slot: Slot) {
        self.keys.entry(key).or_default().queue.insert(slot);
    }

    pub(super) fn unqueue(&mut self, key: u64, slot: Slot) {
        self.change(key, |state| state.queue.remove(slot));
    }

    pub(super) fn begin(&mut self, key: u64, position: Position) {
        self.keys.entry(key).or_default().busy = position;
    }

    pub(super) fn end(&mut self, key: u64) {
        self.change(key, |state| state.busy = 0);
    }

    pub(super) fn hold(&mut self, key: u64, position: Position) {
        self.held.entry(key).or_default().insert(position);
    }

    pub(super) fn let_go(&mut self, key: u64, position: Position) {
        if let Some(holders) = self.held.get_mut(&key) {
            holders.remove(&position);
            if holders.is_empty() {
                self.held.remove(&key);
            }
        }
    }

    fn change(&mut self, key: u64, change: impl FnOnce(&mut Key)) {
        let Some(state) = self.keys.get_mut(&key) else { return };
        change(state);
        if state.busy == 0 && matches!(state.queue, Queue::Empty) {
            self.keys.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_takes_few_bytes() {
        assert!(size_of::<(u64, Key)>() <= 32);
    }

    #[test]
    fn the_earliest_comes_next_whatever_the_order_of_arrival() {
        let mut keys = Keys::default();
        for position in [5, 3, 9, 4] {
            keys.queue(1, Slot::new(position, 2));
        }
        for position in [3, 4, 5, 9] {
            let next = keys.next(1).unwrap();
            assert_eq!((next.position(), next.route()), (position, 2));
            keys.unqueue(1, next);
            keys.begin(1, position);
            assert_eq!(keys.next(1), None);
            keys.end(1);
        }
        assert!(keys.keys.is_empty());
    }

    #[test]
    fn a_dead_letter_holds_back_those_after_it_alone() {
        let mut keys = Keys::default();
        keys.queue(1, Slot::new(3, 0));
        keys.queue(1, Slot::new(7, 0));
        keys.hold(1, 5);
        assert_eq!(keys.next(1).map(Slot::position), Some(3));
        keys.unqueue(1, Slot::new(3, 0));
        assert_eq!(keys.next(1), None);
        keys.let_go(1, 5);
        assert_eq!(keys.next(1).map(Slot::position), Some(7));
    }
}
