//! What is in memory, read from the rows: one thread reads and decodes them, another enters them.

use std::{
    io,
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
};

use ::redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};
use prost::Message;

use super::{
    hours::corrupted,
    index::Index,
    ledger::Ledger,
    log::Log,
    row::{REQUESTS, ROUTES, RouteRow, Row},
    segments,
};
use crate::{
    envelope::{State, Timestamp},
    store::{Position, Totals, Turns},
};

/// Rows that are handed over at once, and how many times as many may wait.
const BATCH: usize = 1024;
const AHEAD: usize = 4;

type Rows = Vec<(Position, Row)>;

/// What is in memory.
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) ledger: Ledger,
    /// Attempts that had begun.
    pub(super) delivering: Vec<(Position, u32)>,
    /// Queued and delivering requests, and their bytes.
    pub(super) held: (u64, u64),
    /// The last segment that is needed, and up to where.
    pub(super) tail: (u32, u64),
    /// Requests of each route.
    pub(super) found: Vec<Totals>,
}

impl Loaded {
    pub(super) fn read(database: &Database, turns: &Arc<Turns>, log: &mut Log, now: Timestamp) -> Result<Self, ::redb::Error> {
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
        let requests = read.open_table(REQUESTS)?;
        std::thread::scope(|scope| {
            let (sender, batches) = sync_channel(AHEAD);
            let reader = std::thread::Builder::new().name("store-read".to_owned());
            let reader = reader.spawn_scoped(scope, move || read_rows(&requests, &sender)).map_err(io_error)?;
            for (position, row) in batches.into_iter().flatten() {
                loaded.add(position, &row, log)?;
            }
            reader.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        Ok(loaded)
    }

    fn add(&mut self, position: Position, row: &Row, log: &mut Log) -> Result<(), ::redb::Error> {
        let Some(found) = self.found.get_mut(row.route as usize) else {
            return Err(corrupted("a request has no route").into());
        };
        *found.of(row.state()) += 1;
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
        Ok(())
    }
}

fn io_error(error: io::Error) -> ::redb::Error {
    ::redb::Error::Io(error)
}

/// Hands over all rows in order. Whoever takes none any more has found a fault of its own.
fn read_rows(requests: &ReadOnlyTable<u64, &'static [u8]>, sender: &SyncSender<Rows>) -> Result<(), ::redb::Error> {
    let mut batch = Rows::with_capacity(BATCH);
    for entry in requests.iter()? {
        let (position, bytes) = entry?;
        batch.push((position.value(), Row::decode(bytes.value()).map_err(corrupted)?));
        if batch.len() == BATCH && sender.send(std::mem::replace(&mut batch, Rows::with_capacity(BATCH))).is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(batch);
    Ok(())
}
