//! The index, made anew from the journal where redb's file cannot be read.
//!
//! A frame has whole rows, and stays as long as anything in its segment is needed: of a queue that has grown since it was last empty, all frames are there. The last run of them without a gap
//! tells all that happened since it began, so what it names is exactly as it was: each opening writes a frame before it lets any segment go, so that a gap shows. What only frames before a gap name may have been delivered since: it is set aside among the dead
//! letters, for somebody to decide. So is a request of which there are the bytes and no frame at all.
//!
//! The new file is made beside the old one and takes its place when it is whole, so that a crash meanwhile changes nothing; the old one is kept under another name.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

use ::redb::{Database, ReadableDatabase, ReadableTable};
use prost::Message;
use roaring::RoaringTreemap;

use super::{
    disk::Disk,
    format,
    held::Held,
    hours::{Latest, corrupted},
    journal::{Change, Secret, each_frame},
    open::{last_position, open_backend, open_error},
    row::{Location, ROUTES, RouteRow, Row, id_key},
    segments::{self, Record},
    shared::Tuning,
    tables::Tables,
};
use crate::{
    envelope::{DeadReason, Envelope, RequestId, Timestamp},
    store::{OpenError, Totals, records},
};

/// Most requests that are named in the log one by one.
const TOLD: u64 = 100;

/// Why a request is set aside.
const UNKNOWN: &str = "the index was damaged, and the journal no longer tells what became of it";

/// What stands for a route whose names are lost; no request that is left is of it.
const LOST: &str = "lost";

/// Makes the index anew. How many requests were set aside; none, and nothing is changed, where there is no journal.
pub(super) fn rebuild(disk: &dyn Disk, tuning: &Tuning, path: &Path, now: Timestamp) -> Result<Option<u64>, OpenError> {
    let failed = |error: ::redb::Error| open_error(path, error);
    let unread = |source| OpenError::Io { path: path.to_owned(), source };
    let Some(journal) = Journal::find(disk).map_err(unread)? else { return Ok(None) };
    let (database, _) = open_backend(disk.new_database().map_err(unread)?, tuning, path, false)?;
    format::prepare(&database, path, now)?;
    let mut aside = Aside { requests: 0, now };
    let gone = journal.redo(&database, &mut aside).map_err(failed)?;
    journal.collect(&database, &gone, &mut aside).map_err(failed)?;
    drop(database);
    let kept = disk.replace_database().map_err(unread)?.unwrap_or_default();
    tracing::error!(aside = aside.requests, kept, "the index could not be read and was made anew from the journal; the old one is kept");
    Ok(Some(aside.requests))
}

/// What is set aside.
struct Aside {
    requests: u64,
    now: Timestamp,
}

impl Aside {
    /// Has a request be a dead letter. The counts follow at the opening.
    fn set(&mut self, row: &mut Row) {
        row.die(DeadReason::OutcomeUnknown, self.now);
        UNKNOWN.clone_into(&mut row.last_outcome);
        self.requests += 1;
        if self.requests <= TOLD {
            tracing::error!(id = %row.id(), "{UNKNOWN}; it is set aside among the dead letters");
        }
    }
}

/// All segments of a store, and by what its frames are known.
struct Journal<'a> {
    disk: &'a dyn Disk,
    segments: Vec<u32>,
    secret: Secret,
}

impl<'a> Journal<'a> {
    /// The secret is lost with the index: it is the one of most records that are frames by what they have. None where there are none.
    fn find(disk: &'a dyn Disk) -> io::Result<Option<Self>> {
        let mut segments: Vec<u32> = disk.list()?.iter().filter_map(|name| segments::number(name)).collect();
        segments.sort_unstable();
        let mut secrets: HashMap<u64, u64> = HashMap::new();
        for &number in &segments {
            let bytes = segments::read_all(disk, number, 0)?;
            for (id, at) in Record::all(&bytes, number) {
                let (secret, _) = records::halves(id);
                let has_changes = |head| Change::all(head).is_some_and(|changes| !changes.is_empty());
                // What requests have there is a time.
                if secret >> 62 == 0b10 && Record::whole_head(&bytes[at.offset as usize..]).is_some_and(has_changes) {
                    *secrets.entry(secret).or_default() += 1;
                }
            }
        }
        let secret = secrets.into_iter().max_by_key(|&(_, frames)| frames);
        Ok(secret.map(|(secret, _)| Self { disk, segments, secret: Secret::from_u64(secret) }))
    }

