//! The one thread that writes: group commit without a timer.
//!
//! It takes all that waits in its channel, does everything in one redb transaction, writes the payloads and what was changed into the log, syncs that, commits the
//! transaction to memory, and answers all. What comes meanwhile is the next batch. redb's own file follows by [checkpoints](super::checkpoint). When log or
//! database fail, everybody in the batch is told; then the database is reopened and all that is in memory is read from it anew, so that memory is never ahead of the disk.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use ::redb::{Database, Durability, StorageBackend, StorageError};
use tokio::sync::{mpsc, oneshot};

use super::{
    command::Command,
    ledger::Ledger,
    log::Log,
    open,
    shared::Shared,
    staging::{StageError, apply, stage},
    tables::Tables,
    waiting::{Waiting, refuse},
    work::{After, Work},
};
use crate::{envelope::Timestamp, store::Position};

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
    /// The last frame of the journal whose batch was committed. Those after it, if any, are void.
    pub(super) committed: u64,
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
    pub(super) shrunk: Option<(Timestamp, u64)>,
}

/// What makes a transaction last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// Its frame in the journal.
    ByJournal,
    /// Its own commit.
    ByItself,
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
        self.close();
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
            self.commit(batch)?;
            self.checkpoint_if_due()?;
            if prunes {
                self.shrink();
            }
            Ok::<_, ::redb::Error>(())
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

    /// Leaves nothing to be done again at the next opening.
    fn close(&mut self) {
        let ahead = self.database.is_some() && self.log.is_ahead();
        let done = ahead.then(|| catch_unwind(AssertUnwindSafe(|| self.checkpoint())));
        match done {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::warn!(%error, "the database could not be brought up to the journal; the next start does it"),
            Some(Err(_)) => self.abandon(),
        }
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
        let result = self.transact(&database, Durable::ByJournal, |work| {
            work.shared.index.lock().advance(now);
            let staged = stage(work, batch);
            for &(position, attempt) in &returned {
                work.unclaim(position, attempt, now)?;
            }
            let (staged, no_payload) = match staged {
                Ok(staged) => (staged, None),
                Err(StageError::Database(error)) => return Err(error),
                Err(StageError::Log(error)) => {
                    work.log.forget_staged();
                    (Vec::new(), Some(error))
                }
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

    /// Does `verbs` in one transaction, which is durable then. Should they change nothing, nothing is written.
    pub(super) fn transact<T>(
        &mut self,
        database: &Database,
        durable: Durable,
        verbs: impl FnOnce(&mut Work<'_, '_>) -> Result<T, ::redb::Error>,
    ) -> Result<(After, T), ::redb::Error> {
        let mut transaction = database.begin_write()?;
        let (after, result, changes) = {
            let Self { shared, log, ledger, .. } = &mut *self;
            let tables = Tables::open(&transaction)?;
            let mut work = Work { tables, shared, log, ledger, after: After::default() };
            let result = verbs(&mut work)?;
            work.write_ledger()?;
            (work.after, result, work.tables.into_changes())
        };
        if !after.changed {
            transaction.abort()?;
            return Ok((after, result));
        }
        if durable == Durable::ByJournal && self.log.seal(changes).map_err(StorageError::Io)? {
            transaction.set_durability(Durability::None).map_err(|error| StorageError::Corrupted(error.to_string()))?;
            transaction.commit().inspect_err(|_| self.unsure = true)?;
        } else {
            self.checkpoint_with(transaction)?;
            self.checkpoint()?;
        }
        self.committed = self.log.sequence();
        self.shared.health.commits.fetch_add(1, Relaxed);
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
