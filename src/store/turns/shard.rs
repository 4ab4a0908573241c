//! Keys, in few bytes: a million that have a request queued each take some 27 MB, and never more than twice that for a moment.
//!
//! A key of which nothing is to be known but a few queued requests is no more than these, 16 bytes each in a table. All others, which are few, are kept whole.

use std::hash::BuildHasher;

use hashbrown::{HashTable, hash_table::Entry};
use smallvec::SmallVec;

use super::key::{Key, Slot};

/// A queued request of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quiet {
    key: u64,
    slot: Slot,
}

/// Room that an empty table may keep.
const LEAST: usize = 64;

/// Some of all keys. Each is in one of the two or in neither, and has the hash that the hasher makes of it.
#[derive(Debug, Default)]
pub(super) struct Shard {
    quiet: HashTable<Quiet>,
    lively: HashTable<(u64, Key)>,
}

impl Shard {
    /// Changes a key, which is made or unmade as needed.
    pub(super) fn change<T>(&mut self, hasher: &impl BuildHasher, key: u64, change: impl FnOnce(&mut Key) -> T) -> T {
        let hash = hasher.hash_one(key);
        match self.lively.entry(hash, |(other, _)| *other == key, |(other, _)| hasher.hash_one(other)) {
            Entry::Occupied(mut entry) => {
                let result = change(&mut entry.get_mut().1);
                if entry.get().1.is_quiet() {
                    let ((_, state), _) = entry.remove();
                    quieten(&mut self.quiet, hasher, key, &state);
                    shrink(&mut self.lively, |(other, _)| hasher.hash_one(other));
                }
                result
            }
            Entry::Vacant(entry) => {
                let mut state = rouse(&mut self.quiet, hash, key);
                let result = change(&mut state);
                if state.is_quiet() {
                    quieten(&mut self.quiet, hasher, key, &state);
                } else {
                    entry.insert((key, state));
                }
                shrink(&mut self.quiet, |quiet| hasher.hash_one(quiet.key));
                result
            }
        }
    }

    /// Queues a request under a key of which nothing but a few earlier ones is to be known, without a look at more than that. Whether it is the only one; none, and nothing is done,
    /// where the key is another.
    pub(super) fn add_quiet(&mut self, hasher: &impl BuildHasher, key: u64, slot: Slot) -> Option<bool> {
        let hash = hasher.hash_one(key);
        let earlier = self.quiet.iter_hash(hash).filter(|quiet| quiet.key == key);
        let earlier = earlier.map(|quiet| if quiet.slot < slot { 1 } else { Key::FEW }).sum::<usize>();
        if earlier >= Key::FEW || self.lively.find(hash, |(other, _)| *other == key).is_some() {
            return None;
        }
        self.quiet.insert_unique(hash, Quiet { key, slot }, |other| hasher.hash_one(other.key));
        Some(earlier == 0)
    }

    /// Looks at a key.
    pub(super) fn look<T>(&self, hasher: &impl BuildHasher, key: u64, look: impl FnOnce(&Key) -> T) -> T {
        let hash = hasher.hash_one(key);
        match self.lively.find(hash, |(other, _)| *other == key) {
            Some((_, state)) => look(state),
            None => look(&Key::quiet(&mut slots(&self.quiet, hash, key))),
        }
    }

    /// Takes all that is there of `other`, and of what was here before only what is under way. The keys of which something is.
    pub(super) fn adopt(&mut self, hasher: &impl BuildHasher, other: &mut Self) -> Vec<u64> {
        std::mem::swap(self, other);
        let mut under_way = Vec::new();
        for (key, before) in other.lively.drain().filter(|(_, state)| state.live > 0 || !state.waiting.is_empty()) {
            self.change(hasher, key, |state| (state.live, state.waiting) = (before.live, before.waiting));
            under_way.push(key);
        }
        under_way
    }

    /// How many keys.
    pub(super) fn len(&self) -> usize {
        let mut quiet: Vec<u64> = self.quiet.iter().map(|quiet| quiet.key).collect();
        quiet.sort_unstable();
        quiet.dedup();
        quiet.len() + self.lively.len()
    }

    /// Bytes of the tables.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.quiet.allocation_size() + self.lively.allocation_size()
    }
}

fn slots(quiet: &HashTable<Quiet>, hash: u64, key: u64) -> SmallVec<[Slot; 4]> {
    quiet.iter_hash(hash).filter(|quiet| quiet.key == key).map(|quiet| quiet.slot).collect()
}

/// Takes a key out of those that are quiet.
fn rouse(quiet: &mut HashTable<Quiet>, hash: u64, key: u64) -> Key {
    let mut slots = slots(quiet, hash, key);
    for &slot in &slots {
        if let Ok(entry) = quiet.find_entry(hash, |other| *other == Quiet { key, slot }) {
            entry.remove();
        }
    }
    Key::quiet(&mut slots)
}

/// Keeps no more of a key than the requests that are queued; nothing where there are none.
fn quieten(quiet: &mut HashTable<Quiet>, hasher: &impl BuildHasher, key: u64, state: &Key) {
    for slot in state.queued() {
        quiet.insert_unique(hasher.hash_one(key), Quiet { key, slot }, |other| hasher.hash_one(other.key));
    }
}

/// Gives back room that a queue needed which is gone.
fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > LEAST && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2, hash);
    }
}
