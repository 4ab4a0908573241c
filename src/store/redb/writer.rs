//! The one thread that writes: group commit without a timer.
//!
//! It takes all that waits in its channel, writes the payloads, syncs them, does everything in one redb transaction, and answers all. What comes meanwhile is the next
//! batch. When the database fails, everybody in the batch is told; then the database is reopened and all that is in memory is read from it anew,
//! so that memory is never ahead of the disk.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use ::redb::{Database, StorageBackend};
use tokio::sync::{mpsc, oneshot};

use super::{
    command::{Command, End, Settle},
    ledger::Ledger,
    open,
    row::Location,
    segments::{Log, Record},
    shared::Shared,
    waiting::{Waiting, refuse},
    work::{After, Tables, Work},
};
use crate::{
    envelope::RequestId,
    store::{Position, StoreError},
};

/// Most commands of one batch: a bound on what a failure can take with it, and on the memory of a batch.
const BATCH: usize = 1024;

/// Most databases that are abandoned: each may keep its cache.
const MOST_ABANDONED: u32 = 8;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    pub(super) ledger: Ledger,
    /// Attempts whose callers know of them.
    pub(super) in_flight: HashMap<Position, u32, ahash::RandomState>,
    /// None after a failure.
    pub(super) database: Option<Arc<Database>>,
    /// Requests of a failed commit: nobody was told of them, and yet they may be there.
    pub(super) doubtful: Vec<Position>,
    pub(super) tried_at: Option<Instant>,
    /// A commit of redb has failed: what is read from its file may not be on the disk.
    pub(super) unsure: bool,
    /// The file under the database.
    pub(super) file: Option<Arc<dyn StorageBackend>>,
    /// Databases that panicked, whose memory is lost.
    pub(super) abandoned: u32,
    /// When the database was last compacted, and to how many bytes.
    pub(super) shrunk: Option<(Instant, u64)>,
}

/// Where the bytes of a command were put.
#[derive(Default)]
struct Staged {
    own: Option<Location>,
    head: Option<Location>,
}

impl Writer {
    /// Serves until the store is closed or let go.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut closing = None;
        while closing.is_none() && commands.blocking_recv_many(&mut batch, BATCH) > 0 {
            closing = self.serve(&mut batch);
        }
        self.shared.health.closed.store(true, Relaxed);
        commands.close();
        *self.shared.database.write() = None;
        let shared = Arc::clone(&self.shared);
        shared.disk.release();
        // The locks go before anybody hears that they are gone.
        drop(self);
        drop(commands);
        drop(shared);
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    fn serve(&mut self, batch: &mut Vec<Command>) -> Option<oneshot::Sender<()>> {
        let closing = batch.iter().position(|command| matches!(command, Command::Close(_)));
        let closing = closing.and_then(|at| if let Command::Close(reply) = batch.remove(at) { Some(reply) } else { None });
        if self.database.is_none() && !self.recover() {
            let why = self.shared.health.failing().unwrap_or_else(|| "the database is being reopened".into());
            batch.drain(..).for_each(|command| refuse(command, &why));
            return closing;
        }
        // A panic of redb on bytes that it did not write is a failure of the disk, not the end of the store.
        let prunes = batch.iter().any(|command| matches!(command, Command::Prune(..)));
        let done = catch_unwind(AssertUnwindSafe(|| {
            let result = self.commit(batch);
            if prunes && result.is_ok() {
                self.shrink();
            }
            result
        }));
        match done {
            Ok(Ok(())) => return closing,
            Ok(Err(error)) => self.fail(error.to_string().into()),
            Err(_) => {
                self.abandon();
                self.fail("the database panicked".into());
            }
        }
        batch.drain(..).for_each(|command| refuse(command, "the store failed"));
        closing
    }

    pub(super) fn fail(&mut self, why: Arc<str>) {
        tracing::error!(error = &*why, "a commit failed; nothing of it was acknowledged, and the database is being reopened");
        self.shared.health.set_failing(Some(why));
        self.log.forget_staged();
        self.database = None;
        *self.shared.database.write() = None;
        self.tried_at = None;
    }

    /// Leaves a database that has panicked where it is: redb cannot close one whose locks a panic has poisoned. Its file is let go, so that
    /// it can be opened again.
    fn abandon(&mut self) {
        std::mem::forget(self.database.take());
        self.abandoned += 1;
        if let Some(Err(error)) = self.file.take().map(|file| file.close()) {
            tracing::warn!(%error, "the file of a database that panicked could not be closed");
        }
    }

    fn may_try(&mut self) -> bool {
        let every = self.shared.tuning.retry_every;
        let may = self.tried_at.is_none_or(|at| at.elapsed() >= every);
        if may {
            self.tried_at = Some(Instant::now());
        }
        may
    }

