//! The books of the hours: what happened when, in the transaction in which it does.
//!
//! The counts of the latest hour of a route stand in the route's own row, which is written with every change anyhow. They move to a row of their own when the first
//! event of a later hour comes; what comes late, of an hour before, is added to that row.

use std::collections::{BTreeMap, HashMap};

use ::redb::{ReadTransaction, ReadableTable, StorageError};
use prost::Message;

use super::{
    row::{HISTORY, HourRow, META, ROUTES, RouteRow},
    shared::Shared,
    tables::Tables,
};
use crate::{
    envelope::{Name, Timestamp},
    store::{
        History, HourCounts, Moves, StoreError,
        history::{self, Event},
    },
};

/// Name of the moment in the table of numbers from which on all is counted.
pub(super) const SINCE: &str = "history_since";

/// The latest hour of one route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Latest {
    pub(super) hour: u32,
    pub(super) moves: Moves,
}

/// What is to be added to rows of hours before the latest, by hour and route.
#[derive(Debug, Default)]
pub(super) struct Late(BTreeMap<(u32, u32), [i64; Event::ALL.len()]>);

impl Late {
    /// Counts `by` events of `route`, whose latest hour is `latest`.
    pub(super) fn count(&mut self, latest: &mut Latest, route: u32, event: Event, at: Timestamp, by: i64) {
        let hour = history::hour_of(at);
        if hour > latest.hour {
            self.shelve(*latest, route);
            *latest = Latest { hour, moves: Moves::default() };
        }
        if hour == latest.hour {
            latest.moves.add(event, by);
        } else {
            self.0.entry((hour, route)).or_default()[event as usize] += by;
        }
    }

    fn shelve(&mut self, Latest { hour, moves }: Latest, route: u32) {
        if moves.is_empty() {
            return;
        }
        let counts = self.0.entry((hour, route)).or_default();
        for event in Event::ALL {
            counts[event as usize] += i64::try_from(moves.of(event)).unwrap_or(i64::MAX);
        }
    }

    /// Forgets what has yet to be written of hours before `first`; whether there was any.
    pub(super) fn forget(&mut self, first: u32) -> bool {
        let kept = self.0.split_off(&(first, 0));
        !std::mem::replace(&mut self.0, kept).is_empty()
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, tables: &mut Tables<'_>) -> Result<(), ::redb::Error> {
        while let Some((place, counts)) = self.0.pop_first() {
            let mut moves = tables.hour(place)?.map(HourRow::moves).unwrap_or_default();
            Event::ALL.into_iter().for_each(|event| moves.add(event, counts[event as usize]));
            if moves.is_empty() {
                tables.remove_hour(place)?;
            } else {
                tables.put_hour(place, HourRow::new(moves))?;
            }
        }
        Ok(())
    }
}

/// Removes up to `most` rows of hours before `first`, oldest first. Returns how many.
pub(super) fn forget(tables: &mut Tables<'_>, first: u32, most: usize) -> Result<usize, ::redb::Error> {
    let mut gone = 0;
    while gone < most
        && let Some(place) = tables.first_hour()?.filter(|place| place.0 < first)
    {
        tables.remove_hour(place)?;
        gone += 1;
    }
    Ok(gone)
}

impl Shared {
    pub(super) fn history(&self, from: Timestamp) -> Result<History, StoreError> {
        let read = self.begin_read()?;
        look(&read, history::hour_of(from)).map_err(StoreError::failed)
    }
}

/// The hours from `from` on, as of one commit.
pub(super) fn look(read: &ReadTransaction, from: u32) -> Result<History, ::redb::Error> {
    let since = read.open_table(META)?.get(SINCE)?.map_or(0, |since| since.value());
    let mut names: HashMap<u32, (Name, Name)> = HashMap::new();
    let mut hours = Vec::new();
    for entry in read.open_table(ROUTES)?.iter()? {
        let (number, bytes) = entry?;
        let row = RouteRow::decode(bytes.value()).map_err(corrupted)?;
        let Latest { hour, moves } = row.latest();
        if hour >= from && !moves.is_empty() {
            hours.push((hour, number.value(), moves));
        }
        names.insert(number.value(), (row.backend.into(), row.route.into()));
    }
    for entry in read.open_table(HISTORY)?.range((from, 0)..)? {
        let (place, bytes) = entry?;
        let (hour, route) = place.value();
        hours.push((hour, route, HourRow::decode(bytes.value()).map_err(corrupted)?.moves()));
    }
    let mut counts = Vec::with_capacity(hours.len());
    for (hour, route, moves) in hours {
        let (backend, route) = names.get(&route).cloned().ok_or_else(|| corrupted("an hour has no route"))?;
        counts.push(HourCounts { hour: history::start_of(hour), backend, route, moves });
    }
    counts.sort_by(|one, other| (one.hour, &one.backend, &one.route).cmp(&(other.hour, &other.backend, &other.route)));
    Ok(History { since: Timestamp::from_millis(since), hours: counts })
}

pub(super) fn corrupted(error: impl ToString) -> StorageError {
    StorageError::Corrupted(error.to_string())
}
