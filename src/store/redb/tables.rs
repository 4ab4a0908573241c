//! The tables inside one write transaction. Whatever is written to them is noted, so that the journal has it.

use std::ops::RangeInclusive;

use ::redb::{ReadableTable, Table, WriteTransaction};
use prost::Message;

use super::{
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
    changes: Changes,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, ::redb::Error> {
        Ok(Self {
            requests: transaction.open_table(REQUESTS)?,
            ids: transaction.open_table(IDS)?,
            routes: transaction.open_table(ROUTES)?,
            history: transaction.open_table(HISTORY)?,
            changes: Changes::new(),
        })
    }

    /// What was written.
    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }

    pub(super) fn row(&self, position: Position) -> Result<Option<Row>, ::redb::Error> {
        let Some(bytes) = self.requests.get(position)? else { return Ok(None) };
        Ok(Row::decode(bytes.value()).inspect_err(|error| tracing::error!(position, %error, "a row of the queue cannot be read")).ok())
    }

    /// Rows in order; none in place of one that cannot be read.
    pub(super) fn rows(
        &self,
        positions: RangeInclusive<Position>,
    ) -> Result<impl Iterator<Item = Result<Option<(Position, Row)>, ::redb::Error>>, ::redb::Error> {
        Ok(self.requests.range(positions)?.map(|entry| {
            let (position, bytes) = entry?;
            Ok(Row::decode(bytes.value()).ok().map(|row| (position.value(), row)))
        }))
    }

    pub(super) fn find(&self, id: RequestId) -> Result<Option<(Position, Row)>, ::redb::Error> {
        let Some(position) = self.ids.get(id_key(id))?.map(|position| position.value()) else { return Ok(None) };
        Ok(self.row(position)?.map(|row| (position, row)))
    }

    /// Has an identity lead to a position, whose row is to follow. False where it leads to another.
    pub(super) fn claim_id(&mut self, id: RequestId, position: Position) -> Result<bool, ::redb::Error> {
        let existing = self.ids.insert(id_key(id), position)?.map(|existing| existing.value());
        if let Some(existing) = existing {
            self.ids.insert(id_key(id), existing)?;
        }
        Ok(existing.is_none())
    }

    /// Writes a row; one that is new has [claimed its identity](Self::claim_id).
    pub(super) fn put(&mut self, position: Position, row: &Row, is_new: bool) -> Result<(), ::redb::Error> {
        self.requests.insert(position, self.changes.row(position, row, is_new))?;
        Ok(())
    }

    pub(super) fn remove(&mut self, position: Position, id: RequestId) -> Result<(), ::redb::Error> {
        self.changes.gone(position, id);
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
