//! The real engine: redb is the queue, payloads lie beside it.
//!
//! - [`row`]: what redb holds; `tables`: written, in one transaction. `segments`: the payload files; `log`: written. `disk`: the seam to the file system.
//! - `journal`: what a batch changed, durable with its payloads; `checkpoint`: when redb has it too; `redo`: when it does not.
//! - `index`, `keys`, `ages`: the scheduler in memory. `ledger`: the exact counts; `hours`: the same by the hour.
//! - `writer`: the one thread that does all that changes; `flight`: its batches on their way to the disk; `staging`, `work`: commands, and the verbs in its transactions; `waiting`: its answers. `read`: looks, beside it.
//! - `closed`: a store that nobody runs, looked at without changing it; `verify`: whether it is whole.
//! - `moving`: whole requests out of a closed store and into an open one.
//! - `open`: opening, recovery, and reopening after an error. `format`: files of older programs.
//!
//! This file turns the store's verbs into commands to the writer, and does on the callers' side what need not be done by it: encoding,
//! checksums, syncing large bodies, reading bodies.

mod ages;
mod checkpoint;
mod closed;
mod command;
mod compact;
mod disk;
mod flight;
mod format;
mod held;
mod hours;
mod index;
mod journal;
mod ledger;
mod load;
mod log;
mod moving;
mod open;
mod read;
mod rebuild;
mod redo;
mod row;
mod segments;
mod shared;
mod shrink;
mod staging;
mod tables;
mod verify;
mod waiting;
mod work;
mod writer;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use self::{
    command::{Append, ClaimedRows, Command, Dead, End, KeptFile, Reply, Settle, Step, StoredAnswer},
    disk::FileDisk,
    row::{Row, answer_name, body_name},
    segments::Record as SegmentRecord,
    shared::{Observer, Shared},
};
use super::{
    Answer, Appended, Claim, Claimed, Counts, Filter, History, NewRequest, OpenError, Outcome, Page, Payload, Record, Settings, Spooler,
    Store, StoreError, StoreStatus, Turn, capacity::Reserved, payload::off_thread, records,
};
use crate::envelope::{Clock, DeadReason, Envelope, Name, OrderKey, RequestId, Timestamp};

pub use closed::ClosedStore;
pub(super) use disk::payload_folder;
pub(crate) use disk::sync_parent;
pub use disk::{Disk, Segment};
pub use shared::Tuning;
pub use verify::{Check, Report, verify};

/// A queue on disk.
pub struct RedbStore {
    shared: Arc<Shared>,
    /// None once closed.
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// A store that is ours, but not open.
#[derive(Debug)]
pub struct LockedStore {
    settings: Settings,
    disk: Arc<FileDisk>,
}

impl LockedStore {
    /// Opens it, or makes it. Blocks: a start walks an index of all that is queued.
    pub fn open(self, clock: Clock) -> Result<Arc<RedbStore>, OpenError> {
        RedbStore::open_with(self.settings, clock, Tuning::default(), self.disk)
    }
}

impl RedbStore {
    /// Takes the lock of the store at `settings.path`, and makes its folders. Who has it may open the store, and nobody else.
    pub fn lock(settings: Settings) -> Result<LockedStore, OpenError> {
        let disk = Arc::new(FileDisk::open(&settings)?);
        Ok(LockedStore { settings, disk })
    }

    /// Opens the store at `settings.path`, or makes one. Blocks: a start walks an index of all that is queued.
    pub fn open(settings: Settings, clock: Clock) -> Result<Arc<Self>, OpenError> {
        Self::lock(settings)?.open(clock)
    }

    /// Opens the store on the real disk with sizes of one's own.
    pub fn open_tuned(settings: Settings, clock: Clock, tuning: Tuning) -> Result<Arc<Self>, OpenError> {
        let disk = Arc::new(FileDisk::open(&settings)?);
        Self::open_with(settings, clock, tuning, disk)
    }

    /// Opens what is on `disk`. Spooled bodies go to the payload folder of `settings.path`, which must be there.
    pub fn open_with(settings: Settings, clock: Clock, tuning: Tuning, disk: Arc<dyn Disk>) -> Result<Arc<Self>, OpenError> {
        let path = settings.path.clone();
        let writer = open::open(settings, clock, tuning, disk)?;
        let (shared, commands, writer) = open::start(writer).map_err(|source| OpenError::Io { path, source })?;
        Ok(Arc::new(Self { shared, commands: Mutex::new(Some(commands)), writer: Mutex::new(Some(writer)) }))
    }

    /// Has `told` called after every commit, on the writer's thread: with the operations that rode in it, and the time from its first write to the
    /// return of its last sync. Only the first call counts.
    pub fn on_commit(&self, told: impl Fn(u64, Duration) + Send + Sync + 'static) {
        let _ = self.shared.health.committed.set(Observer(Box::new(told)));
    }

