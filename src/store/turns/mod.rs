//! Who is under way or queued for each ordering key: the atomic step between "may it go live?" and "it must stand in line".
//!
//! Shared by all engines. On the path of every keyed write, so it is a map in shards, each behind a plain mutex that is held for a look-up.
//! An engine may keep here also what it has queued under a key, so that there is one table of keys and not two, and learns which of it comes next.

mod key;
mod shard;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::{Mutex, MutexGuard};

use self::shard::Shard;
use crate::envelope::OrderKey;

pub(super) use key::{Key, Slot};

/// A write's place in order: smaller is earlier. Never 0.
pub type Position = u64;

/// What a write may do.
#[derive(Debug)]
pub enum Turn {
    /// It may be sent now.
    Live(LiveTurn),
    /// It must be appended behind what its key has pending.
    Queued(QueuedTurn),
}

impl Turn {
    /// A live write without a key, from before there is anybody who gives out places. It has none until it is appended.
    pub(super) fn unplaced() -> Self {
        Self::Live(LiveTurn(Place { position: 0, key: None, turns: None }))
    }

    /// To be queued in any case.
    pub fn into_queued(self) -> QueuedTurn {
        match self {
            Self::Live(turn) => turn.into_queued(),
            Self::Queued(turn) => turn,
        }
    }
}

/// A live write under way. Dropping it ends it.
#[derive(Debug)]
pub struct LiveTurn(Place);

/// A write that is about to be appended, and already counts as pending. Dropping it gives the place back.
#[derive(Debug)]
pub struct QueuedTurn(Place);

impl LiveTurn {
    /// The live attempt failed or was not made: the write is queued at the place that it had.
    pub fn into_queued(mut self) -> QueuedTurn {
        let place = self.0.take();
        if let Some((turns, key)) = place.held() {
            turns.change(key, |state| {
                state.live = state.live.saturating_sub(1);
                state.waiting.push(place.position);
            });
        }
        QueuedTurn(place)
    }

    /// Its place in order.
    pub fn position(&self) -> Position {
        self.0.position
    }
}

impl Drop for LiveTurn {
    fn drop(&mut self) {
        if let Some((turns, key)) = self.0.held() {
            turns.change(key, |state| state.live = state.live.saturating_sub(1));
        }
    }
}

impl QueuedTurn {
    /// Its place in order.
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Whether it has a place in order.
    pub(super) fn is_placed(&self) -> bool {
        self.0.position != 0
    }

    /// Its ordering key.
    pub fn key(&self) -> Option<OrderKey> {
        self.0.key
    }

    /// It is stored: its key has it pending until [`Turns::remove_stored`].
    pub(super) fn stored(mut self) {
        let place = self.0.take();
        if let Some((turns, key)) = place.held() {
            turns.change(key, |state| {
                state.stop_waiting(place.position);
                state.stored += 1;
            });
        }
    }
}

impl Drop for QueuedTurn {
    fn drop(&mut self) {
        if let Some((turns, key)) = self.0.held() {
            turns.change(key, |state| state.stop_waiting(self.0.position));
        }
    }
}

/// A place in order, and where it is to be given back.
#[derive(Debug)]
struct Place {
    position: Position,
    key: Option<OrderKey>,
    /// None once it was handed on.
    turns: Option<Arc<Turns>>,
}

impl Place {
    fn held(&self) -> Option<(&Arc<Turns>, OrderKey)> {
        self.turns.as_ref().zip(self.key)
    }

    fn take(&mut self) -> Self {
        Self { position: self.position, key: self.key, turns: self.turns.take() }
    }
}

/// Many times the number of threads that carry traffic, so that two of them seldom meet.
const SHARDS: usize = 128;

/// Equal parts of all hashes, each of which is of one shard.
const PARTS: usize = 1024;

/// Told of a key whose queued requests may have become claimable.
type Freed = Box<dyn Fn(OrderKey) + Send + Sync>;

/// All keys.
pub struct Turns {
    next: AtomicU64,
    hasher: ahash::RandomState,
    /// The shard of each part. The last has twice as many keys as the first and those between grow evenly: a table doubles when it is full, and so no two do at a time.
    parts: Box<[u8; PARTS]>,
    shards: Box<[Mutex<Shard>; SHARDS]>,
    freed: OnceLock<Freed>,
}

impl Turns {
    /// No key in use; the first position is `first`, at least 1.
    pub fn new(first: Position) -> Arc<Self> {
        Self::hashed(first, ahash::RandomState::new())
    }

    fn hashed(first: Position, hasher: ahash::RandomState) -> Arc<Self> {
        let part = |number: usize| ((1.0 + number as f64 / PARTS as f64).log2() * SHARDS as f64) as u8;
        Arc::new(Self {
            next: AtomicU64::new(first.max(1)),
            hasher,
            parts: Box::new(std::array::from_fn(part)),
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            freed: OnceLock::new(),
        })
    }

