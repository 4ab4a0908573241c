//! What the model knows, and the moves of one request.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    envelope::{DeadReason, Envelope, Name, RequestId, State, Timestamp},
    store::{
        Age, Ages, Answer, Claimed, Counts, Filter, History, HourCounts, INTERRUPTED, Moves, Outcome, Page, Payload, Position, QueueCounts,
        Record, RouteCounts, Settings, StoreError, Totals, Turns,
        history::{self, Event},
    },
};

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) entries: BTreeMap<RequestId, Entry>,
    totals: BTreeMap<(Name, Name), Totals>,
    /// By hour, backend and route.
    moves: BTreeMap<(u32, Name, Name), Moves>,
    /// When it was made.
    since: Timestamp,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) envelope: Envelope,
    /// None once its body is no longer needed.
    pub(super) payload: Option<Payload>,
    pub(super) answer: Option<Answer>,
    pub(super) bytes: u64,
    pub(super) position: Position,
    pub(super) state: State,
    pub(super) due: Timestamp,
    pub(super) changed_at: Timestamp,
    body_bytes: u64,
    attempts: u32,
    failures: u32,
    trips: u32,
    dead_reason: Option<DeadReason>,
    last_outcome: String,
    /// When its age began to count anew.
    redriven_at: Option<Timestamp>,
}

impl Entry {
    pub(super) fn new(envelope: Envelope, payload: Payload, bytes: u64, position: Position) -> Self {
        Self {
            due: envelope.accepted_at,
            changed_at: envelope.accepted_at,
            body_bytes: payload.len(),
            envelope,
            payload: Some(payload),
            answer: None,
            bytes,
            position,
            state: State::Queued,
            attempts: 0,
            failures: 0,
            trips: 0,
            dead_reason: None,
            last_outcome: String::new(),
            redriven_at: None,
        }
    }

    /// Whether later ones of its key must queue behind it.
    pub(super) fn is_pending(&self) -> bool {
        self.takes_room() || self.holds_key()
    }

    /// Whether it counts against `max_requests` and `max_bytes`.
    pub(super) fn takes_room(&self) -> bool {
        matches!(self.state, State::Queued | State::Delivering)
    }

    fn holds_key(&self) -> bool {
        self.state == State::Dead && self.envelope.hold_key_when_dead
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        match self.redriven_at {
            Some(at) => at.after(self.envelope.expires_at.since(self.envelope.accepted_at)),
            None => self.envelope.expires_at,
        }
    }

    fn envelope_now(&self) -> Envelope {
        Envelope { expires_at: self.expires_at(), ..self.envelope.clone() }
    }

    pub(super) fn matches(&self, filter: &Filter) -> bool {
        filter.is_of(&self.envelope.backend, &self.envelope.route)
            && filter.state.is_none_or(|state| state == self.state)
            && filter.dead_reason.is_none_or(|reason| Some(reason) == self.dead_reason)
    }

    fn become_at(&mut self, state: State, at: Timestamp) {
        self.state = state;
        self.changed_at = at;
    }

    fn die(&mut self, reason: DeadReason, at: Timestamp) {
        self.become_at(State::Dead, at);
        self.dead_reason = Some(reason);
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.die(DeadReason::Expired, now);
    }

    /// Begins an attempt, or gives the request up when it is too old for one.
    pub(super) fn start(&mut self, now: Timestamp) -> Option<Claimed> {
        if self.expires_at() <= now {
            self.expire(now);
            return None;
        }
        self.become_at(State::Delivering, now);
        self.attempts += 1;
        let payload = self.payload.clone()?;
        Some(Claimed { envelope: self.envelope_now(), payload, attempt: self.attempts, failures: self.failures, trips: self.trips })
    }

