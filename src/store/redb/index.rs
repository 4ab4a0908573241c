//! The scheduler: what may be claimed next, in some tens of bytes per queued request and without a scan.
//!
//! It is what the rows say and nothing else: [`Index::enter`] each row and it is whole, [`Index::leave`] a row and
//! enter its successor and it has followed. So an open, and a recovery from an error, rebuild it from the rows.
//!
//! A set of positions is a compressed bitmap (about two bytes each), which also knows ranks. Under an ordering key only the one that comes next is
//! on offer, and only while no live write of the key is under way; both is for [`Turns`] to know.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use roaring::RoaringTreemap;

use super::{
    ages::{Ages, Class},
    row::Row,
};
use crate::{
    envelope::{Name, OrderKey, State, Timestamp},
    store::{
        Position, Turns,
        turns::{Key, Slot},
    },
};

/// So many requests are counted one by one.
const NEAR: usize = 64;

#[derive(Debug)]
pub(super) struct Index {
    turns: Arc<Turns>,
    routes: Vec<Route>,
    backends: Vec<Backend>,
    by_name: HashMap<Name, usize, ahash::RandomState>,
    /// When those fall due that were not yet when they were queued.
    dues: HashMap<Position, u64, ahash::RandomState>,
    pub(super) ages: Ages,
    /// The latest moment that was seen.
    now: u64,
}

#[derive(Debug)]
struct Route {
    name: Name,
    backend: usize,
    /// On offer.
    ready: RoaringTreemap,
    /// To be on offer at a moment.
    later: BTreeSet<(u64, Position)>,
    dead: RoaringTreemap,
}

#[derive(Debug)]
struct Backend {
    name: Name,
    routes: Vec<usize>,
    queued: RoaringTreemap,
    /// Seconds in which queued and delivering ones were accepted, with how many.
    seconds: BTreeMap<u64, u32>,
    bytes: u64,
}

impl Index {
    pub(super) fn new(turns: Arc<Turns>, now: Timestamp) -> Self {
        Self {
            turns,
            routes: Vec::new(),
            backends: Vec::new(),
            by_name: HashMap::default(),
            dues: HashMap::default(),
            ages: Ages::default(),
            now: now.as_millis(),
        }
    }

    /// The next route, whose number is how many were added before.
    pub(super) fn add_route(&mut self, backend: &Name, route: &Name) {
        let next = self.backends.len();
        let number = *self.by_name.entry(Arc::clone(backend)).or_insert(next);
        if number == next {
            let name = Arc::clone(backend);
            self.backends.push(Backend { name, routes: Vec::new(), queued: RoaringTreemap::new(), seconds: BTreeMap::new(), bytes: 0 });
        }
        self.backends[number].routes.push(self.routes.len());
        let name = Arc::clone(route);
        self.routes.push(Route {
            name,
            backend: number,
            ready: RoaringTreemap::new(),
            later: BTreeSet::new(),
            dead: RoaringTreemap::new(),
        });
    }

