//! The books: exact totals per route and what happened in each hour, written in the transaction that changes them, and published after it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    hours::{Late, Latest},
    row::{RouteRow, Row},
};
use crate::{
    envelope::{Name, State, Timestamp},
    store::{Counts, QueueCounts, RouteCounts, Totals, history::Event},
};

/// More routes than this have never been seen in one file, and more would not fit into a slot of the index.
const MOST_ROUTES: usize = 1 << 16;

/// The writer's own copy, which may be ahead of what is committed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    routes: Vec<Account>,
    numbers: HashMap<(Name, Name), u32, ahash::RandomState>,
    changed: Vec<u32>,
    /// What happened in hours before the latest of its route; to be written with the routes that changed.
    pub(super) late: Late,
}

#[derive(Debug)]
struct Account {
    backend: Name,
    route: Name,
    totals: Totals,
    latest: Latest,
    changed: bool,
}

impl Account {
    fn row(&self) -> RouteRow {
        RouteRow::new(&self.backend, &self.route, self.totals, self.latest)
    }
}

impl Ledger {
    /// The next route, as it is stored; its number is how many were added before.
    pub(super) fn add(&mut self, row: &RouteRow) -> (Name, Name) {
        let names = (self.backend_name(&row.backend), Name::from(row.route.as_str()));
        self.open(&names.0, &names.1, row.totals(), row.latest());
        names
    }

    /// The number of a route; `true` when it is new. None when there are too many.
    pub(super) fn number(&mut self, backend: &Name, route: &Name) -> Option<(u32, bool)> {
        // Two reference counts, to look up without building a key of another kind.
        if let Some(&number) = self.numbers.get(&(Arc::clone(backend), Arc::clone(route))) {
            return Some((number, false));
        }
        if self.routes.len() == MOST_ROUTES {
            return None;
        }
        Some((self.open(backend, route, Totals::default(), Latest::default()), true))
    }

    fn open(&mut self, backend: &Name, route: &Name, totals: Totals, latest: Latest) -> u32 {
        let number = self.routes.len() as u32;
        let (backend, route) = (Arc::clone(backend), Arc::clone(route));
        self.numbers.insert((Arc::clone(&backend), Arc::clone(&route)), number);
        self.routes.push(Account { backend, route, totals, latest, changed: false });
        number
    }

    fn backend_name(&self, name: &str) -> Name {
        self.routes.iter().find(|account| *account.backend == *name).map_or_else(|| name.into(), |account| Arc::clone(&account.backend))
    }

    /// Books the move of one request, which happens at `at` where that does not stand in the row; none stands for "not there".
    pub(super) fn book(&mut self, before: Option<&Row>, after: Option<&Row>, at: Timestamp) {
        let Some(route) = before.or(after).map(|row| row.route) else { return };
        self.touch(route);
        let totals = &mut self.routes[route as usize].totals;
        match (before.map(Row::state), after.map(Row::state)) {
            (Some(from), Some(to)) => {
                *totals.of(from) -= 1;
                *totals.of(to) += 1;
            }
            (None, Some(to)) => {
                totals.accepted += 1;
                *totals.of(to) += 1;
            }
            (Some(State::Dead), None) => {
                totals.dead -= 1;
                totals.discarded += 1;
                self.count(route, Event::Discarded, at, 1);
            }
            // What was delivered or cancelled stays so in the books after it is forgotten.
            (Some(_), None) | (None, None) => {}
        }
        if let Some(row) = after {
            self.count_moves(before.map(Row::state), row, 1);
        }
    }

    /// Has a route agree with the requests that are `found` of it. What is missing was lost, and is booked as discarded; what is too much, as accepted. Whether there was either.
    pub(super) fn agree(&mut self, route: u32, found: Totals) -> bool {
        let totals = &mut self.routes[route as usize].totals;
        let (says, is) = ([totals.queued, totals.delivering, totals.dead], [found.queued, found.delivering, found.dead]);
        if says == is {
            return false;
        }
        let (says, is) = (says.iter().sum::<u64>(), is.iter().sum::<u64>());
        (totals.queued, totals.delivering, totals.dead) = (found.queued, found.delivering, found.dead);
        totals.discarded += says.saturating_sub(is);
        totals.accepted += is.saturating_sub(says);
        self.touch(route);
        true
    }