    fn each(&self, mut take: impl FnMut(u64, &[u8]) -> Result<(), ::redb::Error>) -> Result<(), ::redb::Error> {
        let mut last = 0;
        for &number in &self.segments {
            each_frame(self.secret, &segments::read_all(self.disk, number, 0)?, |frame, head, _| {
                // Each is there twice.
                if frame <= last {
                    return Ok(());
                }
                last = frame;
                take(frame, head)
            })?;
        }
        Ok(())
    }

    /// The first frame of the last run without a gap.
    fn last_run(&self) -> Result<u64, ::redb::Error> {
        let (mut begin, mut last) = (0, 0);
        self.each(|frame, _| {
            if frame != last + 1 {
                begin = frame;
            }
            last = frame;
            Ok(())
        })?;
        Ok(begin)
    }

    /// Does all again in a new database. Identities that are gone.
    fn redo(&self, database: &Database, aside: &mut Aside) -> Result<HashSet<u128>, ::redb::Error> {
        let begin = self.last_run()?;
        // Positions that nothing names since then.
        let mut doubtful = RoaringTreemap::new();
        let (mut gone, mut routes) = (HashSet::new(), 0);
        let transaction = database.begin_write()?;
        let mut held = Held::default();
        let mut tables = Tables::open(&transaction, &mut held)?;
        self.each(|frame, head| {
            for change in Change::all(head).unwrap_or_default() {
                // The frame that made it may be missing.
                let change = if let Change::Row(position, row) = change { Change::New(position, row) } else { change };
                match change {
                    Change::New(position, _) if frame < begin => drop(doubtful.insert(position)),
                    Change::New(position, _) => drop(doubtful.remove(position)),
                    Change::Gone(_, id) => drop(gone.insert(id)),
                    Change::Route(number, _) => {
                        for lost in routes..number {
                            tables
                                .put_route(lost, &RouteRow::new(LOST, &format!("{LOST}-{lost}"), Totals::default(), Latest::default()))?;
                        }
                        routes = routes.max(number + 1);
                    }
                    _ => {}
                }
                tables.redo(&change)?;
            }
            Ok(())
        })?;
        for position in &doubtful {
            if let Some(mut row) = tables.row(position)?.filter(Row::takes_room) {
                aside.set(&mut row);
                tables.put(position, &row, false);
            }
        }
        tables.put_held()?;
        drop(tables);
        transaction.commit()?;
        Ok(gone)
    }

    /// Sets requests aside of which there are the bytes and no frame.
    fn collect(&self, database: &Database, gone: &HashSet<u128>, aside: &mut Aside) -> Result<(), ::redb::Error> {
        let mut position = last_position(database)?;
        let mut routes = numbers(database)?;
        let transaction = database.begin_write()?;
        let mut held = Held::default();
        let mut tables = Tables::open(&transaction, &mut held)?;
        for &number in &self.segments {
            let bytes = segments::read_all(self.disk, number, 0)?;
            for (id, at) in Record::all(&bytes, number) {
                if self.secret.is_of(id) || gone.contains(&id_key(id)) || tables.find(id)?.is_some() {
                    continue;
                }
                let Some((envelope, mut row)) = request(&bytes, id, at) else { continue };
                let next = routes.len() as u32;
                let names = (envelope.backend.to_string(), envelope.route.to_string());
                row.route = *routes.entry(names.clone()).or_insert(next);
                if row.route == next {
                    tables.put_route(next, &RouteRow::new(&names.0, &names.1, Totals::default(), Latest::default()))?;
                }
                aside.set(&mut row);
                position += 1;
                tables.put(position, &row, true);
            }
        }
        tables.put_held()?;
        drop(tables);
        transaction.commit()?;
        Ok(())
    }
}

/// The request of a record, and the row that it would have.
fn request(bytes: &[u8], id: RequestId, at: Location) -> Option<(Envelope, Row)> {
    let head = Record::checked_head(&bytes[at.offset as usize..])?;
    let (envelope, file) = records::decode_request(head).ok().filter(|(envelope, _)| envelope.id == id)?;
    let body = file.as_ref().map_or(u64::from(at.body), |file| file.len);
    let mut row = Row::new(&envelope, u64::from(at.head) + body, body, file.is_some());
    row.request = at;
    Some((envelope, row))
}

/// The numbers of routes by backend and name.
fn numbers(database: &Database) -> Result<HashMap<(String, String), u32>, ::redb::Error> {
    let mut numbers = HashMap::new();
    for entry in database.begin_read()?.open_table(ROUTES)?.iter()? {
        let (number, bytes) = entry?;
        let row = RouteRow::decode(bytes.value()).map_err(corrupted)?;
        numbers.insert((row.backend, row.route), number.value());
    }
    Ok(numbers)
}
