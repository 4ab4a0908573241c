//! Rows that wait to go into redb's tables.
//!
//! A row that is written for each step of a request would cost a way through the tree each time. It is held here instead, and goes into the tables with many others: when redb is
//! committed, when somebody goes through the rows, or when there are enough. Whatever was written meanwhile counts once, and new rows go in as runs, which redb writes leaf by leaf.
//! The journal has each of them by then.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    ops::Bound,
};

use ::redb::{CursorError, Key, ReadableTable, Table, Value};

use crate::store::Position;

/// So many are enough: none waits for others for long when they go into the tables.
const ENOUGH: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Held {
    rows: BTreeMap<Position, HeldRow>,
    /// Of all of them.
    ids: HashMap<u128, Position, ahash::RandomState>,
    /// No identity is greater; none until somebody asks.
    greatest: Option<u128>,
}

#[derive(Debug)]
struct HeldRow {
    id: u128,
    bytes: Vec<u8>,
    /// Whether it is in no table.
    is_new: bool,
}

impl Held {
    pub(super) fn row(&self, position: Position) -> Option<&[u8]> {
        self.rows.get(&position).map(|row| &*row.bytes)
    }

    pub(super) fn position(&self, id: u128) -> Option<Position> {
        self.ids.get(&id).copied()
    }

    /// Whether an identity may be that of a request. Most are greater than all before, since they grow with time.
    pub(super) fn may_have(&mut self, id: u128, ids: &impl ReadableTable<u128, u64>) -> Result<bool, ::redb::Error> {
        let greatest = match self.greatest {
            Some(greatest) => greatest,
            None => {
                let there = ids.last()?.map_or(0, |(id, _)| id.value());
                *self.greatest.insert(self.ids.keys().copied().fold(there, u128::max))
            }
        };
        Ok(id <= greatest)
    }

    pub(super) fn put(&mut self, position: Position, id: u128, bytes: &[u8], is_new: bool) {
        self.greatest = self.greatest.map(|greatest| greatest.max(id));
        match self.rows.entry(position) {
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                held.bytes.clear();
                held.bytes.extend_from_slice(bytes);
            }
            Entry::Vacant(place) => {
                place.insert(HeldRow { id, bytes: bytes.to_vec(), is_new });
                self.ids.insert(id, position);
            }
        }
    }

    /// Lets go of a row. Whether it is in no table.
    pub(super) fn remove(&mut self, position: Position) -> bool {
        self.rows.remove(&position).is_some_and(|held| {
            self.ids.remove(&held.id);
            held.is_new
        })
    }

    pub(super) fn is_enough(&self) -> bool {
        self.rows.len() >= ENOUGH
    }

    /// Puts all into the tables.
    pub(super) fn put_into(
        &mut self,
        requests: &mut Table<'_, u64, &'static [u8]>,
        ids: &mut Table<'_, u128, u64>,
    ) -> Result<(), ::redb::Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        for (position, row) in self.rows.iter().filter(|(_, row)| !row.is_new) {
            requests.insert(position, &*row.bytes)?;
        }
        let new = || self.rows.iter().filter(|(_, row)| row.is_new);
        insert_run(requests, new().map(|(&position, row)| (position, &*row.bytes)))?;
        let mut of_new: Vec<(u128, Position)> = new().map(|(&position, row)| (row.id, position)).collect();
        of_new.sort_unstable();
        insert_run(ids, of_new.into_iter())?;
        self.rows.clear();
        self.ids.clear();
        Ok(())
    }
}

/// Inserts what is in order in as few pieces as can be: redb writes a piece at once.
fn insert_run<'v, K, V>(table: &mut Table<'_, K, V>, entries: impl Iterator<Item = (K, V::SelfType<'v>)>) -> Result<(), ::redb::Error>
where
    K: Key + for<'k> Value<SelfType<'k> = K> + Copy + 'static,
    V: Value + 'static,
{
    let mut entries = entries.peekable();
    while let Some((key, _)) = entries.peek() {
        let mut cursor = table.lower_bound_mut(Bound::Included(*key))?;
        let mut inserted = 0;
        while let Some((key, value)) = entries.peek() {
            match cursor.insert_before(*key, value) {
                Ok(()) => (inserted, _) = (inserted + 1, entries.next()),
                Err(CursorError::UnorderedKey) => break,
                Err(error) => return Err(error.into()),
            }
        }
        cursor.close()?;
        if inserted == 0
            && let Some((key, value)) = entries.next()
        {
            // There is one of this key already.
            table.insert(key, value)?;
        }
    }
    Ok(())
}
