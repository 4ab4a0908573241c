//! The way of a batch to the disk, and where many wait, beside the writer: while one is synced, the writer does the next in memory.
//!
//! One batch at a time is under way. It is written and synced, and then everybody may see it and is answered, so that nobody hears of anything that is not durable. Where few wait, the
//! writer does that itself: who comes meanwhile rides in the next batch, and wakes nobody. Where many wait, the thread here does it. What the writer has done in memory meanwhile becomes
//! the next batch only when the one before has landed; should that fail, both are refused and all that is in memory is read anew. Who looks at the database sees only what is durable.

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
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{log::Unwritten, shared::Shared, waiting::Waiting, work::After, writer::Writer};
use crate::{
    envelope::{Name, OrderKey, Timestamp},
    store::{Position, RouteCounts},
};

/// How far what was done in memory is ahead of the disk, and that ahead of what can be read from the database.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Batches that were done, those of them that are durable, and those of these that can be read.
    done: u64,
    durable: u64,
    read: u64,
    /// Somebody waits to read what is durable.
    is_wanted: bool,
}

impl Ahead {
    /// A batch was done and is not durable.
    pub(super) fn begin(&self) {
        self.state.lock().done += 1;
    }

    fn land(&self) {
        self.change(|state| state.durable += 1);
    }

    /// All that is durable can be read from now on.
    pub(super) fn show(&self) {
        self.change(|state| (state.read, state.is_wanted) = (state.durable, false));
    }

    /// What is not durable will not be, and nobody need wait for it. To be told when the database is no longer to be had.
    pub(super) fn fail(&self) {
        self.change(|state| (state.durable, state.read, state.is_wanted) = (state.done, state.done, false));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.moved.notify_all();
    }

    pub(super) fn is_any(&self) -> bool {
        let state = self.state.lock();
        state.durable < state.done
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state.lock().is_wanted
    }

    /// Waits until what was done is durable, or has failed.
    pub(super) fn wait_to_land(&self) {
        let mut state = self.state.lock();
        while state.durable < state.done {
            self.moved.wait(&mut state);
        }
    }

    /// Waits until all that is durable now can be read, or the database has failed. Where it cannot be yet, the writer is nudged.
    pub(super) fn wait_to_read(&self, nudge: impl FnOnce()) {
        let mut state = self.state.lock();
        let durable = state.durable;
        if state.read < durable {
            state.is_wanted = true;
            MutexGuard::unlocked(&mut state, nudge);
        }
        while state.read < durable {
            self.moved.wait(&mut state);
        }
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

impl Flight {
    /// Brings it to the disk, and then has everybody see and hear of it. Its bytes are given back for their room.
    fn fly(self, shared: &Arc<Shared>) -> Result<Vec<u8>, Unlanded> {
        let Self { unwritten, news, operations } = self;
        let begun = Instant::now();
        let written = catch_unwind(AssertUnwindSafe(|| unwritten.write()));
        match written.unwrap_or_else(|_| Err(io::Error::other("the disk panicked"))) {
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
        }
    }
}

/// Where a batch is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// On the writer's thread, which has nothing better to do.
    Here,
    /// Beside it.
    Beside,
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
    for flight in flights {
        if landed.send(flight.fly(shared)).is_err() {
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
        way: Way,
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
        let flight = Flight { unwritten, news, operations };
        if way == Way::Here {
            let result = flight.fly(&self.shared);
            return self.arrive(behind, result);
        }
        self.behind = Some(behind);
        let flights = self.syncer.as_ref().and_then(|syncer| syncer.flights.as_ref());
        let sent = flights.and_then(|flights| flights.send(flight).ok());
        Ok(sent.ok_or_else(|| StorageError::Io(io::Error::other("the thread that syncs is not there")))?)
    }

    /// Waits for what is under way. After an error nothing that is in memory counts.
    pub(super) fn land(&mut self) -> Result<(), ::redb::Error> {
        let Some(behind) = self.behind.take() else { return Ok(()) };
        let ended = || Err(Unlanded { why: "the thread that syncs has ended".to_owned(), segment: 0 });
        let result = self.syncer.as_ref().and_then(|syncer| syncer.landed.recv().ok());
        self.arrive(behind, result.unwrap_or_else(ended))
    }

    /// The same where it has come to its end already.
    pub(super) fn land_if_done(&mut self) -> Result<(), ::redb::Error> {
        if self.shared.ahead.is_any() {
            return Ok(());
        }
        self.land()?;
        // After a failure, who needs what is not known until all is read anew.
        if self.database.is_some() {
            self.log.sweep();
        }
        Ok(())
    }

    /// The end of its way.
    fn arrive(&mut self, behind: Behind, result: Result<Vec<u8>, Unlanded>) -> Result<(), ::redb::Error> {
        match result {
            Ok(buffer) => {
                self.log.reuse(buffer);
                self.landed(behind);
                Ok(())
            }
            Err(Unlanded { why, segment }) => {
                self.shared.returned.lock().splice(..0, behind.returned);
                self.log.leave(segment);
                Err(StorageError::Io(io::Error::other(why)).into())
            }
        }
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
