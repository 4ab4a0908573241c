//! What goes on under one ordering key, and which of its requests comes next.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Position;

/// A queued request: its position and its route, in 8 bytes that sort by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Slot(u64);

const ROUTE_BITS: u32 = 16;

impl Slot {
    /// There are fewer than 2^16 routes (the ledger sees to it), and 2^48 positions last for 8,900 years at 1,000 a second.
    pub(in crate::store) fn new(position: Position, route: u32) -> Self {
        Self(position << ROUTE_BITS | u64::from(route))
    }

    pub(in crate::store) fn position(self) -> Position {
        self.0 >> ROUTE_BITS
    }

    pub(in crate::store) fn route(self) -> usize {
        (self.0 & ((1 << ROUTE_BITS) - 1)) as usize
    }
}

/// One key that somebody is under way or pending for.
#[derive(Debug, Default)]
pub(in crate::store) struct Key {
    /// Live writes under way.
    pub(super) live: u32,
    /// Requests that the store holds.
    pub(super) stored: u32,
    /// Writes that are about to be appended; most keys have one at most.
    pub(super) waiting: SmallVec<[Position; 1]>,
    /// What the engine has queued, in order.
    queue: VecDeque<Slot>,
    /// The one that is being delivered; 0 for none, since no position is 0.
    busy: Position,
    /// Dead letters that hold the key; seldom any.
    held: Vec<Position>,
}

impl Key {
    /// Most queued requests of a key that [is quiet](Self::is_quiet).
    pub(super) const FEW: usize = 4;

    /// One under which nothing goes on but that some requests are queued.
    pub(super) fn quiet(slots: &mut [Slot]) -> Self {
        slots.sort_unstable();
        Self { stored: slots.len() as u32, queue: slots.iter().copied().collect(), ..Self::default() }
    }

    /// Whether nothing goes on but that a few requests are queued: then they are all that is to be kept of it.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_still() && self.stored as usize == self.queue.len() && self.queue.len() <= Self::FEW
    }

    pub(super) fn is_unused(&self) -> bool {
        self.is_still() && self.stored == 0 && self.queue.is_empty()
    }

    fn is_still(&self) -> bool {
        self.live == 0 && self.busy == 0 && self.waiting.is_empty() && self.held.is_empty()
    }

    pub(super) fn queued(&self) -> impl Iterator<Item = Slot> {
        self.queue.iter().copied()
    }

    /// Whether a write that comes now must stand in line.
    pub(super) fn is_pending(&self) -> bool {
        self.stored > 0 || !self.waiting.is_empty()
    }

    pub(super) fn stop_waiting(&mut self, position: Position) {
        self.waiting.retain(|other| *other != position);
    }

    /// Whether a stored request at `position` must wait for a live write, or for an earlier one that is about to be appended.
    pub(super) fn blocks(&self, position: Position) -> bool {
        self.live > 0 || self.waiting.iter().any(|&earlier| earlier < position)
    }

    /// The one that would come next if nothing held it back.
    pub(super) fn first(&self) -> Option<Slot> {
        self.queue.front().copied()
    }

    /// The one that may be claimed: the first, unless another is being delivered, an earlier one is dead and holds the key, or it must wait for what is not stored.
    pub(super) fn on_offer(&self) -> Option<Slot> {
        let slot = self.first().filter(|_| self.busy == 0)?;
        let is_held = self.held.iter().any(|&holder| holder < slot.position());
        (!is_held && !self.blocks(slot.position())).then_some(slot)
    }

    pub(in crate::store) fn queue(&mut self, slot: Slot) {
        // Nearly all come in order.
        match self.queue.back() {
            Some(last) if *last > slot => {
                let place = self.queue.partition_point(|other| *other < slot);
                self.queue.insert(place, slot);
            }
            _ => self.queue.push_back(slot),
        }
    }

    /// It was stored before this was known of it.
    pub(in crate::store) fn count_stored(&mut self) {
        self.stored += 1;
    }

    pub(in crate::store) fn unqueue(&mut self, slot: Slot) {
        if self.first() == Some(slot) {
            self.queue.pop_front();
        } else if let Ok(place) = self.queue.binary_search(&slot) {
            self.queue.remove(place);
        }
    }

    pub(in crate::store) fn begin(&mut self, position: Position) {
        self.busy = position;
    }

    pub(in crate::store) fn end(&mut self) {
        self.busy = 0;
    }

    pub(in crate::store) fn hold(&mut self, position: Position) {
        self.held.push(position);
    }

    pub(in crate::store) fn let_go(&mut self, position: Position) {
        self.held.retain(|other| *other != position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_next_whatever_the_order_of_arrival() {
        let mut key = Key::default();
        for position in [5, 3, 9, 4] {
            key.queue(Slot::new(position, 2));
        }
        for position in [3, 4, 5, 9] {
            let next = key.on_offer().unwrap();
            assert_eq!((next.position(), next.route()), (position, 2));
            key.unqueue(next);
            key.begin(position);
            assert_eq!(key.on_offer(), None);
            key.end();
        }
        assert!(key.is_unused());
    }

    #[test]
    fn a_dead_letter_holds_back_those_after_it_alone() {
        let mut key = Key::default();
        key.queue(Slot::new(3, 0));
        key.queue(Slot::new(7, 0));
        key.hold(5);
        assert_eq!(key.on_offer().map(Slot::position), Some(3));
        key.unqueue(Slot::new(3, 0));
        assert_eq!(key.on_offer(), None);
        key.let_go(5);
        assert_eq!(key.on_offer().map(Slot::position), Some(7));
    }
}