    fn sender(&self) -> Result<mpsc::Sender<Command>, StoreError> {
        self.commands.lock().clone().ok_or(StoreError::Closed)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.sender()?.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or_else(|_| {
            let closed = self.shared.health.closed.load(Relaxed);
            Err(if closed { StoreError::Closed } else { StoreError::failed("the commit did not come to its end") })
        })
    }

    fn check_open(&self, unwritten: u64) -> Result<(), StoreError> {
        let result = self.shared.is_open(unwritten);
        if let Err(StoreError::Failed(_)) = result {
            self.shared.nudge();
        }
        result
    }

    /// Takes room for a request.
    fn reserve(&self, head: &[u8], payload: &Payload) -> Result<Reserved, StoreError> {
        let reserved = self.check_open(unwritten(head, payload)).and_then(|()| {
            let bytes = head.len() as u64 + payload.len();
            Ok(self.shared.capacity.reserve(bytes)?)
        });
        self.shared.refusing.note(reserved, &self.shared.clock)
    }

    async fn append_now(&self, request: NewRequest) -> Result<Appended, StoreError> {
        let NewRequest { envelope, payload, turn } = request;
        debug_assert_eq!(turn.key(), envelope.order_key, "a turn is of the key of its request");
        let head = records::request_head(&envelope, &payload);
        let bytes = head.len() as u64 + payload.len();
        let reserved = self.reserve(&head, &payload)?;
        let inline: &[u8] = payload.as_memory().map_or(&[], |bytes| bytes);
        let record = SegmentRecord::new(envelope.id, &head, inline).ok_or_else(|| StoreError::failed("a body of 4 GiB must be spooled"))?;
        let file = self.keep_file(&payload, || body_name(envelope.id)).await?;
        let row = Row::new(&envelope, bytes, payload.len(), file.is_some());
        let Envelope { backend, route, .. } = envelope;
        let append = Box::new(Append { backend, route, row, record, turn, reserved, file });
        self.ask(|reply| Command::Append(append, reply)).await
    }

    async fn keep_file(&self, payload: &Payload, name: impl FnOnce() -> String) -> Result<Option<KeptFile>, StoreError> {
        match payload.as_file() {
            Some(body) => KeptFile::keep(&self.shared.disk, body, name()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn claim_now(&self, backend: &str, full_routes: &[Name], max: usize, now: Timestamp) -> Result<Vec<Claimed>, StoreError> {
        // Given back to the queue should this future be dropped or fail before its caller has them.
        let mut held = Vec::new();
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let wanted = max - claimed.len();
            let claim = command::Claim { backend: backend.into(), full_routes: full_routes.to_vec(), max: wanted, now };
            let claim = self.ask(|reply| Command::Claim(claim, reply)).await?;
            if claim.rows().is_empty() {
                break;
            }
            let (shared, rows) = (Arc::clone(&self.shared), claim.rows().to_vec());
            held.push(claim);
            let got = rows.len();
            let (whole, damaged) = off_thread(move || read::claimed(&shared, &rows)).await?;
            claimed.extend(whole);
            for &(id, attempt) in &damaged {
                self.set_aside(id, attempt, now).await?;
            }
            // Fewer than wanted means that there were no more, unless a key has just been let go.
            if got < wanted && damaged.is_empty() {
                break;
            }
        }
        held.into_iter().for_each(ClaimedRows::taken);
        Ok(claimed)
    }

    /// One damaged record is no reason not to go on with the others.
    async fn set_aside(&self, id: RequestId, attempt: u32, at: Timestamp) -> Result<(), StoreError> {
        tracing::error!(%id, "the stored bytes of a request are damaged; it is set aside among the dead letters");
        let why = "its stored bytes do not match their checksum".to_owned();
        self.settle_now(id, attempt, at, Outcome::Dead { reason: DeadReason::Damaged, why, answer: None }).await
    }

    async fn settle_now(&self, id: RequestId, attempt: u32, at: Timestamp, outcome: Outcome) -> Result<(), StoreError> {
        // Those that are found damaged only while they are sent count as well.
        let is_damaged = matches!(outcome, Outcome::Dead { reason: DeadReason::Damaged, .. });
        let (end, answer) = match outcome {
            Outcome::Delivered(answer) => (End::Delivered, Some(answer)),
            Outcome::Again { due, consumes_attempt, trips, why } => (End::Again { due, consumes_attempt, trips, why }, None),
            Outcome::Dead { reason, why, answer } => (End::Dead { reason, why }, answer),
        };
        let answer = match answer {
            Some(answer) => Some(self.store_answer(id, attempt, answer).await?),
            None => None,
        };
        self.ask(|reply| Command::Settle(Settle { id, attempt, at, end, answer }, reply)).await?;
        self.shared.health.damaged.fetch_add(u64::from(is_damaged), Relaxed);
        Ok(())
    }

    async fn store_answer(&self, id: RequestId, attempt: u32, answer: Answer) -> Result<StoredAnswer, StoreError> {
        let file = self.keep_file(&answer.payload, || answer_name(id, attempt)).await?;
        let stored = answer.payload.as_file().map(|file| records::File { len: file.len, crc: file.crc });
        let inline: &[u8] = answer.payload.as_memory().map_or(&[], |bytes| bytes);
        let record = SegmentRecord::new(id, &records::encode_answer(&answer, stored), inline);
        Ok(StoredAnswer {
            status: answer.status,
            record: record.ok_or_else(|| StoreError::failed("an answer of 4 GiB must be spooled"))?,
            file,
        })
    }

    /// Walks dead letters in steps.
    async fn walk(&self, filter: Filter, at: Timestamp, limit: u64, command: fn(Dead, Reply<Step>) -> Command) -> Result<u64, StoreError> {
        let mut touched = 0;
        let mut after = Some(0);
        while let Some(position) = after.filter(|_| touched < limit) {
            let dead = Dead { filter: filter.clone(), at, after: position, limit: limit - touched };
            let step = self.ask(|reply| command(dead, reply)).await?;
            touched += step.touched;
            after = step.next;
        }
        Ok(touched)
    }

    async fn prune_now(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.shared.refusing.look(now);
        let mut touched = 0;
        loop {
            let step = self.ask(|reply| Command::Prune(now, reply)).await?;
            touched += step.touched;
            if step.next.is_none() {
                return Ok(touched);
            }
        }
    }

    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(off_thread(move || look(&shared)))
    }
}

/// Bytes of a request that are not on the disk yet.
fn unwritten(head: &[u8], payload: &Payload) -> u64 {
    head.len() as u64 + payload.as_memory().map_or(0, |bytes| bytes.len() as u64)
}

impl Store for RedbStore {
    fn turn(&self, key: Option<OrderKey>) -> Result<Turn, StoreError> {
        Ok(self.shared.turns.enter(key))
    }