    fn recover(&mut self) -> bool {
        if self.abandoned > MOST_ABANDONED {
            let why = "the database panicked again and again; the store needs a restart, and maybe a backup";
            self.shared.health.set_failing(Some(why.into()));
            return false;
        }
        if !self.may_try() {
            return false;
        }
        match open::reopen(self) {
            Ok(()) => {
                tracing::info!("the store works again");
                self.shared.health.set_failing(None);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be reopened; trying again");
                self.database = None;
                *self.shared.database.write() = None;
                self.shared.health.set_failing(Some(error.to_string().into()));
                false
            }
        }
    }

    fn commit(&mut self, batch: &mut Vec<Command>) -> Result<(), ::redb::Error> {
        let returned = self.shared.returned.lock().clone();
        self.mend_log();
        batch.retain(|command| !matches!(command, Command::Nudge));
        let Some(database) = self.database.clone().filter(|_| !batch.is_empty() || !returned.is_empty()) else { return Ok(()) };
        let now = self.shared.clock.now();
        let operations = batch.len() as u64;
        self.doubtful.extend(batch.iter().filter_map(Command::adds));
        let mut waiting = Vec::with_capacity(batch.len());
        let begun = Instant::now();
        let result = self.transact(&database, |work| {
            work.shared.index.lock().advance(now);
            let staged = stage(work, batch);
            for &(position, attempt) in &returned {
                work.unclaim(position, attempt, now)?;
            }
            let (staged, no_payload) = match staged {
                Ok(staged) => (staged, None),
                Err(StageError::Database(error)) => return Err(error),
                Err(StageError::Log(error)) => (Vec::new(), Some(error)),
            };
            let mut staged = staged.into_iter();
            for command in batch.drain(..) {
                let staged = staged.next().unwrap_or_default();
                waiting.extend(apply(work, command, &staged, no_payload.as_deref())?);
            }
            Ok(no_payload)
        });
        match result {
            Ok((after, no_payload)) => {
                if let Some(why) = no_payload {
                    tracing::error!(error = &*why, "payloads could not be written; nothing new is accepted until they can");
                    self.shared.health.set_failing(Some(why));
                }
                self.doubtful.clear();
                // More may have come, behind these.
                self.shared.returned.lock().drain(..returned.len());
                if after.changed {
                    self.shared.health.count_commit(operations, begun.elapsed());
                }
                self.finish(after, waiting);
                Ok(())
            }
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                self.fail(Arc::clone(&why));
                waiting.into_iter().for_each(|waiting| waiting.refuse(&why));
                Ok(())
            }
        }
    }

    /// Does `verbs` in one durable transaction. Should they change nothing, nothing is written.
    pub(super) fn transact<T>(
        &mut self,
        database: &Database,
        verbs: impl FnOnce(&mut Work<'_, '_>) -> Result<T, ::redb::Error>,
    ) -> Result<(After, T), ::redb::Error> {
        let transaction = database.begin_write()?;
        let (after, result) = {
            let Self { shared, log, ledger, .. } = &mut *self;
            let tables = Tables::open(&transaction)?;
            let mut work = Work { tables, shared, log, ledger, after: After::default(), scratch: Vec::with_capacity(256) };
            let result = verbs(&mut work)?;
            work.write_ledger()?;
            (work.after, result)
        };
        if after.changed {
            transaction.commit().inspect_err(|_| self.unsure = true)?;
            self.shared.health.commits.fetch_add(1, Relaxed);
        } else {
            transaction.abort()?;
        }
        Ok((after, result))
    }

    /// Lets everybody see what was committed, then answers.
    pub(super) fn finish(&mut self, after: After, waiting: Vec<Waiting>) {
        self.publish(&after);
        let waiting: Vec<Waiting> = waiting.into_iter().map(Waiting::keep).collect();
        // No lock is held here: the end of a key's wait is told to the index.
        after.released.into_iter().for_each(|key| self.shared.turns.remove_stored(key));
        for &(position, attempt) in &after.flights {
            match attempt {
                Some(attempt) => self.in_flight.insert(position, attempt),
                None => self.in_flight.remove(&position),
            };
        }
        for (take, bytes) in after.room {
            if take { self.shared.capacity.take(bytes) } else { self.shared.capacity.release(bytes) }
        }
        waiting.into_iter().for_each(|waiting| waiting.answer(&self.shared));
        self.ring(after.rung);
        self.remove(&after.needless);
    }

    pub(super) fn publish(&mut self, after: &After) {
        let changed = self.ledger.take_changed();
        if changed.is_empty() && !after.changed {
            return;
        }
        let index = self.shared.index.lock();
        let mut published = self.shared.published.write();
        for (number, counts) in changed {
            let (backend, bytes, oldest) = index.backend_of(number);
            published.set_queue(backend, bytes, oldest);
            published.set_route(counts);
        }
    }

    pub(super) fn ring(&self, mut routes: Vec<u32>) {
        routes.sort_unstable();
        routes.dedup();
        for route in routes {
            let (backend, ..) = self.shared.index.lock().backend_of(route);
            self.shared.wakes.ring(&backend);
        }
    }

    /// Removes files, after the commit by which nothing needs them.
    pub(super) fn remove(&mut self, needless: &[String]) {
        for name in needless {
            if let Err(error) = self.shared.disk.remove(name) {
                tracing::warn!(file = name, %error, "a body that is no longer needed could not be removed; the next start removes it");
            }
        }
        self.log.sweep();
    }

    /// After payloads could not be written: sees whether they can again.
    fn mend_log(&mut self) {
        if self.shared.health.failing().is_some() && self.may_try() {
            match self.log.probe() {
                Ok(()) => self.shared.health.set_failing(None),
                Err(error) => self.shared.health.set_failing(Some(error.to_string().into())),
            }
        }
    }
}

