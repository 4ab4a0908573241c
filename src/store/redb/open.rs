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

use ::redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::mpsc;

use super::{
    disk::{AnyBackend, DatabaseFile, Disk},
    flight::{Ahead, Syncer, Way},
    format,
    hours::corrupted,
    journal::Changes,
    ledger::Published,
    load::Loaded,
    log::Log,
    rebuild::rebuild,
    redo::redo,
    row::{IDS, REQUESTS, Row},
    segments::{self, Readers},
    shared::{Health, Shared, Tuning},
    work::Work,
    writer::{Durable, Writer},
};
use crate::{
    envelope::{Clock, DeadReason, OrderKey, RequestId, Timestamp},
    store::{
        INTERRUPTED, OpenError, Position, Settings, Spooler, StoreError, Totals, Turns, capacity::Capacity, refusing::Refusing,
        wakes::Wakes,
    },
};

/// Bytes that are read and written at once by [`rewrite`].
const REWRITTEN: u64 = 1024 * 1024;

/// Opens what is on `disk`; where the index cannot be read, it is made anew. The writer is not running yet.
pub(super) fn open(settings: Settings, clock: Clock, tuning: Tuning, disk: Arc<dyn Disk>) -> Result<Writer, OpenError> {
    let path = settings.path.clone();
    guarded(&path, || begin(&*disk, &tuning, &path, clock.now()))?;
    let opened = open_as_is(settings.clone(), clock.clone(), tuning.clone(), Arc::clone(&disk));
    let Err(OpenError::Unreadable { why, .. }) = &opened else { return opened };
    tracing::error!(path = %path.display(), why, "the index cannot be read");
    let Some(aside) = guarded(&path, || rebuild(&*disk, &tuning, &path, clock.now()))? else { return opened };
    let writer = open_as_is(settings, clock, tuning, disk)?;
    writer.shared.health.damaged.fetch_add(aside, Relaxed);
    Ok(writer)
}

/// Makes a database where there is none. It has its name when it is whole, so that an end in the middle leaves nothing that no start could read.
fn begin(disk: &dyn Disk, tuning: &Tuning, path: &Path, now: Timestamp) -> Result<(), OpenError> {
    let unwritten = |source| OpenError::Io { path: path.to_owned(), source };
    match disk.database_len() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritten(error)),
    }
    let (database, _) = open_backend(disk.new_database().map_err(unwritten)?, tuning, path, false)?;
    format::prepare(&database, path, now)?;
    drop(database);
    disk.replace_database().map_err(unwritten)?;
    Ok(())
}

fn open_as_is(settings: Settings, clock: Clock, tuning: Tuning, disk: Arc<dyn Disk>) -> Result<Writer, OpenError> {
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
    let mut writer = Writer::new(shared, log, loaded.ledger, (Arc::clone(&database), file), redone.sequence);
    guarded(&path, || {
        let delivering = &loaded.delivering;
        let found = std::mem::take(&mut loaded.found);
        put_right(&mut writer, &database, &found, |work| delivering.iter().try_for_each(|&(position, _)| interrupt(work, position)))
            .map_err(unreadable)?;
        // The writing goes on in a new segment, so that what a crash left behind is never mixed with what comes.
        go_on(&mut writer);
        if let Err(error) = writer.shared.readers.truncate(loaded.tail.max(redone.end)) {
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

/// Has the journal go on with the routes as they are. Whether frames before that are missing shows from then on, and so does whose counts they were; see [`rebuild`](super::rebuild).
fn go_on(writer: &mut Writer) {
    let mut changes = Changes::new();
    let mut routes = 0;
    for (number, row) in writer.ledger.rows() {
        changes.route(number, &row);
        routes += 1;
    }
    // Where there are none, there is no request either.
    let Some(sealed) = (routes > 0).then(|| writer.log.seal(changes)) else { return };
    let written = sealed.and_then(|unwritten| {
        let Some(unwritten) = unwritten else { return Ok(()) };
        unwritten.write().inspect_err(|_| writer.log.leave(unwritten.segment()))?;
        writer.log.reuse(unwritten.into_bytes());
        Ok(())
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the journal could not be gone on with; the first write tries again");
        writer.log.forget_staged();
    }
    writer.committed = writer.log.sequence();
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
    writer.send(after, None, (0, Instant::now()), Way::Here, &mut Vec::new())?;
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

/// Opens redb's file. With `check`, every page of it is looked at, also where it was closed in order; one that somebody else has changed is refused.
pub(super) fn open_database(
    disk: &dyn Disk,
    tuning: &Tuning,
    path: &Path,
    check: bool,
) -> Result<(Database, Arc<DatabaseFile>), OpenError> {
    let backend = disk.database().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    open_backend(backend, tuning, path, check)
}

pub(super) fn open_backend(
    backend: Box<dyn StorageBackend>,
    tuning: &Tuning,
    path: &Path,
    check: bool,
) -> Result<(Database, Arc<DatabaseFile>), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = Arc::new(DatabaseFile::new(backend));
    let mut builder = Builder::new();
    builder.set_cache_size(tuning.cache_bytes).set_check_integrity_on_open(check);
    match builder.create_with_backend(AnyBackend(Arc::clone(&file))) {
        Ok(database) => Ok((database, file)),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(OpenError::InUse(path.to_owned())),
        Err(DatabaseError::Storage(StorageError::Io(source))) if !is_damage(&source) => Err(io(source)),
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

pub(super) fn last_position(database: &Database) -> Result<Position, ::redb::Error> {
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
        ::redb::Error::Io(source) if !is_damage(&source) => OpenError::Io { path: path.to_owned(), source },
        error => OpenError::Unreadable { path: path.to_owned(), why: error.to_string() },
    }
}

/// Whether it was not the disk that failed: what it gave makes no sense, or names a page past the end of the file.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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
