//! What the writer thread, readers and callers share.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ::redb::{Database, ReadTransaction, ReadableDatabase};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::mpsc::WeakSender;

use super::{
    ages::Class,
    command::Command,
    disk::Disk,
    flight::Ahead,
    index::Index,
    ledger::Published,
    row::{IDS, REQUESTS, Row, id_key},
    segments::Readers,
};
use crate::{
    envelope::{Clock, RequestId},
    store::{
        Ages, Limit, Position, Settings, Spooler, StoreError, StoreStatus, Turns, capacity::Capacity, refusing::Refusing, wakes::Wakes,
    },
};

/// Sizes that tests shrink, so that what happens seldom happens all the time.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of redb's cache.
    pub cache_bytes: usize,
    /// Bytes of redb's file up to which it is never worth making it shorter.
    pub database_bytes: u64,
    /// Time after which the database is to contain durably what the journal has: a crash leaves no more of it to be done again.
    pub checkpoint_every: Duration,
    /// Least time between two times that redb's file is made shorter.
    pub shrink_every: Duration,
    /// Bytes of a body that are kept in memory while it arrives.
    pub spool_threshold: usize,
    /// Bytes of memory that larger bodies may take, all together.
    pub spool_memory: usize,
    /// Least time between two attempts to get a failed store to work again.
    pub retry_every: Duration,
    /// How long a look at the free disk space holds.
    pub free_disk_every: Duration,
    /// Commands that wait for the writer.
    pub channel: usize,
    /// So many that wait are done beside the sync of the batch before theirs.
    pub beside: usize,
    /// Rows that one step of a prune, a redrive or a discard touches, so that others get their turn between two.
    pub step: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            database_bytes: 8 * 1024 * 1024,
            checkpoint_every: Duration::from_secs(1),
            shrink_every: Duration::from_secs(10),
            spool_threshold: Spooler::THRESHOLD,
            spool_memory: Spooler::BUDGET,
            retry_every: Duration::from_millis(250),
            free_disk_every: Duration::from_secs(1),
            channel: 1024,
            beside: 64,
            step: 1024,
        }
    }
}

/// Bytes that a fast disk, shared with others, takes between two looks at its free space.
const FAST_DISK: u64 = 4 * 1024 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tuning: Tuning,
    pub(super) clock: Clock,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) readers: Arc<Readers>,
    pub(super) turns: Arc<Turns>,
    pub(super) capacity: Arc<Capacity>,
    pub(super) refusing: Refusing,
    pub(super) spooler: Spooler,
    pub(super) wakes: Wakes,
    pub(super) index: Mutex<Index>,
    pub(super) published: RwLock<Published>,
    /// None while it is being reopened, and once closed. Readers hold it no longer than a look.
    pub(super) database: RwLock<Option<Arc<Database>>>,
    /// How far the writer is ahead of the disk, and of what is read there.
    pub(super) ahead: Ahead,
    /// Claims whose caller went away before it had them: the writer takes them back.
    pub(super) returned: Mutex<Vec<(Position, u32)>>,
    /// Files of requests and answers that went down with a batch.
    pub(super) doubtful_files: Mutex<Vec<String>>,
    pub(super) health: Health,
    /// Weak, since the writer ends when the last of its callers is gone.
    pub(super) writer: OnceLock<WeakSender<Command>>,
}

/// Who is told of every commit.
pub(super) struct Observer(pub(super) Box<dyn Fn(u64, Duration) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

#[derive(Debug, Default)]
pub(super) struct Health {
    failing: Mutex<Option<Arc<str>>>,
    is_failing: AtomicBool,
    pub(super) closed: AtomicBool,
    pub(super) damaged: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) committed: OnceLock<Observer>,
    free: Mutex<Option<(Instant, u64)>>,
}

impl Health {
    /// A commit is durable, in which so many operations rode.
    pub(super) fn count_commit(&self, operations: u64, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        self.operations.fetch_add(operations, Relaxed);
        if let Some(observer) = self.committed.get() {
            observer.0(operations, took);
        }
    }

