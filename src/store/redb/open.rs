//! Opening: do again what the journal has, read the rows, build from them what is in memory, put right what a crash left half done, sweep what nothing refers to.
//!
//! What no row refers to then was never acknowledged. Bodies are not read.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    time::Instant,
};

use ::redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::mpsc;

use super::{
    disk::{AnyBackend, DatabaseFile, Disk},
    flight::{Ahead, Behind, Syncer},
    format,
    hours::corrupted,
    index::Index,
    ledger::{Ledger, Published},
    log::Log,
    redo::redo,
    row::{IDS, REQUESTS, ROUTES, RouteRow, Row},
    segments::{self, Readers},
    shared::{Health, Shared, Tuning},
    work::Work,
    writer::{Durable, Writer},
};
use crate::{
    envelope::{Clock, DeadReason, OrderKey, RequestId, State, Timestamp},
    store::{
        INTERRUPTED, OpenError, Position, Settings, Spooler, StoreError, Totals, Turns, capacity::Capacity, refusing::Refusing,
        wakes::Wakes,
    },
};

/// Bytes that are read and written at once by [`rewrite`].
const REWRITTEN: u64 = 1024 * 1024;

/// Opens what is on `disk`. The writer is not running yet.
pub(super) fn open(settings: Settings, clock: Clock, tuning: Tuning, disk: Arc<dyn Disk>) -> Result<Writer, OpenError> {
    let path = settings.path.clone();
    let unreadable = |error: ::redb::Error| open_error(&path, error);
    let (database, file, secret, redone) = guarded(&path, || {
        let (database, file) = open_database(&*disk, &tuning, &path, true)?;
        format::prepare(&database, &path, clock.now())?;
        let secret = format::secret(&database).map_err(unreadable)?;
        let redone = redo(&database, &*disk, secret, u64::MAX).map_err(unreadable)?;
        Ok((database, file, secret, redone))
    })?;
    let names = disk.list().map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let next = guarded(&path, || Ok(last_position(&database).map_err(unreadable)? + 1))?;
    let turns = Turns::new(next);
    let readers = Arc::new(Readers::new(Arc::clone(&disk)));
    let next_segment = names.iter().filter_map(|name| segments::number(name)).fold(redone.segment, u32::max) + 1;
    let mut log = Log::new(&readers, tuning.segment_bytes, next_segment, secret, redone.sequence);
    let mut loaded = guarded(&path, || Loaded::read(&database, &turns, &mut log, clock.now()).map_err(unreadable))?;
    let capacity = Capacity::new(&settings);
    capacity.correct((0, 0), loaded.held);
    let spooler = Spooler::new(super::disk::payload_folder(&settings.path), tuning.spool_threshold, tuning.spool_memory);
    let shared = Shared {
        settings,
        tuning,
        clock,
        readers,
        turns,
        capacity,
        refusing: Refusing::default(),
        spooler,
        disk,
        wakes: Wakes::default(),
        index: Mutex::new(loaded.index),
        published: RwLock::new(Published::default()),
        database: RwLock::new(None),
        ahead: Ahead::default(),
        returned: Mutex::default(),
        doubtful_files: Mutex::default(),
        health: Health::default(),
        writer: OnceLock::new(),
    };
    let database = Arc::new(database);
    let mut writer = Writer {
        shared: Arc::new(shared),
        log,
        ledger: loaded.ledger,
        in_flight: HashMap::default(),
        database: Some(Arc::clone(&database)),
        committed: redone.sequence,
        doubtful: Vec::new(),
        next: Behind::default(),
        behind: None,
        syncer: None,
        tried_at: None,
        unsure: false,
        file: Some(file),
        abandoned: 0,
        shrunk: None,
    };
    guarded(&path, || {
        let delivering = &loaded.delivering;
        let found = std::mem::take(&mut loaded.found);
        put_right(&mut writer, &database, &found, |work| delivering.iter().try_for_each(|&(position, _)| interrupt(work, position)))
            .map_err(unreadable)?;
        // The writing goes on in a new segment, so that what a crash left behind is never mixed with what comes.
        if let Err(error) = writer.shared.readers.truncate(loaded.tail) {
            tracing::warn!(%error, "the room that was reserved behind the last payload could not be given back");
        }
        sweep(&mut writer, &database, &names).map_err(unreadable)
    })?;
    writer.shared.health.damaged.fetch_add(redone.lost, Relaxed);
    *writer.shared.database.write() = Some(database);
    let shared = Arc::clone(&writer.shared);
    writer.shared.turns.on_freed(on_freed(&shared));
    Ok(writer)
}

