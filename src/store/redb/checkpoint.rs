//! Checkpoints: from time to time the database is committed durably, with the place in the journal up to which it contains everything.
//!
//! A batch is durable by the journal alone. What it does to redb's tables stays in one open transaction with what others do, until somebody wants to look or a checkpoint is due; the
//! former costs no sync. A checkpoint follows after the answers of a batch, so that nobody in it waits. What
//! the journal has behind the last one is done again at an opening; see [`redo`](super::redo). The journal is kept back to the checkpoint before the last, since redb goes back by one
//! commit where the page that names the last one is damaged.
//!
//! What cannot be journaled is committed durably by itself, and once more, so that both commits that redb can go back to contain it.

use std::time::{Duration, Instant};

use ::redb::{Database, Durability, ReadTransaction, StorageError, TableError, WriteTransaction};

use super::{row::META, tables::Tables, writer::Writer};

const SEGMENT: &str = "journal_segment";
const OFFSET: &str = "journal_offset";
const RESERVED: &str = "journal_reserved";
const SEQUENCE: &str = "journal_sequence";

/// A place in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    /// 0 where the segment may not be there yet.
    pub(super) offset: u64,
    /// Bytes of the segment's file: it is never shorter.
    pub(super) reserved: u64,
    /// The last frame before it.
    pub(super) sequence: u64,
}

impl Place {
    /// Up to where a commit contains everything. None where the store has never had a journal.
    pub(super) fn read(read: &ReadTransaction) -> Result<Option<Self>, ::redb::Error> {
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let number = |name: &str| Ok::<_, ::redb::Error>(meta.get(name)?.map(|number| number.value()));
        let Some(sequence) = number(SEQUENCE)? else { return Ok(None) };
        let segment = number(SEGMENT)?.and_then(|segment| u32::try_from(segment).ok()).unwrap_or_default();
        let (offset, reserved) = (number(OFFSET)?.unwrap_or_default(), number(RESERVED)?.unwrap_or_default());
        Ok(Some(Self { segment, offset, reserved, sequence }))
    }

    pub(super) fn write(self, transaction: &WriteTransaction) -> Result<(), ::redb::Error> {
        let mut meta = transaction.open_table(META)?;
        let numbers = [(SEGMENT, self.segment.into()), (OFFSET, self.offset), (RESERVED, self.reserved), (SEQUENCE, self.sequence)];
        for (name, number) in numbers {
            meta.insert(name, number)?;
        }
        Ok(())
    }
}

/// The last two checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    last: Place,
    before: Place,
    at: Option<Instant>,
}

impl Checkpoints {
    pub(super) fn last(&self) -> Place {
        self.last
    }

    pub(super) fn passed(&mut self, place: Place) {
        (self.before, self.last) = (self.last, place);
        self.at = Some(Instant::now());
    }

    /// From here on segments have frames that may have to be read.
    pub(super) fn first_segment(&self) -> u32 {
        self.before.segment
    }

    pub(super) fn is_due(&self, place: Place, every: Duration) -> bool {
        let is_new = self.last.segment != place.segment || self.last.offset == 0;
        self.last.sequence < place.sequence && (is_new || self.at.is_none_or(|at| at.elapsed() >= every))
    }
}

impl Writer {
    /// Has the database contain durably all that the journal has.
    pub(super) fn checkpoint(&mut self) -> Result<(), ::redb::Error> {
        self.land()?;
        let Some(database) = self.database.clone() else { return Ok(()) };
        let transaction = self.transaction(&database)?;
        self.checkpoint_with(transaction)
    }

    /// The same, with what a transaction changes besides.
    pub(super) fn checkpoint_with(&mut self, transaction: WriteTransaction) -> Result<(), ::redb::Error> {
        let place = self.log.place();
        place.write(&transaction)?;
        self.commit_to_redb(transaction)?;
        self.log.checkpointed(place);
        Ok(())
    }

    /// The transaction that has what was done since redb was last committed.
    pub(super) fn transaction(&mut self, database: &Database) -> Result<WriteTransaction, ::redb::Error> {
        match self.transaction.take() {
            Some(transaction) => Ok(transaction),
            None => Ok(database.begin_write()?),
        }
    }

    /// Has those who look at the database see all that was done.
    pub(super) fn show(&mut self) -> Result<(), ::redb::Error> {
        let Some(mut transaction) = self.transaction.take() else {
            self.shared.ahead.show();
            return Ok(());
        };
        transaction.set_durability(Durability::None).map_err(|error| StorageError::Corrupted(error.to_string()))?;
        self.commit_to_redb(transaction)
    }

    fn commit_to_redb(&mut self, transaction: WriteTransaction) -> Result<(), ::redb::Error> {
        Tables::open(&transaction, &mut self.held)?.put_held()?;
        transaction.commit().inspect_err(|_| self.unsure = true)?;
        self.shared.ahead.show();
        Ok(())
    }

    /// After the answers of a batch.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), ::redb::Error> {
        if self.log.is_checkpoint_due(self.shared.tuning.checkpoint_every) { self.checkpoint() } else { Ok(()) }
    }
}
