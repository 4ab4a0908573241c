//! The model: the same promises in plain maps, with nothing durable. Tests compare the real engine against it, and other rooms test with it.
//!
//! Written to be seen to be right, not to be fast: it looks at every request whenever it wants to know something.

mod model;

use std::{fmt, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::model::{Entry, Model};
use super::{
    Answer, Appended, Claim, Claimed, Counts, Filter, History, NewRequest, Outcome, Page, Payload, Record, Settings, Spooler, Store,
    StoreError, StoreStatus, Turn, Turns, capacity::Capacity, history::Event, records, refusing::Refusing, wakes::Wakes,
};
use crate::envelope::{Clock, Name, OrderKey, RequestId, State, Timestamp};

/// A store in memory. Bodies past the threshold lie in files without names in the system's folder for temporary files.
pub struct MemoryStore {
    settings: Settings,
    clock: Clock,
    spooler: Spooler,
    turns: Arc<Turns>,
    capacity: Arc<Capacity>,
    refusing: Refusing,
    wakes: Arc<Wakes>,
    /// None once closed.
    model: Mutex<Option<Model>>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new(settings: Settings, clock: Clock) -> Arc<Self> {
        let model = Model::new(clock.now());
        Self::with(settings, clock, model)
    }

    /// What a crash and an open at the current moment make of it; turns that are still held are of the time before. This one is closed.
    pub fn reopened(&self) -> Arc<Self> {
        let mut model = self.model.lock().take().unwrap_or_default();
        model.recover(self.clock.now());
        Self::with(self.settings.clone(), self.clock.clone(), model)
    }

    fn with(settings: Settings, clock: Clock, model: Model) -> Arc<Self> {
        let turns = Turns::new(model.entries.values().map(|entry| entry.position + 1).max().unwrap_or(1));
        let capacity = Capacity::new(&settings);
        for entry in model.entries.values() {
            if entry.is_pending() {
                entry.envelope.order_key.iter().for_each(|&key| turns.add_stored(key));
            }
            if entry.takes_room() {
                capacity.take(entry.bytes);
            }
        }
        let wakes = Arc::new(Wakes::default());
        let bells = Arc::clone(&wakes);
        turns.on_freed(move |_| bells.ring_all());
        let spooler = Spooler::new(std::env::temp_dir(), Spooler::THRESHOLD, 0);
        let refusing = Refusing::default();
        Arc::new(Self { settings, clock, spooler, turns, capacity, refusing, wakes, model: Mutex::new(Some(model)) })
    }

    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> Result<T, StoreError>) -> Result<T, StoreError> {
        work(self.model.lock().as_mut().ok_or(StoreError::Closed)?)
    }

    /// Changes one request, and does all that follows from the change.
    fn change<T>(
        &self,
        model: &mut Model,
        id: RequestId,
        change: impl FnOnce(&mut Entry) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let entry = model.entries.get_mut(&id).ok_or(StoreError::NotFound)?;
        let before = (entry.state, entry.is_pending(), entry.takes_room());
        let result = change(entry)?;
        let after = (entry.state, entry.is_pending(), entry.takes_room());
        if before.0 != after.0 {
            assert!(before.0.may_become(after.0), "{} to {}", before.0, after.0);
        }
        let (key, bytes, backend) = (entry.envelope.order_key, entry.bytes, entry.envelope.backend.clone());
        model.count_move(id, before.0, after.0);
        match (before.1, after.1) {
            (false, true) => key.iter().for_each(|&key| self.turns.add_stored(key)),
            (true, false) => key.iter().for_each(|&key| self.turns.remove_stored(key)),
            _ => {}
        }
        match (before.2, after.2) {
            (false, true) => self.capacity.take(bytes),
            (true, false) => self.capacity.release(bytes),
            _ => {}
        }
        self.wakes.ring(&backend);
        Ok(result)
    }

    /// Removes one request that is final.
    fn forget(&self, model: &mut Model, id: RequestId, at: Timestamp) {
        if model.entries.get(&id).is_some_and(|entry| entry.state == State::Dead) {
            model.count_event(id, at, Event::Discarded);
        }
        let Some(entry) = model.entries.remove(&id) else { return };
        if entry.state == State::Dead {
            let totals = model.totals_of(&entry);
            totals.dead -= 1;
            totals.discarded += 1;
        }
        if entry.is_pending() {
            entry.envelope.order_key.iter().for_each(|&key| self.turns.remove_stored(key));
        }
        self.wakes.ring(&entry.envelope.backend);
    }

    fn append_now(&self, request: NewRequest) -> Result<Appended, StoreError> {
        let NewRequest { envelope, payload, turn } = request;
        debug_assert_eq!(turn.key(), envelope.order_key, "a turn is of the key of its request");
        let (id, bytes) = (envelope.id, records::request_head(&envelope, &payload).len() as u64 + payload.len());
        self.with_model(|model| {
            self.refusing.note(self.capacity.reserve(bytes).map_err(StoreError::from), &self.clock)?.keep();
            let entry = Entry::new(envelope, payload, bytes, turn.position());
            let (backend, accepted_at) = (entry.envelope.backend.clone(), entry.envelope.accepted_at);
            let ahead = model.queued_before(&backend, entry.position);
            let totals = model.totals_of(&entry);
            totals.accepted += 1;
            totals.queued += 1;
            model.entries.insert(id, entry);
            model.count_event(id, accepted_at, Event::Accepted);
            turn.stored();
            self.wakes.ring(&backend);
            Ok(Appended { id, ahead, bytes })
        })
    }

    fn claim_now(&self, backend: &str, full_routes: &[Name], max: usize, now: Timestamp) -> Result<Vec<Claimed>, StoreError> {
        self.with_model(|model| {
            let mut claimed = Vec::new();
            while claimed.len() < max {
                let Some(id) = model.next(&self.turns, backend, full_routes, Some(now)) else { break };
                let work = self.change(model, id, |entry| Ok(entry.start(now)))?;
                claimed.extend(work);
            }
            Ok(claimed)
        })
    }

    fn prune_now(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.refusing.look(now);
        self.with_model(|model| {
            let expired = model.select(|entry| entry.state == State::Queued && entry.expires_at() <= now);
            for &id in &expired {
                self.change(model, id, |entry| {
                    entry.expire(now);
                    Ok(())
                })?;
            }
            let (delivered, dead) = (self.settings.keep_delivered, self.settings.keep_dead);
            let kept_enough = model.select(|entry| match entry.state {
                State::Delivered | State::Cancelled => entry.changed_at.after(delivered) <= now,
                State::Dead => entry.changed_at.after(dead) <= now,
                State::Queued | State::Delivering => false,
            });
            kept_enough.iter().for_each(|&id| self.forget(model, id, now));
            model.forget_hours(now);
            Ok((expired.len() + kept_enough.len()) as u64)
        })
    }

    fn redrive_now(&self, filter: &Filter, at: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.with_model(|model| {
            let mut dead = model.select(|entry| entry.state == State::Dead && entry.matches(filter));
            dead.sort_by_key(|id| model.entries[id].position);
            dead.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            for &id in &dead {
                self.change(model, id, |entry| {
                    entry.redrive(at);
                    Ok(())
                })?;
            }
            Ok(dead.len() as u64)
        })
    }

    fn discard_now(&self, filter: &Filter, at: Timestamp) -> Result<u64, StoreError> {
        self.with_model(|model| {
            let dead = model.select(|entry| entry.state == State::Dead && entry.matches(filter));
            dead.iter().for_each(|&id| self.forget(model, id, at));
            Ok(dead.len() as u64)
        })
    }
}

