//! Makes redb's file short again after a drain.
//!
//! redb uses the pages of rows that are gone for others, but a row that lies near the end of the file keeps it long. So when the file is
//! much longer than its rows can need, and few rows are left to be moved, the writer has redb compact it. Readers wait meanwhile.

use std::{mem::ManuallyDrop, sync::Arc};

use ::redb::{CompactionError, Database, ReadableDatabase, ReadableTableMetadata};

use super::{row::REQUESTS, writer::Writer};

/// Bytes of file that each row is granted; one takes about 200.
const ROOM_OF_ROW: u64 = 1024;

/// Most rows that are moved: they bound how long everybody waits.
const MOST_ROWS: u64 = 20_000;

impl Writer {
    /// Compacts the database if it is worth it.
    pub(super) fn shrink(&mut self) {
        if self.has_just_been_shrunk() || !self.is_too_long().unwrap_or(false) {
            return;
        }
        // What redb commits as it compacts is then where the journal goes on.
        if let Err(error) = self.checkpoint() {
            return self.fail(error.to_string().into());
        }
        let shared = Arc::clone(&self.shared);
        let mut readers = shared.database.write();
        *readers = None;
        let Some(database) = self.database.take() else { return };
        let (database, result) = match Arc::try_unwrap(database) {
            Ok(database) => {
                // Should it panic, it is left where it is; see `Writer::abandon`.
                let mut database = ManuallyDrop::new(database);
                let result = database.compact();
                (Arc::new(ManuallyDrop::into_inner(database)), result)
            }
            // Somebody is about to begin a read: at the next occasion.
            Err(database) => (database, Err(CompactionError::TransactionInProgress)),
        };
        match result {
            Ok(_) | Err(CompactionError::TransactionInProgress) => {
                if result.is_ok() {
                    self.shrunk = shared.disk.database_len().ok().map(|len| (shared.clock.now(), len));
                }
                *readers = Some(Arc::clone(&database));
                self.database = Some(database);
                drop(readers);
                // redb does not go back behind a compaction, so there is to be a commit after it.
                if let Err(error) = self.checkpoint() {
                    self.fail(error.to_string().into());
                }
            }
            Err(error) => {
                drop(readers);
                self.unsure = true;
                self.fail(format!("the database could not be compacted: {error}").into());
            }
        }
    }

    fn has_just_been_shrunk(&self) -> bool {
        let (now, every) = (self.shared.clock.now(), self.shared.tuning.shrink_every);
        // A clock that has been set back says nothing of how long ago it was.
        self.shrunk.is_some_and(|(at, _)| at <= now && now.since(at) < every)
    }

    fn is_too_long(&self) -> Result<bool, ::redb::Error> {
        let Some(database) = &self.database else { return Ok(false) };
        let len = self.shared.disk.database_len()?;
        if len <= self.shared.tuning.database_bytes || self.shrunk.is_some_and(|(_, shrunk)| len <= shrunk) {
            return Ok(false);
        }
        let rows = rows(database)?;
        Ok(rows <= MOST_ROWS && len > self.shared.tuning.database_bytes + rows * ROOM_OF_ROW)
    }
}

fn rows(database: &Database) -> Result<u64, ::redb::Error> {
    Ok(database.begin_read()?.open_table(REQUESTS)?.len()?)
}
