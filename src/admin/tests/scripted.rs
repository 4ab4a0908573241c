//! A store that says what a test tells it to, and can be told to fail; and a backend that does the same.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::{BackendView, HealthView, QueueView, api::Replay};
use crate::{
    envelope::{Delivery, Envelope, Field, Name, OrderKey, Reason, RequestId, State, Timestamp},
    health,
    store::{
        Age, Ages, Answer, Appended, Claim, Claimed, Counts, Filter, History, NewRequest, Outcome, Page, Payload, QueueCounts, Record,
        Refusals, Refused, RouteCounts, Spooler, Store, StoreError, StoreStatus, Totals, Turn,
    },
};

/// Dead letters as given, counts as given but for what a redrive changes.
pub(super) struct Scripted {
    pub(super) records: Mutex<Vec<Record>>,
    pub(super) counts: Mutex<Counts>,
    pub(super) status: Mutex<StoreStatus>,
    pub(super) history: Mutex<History>,
    /// Redrives that succeed before all fail.
    pub(super) redrives_left: Mutex<u64>,
}

impl Scripted {
    pub(super) fn new() -> Arc<Self> {
        let status = StoreStatus {
            failing: None,
            requests: 0,
            bytes: 0,
            free_disk: 5 << 30,
            refusals: Refusals { max_bytes: Refused { requests: 3, since: Some(Timestamp::from_millis(2_000)) }, ..Refusals::default() },
            ages: Ages { max_age: Age { requests: 9, next: Some((Timestamp::from_millis(63_000), 2)) }, ..Ages::default() },
            damaged: 0,
            commits: 11,
            committed_operations: 40,
        };
        Arc::new(Self {
            records: Mutex::default(),
            counts: Mutex::default(),
            status: Mutex::new(status),
            history: Mutex::default(),
            redrives_left: Mutex::new(u64::MAX),
        })
    }

    /// Counts a route: `queued`, `delivering`, `delivered`, `dead`, `cancelled`, `discarded`.
    pub(super) fn count(&self, backend: &str, route: &str, [queued, delivering, delivered, dead, cancelled, discarded]: [u64; 6]) {
        let accepted = queued + delivering + delivered + dead + cancelled + discarded;
        let totals = Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded };
        let mut counts = self.counts.lock();
        counts.routes.push(RouteCounts { backend: backend.into(), route: route.into(), totals });
        if counts.queues.iter().all(|queue| &*queue.backend != backend) {
            counts.queues.push(QueueCounts { backend: backend.into(), bytes: 4096, oldest: Some(Timestamp::from_millis(1_000)) });
        }
    }

    /// Adds so many dead letters, and counts them.
    pub(super) fn bury(&self, backend: &str, route: &str, reason: crate::envelope::DeadReason, many: u64) {
        self.records.lock().extend((0..many).map(|_| dead(backend, route, reason)));
        self.records.lock().sort_by_key(|record| record.envelope.id);
        self.count(backend, route, [0, 0, 0, many, 0, 0]);
    }
}

fn dead(backend: &str, route: &str, reason: crate::envelope::DeadReason) -> Record {
    let envelope = Envelope {
        id: RequestId::new(),
        backend: backend.into(),
        route: route.into(),
        method: http::Method::POST,
        target: "/admin/orders/?day=1".into(),
        headers: vec![
            Field::new(http::header::AUTHORIZATION, "Bearer of-a-user".parse().unwrap()),
            Field { spelling: Some("X-Shop".into()), ..Field::new("x-shop".parse().unwrap(), "7".parse().unwrap()) },
        ],
        trailers: Vec::new(),
        reason: Reason::Down,
        accepted_at: Timestamp::from_millis(1_795_348_800_000),
        expires_at: Timestamp::from_millis(1_795_435_200_000),
        delivery: Delivery::AtLeastOnce,
        max_attempts: 8,
        order_key: None,
        hold_key_when_dead: false,
    };
    Record {
        envelope,
        body_bytes: 17,
        state: State::Dead,
        attempts: 3,
        due: None,
        changed_at: Timestamp::from_millis(1_795_348_900_000),
        dead_reason: Some(reason),
        last_outcome: "422".into(),
        answer_status: Some(422),
        ahead: None,
    }
}

fn matches(record: &Record, filter: &Filter) -> bool {
    filter.backend.as_ref().is_none_or(|backend| *backend == record.envelope.backend)
        && filter.route.as_ref().is_none_or(|route| *route == record.envelope.route)
        && filter.state.is_none_or(|state| state == record.state)
        && filter.dead_reason.is_none_or(|reason| Some(reason) == record.dead_reason)
}

