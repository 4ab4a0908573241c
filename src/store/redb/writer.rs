//! The one thread that writes: group commit without a timer.
//!
//! It takes all that waits in its channel, does everything in the one redb transaction that is open, and sends the payloads and what was changed on their way to the
//! log: [`flight`](super::flight) writes and syncs them, and answers all. What comes meanwhile is done in the next batch, which is sent when the one before has landed. redb
//! follows by [checkpoints](super::checkpoint), and when somebody looks. When log or database fail, everybody in the batch, and in the one that was being done, is told; then the database is reopened
//! and all that is in memory is read from it anew, so that memory is ahead of the disk by nothing that anybody was told.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use ::redb::{Database, StorageError, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    command::Command,
    disk::DatabaseFile,
    flight::{Behind, Syncer, Way},
    held::Held,
    ledger::Ledger,
    log::{Log, Unwritten},
    open,
    shared::Shared,
    tables::Tables,
    waiting::refuse,
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
    /// Of the batch that is being done.
    pub(super) next: Behind,
    /// Of the one that is under way.
    pub(super) behind: Option<Behind>,
    /// None until the writer runs.
    pub(super) syncer: Option<Syncer>,
    pub(super) tried_at: Option<Instant>,
    /// A commit of redb has failed: what is read from its file may not be on the disk.
    pub(super) unsure: bool,
    /// What was done in redb since it was last committed, and what has yet to be.
    pub(super) transaction: Option<WriteTransaction>,
    pub(super) held: Held,
    /// The file under the database.
    pub(super) file: Option<Arc<DatabaseFile>>,
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
    /// A writer of what has just been opened, up to the frame `committed`.
    pub(super) fn new(
        shared: Shared,
        log: Log,
        ledger: Ledger,
        (database, file): (Arc<Database>, Arc<DatabaseFile>),
        committed: u64,
    ) -> Self {
        Self {
            shared: Arc::new(shared),
            log,
            ledger,
            in_flight: HashMap::default(),
            database: Some(database),
            committed,
            doubtful: Vec::new(),
            next: Behind::default(),
            behind: None,
            syncer: None,
            tried_at: None,
            unsure: false,
            transaction: None,
            held: Held::default(),
            file: Some(file),
            abandoned: 0,
            shrunk: None,
        }
    }

    /// Serves until the store is closed or let go.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut closing = None;
        // What came while a batch was done, and could not ride in it, is left for the next.
        while closing.is_none() && (!batch.is_empty() || commands.blocking_recv_many(&mut batch, BATCH) > 0) {
            closing = self.serve(&mut batch, &mut commands);
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

    fn serve(&mut self, batch: &mut Vec<Command>, commands: &mut mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
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
            if prunes {
                // It moves what lies in the segments, and so must find it there.
                self.land()?;
            }
            self.commit(batch, commands)?;
            self.land_if_done()?;
            if prunes || self.shared.ahead.is_wanted() {
                self.land()?;
                self.show()?;
            }
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
        if let Err(error) = self.land() {
            self.fail(error.to_string().into());
        }
        let ahead = self.database.is_some() && self.log.is_ahead();
        let done = ahead.then(|| catch_unwind(AssertUnwindSafe(|| self.checkpoint())));
        match done {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::warn!(%error, "the database could not be brought up to the journal; the next start does it"),
            Some(Err(_)) => self.abandon(),
        }
        self.transaction = None;
        // Who waits to look need not wait for what does not come.
        self.shared.ahead.fail();
    }

    pub(super) fn fail(&mut self, why: Arc<str>) {
        // What is under way may come to its end nevertheless.
        let _ = self.land();
        self.shared.returned.lock().splice(..0, std::mem::take(&mut self.next).returned);
        tracing::error!(error = &*why, "a commit failed; nothing of it was acknowledged, and the database is being reopened");
        self.shared.health.set_failing(Some(why));
        self.log.forget_staged();
        self.file.take().iter().for_each(|file| file.let_go());
        self.let_go();
        *self.shared.database.write() = None;
        self.shared.ahead.fail();
        self.tried_at = None;
    }

    /// Leaves a database that has panicked where it is: redb cannot close one whose locks a panic has poisoned. Its file is let go, so that
    /// it can be opened again.
    fn abandon(&mut self) {
        std::mem::forget((self.transaction.take(), self.database.take()));
        self.abandoned += 1;
        if let Some(Err(error)) = self.file.take().map(|file| file.close()) {
            tracing::warn!(%error, "the file of a database that panicked could not be closed");
        }
    }

    /// Forgets the database, and what was done in it.
    fn let_go(&mut self) {
        self.held = Held::default();
        self.transaction = None;
        self.database = None;
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
                self.let_go();
                *self.shared.database.write() = None;
                self.shared.health.set_failing(Some(error.to_string().into()));
                false
            }
        }
    }

    fn commit(&mut self, batch: &mut Vec<Command>, commands: &mut mpsc::Receiver<Command>) -> Result<(), ::redb::Error> {
        self.mend_log();
        batch.retain(|command| !matches!(command, Command::Nudge));
        let returned = std::mem::take(&mut *self.shared.returned.lock());
        let Some(database) = self.database.clone().filter(|_| !batch.is_empty() || !returned.is_empty()) else { return Ok(()) };
        self.next.returned.clone_from(&returned);
        let begun = Instant::now();
        let (mut waiting, mut no_payload) = (Vec::with_capacity(batch.len()), None);
        let (mut operations, mut adds) = (0, 0);
        let result = self.transact(&database, Durable::ByJournal, |work| {
            let now = work.shared.clock.now();
            returned.iter().try_for_each(|&(position, attempt)| work.unclaim(position, attempt, now))?;
            let mut is_last = !work.shared.ahead.is_any();
            loop {
                operations += batch.len();
                adds += work.doubt(batch);
                no_payload = work.do_all(batch, &mut waiting)?.or(no_payload.take());
                if is_last || operations >= BATCH {
                    return Ok(());
                }
                // As long as the batch before is under way, whoever has come rides in this one. Nobody wakes this thread before that has landed.
                is_last = !work.shared.ahead.is_any();
                take(commands, batch, BATCH - operations);
                if batch.is_empty() && !is_last {
                    work.shared.ahead.wait_to_land();
                    is_last = true;
                    take(commands, batch, BATCH - operations);
                }
                if batch.is_empty() {
                    return Ok(());
                }
                if batch.iter().any(|command| matches!(command, Command::Close(_) | Command::Prune(..))) {
                    return Ok(());
                }
            }
        });
        self.next.adds = adds;
        if let Some(why) = no_payload {
            tracing::error!(error = &*why, "payloads could not be written; nothing new is accepted until they can");
            self.shared.health.set_failing(Some(why));
        }
        // Where few wait, two threads would cost more than they save.
        let way = if commands.len() >= self.shared.tuning.beside { Way::Beside } else { Way::Here };
        let sent = result.and_then(|(after, (), unwritten)| self.send(after, unwritten, (operations as u64, begun), way, &mut waiting));
        if let Err(error) = sent {
            let why: Arc<str> = error.to_string().into();
            self.fail(Arc::clone(&why));
            waiting.into_iter().for_each(|waiting| waiting.refuse(&why, &self.shared));
        }
        Ok(())
    }

    /// Does `verbs` in one transaction. It is durable then, or when what is left to be written is. Should they change nothing, nothing is written.
    pub(super) fn transact<T>(
        &mut self,
        database: &Database,
        durable: Durable,
        verbs: impl FnOnce(&mut Work<'_, '_>) -> Result<T, ::redb::Error>,
    ) -> Result<(After, T, Option<Unwritten>), ::redb::Error> {
        let transaction = self.transaction(database)?;
        let (after, result, changes) = {
            let Self { shared, log, ledger, doubtful, held, .. } = &mut *self;
            let tables = Tables::open(&transaction, held)?;
            let mut work = Work { tables, shared, log, ledger, doubtful, after: After::default() };
            let result = verbs(&mut work)?;
            work.write_ledger()?;
            (work.after, result, work.tables.into_changes()?)
        };
        if !after.changed {
            self.transaction = Some(transaction);
            return Ok((after, result, None));
        }
        if durable == Durable::ByJournal
            && let Some(unwritten) = self.log.seal(changes).map_err(StorageError::Io)?
        {
            self.transaction = Some(transaction);
            self.shared.ahead.begin();
            return Ok((after, result, Some(unwritten)));
        }
        // What is in it would be durable before the batch that is under way.
        self.land()?;
        self.checkpoint_with(transaction)?;
        self.checkpoint()?;
        Ok((after, result, None))
    }

    /// Removes files, after the commit by which nothing needs them.
    pub(super) fn remove(&self, needless: &[String]) {
        for name in needless {
            if let Err(error) = self.shared.disk.remove(name) {
                tracing::warn!(file = name, %error, "a body that is no longer needed could not be removed; the next start removes it");
            }
        }
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

/// Takes up to `most` of those that wait.
fn take(commands: &mut mpsc::Receiver<Command>, batch: &mut Vec<Command>, most: usize) {
    let waiting = std::iter::from_fn(|| commands.try_recv().ok()).take(most);
    batch.extend(waiting.filter(|command| !matches!(command, Command::Nudge)));
}