impl Store for MemoryStore {
    fn turn(&self, key: Option<OrderKey>) -> Result<Turn, StoreError> {
        Ok(self.turns.enter(key))
    }

    fn room(&self, bytes: u64, _written: u64) -> Result<(), StoreError> {
        let room = self.with_model(|_| Ok(self.capacity.check(bytes)?));
        self.refusing.note(room, &self.clock)
    }

    fn spooler(&self) -> &Spooler {
        &self.spooler
    }

    fn append(&self, request: NewRequest) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move { self.append_now(request) })
    }

    fn claim<'a>(&'a self, claim: Claim<'a>) -> BoxFuture<'a, Result<Vec<Claimed>, StoreError>> {
        Box::pin(async move { self.claim_now(claim.backend, claim.full_routes, claim.max, claim.now) })
    }

    fn settle(&self, id: RequestId, attempt: u32, at: Timestamp, outcome: Outcome) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.with_model(|model| self.change(model, id, |entry| entry.settle(attempt, at, outcome))) })
    }

    fn cancel(&self, id: RequestId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.with_model(|model| self.change(model, id, |entry| entry.cancel(at))) })
    }

    fn redrive(&self, filter: Filter, at: Timestamp, limit: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { self.redrive_now(&filter, at, limit) })
    }

    fn discard(&self, filter: Filter, at: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { self.discard_now(&filter, at) })
    }

    fn prune(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { self.prune_now(now) })
    }

    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Record, StoreError>> {
        Box::pin(async move { self.with_model(|model| model.record(id).ok_or(StoreError::NotFound)) })
    }

    fn body(&self, id: RequestId) -> BoxFuture<'_, Result<Payload, StoreError>> {
        Box::pin(async move {
            self.with_model(|model| model.entries.get(&id).and_then(|entry| entry.payload.clone()).ok_or(StoreError::NotFound))
        })
    }

    fn answer(&self, id: RequestId) -> BoxFuture<'_, Result<Answer, StoreError>> {
        Box::pin(async move {
            self.with_model(|model| model.entries.get(&id).and_then(|entry| entry.answer.clone()).ok_or(StoreError::NotFound))
        })
    }

    fn page(&self, filter: Filter, after: Option<RequestId>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move { self.with_model(|model| Ok(model.page(&filter, after, limit))) })
    }

    fn counts(&self) -> Counts {
        self.model.lock().as_ref().map(Model::counts).unwrap_or_default()
    }

    fn history(&self, from: Timestamp) -> BoxFuture<'_, Result<History, StoreError>> {
        Box::pin(async move { self.with_model(|model| Ok(model.history(from))) })
    }

    fn status(&self) -> StoreStatus {
        let model = self.model.lock();
        let held = || model.iter().flat_map(|model| model.entries.values()).filter(|entry| entry.takes_room());
        StoreStatus {
            failing: None,
            requests: held().count() as u64,
            bytes: held().map(|entry| entry.bytes).sum(),
            free_disk: u64::MAX,
            refusals: self.refusing.status(),
            ages: model.as_ref().map(|model| model.ages(&self.settings)).unwrap_or_default(),
            damaged: 0,
            commits: 0,
            committed_operations: 0,
        }
    }

    fn wake(&self, backend: &str) -> Arc<Notify> {
        self.wakes.of(backend)
    }

    fn pending(&self, key: OrderKey) -> u32 {
        self.turns.stored(key)
    }

    fn next_due(&self, backend: &str, full_routes: &[Name]) -> Option<Timestamp> {
        let model = self.model.lock();
        let model = model.as_ref()?;
        model.eligible(&self.turns, backend, full_routes).map(|entry| entry.due).min()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.model.lock().take();
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: &PathBuf = &self.settings.path;
        f.debug_struct("MemoryStore").field("path", path).field("status", &self.status()).finish_non_exhaustive()
    }
}