enum StageError {
    Database(::redb::Error),
    Log(Arc<str>),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        Self::Log(error.to_string().into())
    }
}

/// Writes and syncs the bytes of a batch, before anything refers to them.
fn stage(work: &mut Work<'_, '_>, batch: &[Command]) -> Result<Vec<Staged>, StageError> {
    let mut all = Vec::with_capacity(batch.len());
    for command in batch {
        let mut staged = Staged::default();
        match command {
            Command::Append(append, _) => staged.own = Some(work.log.stage(&append.record)?),
            Command::Import(import, _) => {
                staged.own = Some(work.log.stage(&import.record)?);
                staged.head = import.answer.as_ref().map(|answer| work.log.stage(&answer.record)).transpose()?;
            }
            Command::Settle(Settle { id, end, answer, .. }, _) => {
                if let Some(answer) = answer {
                    staged.own = Some(work.log.stage(&answer.record)?);
                }
                if matches!(end, End::Delivered) {
                    staged.head = stage_head(work, *id)?;
                }
            }
            Command::Cancel(id, ..) => staged.head = stage_head(work, *id)?,
            _ => {}
        }
        all.push(staged);
    }
    work.log.sync()?;
    Ok(all)
}

/// The head of a request whose body is let go, in a record of its own, so that the segment of the body can go too.
fn stage_head(work: &mut Work<'_, '_>, id: RequestId) -> Result<Option<Location>, StageError> {
    let Some((_, row)) = work.tables.find(id).map_err(StageError::Database)? else { return Ok(None) };
    if row.request.body == 0 {
        return Ok(None);
    }
    // A damaged head stays where it is, to be found damaged by whoever asks.
    let Ok(head) = work.shared.readers.head(id, row.request) else { return Ok(None) };
    let Some(record) = Record::new(id, &head, &[]) else { return Ok(None) };
    Ok(Some(work.log.stage(&record)?))
}

fn apply(work: &mut Work<'_, '_>, command: Command, staged: &Staged, no_payload: Option<&str>) -> Result<Option<Waiting>, ::redb::Error> {
    Ok(Some(match command {
        Command::Append(mut append, reply) => {
            let result = match staged.own {
                Some(at) => work.append(&mut append, at)?,
                None => Err(StoreError::failed(no_payload.unwrap_or("its payload was not written"))),
            };
            Waiting::Append(append, reply, result)
        }
        Command::Import(mut import, reply) => {
            let result = match staged.own {
                Some(at) => work.import(&mut import, at, staged.head)?,
                None => Err(StoreError::failed(no_payload.unwrap_or("its payload was not written"))),
            };
            Waiting::Import(import, reply, result)
        }
        Command::Claim(claim, reply) => Waiting::Claim(reply, work.claim(&claim)?),
        Command::Settle(mut settle, reply) => {
            let result = work.settle(&mut settle, staged.own, staged.head)?;
            let file = settle.answer.and_then(|answer| answer.file).filter(|_| staged.own.is_some());
            Waiting::Done(reply, result, file)
        }
        Command::Cancel(id, at, reply) => Waiting::Done(reply, work.cancel(id, at, staged.head)?, None),
        Command::Redrive(dead, reply) => Waiting::Step(reply, work.redrive(&dead)?),
        Command::Discard(dead, reply) => Waiting::Step(reply, work.discard(&dead)?),
        Command::Prune(now, reply) => Waiting::Step(reply, work.prune(now)?),
        Command::Close(reply) => Waiting::Close(reply),
        Command::Nudge => return Ok(None),
    }))
}