    /// Takes back the booking of a request that was never acknowledged.
    pub(super) fn unbook(&mut self, row: &Row) {
        self.touch(row.route);
        let totals = &mut self.routes[row.route as usize].totals;
        *totals.of(row.state()) -= 1;
        totals.accepted -= 1;
        self.count_moves(None, row, -1);
    }

    /// Counts what made a request what it is.
    fn count_moves(&mut self, from: Option<State>, row: &Row, by: i64) {
        if from.is_none() {
            self.count(row.route, Event::Accepted, Timestamp::from_millis(row.accepted_at), by);
        }
        if let Some(event) = Event::of(row.state()).filter(|_| from != Some(row.state())) {
            self.count(row.route, event, row.changed_at(), by);
        }
    }

    fn count(&mut self, route: u32, event: Event, at: Timestamp, by: i64) {
        self.late.count(&mut self.routes[route as usize].latest, route, event, at, by);
    }

    /// Forgets the hours before `first` that no row of the table has: the latest of routes that have had none since, and what has yet to be written. Whether there were any.
    pub(super) fn forget_hours(&mut self, first: u32) -> bool {
        let is_old = |account: &Account| account.latest.hour < first && !account.latest.moves.is_empty();
        let old: Vec<u32> = (0..).zip(&self.routes).filter_map(|(number, account)| is_old(account).then_some(number)).collect();
        for &number in &old {
            self.routes[number as usize].latest = Latest::default();
            self.touch(number);
        }
        // What expires in the step that forgets begins a new hour, and puts the old one here.
        self.late.forget(first) || !old.is_empty()
    }

    /// Has a route written and published at the next occasion.
    pub(super) fn touch(&mut self, route: u32) {
        let account = &mut self.routes[route as usize];
        if !account.changed {
            account.changed = true;
            self.changed.push(route);
        }
    }

    /// What is to be written of the routes that changed.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u32, RouteRow)> {
        self.changed.iter().map(|&number| (number, self.routes[number as usize].row()))
    }

    /// All routes, as they are to be written.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, RouteRow)> {
        (0..).zip(self.routes.iter().map(Account::row))
    }

    /// The routes that changed, once they were written.
    pub(super) fn take_changed(&mut self) -> Vec<(u32, RouteCounts)> {
        let routes = &mut self.routes;
        let take = |number: u32| {
            let account = &mut routes[number as usize];
            account.changed = false;
            (number, RouteCounts { backend: Arc::clone(&account.backend), route: Arc::clone(&account.route), totals: account.totals })
        };
        self.changed.drain(..).map(take).collect()
    }

    /// Has every route written and published at the next occasion.
    pub(super) fn touch_all(&mut self) {
        for number in 0..self.routes.len() as u32 {
            self.touch(number);
        }
    }
}

/// What everybody sees: the state as of the last commit, whole.
#[derive(Debug, Default)]
pub(super) struct Published {
    routes: BTreeMap<(Name, Name), Totals>,
    queues: BTreeMap<Name, (u64, Option<Timestamp>)>,
}

impl Published {
    pub(super) fn set_route(&mut self, counts: RouteCounts) {
        self.routes.insert((counts.backend, counts.route), counts.totals);
    }

    pub(super) fn set_queue(&mut self, backend: Name, bytes: u64, oldest: Option<Timestamp>) {
        self.queues.insert(backend, (bytes, oldest));
    }

    pub(super) fn counts(&self) -> Counts {
        let route = |((backend, route), &totals): (&(Name, Name), &Totals)| RouteCounts {
            backend: Arc::clone(backend),
            route: Arc::clone(route),
            totals,
        };
        let queue =
            |(backend, &(bytes, oldest)): (&Name, &(u64, Option<Timestamp>))| QueueCounts { backend: Arc::clone(backend), bytes, oldest };
        Counts { routes: self.routes.iter().map(route).collect(), queues: self.queues.iter().map(queue).collect() }
    }

    /// Queued and delivering requests, and their bytes.
    pub(super) fn held(&self) -> (u64, u64) {
        let requests = self.routes.values().map(|totals| totals.queued + totals.delivering).sum();
        (requests, self.queues.values().map(|(bytes, _)| bytes).sum())
    }
}