    pub(super) fn failing(&self) -> Option<Arc<str>> {
        if self.is_failing.load(Relaxed) { self.failing.lock().clone() } else { None }
    }

    pub(super) fn set_failing(&self, why: Option<Arc<str>>) {
        self.is_failing.store(why.is_some(), Relaxed);
        *self.failing.lock() = why;
    }
}

impl Shared {
    /// Whether a request of which `unwritten` bytes are not on the disk yet may come in, its reservation apart.
    pub(super) fn is_open(&self, unwritten: u64) -> Result<(), StoreError> {
        if self.health.closed.load(Relaxed) {
            return Err(StoreError::Closed);
        }
        if let Some(why) = self.health.failing() {
            return Err(StoreError::Failed(why));
        }
        let floor = self.settings.min_free_disk;
        if floor > 0 && self.free_disk().saturating_sub(unwritten) < floor {
            return Err(Limit::FreeDisk(floor).into());
        }
        Ok(())
    }

    /// Has the writer try again after a failure, or take back claims, if it is idle.
    pub(super) fn nudge(&self) {
        if let Some(writer) = self.writer.get().and_then(WeakSender::upgrade) {
            // A full channel has it look anyhow.
            let _ = writer.try_send(Command::Nudge);
        }
    }

    /// Free bytes. A look holds for `free_disk_every`, unless so little was left above the floor that it may be gone sooner.
    pub(super) fn free_disk(&self) -> u64 {
        let mut free = self.health.free.lock();
        if let Some((at, bytes)) = *free
            && bytes.saturating_sub(self.settings.min_free_disk) >= FAST_DISK
            && at.elapsed() < self.tuning.free_disk_every
        {
            return bytes;
        }
        // A file system that does not say is taken to have room; a write that finds none fails cleanly.
        let bytes = self.disk.free().unwrap_or(u64::MAX);
        *free = Some((Instant::now(), bytes));
        bytes
    }

    pub(super) fn status(&self) -> StoreStatus {
        let (requests, bytes) = self.published.read().held();
        let ages = {
            let ages = &self.index.lock().ages;
            Ages {
                max_age: ages.next(Class::Expires, Duration::ZERO),
                keep_delivered: ages.next(Class::Kept, self.settings.keep_delivered),
                keep_dead: ages.next(Class::Dead, self.settings.keep_dead),
            }
        };
        StoreStatus {
            failing: self.health.failing().map(|why| why.to_string()),
            requests,
            bytes,
            free_disk: self.free_disk(),
            refusals: self.refusing.status(),
            ages,
            damaged: self.health.damaged.load(Relaxed),
            commits: self.health.commits.load(Relaxed),
            committed_operations: self.health.operations.load(Relaxed),
        }
    }

    /// A look at the database: it has all that anybody was told of, and nothing that is not durable.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        if self.health.closed.load(Relaxed) {
            return Err(StoreError::Closed);
        }
        self.ahead.wait_to_read(|| self.nudge());
        let database = self.database.read().clone();
        let database = database.ok_or_else(|| StoreError::failed("the database is being reopened"))?;
        database.begin_read().map_err(StoreError::failed)
    }

    /// A request's position and row.
    pub(super) fn find(&self, id: RequestId) -> Result<(Position, Row), StoreError> {
        let read = self.begin_read()?;
        let ids = read.open_table(IDS).map_err(StoreError::failed)?;
        let position = ids.get(id_key(id)).map_err(StoreError::failed)?.ok_or(StoreError::NotFound)?.value();
        let requests = read.open_table(REQUESTS).map_err(StoreError::failed)?;
        let bytes = requests.get(position).map_err(StoreError::failed)?.ok_or(StoreError::NotFound)?;
        Ok((position, Row::decode(bytes.value()).map_err(StoreError::failed)?))
    }
}
