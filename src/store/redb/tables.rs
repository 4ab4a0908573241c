//! The tables inside one write transaction, and the rows that are [held](super::held) before them. Whatever is written is noted, so that the journal has it.

use std::ops::RangeInclusive;

use ::redb::{ReadableTable, Table, WriteTransaction};
use prost::Message;

use super::{
    held::Held,
    hours::corrupted,
    journal::{Change, Changes},
    row::{HISTORY, HourRow, IDS, REQUESTS, ROUTES, RouteRow, Row, id_key},
};
use crate::{envelope::RequestId, store::Position};

/// Hour and route.
type HourKey = (u32, u32);

pub(super) struct Tables<'t> {
    requests: Table<'t, u64, &'static [u8]>,
    ids: Table<'t, u128, u64>,
    routes: Table<'t, u32, &'static [u8]>,
    history: Table<'t, HourKey, &'static [u8]>,
    held: &'t mut Held,
    changes: Changes,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, held: &'t mut Held) -> Result<Self, ::redb::Error> {
        Ok(Self {
            requests: transaction.open_table(REQUESTS)?,
            ids: transaction.open_table(IDS)?,
            routes: transaction.open_table(ROUTES)?,
            history: transaction.open_table(HISTORY)?,
            held,
            changes: Changes::new(),
        })
    }

    /// What was written.
    pub(super) fn into_changes(mut self) -> Result<Changes, ::redb::Error> {
        if self.held.is_enough() {
            self.put_held()?;
        }
        Ok(self.changes)
    }

    /// Puts the rows that are held into the tables.
    pub(super) fn put_held(&mut self) -> Result<(), ::redb::Error> {
        self.held.put_into(&mut self.requests, &mut self.ids)
    }

    pub(super) fn row(&self, position: Position) -> Result<Option<Row>, ::redb::Error> {
        let decode = |bytes: &[u8]| {
            Row::decode(bytes).inspect_err(|error| tracing::error!(position, %error, "a row of the queue cannot be read")).ok()
        };
        if let Some(bytes) = self.held.row(position) {
            return Ok(decode(bytes));
        }
        Ok(self.requests.get(position)?.and_then(|bytes| decode(bytes.value())))
    }

    /// Rows in order; none in place of one that cannot be read.
    pub(super) fn rows(
        &mut self,
        positions: RangeInclusive<Position>,
    ) -> Result<impl Iterator<Item = Result<Option<(Position, Row)>, ::redb::Error>>, ::redb::Error> {
        self.put_held()?;
        Ok(self.requests.range(positions)?.map(|entry| {
            let (position, bytes) = entry?;
            Ok(Row::decode(bytes.value()).ok().map(|row| (position.value(), row)))
        }))
    }

    pub(super) fn find(&self, id: RequestId) -> Result<Option<(Position, Row)>, ::redb::Error> {
        let Some(position) = self.position(id_key(id))? else { return Ok(None) };
        Ok(self.row(position)?.map(|row| (position, row)))
    }

    fn position(&self, id: u128) -> Result<Option<Position>, ::redb::Error> {
        match self.held.position(id) {
            Some(position) => Ok(Some(position)),
            None => Ok(self.ids.get(id)?.map(|position| position.value())),
        }
    }

    /// Whether an identity is that of a request.
    pub(super) fn has_id(&mut self, id: RequestId) -> Result<bool, ::redb::Error> {
        let id = id_key(id);
        Ok(self.held.may_have(id, &self.ids)? && self.position(id)?.is_some())
    }

    /// Writes a row; one that is new has an identity that [no other](Self::has_id) has.
    pub(super) fn put(&mut self, position: Position, row: &Row, is_new: bool) {
        let bytes = self.changes.row(position, row, is_new);
        self.held.put(position, id_key(row.id()), bytes, is_new);
    }

    pub(super) fn remove(&mut self, position: Position, id: RequestId) -> Result<(), ::redb::Error> {
        self.changes.gone(position, id);
        if self.held.remove(position) {
            return Ok(());
        }
        self.requests.remove(position)?;
        self.ids.remove(id_key(id))?;
        Ok(())
    }

    pub(super) fn put_route(&mut self, number: u32, row: &RouteRow) -> Result<(), ::redb::Error> {
        self.routes.insert(number, self.changes.route(number, row))?;
        Ok(())
    }

    pub(super) fn hour(&self, place: HourKey) -> Result<Option<HourRow>, ::redb::Error> {
        let Some(bytes) = self.history.get(place)? else { return Ok(None) };
        Ok(Some(HourRow::decode(bytes.value()).map_err(corrupted)?))
    }

    pub(super) fn put_hour(&mut self, place: HourKey, row: HourRow) -> Result<(), ::redb::Error> {
        self.history.insert(place, self.changes.hour(place, &row))?;
        Ok(())
    }

    pub(super) fn remove_hour(&mut self, place: HourKey) -> Result<(), ::redb::Error> {
        self.changes.hour_gone(place);
        self.history.remove(place)?;
        Ok(())
    }

    pub(super) fn first_hour(&self) -> Result<Option<HourKey>, ::redb::Error> {
        Ok(self.history.first()?.map(|(place, _)| place.value()))
    }

    /// Does again what was noted before.
    pub(super) fn redo(&mut self, change: &Change<'_>) -> Result<(), ::redb::Error> {
        match *change {
            Change::New(position, row) => {
                let id = Row::decode(row).map_err(corrupted)?.id();
                self.ids.insert(id_key(id), position)?;
                self.requests.insert(position, row)?;
            }
            Change::Row(position, row) => drop(self.requests.insert(position, row)?),
            Change::Gone(position, id) => {
                self.requests.remove(position)?;
                self.ids.remove(id)?;
            }
            Change::Route(number, row) => drop(self.routes.insert(number, row)?),
            Change::Hour(place, row) => drop(self.history.insert(place, row)?),
            Change::HourGone(place) => drop(self.history.remove(place)?),
        }
        Ok(())
    }
}
