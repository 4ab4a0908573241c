//! Who is under way or queued for each ordering key: the atomic step between "may it go live?" and "it must stand in line".
//!
//! Shared by all engines. On the path of every keyed write, so it is a map in shards, each behind a plain mutex that is held for a look-up.
//! What is queued under a key, and which of it comes next, is the engine's to know.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, MutexGuard};

use crate::envelope::OrderKey;

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
                state.live -= 1;
                state.waiting_mut().push(place.position);
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
            turns.change(key, |state| state.live -= 1);
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
const SHARDS: usize = 64;

/// Told of a key whose queued requests may have become claimable.
type Freed = Box<dyn Fn(OrderKey) + Send + Sync>;

/// All keys.
pub struct Turns {
    next: AtomicU64,
    shards: [Mutex<HashMap<u64, Key, ahash::RandomState>>; SHARDS],
    freed: OnceLock<Freed>,
}

/// One key that somebody is under way or pending for.
#[derive(Debug, Default)]
struct Key {
    /// Live writes under way.
    live: u32,
    /// Requests that the store holds.
    stored: u32,
    /// Writes that are about to be appended; boxed since most keys have none.
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting(Vec<Position>);

impl Key {
    fn waiting(&self) -> &[Position] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.0)
    }

    fn waiting_mut(&mut self) -> &mut Vec<Position> {
        &mut self.waiting.get_or_insert_default().0
    }

    fn stop_waiting(&mut self, position: Position) {
        let waiting = self.waiting_mut();
        waiting.retain(|&other| other != position);
        if waiting.is_empty() {
            self.waiting = None;
        }
    }

    fn is_unused(&self) -> bool {
        self.live == 0 && self.stored == 0 && self.waiting.is_none()
    }
}