/// Tells the index and the queue's reader of a key that is free. Weak, since the turns belong to what it holds.
fn on_freed(shared: &Arc<Shared>) -> impl Fn(OrderKey) + Send + Sync + 'static {
    let shared = Arc::downgrade(shared);
    move |key| {
        if let Some(shared) = shared.upgrade() {
            let backend = shared.index.lock().freed(key);
            backend.iter().for_each(|backend| shared.wakes.ring(backend));
        }
    }
}

/// Opens the database again after it failed, and reads all that is in memory anew.
pub(super) fn reopen(writer: &mut Writer) -> Result<(), StoreError> {
    let shared = Arc::clone(&writer.shared);
    let path = shared.settings.path.clone();
    let result = guarded(&path, || {
        let unreadable = |error: ::redb::Error| open_error(&path, error);
        if writer.unsure {
            rewrite(&*shared.disk).map_err(|source| OpenError::Io { path: path.clone(), source })?;
            writer.unsure = false;
        }
        let (database, file) = open_database(&*shared.disk, &shared.tuning, &path, true)?;
        let database = Arc::new(database);
        format::prepare(&database, &path, shared.clock.now())?;
        let secret = format::secret(&database).map_err(unreadable)?;
        let redone = redo(&database, &*shared.disk, secret, writer.committed).map_err(unreadable)?;
        shared.health.damaged.fetch_add(redone.lost, Relaxed);
        let was = shared.published.read().held();
        writer.log.forget_needs();
        let mut loaded = Loaded::read(&database, &shared.turns.beside(), &mut writer.log, shared.clock.now()).map_err(unreadable)?;
        shared.capacity.correct(was, loaded.held);
        {
            let mut index = shared.index.lock();
            loaded.index.succeed(&shared.turns);
            *index = loaded.index;
        }
        writer.ledger = loaded.ledger;
        // Who was told nothing has nothing in flight, and who settled in the failed commit may have had it done.
        let now: HashMap<_, _, ahash::RandomState> = loaded.delivering.iter().copied().collect();
        writer.in_flight.retain(|position, attempt| now.get(position) == Some(attempt));
        let unknown: Vec<_> =
            loaded.delivering.iter().copied().filter(|(position, attempt)| writer.in_flight.get(position) != Some(attempt)).collect();
        let doubtful = std::mem::take(&mut writer.doubtful);
        writer.database = Some(Arc::clone(&database));
        let undone = put_right(writer, &database, &loaded.found, |work| {
            doubtful.iter().try_for_each(|&position| work.undo_append(position))?;
            let now = work.shared.clock.now();
            unknown.iter().try_for_each(|&(position, attempt)| work.unclaim(position, attempt, now))
        });
        if undone.is_err() {
            writer.doubtful = doubtful;
        }
        undone.map_err(unreadable)?;
        // Now no row refers to them, and none will. Some went with their rows.
        std::mem::take(&mut *shared.doubtful_files.lock()).iter().for_each(|name| drop(shared.disk.remove(name)));
        *shared.database.write() = Some(database);
        writer.file = Some(file);
        Ok(())
    });
    result.map_err(StoreError::failed)
}