    pub(super) fn settle(&mut self, attempt: u32, at: Timestamp, outcome: Outcome) -> Result<(), StoreError> {
        if self.state != State::Delivering || self.attempts != attempt {
            return Err(StoreError::WrongState(self.state));
        }
        match outcome {
            Outcome::Delivered(answer) => {
                self.become_at(State::Delivered, at);
                self.last_outcome = format!("answered {}", answer.status);
                self.answer = Some(answer);
                self.payload = None;
            }
            Outcome::Again { due, consumes_attempt, trips, why } => {
                self.become_at(State::Queued, at);
                self.due = due;
                self.failures += u32::from(consumes_attempt);
                self.trips = self.trips.saturating_add(trips);
                self.last_outcome = why;
            }
            Outcome::Dead { reason, why, answer } => {
                self.die(reason, at);
                self.last_outcome = why;
                self.answer = answer;
            }
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, at: Timestamp) -> Result<(), StoreError> {
        if self.state != State::Queued {
            return Err(StoreError::WrongState(self.state));
        }
        self.become_at(State::Cancelled, at);
        self.payload = None;
        Ok(())
    }

    pub(super) fn redrive(&mut self, at: Timestamp) {
        self.become_at(State::Queued, at);
        self.due = at;
        self.redriven_at = Some(at);
        (self.failures, self.trips) = (0, 0);
        self.dead_reason = None;
        self.answer = None;
    }
}

impl Model {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, ..Self::default() }
    }

    pub(super) fn totals_of(&mut self, entry: &Entry) -> &mut Totals {
        self.totals.entry((entry.envelope.backend.clone(), entry.envelope.route.clone())).or_default()
    }

    pub(super) fn count_move(&mut self, id: RequestId, from: State, to: State) {
        let Some(entry) = self.entries.get(&id) else { return };
        let names = (entry.envelope.backend.clone(), entry.envelope.route.clone());
        let totals = self.totals.entry(names).or_default();
        *totals.of(from) -= 1;
        *totals.of(to) += 1;
        let at = entry.changed_at;
        if let Some(event) = Event::of(to).filter(|_| from != to) {
            self.count_event(id, at, event);
        }
    }

    pub(super) fn count_event(&mut self, id: RequestId, at: Timestamp, event: Event) {
        let Some(entry) = self.entries.get(&id) else { return };
        let place = (history::hour_of(at), entry.envelope.backend.clone(), entry.envelope.route.clone());
        self.moves.entry(place).or_default().add(event, 1);
    }

    pub(super) fn forget_hours(&mut self, now: Timestamp) {
        self.moves.retain(|(hour, ..), _| *hour >= history::first_kept(now));
    }

    pub(super) fn history(&self, from: Timestamp) -> History {
        let hours = self.moves.iter().filter(|((hour, ..), _)| *hour >= history::hour_of(from));
        let hours = hours.map(|((hour, backend, route), &moves)| HourCounts {
            hour: history::start_of(*hour),
            backend: backend.clone(),
            route: route.clone(),
            moves,
        });
        History { since: self.since, hours: hours.collect() }
    }

    pub(super) fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<RequestId> {
        self.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(&id, _)| id).collect()
    }

    pub(super) fn queued_before(&self, backend: &str, position: Position) -> u64 {
        let before = |entry: &&Entry| entry.state == State::Queued && &*entry.envelope.backend == backend && entry.position < position;
        self.entries.values().filter(before).count() as u64
    }

    /// Queued requests of the backend that wait for nothing but time.
    pub(super) fn eligible<'a>(&'a self, turns: &'a Turns, backend: &'a str, full_routes: &'a [Name]) -> impl Iterator<Item = &'a Entry> {
        self.entries.values().filter(move |entry| {
            entry.state == State::Queued
                && &*entry.envelope.backend == backend
                && !full_routes.contains(&entry.envelope.route)
                && !self.must_wait(turns, entry)
        })
    }

    fn must_wait(&self, turns: &Turns, entry: &Entry) -> bool {
        let Some(key) = entry.envelope.order_key else { return false };
        let in_its_way = |other: &Entry| {
            other.envelope.order_key == Some(key)
                && (other.state == State::Delivering
                    || other.position < entry.position && (other.state == State::Queued || other.holds_key()))
        };
        turns.blocks(key, entry.position) || self.entries.values().any(in_its_way)
    }

    pub(super) fn next(&self, turns: &Turns, backend: &str, full_routes: &[Name], now: Option<Timestamp>) -> Option<RequestId> {
        self.eligible(turns, backend, full_routes)
            .filter(|entry| now.is_none_or(|now| entry.due <= now))
            .min_by_key(|entry| entry.position)
            .map(|entry| entry.envelope.id)
    }

    pub(super) fn recover(&mut self, now: Timestamp) {
        let interrupted = self.select(|entry| entry.state == State::Delivering);
        for id in interrupted {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.last_outcome = INTERRUPTED.to_owned();
            if entry.envelope.may_be_resent() {
                entry.become_at(State::Queued, now);
                entry.due = now;
            } else {
                entry.die(DeadReason::OutcomeUnknown, now);
            }
            let to = entry.state;
            self.count_move(id, State::Delivering, to);
        }
    }

    pub(super) fn record(&self, id: RequestId) -> Option<Record> {
        let entry = self.entries.get(&id)?;
        let queued = entry.state == State::Queued;
        Some(Record {
            envelope: entry.envelope_now(),
            body_bytes: entry.body_bytes,
            state: entry.state,
            attempts: entry.attempts,
            due: queued.then_some(entry.due),
            changed_at: entry.changed_at,
            dead_reason: entry.dead_reason,
            last_outcome: entry.last_outcome.clone(),
            answer_status: entry.answer.as_ref().map(|answer| answer.status),
            ahead: queued.then(|| self.queued_before(&entry.envelope.backend, entry.position)),
        })
    }

    pub(super) fn page(&self, filter: &Filter, after: Option<RequestId>, limit: usize) -> Page {
        let wanted = self.entries.iter().filter(|&(&id, entry)| after.is_none_or(|after| id > after) && entry.matches(filter));
        let mut records: Vec<Record> = wanted.filter_map(|(&id, _)| self.record(id)).take(limit.saturating_add(1)).collect();
        let more = records.len() > limit;
        records.truncate(limit);
        let next = if more { records.last().map(|record| record.envelope.id) } else { None };
        Page { records, next }
    }

    /// What reaches an age next.
    pub(super) fn ages(&self, settings: &Settings) -> Ages {
        let age = |states: &[State], keep: Duration, moment: fn(&Entry) -> Timestamp| {
            let of_states = || self.entries.values().filter(|entry| states.contains(&entry.state));
            let second = |entry: &Entry| moment(entry).as_millis() / 1_000;
            let first = of_states().map(second).min();
            let next = first.map(|first| {
                let at = Timestamp::from_millis(first * 1_000).after(keep);
                (at, of_states().filter(|entry| second(entry) == first).count() as u64)
            });
            Age { requests: of_states().count() as u64, next }
        };
        Ages {
            max_age: age(&[State::Queued], Duration::ZERO, Entry::expires_at),
            keep_delivered: age(&[State::Delivered, State::Cancelled], settings.keep_delivered, |entry| entry.changed_at),
            keep_dead: age(&[State::Dead], settings.keep_dead, |entry| entry.changed_at),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for ((backend, route), &totals) in &self.totals {
            counts.routes.push(RouteCounts { backend: backend.clone(), route: route.clone(), totals });
            if counts.queues.last().is_none_or(|queue| queue.backend != *backend) {
                let held = || self.entries.values().filter(|entry| entry.takes_room() && entry.envelope.backend == *backend);
                let oldest = held().map(|entry| entry.envelope.accepted_at.as_millis() / 1000 * 1000).min();
                counts.queues.push(QueueCounts {
                    backend: backend.clone(),
                    bytes: held().map(|entry| entry.bytes).sum(),
                    oldest: oldest.map(Timestamp::from_millis),
                });
            }
        }
        counts
    }
}