    /// Without any key in use, to be filled and then [adopted](Self::adopt) by this one.
    pub(super) fn beside(&self) -> Arc<Self> {
        Self::hashed(1, self.hasher.clone())
    }

    /// See [`Store::turn`](super::Store::turn).
    pub fn enter(self: &Arc<Self>, key: Option<OrderKey>) -> Turn {
        let Some(key) = key else {
            return Turn::Live(LiveTurn(Place { position: self.next_position(), key, turns: None }));
        };
        let (position, waits) = self.with(key.as_u64(), |state| {
            // Under the lock, so that positions of one key are in the order of entry.
            let position = self.next_position();
            let waits = state.is_pending();
            if waits {
                state.waiting.push(position)
            } else {
                state.live += 1
            }
            (position, waits)
        });
        let place = Place { position, key: Some(key), turns: Some(Arc::clone(self)) };
        if waits { Turn::Queued(QueuedTurn(place)) } else { Turn::Live(LiveTurn(place)) }
    }

    /// A place in order for what is stored without a turn.
    pub(super) fn next_position(&self) -> Position {
        self.next.fetch_add(1, Relaxed)
    }

    /// Says whom to tell of a key that may have become free: a live write of it ended, or one that was about to be appended gave up or was,
    /// while the store holds requests of that key. Told without a lock held. Only the first call counts.
    pub(super) fn on_freed(&self, freed: impl Fn(OrderKey) + Send + Sync + 'static) {
        let _ = self.freed.set(Box::new(freed));
    }

    /// Whether a stored request of `key` at `position` must wait: for a live write, or for an earlier one that is about to be appended.
    pub(super) fn blocks(&self, key: OrderKey, position: Position) -> bool {
        self.look(key.as_u64(), |state| state.blocks(position))
    }

    /// A stored request pends again (a redrive, or what an open found).
    pub(super) fn add_stored(&self, key: OrderKey) {
        self.with(key.as_u64(), |state| state.stored += 1);
    }

    /// How many stored requests of `key` pend.
    pub(super) fn stored(&self, key: OrderKey) -> u32 {
        self.look(key.as_u64(), |state| state.stored)
    }

    /// A stored request pends no more.
    pub(super) fn remove_stored(&self, key: OrderKey) {
        self.change(key, |state| state.stored = state.stored.saturating_sub(1));
    }

    /// Changes what an engine has queued under a key: what no longer is on offer of it, and what now is.
    pub(super) fn arrange(&self, key: u64, change: impl FnOnce(&mut Key)) -> (Option<Slot>, Option<Slot>) {
        self.with(key, |state| {
            let (first, before) = (state.first(), state.on_offer());
            change(state);
            let after = state.on_offer();
            (first.filter(|_| first != after), after.filter(|_| before != after))
        })
    }

    /// An opening has found a queued request: the same as [`arrange`](Self::arrange) with it, which also counts as stored.
    pub(super) fn found(&self, key: u64, slot: Slot) -> (Option<Slot>, Option<Slot>) {
        if let Some(is_alone) = self.shard(key).add_quiet(&self.hasher, key, slot) {
            return (None, is_alone.then_some(slot));
        }
        self.arrange(key, |state| {
            state.count_stored();
            state.queue(slot);
        })
    }

    /// What of a key may be claimed.
    pub(super) fn on_offer(&self, key: u64) -> Option<Slot> {
        self.look(key, Key::on_offer)
    }

    /// Takes over what `other` has of what is stored, after a store had to read itself anew; what is under way here stays. Keys of which something is.
    pub(super) fn adopt(&self, other: &Self) -> Vec<u64> {
        let shards = self.shards.iter().zip(&*other.shards);
        shards.flat_map(|(shard, other)| shard.lock().adopt(&self.hasher, &mut other.lock())).collect()
    }

    /// Keys in use, for tests and for those who measure.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let part = (self.hasher.hash_one(key) >> 40) as usize % PARTS;
        self.shards[usize::from(self.parts[part])].lock()
    }

    fn look<T>(&self, key: u64, look: impl FnOnce(&Key) -> T) -> T {
        self.shard(key).look(&self.hasher, key, look)
    }

    fn with<T>(&self, key: u64, change: impl FnOnce(&mut Key) -> T) -> T {
        self.shard(key).change(&self.hasher, key, change)
    }

    /// Changes what is under way, and tells of what that frees. An engine that has its queue elsewhere is told whenever it may.
    fn change(&self, key: OrderKey, change: impl FnOnce(&mut Key)) {
        let tell = self.with(key.as_u64(), |state| {
            debug_assert!(!state.is_unused(), "{key:?} is not in use");
            let before = state.on_offer();
            change(state);
            state.stored > 0 && state.live == 0 && (state.first().is_none() || state.on_offer() != before)
        });
        if tell && let Some(freed) = self.freed.get() {
            freed(key);
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
