//! Which version of the rows a file has, and how one that an older program wrote becomes one of today's.
//!
//! | format | what is new in it |
//! | --- | --- |
//! | 1 | the first |
//! | 2 | what happened in each hour: the table `history`, the latest hour in the rows of routes |
//! | 3 | the journal: frames in the segments, which have what the file may not; the secret of the store, and the place of the last checkpoint |
//!
//! A file is brought up to date at its opening, in one transaction: a crash leaves the old format or the new one, and nothing between. A file of a newer
//! program is refused. Each format so far has a stored file in `tests/store_suite/formats` that a test opens.

use std::path::Path;

use ::redb::{Database, ReadableDatabase, StorageError, TableError, WriteTransaction};

use super::{
    hours::SINCE,
    journal::Secret,
    open::open_error,
    row::{FORMAT, HISTORY, IDS, META, REQUESTS, ROUTES},
};
use crate::{envelope::Timestamp, store::OpenError};

/// Name of the format in the table of numbers.
const KEY: &str = "format";

/// Name of the secret there.
const SECRET: &str = "journal";

/// Makes the tables of a new file; brings one of an older program up to date; refuses one of a newer program.
pub(super) fn prepare(database: &Database, path: &Path, now: Timestamp) -> Result<(), OpenError> {
    let failed = |error| open_error(path, error);
    match found(database).map_err(failed)? {
        None => make(database, now).map_err(failed),
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => Err(OpenError::TooNew { path: path.to_owned(), found, known: FORMAT }),
        Some(0) => Err(OpenError::Unreadable { path: path.to_owned(), why: "it says that its format is 0".to_owned() }),
        Some(found) => {
            migrate(database, found, now).map_err(failed)?;
            tracing::info!(path = %path.display(), from = found, to = FORMAT, "the store was brought up to date");
            Ok(())
        }
    }
}

/// The format of a file; none in one that is new.
pub(super) fn found(database: &Database) -> Result<Option<u32>, ::redb::Error> {
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(meta) => Ok(meta.get(KEY)?.map(|format| u32::try_from(format.value()).unwrap_or(u32::MAX))),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The secret of a store that is up to date.
pub(super) fn secret(database: &Database) -> Result<Secret, ::redb::Error> {
    let secret = database.begin_read()?.open_table(META)?.get(SECRET)?.map(|secret| secret.value());
    Ok(Secret::from_u64(secret.ok_or_else(|| StorageError::Corrupted("it has no number of its own".to_owned()))?))
}

fn make(database: &Database, now: Timestamp) -> Result<(), ::redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ROUTES)?;
    transaction.open_table(REQUESTS)?;
    transaction.open_table(IDS)?;
    begin_history(&transaction, now)?;
    begin_journal(&transaction)?;
    transaction.open_table(META)?.insert(KEY, u64::from(FORMAT))?;
    transaction.commit()?;
    Ok(())
}

fn migrate(database: &Database, from: u32, now: Timestamp) -> Result<(), ::redb::Error> {
    let transaction = database.begin_write()?;
    if from < 2 {
        begin_history(&transaction, now)?;
    }
    if from < 3 {
        begin_journal(&transaction)?;
    }
    transaction.open_table(META)?.insert(KEY, u64::from(FORMAT))?;
    transaction.commit()?;
    Ok(())
}

/// What happened before is not known by the hour, and is not made up.
fn begin_history(transaction: &WriteTransaction, now: Timestamp) -> Result<(), ::redb::Error> {
    transaction.open_table(HISTORY)?;
    transaction.open_table(META)?.insert(SINCE, now.as_millis())?;
    Ok(())
}

/// The file contains everything: the journal goes on behind it.
fn begin_journal(transaction: &WriteTransaction) -> Result<(), ::redb::Error> {
    transaction.open_table(META)?.insert(SECRET, Secret::new().as_u64())?;
    Ok(())
}
