//! The way of a batch to the disk, beside the writer: while one is synced, the writer does the next in memory.
//!
//! One batch at a time is under way. The thread here writes and syncs it, and then lets everybody see it and answers, so that nobody hears of anything that is not
//! durable. What the writer has done in memory meanwhile becomes the next batch only when the one before has landed; should that fail, both are refused and
//! all that is in memory is read anew. Who looks at the database may see what is still under way, and so waits with its answer until that has landed.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use ::redb::StorageError;
use parking_lot::{Condvar, Mutex};

use super::{log::Unwritten, shared::Shared, waiting::Waiting, work::After, writer::Writer};
use crate::{
    envelope::{Name, OrderKey, Timestamp},
    store::{Position, RouteCounts},
};

/// How far what can be read from the database is ahead of the disk.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Batches that can be read, and those of them that are durable.
    read: u64,
    durable: u64,
    failures: u64,
}

impl Ahead {
    /// A batch that is not durable can be read from now on.
    pub(super) fn begin(&self) {
        self.state.lock().read += 1;
    }

    fn land(&self) {
        self.state.lock().durable += 1;
        self.moved.notify_all();
    }

    /// What is not durable will not be. To be told when the database that has it is no longer to be had.
    pub(super) fn fail(&self) {
        let mut state = self.state.lock();
        state.failures += 1;
        state.durable = state.read;
        drop(state);
        self.moved.notify_all();
    }

    pub(super) fn is_any(&self) -> bool {
        let state = self.state.lock();
        state.durable < state.read
    }

    /// How often that has come about so far.
    pub(super) fn failures(&self) -> u64 {
        self.state.lock().failures
    }

    /// Waits until all that can be read now is durable. False where anything has been lost since there were so many `failures`.
    pub(super) fn wait(&self, failures: u64) -> bool {
        let mut state = self.state.lock();
        let read = state.read;
        while state.durable < read && state.failures == failures {
            self.moved.wait(&mut state);
        }
        state.failures == failures
    }
}

/// What others are to see and to hear of a batch once it is durable.
pub(super) struct News {
    /// Counts of routes that changed, and of their backends: bytes, and the oldest second.
    counts: Vec<(RouteCounts, Name, u64, Option<Timestamp>)>,
    /// Backends that may have something to claim.
    rung: Vec<Name>,
    released: Vec<OrderKey>,
    room: Vec<(bool, u64)>,
    waiting: Vec<Waiting>,
}

impl News {
    /// Lets everybody see what was committed, then answers.
    fn tell(self, shared: &Arc<Shared>) {
        if !self.counts.is_empty() {
            let mut published = shared.published.write();
            for (counts, backend, bytes, oldest) in self.counts {
                published.set_queue(backend, bytes, oldest);
                published.set_route(counts);
            }
        }
        let waiting: Vec<Waiting> = self.waiting.into_iter().map(Waiting::keep).collect();
        // No lock is held here: the end of a key's wait is told to the index.
        self.released.into_iter().for_each(|key| shared.turns.remove_stored(key));
        for (take, bytes) in self.room {
            if take { shared.capacity.take(bytes) } else { shared.capacity.release(bytes) }
        }
        waiting.into_iter().for_each(|waiting| waiting.answer(shared));
        self.rung.iter().for_each(|backend| shared.wakes.ring(backend));
    }
}

/// A batch on its way.
struct Flight {
    unwritten: Unwritten,
    news: News,
    operations: u64,
}

/// What the writer has yet to do when the batch has landed.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Requests that it adds.
    pub(super) adds: usize,
    /// Claims that it takes back.
    pub(super) returned: Vec<(Position, u32)>,
    /// Attempts that begin (with their number) or end.
    flights: Vec<(Position, Option<u32>)>,
    /// Files that nothing needs.
    needless: Vec<String>,
    /// Its frame.
    sequence: u64,
}

/// The thread, and what is between it and the writer.
#[derive(Debug)]
pub(super) struct Syncer {
    /// None once it is to end.
    flights: Option<SyncSender<Flight>>,
    landed: Receiver<Result<Vec<u8>, Unlanded>>,
    thread: Option<JoinHandle<()>>,
}

/// A batch that did not come to the disk, and the segment in which that leaves what is not known.
#[derive(Debug)]
struct Unlanded {
    why: String,
    segment: u32,
}