impl Turns {
    /// No key in use; the first position is `first`, at least 1.
    pub fn new(first: Position) -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(first.max(1)), shards: std::array::from_fn(|_| Mutex::default()), freed: OnceLock::new() })
    }

    /// See [`Store::turn`](super::Store::turn).
    pub fn enter(self: &Arc<Self>, key: Option<OrderKey>) -> Turn {
        let Some(key) = key else {
            return Turn::Live(LiveTurn(Place { position: self.next.fetch_add(1, Relaxed), key, turns: None }));
        };
        let mut shard = self.shard(key);
        // Under the lock, so that positions of one key are in the order of entry.
        let position = self.next.fetch_add(1, Relaxed);
        let place = Place { position, key: Some(key), turns: Some(Arc::clone(self)) };
        let state = shard.entry(key.as_u64()).or_default();
        if state.stored > 0 || state.waiting.is_some() {
            state.waiting_mut().push(position);
            Turn::Queued(QueuedTurn(place))
        } else {
            state.live += 1;
            Turn::Live(LiveTurn(place))
        }
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
        let shard = self.shard(key);
        shard.get(&key.as_u64()).is_some_and(|state| state.live > 0 || state.waiting().iter().any(|&earlier| earlier < position))
    }

    /// A stored request pends again (a redrive, or what an open found).
    pub(super) fn add_stored(&self, key: OrderKey) {
        self.shard(key).entry(key.as_u64()).or_default().stored += 1;
    }

    /// How many stored requests of `key` pend.
    pub(super) fn stored(&self, key: OrderKey) -> u32 {
        self.shard(key).get(&key.as_u64()).map_or(0, |state| state.stored)
    }

    /// A stored request pends no more.
    pub(super) fn remove_stored(&self, key: OrderKey) {
        self.change(key, |state| state.stored = state.stored.saturating_sub(1));
    }

    /// Sets what is stored of every key, after a store had to read itself anew.
    pub(super) fn replace_stored(&self, counts: &HashMap<u64, u32>) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            for (key, state) in shard.iter_mut() {
                state.stored = counts.get(key).copied().unwrap_or(0);
            }
            shard.retain(|_, state| !state.is_unused());
        }
        for (&key, &stored) in counts {
            self.shard(OrderKey::from_u64(key)).entry(key).or_default().stored = stored;
        }
    }

    /// Keys in use, for tests and for those who measure.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: OrderKey) -> MutexGuard<'_, HashMap<u64, Key, ahash::RandomState>> {
        // The key is a keyed hash, so any of its bits will do.
        self.shards[key.as_u64() as usize % SHARDS].lock()
    }

    fn change(&self, key: OrderKey, change: impl FnOnce(&mut Key)) {
        let mut shard = self.shard(key);
        let Entry::Occupied(mut entry) = shard.entry(key.as_u64()) else {
            debug_assert!(false, "{key:?} is not in use");
            return;
        };
        change(entry.get_mut());
        let tell = entry.get().stored > 0 && entry.get().live == 0;
        if entry.get().is_unused() {
            entry.remove();
        }
        drop(shard);
        if tell && let Some(freed) = self.freed.get() {
            freed(key);
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("next", &self.next).field("keys", &self.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Option<OrderKey> = Some(OrderKey::from_u64(7));

    fn live(turn: Turn) -> LiveTurn {
        match turn {
            Turn::Live(turn) => turn,
            Turn::Queued(turn) => panic!("queued: {turn:?}"),
        }
    }

    fn queued(turn: Turn) -> QueuedTurn {
        match turn {
            Turn::Queued(turn) => turn,
            Turn::Live(turn) => panic!("live: {turn:?}"),
        }
    }

    fn blocks(turns: &Turns, position: Position) -> bool {
        turns.blocks(KEY.unwrap(), position)
    }

    #[test]
    fn live_writes_of_one_key_pass_side_by_side_until_one_is_queued() {
        let turns = Turns::new(1);
        let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
        let rescued = second.into_queued();
        let later = queued(turns.enter(KEY));
        assert!(first.position() < rescued.position() && rescued.position() < later.position());
        drop((rescued, later));
        live(turns.enter(KEY));
    }

    #[test]
    fn what_is_stored_makes_later_ones_queue_until_it_is_settled() {
        let turns = Turns::new(1);
        live(turns.enter(KEY)).into_queued().stored();
        drop(queued(turns.enter(KEY)));
        turns.remove_stored(KEY.unwrap());
        drop(live(turns.enter(KEY)));
        assert_eq!(turns.keys(), 0);
    }

    #[test]
    fn a_rescued_write_stands_before_those_that_came_after_it() {
        let turns = Turns::new(1);
        let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
        let position = second.position();
        second.into_queued().stored();
        assert!(blocks(&turns, position), "a live write is under way");
        let rescued = first.into_queued();
        assert!(blocks(&turns, position), "an earlier one is about to be appended");
        assert!(!blocks(&turns, rescued.position()));
        rescued.stored();
        assert!(!blocks(&turns, position), "what comes first among the stored is the engine's to know");
    }

    #[test]
    fn the_end_of_what_held_a_stored_request_back_is_told() {
        let turns = Turns::new(1);
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        turns.on_freed(move |_| {
            count.fetch_add(1, Relaxed);
        });
        let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
        first.into_queued().stored();
        assert_eq!(told.load(Relaxed), 0);
        drop(second);
        assert_eq!(told.load(Relaxed), 1);
        drop(queued(turns.enter(KEY)));
        assert_eq!(told.load(Relaxed), 2);
    }

    #[test]
    fn writes_without_a_key_never_wait_for_one_another() {
        let turns = Turns::new(41);
        let first = live(turns.enter(None)).into_queued();
        assert_eq!(first.position(), 41);
        first.stored();
        drop(live(turns.enter(None)));
        assert_eq!(turns.keys(), 0);
    }

    #[test]
    fn a_store_that_reads_itself_anew_keeps_what_is_under_way() {
        let turns = Turns::new(1);
        let waiting = live(turns.enter(KEY)).into_queued();
        let other = OrderKey::from_u64(8);
        turns.add_stored(other);
        turns.replace_stored(&HashMap::from([(9, 2)]));
        assert_eq!(turns.keys(), 2);
        drop(live(turns.enter(Some(other))));
        drop(queued(turns.enter(KEY)));
        drop(waiting);
        drop(queued(turns.enter(Some(OrderKey::from_u64(9)))));
        assert_eq!(turns.keys(), 1);
    }
}