impl Store for Scripted {
    fn redrive(&self, filter: Filter, _at: Timestamp, limit: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut left = self.redrives_left.lock();
        if *left == 0 {
            return ready(Err(StoreError::Failed("no space left on device".into()))).boxed();
        }
        *left -= 1;
        let mut redriven = 0;
        for record in self.records.lock().iter_mut().filter(|record| record.state == State::Dead && matches(record, &filter)) {
            if redriven < limit {
                (record.state, record.dead_reason) = (State::Queued, None);
                redriven += 1;
            }
        }
        ready(Ok(redriven)).boxed()
    }

    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Record, StoreError>> {
        let found = self.records.lock().iter().find(|record| record.envelope.id == id).cloned();
        ready(found.ok_or(StoreError::NotFound)).boxed()
    }

    fn page(&self, filter: Filter, after: Option<RequestId>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        let records = self.records.lock();
        let mut wanted = records.iter().filter(|record| after.is_none_or(|after| record.envelope.id > after) && matches(record, &filter));
        let records: Vec<Record> = wanted.by_ref().take(limit).cloned().collect();
        let next = wanted.next().and(records.last()).map(|last| last.envelope.id);
        ready(Ok(Page { records, next })).boxed()
    }

    fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    fn history(&self, from: Timestamp) -> BoxFuture<'_, Result<History, StoreError>> {
        let mut history = self.history.lock().clone();
        history.hours.retain(|counts| counts.hour >= from);
        ready(Ok(history)).boxed()
    }

    fn status(&self) -> StoreStatus {
        self.status.lock().clone()
    }

    // The admin room asks for nothing of the following.

    fn turn(&self, _key: Option<OrderKey>) -> Result<Turn, StoreError> {
        unreachable!()
    }

    fn room(&self, _bytes: u64, _written: u64) -> Result<(), StoreError> {
        unreachable!()
    }

    fn spooler(&self) -> &Spooler {
        unreachable!()
    }

    fn append(&self, _request: NewRequest) -> BoxFuture<'_, Result<Appended, StoreError>> {
        unreachable!()
    }

    fn claim(&self, _claim: Claim<'_>) -> BoxFuture<'static, Result<Vec<Claimed>, StoreError>> {
        unreachable!()
    }

    fn settle(&self, _id: RequestId, _attempt: u32, _at: Timestamp, _outcome: Outcome) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!()
    }

    fn cancel(&self, _id: RequestId, _at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!()
    }

    fn discard(&self, _filter: Filter, _at: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        unreachable!()
    }

    fn prune(&self, _now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        unreachable!()
    }

    fn body(&self, _id: RequestId) -> BoxFuture<'_, Result<Payload, StoreError>> {
        unreachable!()
    }

    fn answer(&self, _id: RequestId) -> BoxFuture<'_, Result<Answer, StoreError>> {
        unreachable!()
    }

    fn wake(&self, _backend: &str) -> Arc<Notify> {
        unreachable!()
    }

    fn next_due(&self, _backend: &str, _full_routes: &[Name]) -> Option<Timestamp> {
        unreachable!()
    }

    fn pending(&self, _: OrderKey) -> u32 {
        unreachable!()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        unreachable!()
    }
}

struct Sick;

impl HealthView for Sick {
    fn state(&self) -> health::State {
        health::State::Shedding
    }

    fn mode(&self) -> health::Mode {
        health::Mode::Auto
    }

    fn set_mode(&self, _: health::Mode) {}

    fn in_flight(&self) -> u32 {
        2
    }

    fn waiting(&self) -> u32 {
        3
    }

    fn limit(&self) -> u32 {
        20
    }

    fn weights(&self) -> health::Weights {
        Arc::new([AtomicU32::new(0), AtomicU32::new(40)])
    }

    fn load(&self) -> health::LoadView {
        let bases = vec![health::Remembered { route: "order-upload".into(), safe: false, seconds: 2.5 }];
        health::LoadView { adaptive: true, why: health::Why::Slow, slowdown: Some(2.25), bases }
    }
}

struct Draining;

impl QueueView for Draining {
    fn replay_rate(&self) -> f64 {
        2.5
    }

    fn drained_in(&self) -> Option<Duration> {
        Some(Duration::from_secs(90))
    }

    fn paused(&self) -> bool {
        false
    }

    fn set_paused(&self, _: bool) {}

    fn set_replay(&self, _: &super::super::api::ReplayChange) -> Result<(), String> {
        Ok(())
    }

    fn pace(&self) -> Replay {
        Replay { profile: "gentle".into(), window: 7, ramp: "growing".into(), hold: "window".into(), ..Replay::default() }
    }
}

/// A backend of two servers, one of them out, whose queue will be empty in 90 seconds.
pub(super) fn backend(name: &str, routes: &[&str]) -> BackendView {
    BackendView {
        name: name.into(),
        servers: Arc::new(|| vec![Some("http://127.0.0.1:9001".into()), Some("http://127.0.0.1:9002".into())]),
        routes: routes.iter().map(|&route| route.into()).collect(),
        health: Arc::new(Sick),
        queue: Arc::new(Draining),
    }
}