impl Syncer {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (flights, coming) = sync_channel(1);
        let (told, landed) = sync_channel(1);
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("store-sync".to_owned()).spawn(move || serve(&shared, &coming, &told))?;
        Ok(Self { flights: Some(flights), landed, thread: Some(thread) })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.flights = None;
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn serve(shared: &Arc<Shared>, flights: &Receiver<Flight>, landed: &SyncSender<Result<Vec<u8>, Unlanded>>) {
    for Flight { unwritten, news, operations } in flights {
        let begun = Instant::now();
        let written = catch_unwind(AssertUnwindSafe(|| unwritten.write()));
        let result = match written.unwrap_or_else(|_| Err(io::Error::other("the disk panicked"))) {
            Ok(()) => {
                shared.ahead.land();
                shared.health.count_commit(operations, begun.elapsed());
                news.tell(shared);
                Ok(unwritten.into_bytes())
            }
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                // Nothing is accepted from here on, until the writer has the database again.
                shared.health.set_failing(Some(Arc::clone(&why)));
                *shared.database.write() = None;
                shared.ahead.fail();
                news.waiting.into_iter().for_each(|waiting| waiting.refuse(&why, shared));
                Err(Unlanded { why: error.to_string(), segment: unwritten.segment() })
            }
        };
        if landed.send(result).is_err() {
            break;
        }
        shared.nudge();
    }
}

impl Writer {
    /// Sends a batch on its way, once the one before has landed; one that is durable already is told at once. Who waits for it stays in `waiting` after an error.
    pub(super) fn send(
        &mut self,
        after: After,
        unwritten: Option<Unwritten>,
        (operations, begun): (u64, Instant),
        waiting: &mut Vec<Waiting>,
    ) -> Result<(), ::redb::Error> {
        if let Err(error) = self.land() {
            unwritten.iter().for_each(|unwritten| self.log.leave(unwritten.segment()));
            return Err(error);
        }
        let mut behind = std::mem::take(&mut self.next);
        behind.sequence = self.log.sequence();
        let (counts, rung) = self.changed_counts(after.rung);
        let After { released, room, needless, flights, changed, .. } = after;
        (behind.flights, behind.needless) = (flights, needless);
        let news = News { counts, rung, released, room, waiting: std::mem::take(waiting) };
        let Some(unwritten) = unwritten else {
            if changed && operations > 0 {
                self.shared.health.count_commit(operations, begun.elapsed());
            }
            news.tell(&self.shared);
            self.landed(behind);
            return Ok(());
        };
        self.behind = Some(behind);
        let flights = self.syncer.as_ref().and_then(|syncer| syncer.flights.as_ref());
        let sent = flights.and_then(|flights| flights.send(Flight { unwritten, news, operations }).ok());
        Ok(sent.ok_or_else(|| StorageError::Io(io::Error::other("the thread that syncs is not there")))?)
    }

    /// Waits for what is under way. After an error nothing that is in memory counts.
    pub(super) fn land(&mut self) -> Result<(), ::redb::Error> {
        let Some(behind) = self.behind.take() else { return Ok(()) };
        let result = self.syncer.as_ref().and_then(|syncer| syncer.landed.recv().ok());
        match result {
            Some(Ok(buffer)) => {
                self.log.reuse(buffer);
                self.landed(behind);
                Ok(())
            }
            result => {
                self.shared.returned.lock().splice(..0, behind.returned);
                let ended = || Unlanded { why: "the thread that syncs has ended".to_owned(), segment: 0 };
                let Unlanded { why, segment } = result.and_then(Result::err).unwrap_or_else(ended);
                self.log.leave(segment);
                Err(StorageError::Io(io::Error::other(why)).into())
            }
        }
    }

    /// The same where it has come to its end already.
    pub(super) fn land_if_done(&mut self) -> Result<(), ::redb::Error> {
        if self.shared.ahead.is_any() {
            return Ok(());
        }
        self.land()?;
        self.log.sweep();
        Ok(())
    }

    /// What is left to do when a batch is durable, and told.
    fn landed(&mut self, behind: Behind) {
        let Behind { adds, flights, needless, sequence, .. } = behind;
        self.committed = sequence;
        self.doubtful.drain(..adds);
        for (position, attempt) in flights {
            match attempt {
                Some(attempt) => self.in_flight.insert(position, attempt),
                None => self.in_flight.remove(&position),
            };
        }
        self.remove(&needless);
    }

    /// The counts that changed, and the backends of `rung` routes.
    #[expect(clippy::type_complexity, reason = "two results of one look")]
    fn changed_counts(&mut self, mut rung: Vec<u32>) -> (Vec<(RouteCounts, Name, u64, Option<Timestamp>)>, Vec<Name>) {
        let changed = self.ledger.take_changed();
        rung.sort_unstable();
        rung.dedup();
        let index = self.shared.index.lock();
        let of = |(number, counts)| {
            let (backend, bytes, oldest) = index.backend_of(number);
            (counts, backend, bytes, oldest)
        };
        let counts = changed.into_iter().map(of).collect();
        let mut rung: Vec<Name> = rung.into_iter().map(|route| index.backend_of(route).0).collect();
        rung.dedup();
        (counts, rung)
    }
}