    fn room(&self, bytes: u64, written: u64) -> Result<(), StoreError> {
        let room = self.check_open(bytes.saturating_sub(written)).and_then(|()| Ok(self.shared.capacity.check(bytes)?));
        self.shared.refusing.note(room, &self.shared.clock)
    }

    fn spooler(&self) -> &Spooler {
        &self.shared.spooler
    }

    fn append(&self, request: NewRequest) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(self.append_now(request))
    }

    fn claim<'a>(&'a self, claim: Claim<'a>) -> BoxFuture<'a, Result<Vec<Claimed>, StoreError>> {
        Box::pin(self.claim_now(claim.backend, claim.full_routes, claim.max, claim.now))
    }

    fn settle(&self, id: RequestId, attempt: u32, at: Timestamp, outcome: Outcome) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.settle_now(id, attempt, at, outcome))
    }

    fn cancel(&self, id: RequestId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |reply| Command::Cancel(id, at, reply)))
    }

    fn redrive(&self, filter: Filter, at: Timestamp, limit: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.walk(filter, at, limit, Command::Redrive))
    }

    fn discard(&self, filter: Filter, at: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.walk(filter, at, u64::MAX, Command::Discard))
    }

    fn prune(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.prune_now(now))
    }

    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Record, StoreError>> {
        self.look(move |shared| shared.record(id))
    }

    fn body(&self, id: RequestId) -> BoxFuture<'_, Result<Payload, StoreError>> {
        self.look(move |shared| shared.body(id))
    }

    fn answer(&self, id: RequestId) -> BoxFuture<'_, Result<Answer, StoreError>> {
        self.look(move |shared| shared.answer(id))
    }

    fn page(&self, filter: Filter, after: Option<RequestId>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.look(move |shared| shared.page(&filter, after, limit))
    }

    fn counts(&self) -> Counts {
        self.shared.published.read().counts()
    }

    fn history(&self, from: Timestamp) -> BoxFuture<'_, Result<History, StoreError>> {
        self.look(move |shared| shared.history(from))
    }

    fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    fn wake(&self, backend: &str) -> Arc<Notify> {
        self.shared.wakes.of(backend)
    }

    fn pending(&self, key: OrderKey) -> u32 {
        self.shared.turns.stored(key)
    }

    fn next_due(&self, backend: &str, full_routes: &[Name]) -> Option<Timestamp> {
        self.shared.index.lock().next_due(backend, full_routes)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(sender) = self.commands.lock().take() else { return };
            let (reply, closed) = oneshot::channel();
            // Where the writer has ended already, there is nothing to wait for.
            if sender.send(Command::Close(reply)).await.is_ok() {
                let _ = closed.await;
            }
        })
    }
}

/// Lets go without closing: what is in the channel is still committed, and the locks are free afterwards.
impl Drop for RedbStore {
    fn drop(&mut self) {
        self.commands.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            // It only ends early by a panic, of which it has said all that there is to say.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.shared.settings.path).field("status", &self.status()).finish_non_exhaustive()
    }
}
