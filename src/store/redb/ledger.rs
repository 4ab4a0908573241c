//! The books: exact totals per route, written in the transaction that changes them, and published after it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::row::RouteRow;
use crate::{
    envelope::{Name, State, Timestamp},
    store::{Counts, QueueCounts, RouteCounts, Totals},
};

/// More routes than this have never been seen in one file, and more would not fit into a slot of the index.
const MOST_ROUTES: usize = 1 << 16;

/// The writer's own copy, which may be ahead of what is committed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    routes: Vec<Account>,
    numbers: HashMap<(Name, Name), u32, ahash::RandomState>,
    changed: Vec<u32>,
}

#[derive(Debug)]
struct Account {
    backend: Name,
    route: Name,
    totals: Totals,
    changed: bool,
}

impl Ledger {
    /// The next route, as it is stored; its number is how many were added before.
    pub(super) fn add(&mut self, row: &RouteRow) -> (Name, Name) {
        let names = (self.backend_name(&row.backend), Name::from(row.route.as_str()));
        self.open(&names.0, &names.1, row.totals());
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
        Some((self.open(backend, route, Totals::default()), true))
    }

    fn open(&mut self, backend: &Name, route: &Name, totals: Totals) -> u32 {
        let number = self.routes.len() as u32;
        let (backend, route) = (Arc::clone(backend), Arc::clone(route));
        self.numbers.insert((Arc::clone(&backend), Arc::clone(&route)), number);
        self.routes.push(Account { backend, route, totals, changed: false });
        number
    }

    fn backend_name(&self, name: &str) -> Name {
        self.routes.iter().find(|account| *account.backend == *name).map_or_else(|| name.into(), |account| Arc::clone(&account.backend))
    }

    /// Books the move of one request of a route; none stands for "not there".
    pub(super) fn book(&mut self, route: u32, from: Option<State>, to: Option<State>) {
        let account = &mut self.routes[route as usize];
        let totals = &mut account.totals;
        match (from, to) {
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
            }
            // What was delivered or cancelled stays so in the books after it is forgotten.
            (Some(_), None) | (None, None) => {}
        }
        if !account.changed {
            account.changed = true;
            self.changed.push(route);
        }
    }

    /// Takes back the booking of a request that was never acknowledged.
    pub(super) fn unbook(&mut self, route: u32, from: State) {
        self.book(route, None, None);
        let totals = &mut self.routes[route as usize].totals;
        *totals.of(from) -= 1;
        totals.accepted -= 1;
    }

    /// What is to be written of the routes that changed.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u32, RouteRow)> {
        self.changed.iter().map(|&number| {
            let account = &self.routes[number as usize];
            (number, RouteRow::new(&account.backend, &account.route, account.totals))
        })
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
            self.book(number, None, None);
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