    /// Time goes on.
    pub(super) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now.as_millis());
    }

    /// A row is there.
    pub(super) fn enter(&mut self, position: Position, row: &Row) {
        if let Some(key) = self.enter_unordered(position, row) {
            match row.state() {
                State::Queued => self.with_key(key, |state| state.queue(Slot::new(position, row.route))),
                State::Delivering => self.with_key(key, |state| state.begin(position)),
                State::Dead => self.with_key(key, |state| state.hold(position)),
                State::Delivered | State::Cancelled => {}
            }
        }
    }

    /// An opening has found a row, of which nobody knows yet that it is stored.
    pub(super) fn load(&mut self, position: Position, row: &Row) {
        let Some(key) = self.enter_unordered(position, row) else { return };
        if row.state() == State::Queued {
            let moved = self.turns.found(key, Slot::new(position, row.route));
            return self.follow(moved);
        }
        self.with_key(key, |state| {
            state.count_stored();
            if row.state() == State::Delivering { state.begin(position) } else { state.hold(position) }
        });
    }

    /// Enters all of a row but what goes on under its key, which is returned where anything does.
    fn enter_unordered(&mut self, position: Position, row: &Row) -> Option<u64> {
        let route = row.route as usize;
        if let Some((class, moment)) = age(row) {
            self.ages.add(class, moment, position);
        }
        if row.takes_room() {
            let backend = &mut self.backends[self.routes[route].backend];
            *backend.seconds.entry(row.accepted_at / 1000).or_default() += 1;
            backend.bytes += row.bytes;
        }
        match row.state() {
            State::Queued => {
                self.backends[self.routes[route].backend].queued.insert(position);
                if row.due().as_millis() > self.now {
                    self.dues.insert(position, row.due().as_millis());
                }
                if row.order_key.is_none() {
                    self.offer(Slot::new(position, row.route));
                }
            }
            State::Dead => drop(self.routes[route].dead.insert(position)),
            State::Delivering | State::Delivered | State::Cancelled => {}
        }
        row.pending_key().map(OrderKey::as_u64)
    }

    /// A row that was there is there no more, or is about to change.
    pub(super) fn leave(&mut self, position: Position, row: &Row) {
        let route = row.route as usize;
        if let Some((class, moment)) = age(row) {
            self.ages.remove(class, moment);
        }
        if row.takes_room() {
            let backend = &mut self.backends[self.routes[route].backend];
            backend.bytes -= row.bytes;
            let second = row.accepted_at / 1000;
            if let Some(count) = backend.seconds.get_mut(&second) {
                *count -= 1;
                if *count == 0 {
                    backend.seconds.remove(&second);
                }
            }
        }
        let key = row.order_key;
        match row.state() {
            State::Queued => {
                let slot = Slot::new(position, row.route);
                match key {
                    None => self.withdraw(slot),
                    Some(key) => self.with_key(key, |state| state.unqueue(slot)),
                }
                self.backends[self.routes[route].backend].queued.remove(position);
                self.dues.remove(&position);
            }
            State::Delivering => key.iter().for_each(|&key| self.with_key(key, Key::end)),
            State::Dead => {
                self.routes[route].dead.remove(position);
                if let Some(key) = key.filter(|_| row.holds_key()) {
                    self.with_key(key, |state| state.let_go(position));
                }
            }
            State::Delivered | State::Cancelled => {}
        }
    }

    /// What held a key back outside the store is over. The backend whose queue may go on.
    pub(super) fn freed(&mut self, key: OrderKey) -> Option<Name> {
        let slot = self.turns.on_offer(key.as_u64())?;
        self.offer(slot);
        Some(Arc::clone(&self.backends[self.routes[slot.route()].backend].name))
    }

    /// What was built beside those who come and go stands for the store from now on. To be called under the lock of the index before, which hears of no end of a wait meanwhile.
    pub(super) fn succeed(&mut self, turns: &Arc<Turns>) {
        let beside = std::mem::replace(&mut self.turns, Arc::clone(turns));
        // Of these, something may now be in the way.
        turns.adopt(&beside).into_iter().for_each(|key| self.with_key(key, |_| {}));
    }

    /// The earliest of a backend that may be claimed now.
    pub(super) fn next(&mut self, backend: &str, full_routes: &[Name]) -> Option<Position> {
        let now = self.now;
        let &backend = self.by_name.get(backend)?;
        let routes = &mut self.routes;
        let open = self.backends[backend].routes.iter().copied();
        let mut next = None;
        for number in open {
            let route = &mut routes[number];
            while let Some(&(due, position)) = route.later.first().filter(|(due, _)| *due <= now) {
                route.later.remove(&(due, position));
                route.ready.insert(position);
            }
            let first = route.ready.min().filter(|_| !full_routes.contains(&route.name));
            next = [next, first].into_iter().flatten().min();
        }
        next
    }

    /// See [`Store::next_due`](crate::store::Store::next_due).
    pub(super) fn next_due(&self, backend: &str, full_routes: &[Name]) -> Option<Timestamp> {
        let &backend = self.by_name.get(backend)?;
        let routes = self.backends[backend].routes.iter().map(|&number| &self.routes[number]);
        let due = routes.filter(|route| !full_routes.contains(&route.name)).filter_map(|route| {
            // When one that is due fell due is not kept; any moment in the past says the same.
            if route.ready.is_empty() { route.later.first().map(|&(due, _)| due) } else { Some(0) }
        });
        due.min().map(Timestamp::from_millis)
    }

    /// Queued requests of the same backend as `route` before `position`.
    pub(super) fn ahead(&self, route: u32, position: Position) -> u64 {
        let queued = &self.backends[self.routes[route as usize].backend].queued;
        // What is new stands near the end, and to count those behind it is less than to count those before it.
        let behind = queued.iter().rev().take(NEAR).take_while(|&other| other >= position).count();
        if behind < NEAR { queued.len() - behind as u64 } else { queued.rank(position.saturating_sub(1)) }
    }

    /// The first dead letter after `after` in the routes that `wanted` picks.
    pub(super) fn next_dead(&self, after: Position, wanted: impl Fn(&Name, &Name) -> bool) -> Option<Position> {
        let routes = self.routes.iter().filter(|route| wanted(&self.backends[route.backend].name, &route.name));
        routes.filter_map(|route| route.dead.select(route.dead.rank(after))).min()
    }

    /// Name, bytes and oldest second of the backend of a route.
    pub(super) fn backend_of(&self, route: u32) -> (Name, u64, Option<Timestamp>) {
        let backend = &self.backends[self.routes[route as usize].backend];
        let oldest = backend.seconds.first_key_value().map(|(&second, _)| Timestamp::from_millis(second * 1000));
        (Arc::clone(&backend.name), backend.bytes, oldest)
    }

    /// Backend and route of a number.
    pub(super) fn names_of(&self, route: u32) -> (Name, Name) {
        let route = &self.routes[route as usize];
        (Arc::clone(&self.backends[route.backend].name), Arc::clone(&route.name))
    }

    /// The numbers of the routes that `wanted` picks by backend and name.
    pub(super) fn route_numbers(&self, wanted: impl Fn(&Name, &Name) -> bool) -> BTreeSet<u32> {
        let picked = |route: &Route| wanted(&self.backends[route.backend].name, &route.name);
        (0..).zip(&self.routes).filter(|(_, route)| picked(route)).map(|(number, _)| number).collect()
    }

    /// Changes a key, and what of it is on offer.
    fn with_key(&mut self, key: u64, change: impl FnOnce(&mut Key)) {
        let moved = self.turns.arrange(key, change);
        self.follow(moved);
    }

    /// Something of a key is no longer on offer, or now is.
    fn follow(&mut self, (gone, next): (Option<Slot>, Option<Slot>)) {
        gone.into_iter().for_each(|slot| self.withdraw(slot));
        next.into_iter().for_each(|slot| self.offer(slot));
    }

    fn offer(&mut self, slot: Slot) {
        let (position, route) = (slot.position(), &mut self.routes[slot.route()]);
        match self.dues.get(&position).filter(|due| **due > self.now) {
            Some(&due) => {
                route.later.insert((due, position));
            }
            None => {
                route.ready.insert(position);
            }
        }
    }

    fn withdraw(&mut self, slot: Slot) {
        let (position, route) = (slot.position(), &mut self.routes[slot.route()]);
        route.ready.remove(position);
        if let Some(&due) = self.dues.get(&position) {
            route.later.remove(&(due, position));
        }
    }
}

fn age(row: &Row) -> Option<(Class, Timestamp)> {
    let class = Class::of(row.state())?;
    Some((class, if class == Class::Expires { row.expires_at() } else { row.changed_at() }))
}