/// Changes what is not as it should be, in one transaction, and has both commits that redb may go back to contain all that there is.
fn put_right(
    writer: &mut Writer,
    database: &Database,
    found: &[Totals],
    change: impl FnOnce(&mut Work<'_, '_>) -> Result<(), ::redb::Error>,
) -> Result<(), ::redb::Error> {
    writer.ledger.touch_all();
    let (after, (), _) = writer.transact(database, Durable::ByItself, |work| {
        for (route, &found) in (0..).zip(found) {
            if work.ledger.agree(route, found) {
                tracing::error!(route, "the counters did not agree with the requests that are there; they do now");
                work.after.changed = true;
            }
        }
        change(work)
    })?;
    if !after.changed {
        writer.checkpoint()?;
        writer.checkpoint()?;
    }
    writer.send(after, None, (0, Instant::now()), &mut Vec::new())?;
    writer.log.sweep();
    Ok(())
}

/// An attempt ended with the program: the request is queued again, or dead where it may have been executed and must not be again.
fn interrupt(work: &mut Work<'_, '_>, position: Position) -> Result<(), ::redb::Error> {
    let now = work.shared.clock.now();
    let Some(before) = work.tables.row(position)? else { return Ok(()) };
    let mut row = before.clone();
    INTERRUPTED.clone_into(&mut row.last_outcome);
    if row.may_be_resent {
        row.queue_again(now, now);
    } else {
        row.die(DeadReason::OutcomeUnknown, now);
    }
    work.change(position, Some(&before), &row)
}

/// What is in memory, read from the rows.
struct Loaded {
    index: Index,
    ledger: Ledger,
    /// Attempts that had begun.
    delivering: Vec<(Position, u32)>,
    /// Queued and delivering requests, and their bytes.
    held: (u64, u64),
    /// The last segment that is needed, and up to where.
    tail: (u32, u64),
    /// Requests of each route.
    found: Vec<Totals>,
}

impl Loaded {
    fn read(database: &Database, turns: &Arc<Turns>, log: &mut Log, now: Timestamp) -> Result<Self, ::redb::Error> {
        let read = database.begin_read()?;
        let mut loaded = Self {
            index: Index::new(Arc::clone(turns), now),
            ledger: Ledger::default(),
            delivering: Vec::new(),
            held: (0, 0),
            tail: (0, 0),
            found: Vec::new(),
        };
        for entry in read.open_table(ROUTES)?.iter()? {
            let (_, bytes) = entry?;
            let row = RouteRow::decode(bytes.value()).map_err(corrupted)?;
            let (backend, route) = loaded.ledger.add(&row);
            loaded.index.add_route(&backend, &route);
            loaded.found.push(Totals::default());
        }
        for entry in read.open_table(REQUESTS)?.iter()? {
            let (position, bytes) = entry?;
            let row = Row::decode(bytes.value()).map_err(corrupted)?;
            let Some(found) = loaded.found.get_mut(row.route as usize) else {
                return Err(corrupted("a request has no route").into());
            };
            *found.of(row.state()) += 1;
            loaded.add(position.value(), &row, log);
        }
        Ok(loaded)
    }

    fn add(&mut self, position: Position, row: &Row, log: &mut Log) {
        self.index.load(position, row);
        log.retain(row);
        let ends = [Some(row.request), row.answer].into_iter().flatten().map(|at| (at.segment, segments::end(at)));
        self.tail = ends.fold(self.tail, Ord::max);
        if row.takes_room() {
            self.held.0 += 1;
            self.held.1 += row.bytes;
        }
        if row.state() == State::Delivering {
            self.delivering.push((position, row.attempts));
        }
    }
}

