//! What callers ask of the writer thread.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{disk::Disk, row::Row, segments::Record, shared::Shared};
use crate::{
    envelope::{DeadReason, Name, RequestId, Timestamp},
    store::{
        Appended, Filter, Position, QueuedTurn, StoreError,
        capacity::Reserved,
        payload::{FileBody, off_thread},
    },
};

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
pub(super) enum Command {
    Append(Box<Append>, Reply<Appended>),
    Import(Box<Import>, Reply<bool>),
    Claim(Claim, Reply<ClaimedRows>),
    Settle(Settle, Reply<()>),
    Cancel(RequestId, Timestamp, Reply<()>),
    Redrive(Dead, Reply<Step>),
    Discard(Dead, Reply<Step>),
    Prune(Timestamp, Reply<Step>),
    /// Nothing to do but what waits to be done anyhow: take back claims, try again after a failure.
    Nudge,
    Close(oneshot::Sender<()>),
}

impl Command {
    /// The position of the request that it adds, if it adds one.
    pub(super) fn adds(&self) -> Option<Position> {
        match self {
            Self::Append(append, _) => Some(append.turn.position()),
            Self::Import(import, _) => Some(import.position),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Append {
    pub(super) backend: Name,
    pub(super) route: Name,
    /// Whole but for its route and its location.
    pub(super) row: Row,
    pub(super) record: Record,
    pub(super) turn: QueuedTurn,
    pub(super) reserved: Reserved,
    /// Removes the body's file unless the append succeeds.
    pub(super) file: Option<KeptFile>,
}

/// A request that comes as it is, in whatever state.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) backend: Name,
    pub(super) route: Name,
    /// Whole but for its route and its locations.
    pub(super) row: Row,
    pub(super) record: Record,
    pub(super) position: Position,
    /// Where it takes room.
    pub(super) reserved: Option<Reserved>,
    /// Removes the body's file unless the import succeeds.
    pub(super) file: Option<KeptFile>,
    pub(super) answer: Option<StoredAnswer>,
}

impl Import {
    /// It is the store's now: its room, its files.
    pub(super) fn stored(self) {
        let answer = self.answer.and_then(|answer| answer.file);
        [self.file, answer].into_iter().flatten().for_each(KeptFile::needed);
        self.reserved.into_iter().for_each(Reserved::keep);
    }
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) backend: Box<str>,
    pub(super) full_routes: Vec<Name>,
    pub(super) max: usize,
    pub(super) now: Timestamp,
}

/// Requests whose attempts have begun, on their way to the caller. Dropped on it, they are given back to the queue: their attempts were not
/// made, and nobody else knows of them.
#[derive(Debug)]
pub(super) struct ClaimedRows {
    shared: Arc<Shared>,
    rows: Vec<(Position, Row)>,
}

impl ClaimedRows {
    pub(super) fn new(shared: &Arc<Shared>, rows: Vec<(Position, Row)>) -> Self {
        Self { shared: Arc::clone(shared), rows }
    }

    pub(super) fn rows(&self) -> &[(Position, Row)] {
        &self.rows
    }

    /// The caller has them.
    pub(super) fn taken(mut self) {
        self.rows.clear();
    }
}

impl Drop for ClaimedRows {
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            let rows = self.rows.drain(..).map(|(position, row)| (position, row.attempts));
            self.shared.returned.lock().extend(rows);
            self.shared.nudge();
        }
    }
}

#[derive(Debug)]
pub(super) struct Settle {
    pub(super) id: RequestId,
    pub(super) attempt: u32,
    pub(super) at: Timestamp,
    pub(super) end: End,
    pub(super) answer: Option<StoredAnswer>,
}

#[derive(Debug)]
pub(super) struct StoredAnswer {
    pub(super) status: u16,
    pub(super) record: Record,
    pub(super) file: Option<KeptFile>,
}

/// An outcome without its answer.
#[derive(Debug)]
pub(super) enum End {
    Delivered,
    Again { due: Timestamp, consumes_attempt: bool, trips: u32, why: String },
    Dead { reason: DeadReason, why: String },
}

/// Dead letters after a position.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) filter: Filter,
    pub(super) at: Timestamp,
    pub(super) after: Position,
    pub(super) limit: u64,
}

/// One step of something long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) touched: u64,
    /// Where to go on; none when all is done.
    pub(super) next: Option<Position>,
}

/// A body file that has its name but no row yet.
#[derive(Debug)]
pub(super) struct KeptFile {
    disk: Arc<dyn Disk>,
    name: String,
    needed: bool,
}

impl KeptFile {
    /// Makes the body durable under `name`, off the calling thread.
    pub(super) async fn keep(disk: &Arc<dyn Disk>, body: &Arc<FileBody>, name: String) -> Result<Self, StoreError> {
        let (disk, body) = (Arc::clone(disk), Arc::clone(body));
        off_thread(move || {
            disk.keep_body(&body.file, &name).map_err(StoreError::failed)?;
            // Only now is the name ours to remove.
            let kept = Self { disk, name, needed: false };
            kept.disk.sync_folder().map_err(StoreError::failed)?;
            Ok(kept)
        })
        .await
    }

    /// A row refers to it.
    pub(super) fn needed(mut self) {
        self.needed = true;
    }

    /// Whether a row refers to it will be known later. Its name.
    pub(super) fn doubtful(mut self) -> String {
        self.needed = true;
        std::mem::take(&mut self.name)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        if !self.needed {
            // Where it fails, the sweep at the next open removes it.
            let _ = self.disk.remove(&self.name);
        }
    }
}
