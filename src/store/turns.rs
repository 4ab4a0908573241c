//! Who is under way or queued for each ordering key: the atomic step between "may it go live?" and "it must stand in line".
//!
//! Shared by all engines. On the path of every keyed write, so it is a map in shards, each behind a plain mutex that is held for a look-up.

use crate::envelope::OrderKey;

/// A write's place in order: smaller is earlier.
pub type Position = u64;

/// What a write may do.
#[derive(Debug)]
pub enum Turn {
    /// It may be sent now.
    Live(LiveTurn),
    /// It must be appended behind what its key has pending.
    Queued(QueuedTurn),
}

/// A live write under way. Dropping it ends it.
#[derive(Debug)]
pub struct LiveTurn;

/// A write that is about to be appended, and already counts as pending. Dropping it gives the place back.
#[derive(Debug)]
pub struct QueuedTurn;

impl LiveTurn {
    /// The live attempt failed or was not made: the write is queued at the place that it had.
    pub fn into_queued(self) -> QueuedTurn {
        todo!()
    }
}

/// All keys.
#[derive(Debug, Default)]
pub struct Turns;

impl Turns {
    /// See [`Store::turn`](super::Store::turn).
    pub fn enter(&self, _key: Option<OrderKey>) -> Turn {
        todo!()
    }
}