/// Opens redb's file. With `check`, every page of it is looked at, also where it was closed in order; one that somebody else has changed is refused.
pub(super) fn open_database(
    disk: &dyn Disk,
    tuning: &Tuning,
    path: &Path,
    check: bool,
) -> Result<(Database, Arc<DatabaseFile>), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = Arc::new(DatabaseFile::new(disk.database().map_err(io)?));
    let mut builder = Builder::new();
    builder.set_cache_size(tuning.cache_bytes).set_check_integrity_on_open(check);
    match builder.create_with_backend(AnyBackend(Arc::clone(&file))) {
        Ok(database) => Ok((database, file)),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(OpenError::InUse(path.to_owned())),
        Err(DatabaseError::Storage(StorageError::Io(source))) if source.kind() != io::ErrorKind::InvalidData => Err(io(source)),
        Err(error) => Err(OpenError::Unreadable { path: path.to_owned(), why: error.to_string() }),
    }
}

/// Writes the whole database anew, as it is read. After a sync has failed, Linux takes what was to be synced for clean: it is read from memory as
/// if it were on the disk, and no later sync brings it there. So redb would go on from a commit that a loss of power takes back in part.
fn rewrite(disk: &dyn Disk) -> io::Result<()> {
    let file = disk.database()?;
    let len = file.len()?;
    let mut piece = vec![0; REWRITTEN as usize];
    for offset in (0..len).step_by(REWRITTEN as usize) {
        let piece = &mut piece[..(len - offset).min(REWRITTEN) as usize];
        file.read(offset, piece)?;
        file.write(offset, piece)?;
    }
    file.sync_data()?;
    file.close()
}

fn last_position(database: &Database) -> Result<Position, ::redb::Error> {
    let read = database.begin_read()?;
    let requests = read.open_table(REQUESTS)?;
    Ok(requests.last()?.map_or(0, |(position, _)| position.value()))
}

/// Removes files of appends that were not committed, and of segments that nothing needs.
fn sweep(writer: &mut Writer, database: &Database, names: &[String]) -> Result<(), ::redb::Error> {
    let read = database.begin_read()?;
    let (ids, requests) = (read.open_table(IDS)?, read.open_table(REQUESTS)?);
    let mut orphans = Vec::new();
    for name in names {
        let orphan = if let Some(number) = segments::number(name) {
            !writer.log.needs(number)
        } else if let Some(id) = name.split('.').next().and_then(|id| id.parse::<RequestId>().ok()) {
            let position = ids.get(super::row::id_key(id))?;
            let row = match position {
                Some(position) => requests.get(position.value())?.map(|bytes| Row::decode(bytes.value())).transpose().map_err(corrupted)?,
                None => None,
            };
            row.is_none_or(|row| row.body_name().as_ref() != Some(name) && row.answer_name().as_ref() != Some(name))
        } else {
            // Somebody else's.
            false
        };
        if orphan {
            orphans.push(name.clone());
        }
    }
    writer.remove(&orphans);
    writer.log.sweep();
    Ok(())
}

pub(super) fn open_error(path: &Path, error: ::redb::Error) -> OpenError {
    match error {
        ::redb::Error::Io(source) => OpenError::Io { path: path.to_owned(), source },
        error => OpenError::Unreadable { path: path.to_owned(), why: error.to_string() },
    }
}

/// redb panics on some bytes that it did not write.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let unreadable = |_| Err(OpenError::Unreadable { path: path.to_owned(), why: "its pages contradict one another".to_owned() });
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(unreadable)
}

/// Starts the writer thread, and the one beside it that syncs; they end when the sender is dropped.
pub(super) fn start(mut writer: Writer) -> io::Result<(Arc<Shared>, mpsc::Sender<super::command::Command>, std::thread::JoinHandle<()>)> {
    let shared = Arc::clone(&writer.shared);
    let (sender, receiver) = mpsc::channel(shared.tuning.channel);
    let _ = shared.writer.set(sender.downgrade());
    writer.syncer = Some(Syncer::start(&shared)?);
    let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run(receiver))?;
    Ok((shared, sender, thread))
}
