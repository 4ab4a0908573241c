//! The real engine in lockstep with the model: whatever is done, and whenever it crashes, both say the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forebay::{
    envelope::{DeadReason, Delivery, Envelope, OrderKey, RequestId, State, Timestamp},
    store::{Claim, Filter, LiveTurn, NewRequest, Outcome, Payload, Store, StoreError, Turn, memory::MemoryStore, redb::RedbStore},
};
use proptest::prelude::*;

use crate::{
    disk::FakeDisk,
    rig::{self, clock, name, read},
};

#[derive(Debug, Clone)]
enum Step {
    Append { key: Option<u64>, route: usize, len: usize, hold: bool, once: bool, max_age: u64 },
    GoLive { key: u64 },
    EndLive { which: usize },
    Rescue { which: usize },
    Claim { backend: usize, max: usize, full: bool },
    Deliver { which: usize, len: usize },
    Again { which: usize, wait: u64, consumes: bool },
    Die { which: usize, answered: bool },
    Cancel { which: usize },
    Redrive { route: Option<usize>, limit: u64 },
    Discard { route: Option<usize> },
    Prune,
    Pass { millis: u64 },
    Reopen,
    Kill,
    LosePower { seed: u64 },
}

const BACKENDS: [&str; 2] = ["admin", "app"];
const ROUTES: [(&str, &str); 3] = [("admin", "orders"), ("app", "marks"), ("app", "rest")];

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..8;
    let len = prop_oneof![Just(0usize), 1usize..600, 2000usize..2100, Just(9000)];
    prop_oneof![
        8 => (proptest::option::of(0u64..3), 0usize..3, len.clone(), any::<bool>(), any::<bool>(), prop_oneof![Just(5_000u64), Just(3_600_000)])
            .prop_map(|(key, route, len, hold, once, max_age)| Step::Append { key, route, len, hold, once, max_age }),
        2 => (0u64..3).prop_map(|key| Step::GoLive { key }),
        1 => which.clone().prop_map(|which| Step::EndLive { which }),
        1 => which.clone().prop_map(|which| Step::Rescue { which }),
        5 => (0usize..2, 1usize..4, any::<bool>()).prop_map(|(backend, max, full)| Step::Claim { backend, max, full }),
        3 => (which.clone(), len).prop_map(|(which, len)| Step::Deliver { which, len }),
        2 => (which.clone(), 0u64..3000, any::<bool>()).prop_map(|(which, wait, consumes)| Step::Again { which, wait, consumes }),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, answered)| Step::Die { which, answered }),
        1 => which.prop_map(|which| Step::Cancel { which }),
        1 => (proptest::option::of(0usize..3), 1u64..4).prop_map(|(route, limit)| Step::Redrive { route, limit }),
        1 => proptest::option::of(0usize..3).prop_map(|route| Step::Discard { route }),
        1 => Just(Step::Prune),
        2 => prop_oneof![1u64..2000, Just(30_000), Just(600_000), Just(3_600_000), Just(90 * 86_400_000)].prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::LosePower { seed }),
    ]
}

struct Pair {
    model: Arc<MemoryStore>,
    real: Option<Arc<RedbStore>>,
    disk: FakeDisk,
    settings: forebay::store::Settings,
    now: Arc<AtomicU64>,
    /// Attempts under way, and live writes, at both.
    flights: Vec<(RequestId, u32)>,
    live: Vec<(u64, LiveTurn, LiveTurn)>,
    known: Vec<RequestId>,
    _folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = rig::settings(&folder);
        settings.max_requests = 12;
        let now = Arc::new(AtomicU64::new(rig::START));
        let disk = FakeDisk::new(folder.path().join("queue.redb.payloads"));
        let model = MemoryStore::new(settings.clone(), clock(&now));
        let mut pair =
            Self { model, real: None, disk, settings, now, flights: Vec::new(), live: Vec::new(), known: Vec::new(), _folder: folder };
        pair.open();
        pair
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        self.real = Some(RedbStore::open_with(self.settings.clone(), clock(&self.now), rig::tuning(), disk).unwrap());
    }

    fn real(&self) -> &RedbStore {
        self.real.as_deref().unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Relaxed))
    }

    fn restart(&mut self, disk: FakeDisk) {
        self.live.clear();
        self.flights.clear();
        self.real = None;
        self.disk = disk;
        self.open();
        self.model = self.model.reopened();
    }

    async fn put(&mut self, envelope: Envelope, len: usize, turns: (Turn, Turn)) {
        let body = vec![len as u8; len];
        let mut results = Vec::new();
        for (store, turn) in [(&*self.model as &dyn Store, turns.0), (self.real(), turns.1)] {
            let payload = rig::spooled(store, &body).await;
            let request = NewRequest { envelope: envelope.clone(), payload, turn: turn.into_queued() };
            results.push(format!("{:?}", store.append(request).await));
        }
        // A body in a file is a little longer in the one than in the other, which spool from different lengths on.
        let cut = |text: &str| text.split("bytes").next().map(str::to_owned);
        assert_eq!(cut(&results[0]), cut(&results[1]));
        self.known.push(envelope.id);
    }

    fn envelope(&self, key: Option<u64>, route: usize) -> Envelope {
        let (backend, route) = ROUTES[route];
        Envelope { backend: name(backend), route: name(route), order_key: key.map(OrderKey::from_u64), ..rig::envelope(self.now()) }
    }

    async fn claim(&mut self, claim: Claim<'_>) {
        let (model, real) = (self.model.claim(claim).await.unwrap(), self.real().claim(claim).await.unwrap());
        assert_eq!(model.len(), real.len());
        for (model, real) in model.iter().zip(&real) {
            let told = |claimed: &forebay::store::Claimed| (claimed.envelope.clone(), claimed.attempt, claimed.failures, claimed.trips);
            assert_eq!(told(model), told(real));
            assert_eq!(read(&model.payload).await.unwrap(), read(&real.payload).await.unwrap());
            self.flights.push((model.envelope.id, model.attempt));
        }
    }

    async fn settle(&mut self, which: usize, outcome: impl Fn(Payload) -> Outcome, len: usize) {
        if self.flights.is_empty() {
            return;
        }
        let (id, attempt) = self.flights.remove(which % self.flights.len());
        for store in [&*self.model as &dyn Store, self.real()] {
            let payload = rig::spooled(store, &vec![len as u8; len]).await;
            store.settle(id, attempt, self.now(), outcome(payload)).await.unwrap();
        }
    }

    async fn apply(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Append { key, route, len, hold, once, max_age } => {
                let delivery = if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
                let expires_at = now.after(Duration::from_millis(max_age));
                let envelope = Envelope { hold_key_when_dead: hold, delivery, expires_at, ..self.envelope(key, route) };
                let key = envelope.order_key;
                let turns = (self.model.turn(key).unwrap(), self.real().turn(key).unwrap());
                assert_eq!(matches!(turns.0, Turn::Live(_)), matches!(turns.1, Turn::Live(_)));
                self.put(envelope, len, turns).await;
            }
            Step::GoLive { key } => {
                match (self.model.turn(Some(OrderKey::from_u64(key))).unwrap(), self.real().turn(Some(OrderKey::from_u64(key))).unwrap()) {
                    (Turn::Live(first), Turn::Live(second)) => self.live.push((key, first, second)),
                    (Turn::Queued(_), Turn::Queued(_)) => {}
                    turns => panic!("{turns:?}"),
                }
            }
            Step::EndLive { which } if !self.live.is_empty() => drop(self.live.remove(which % self.live.len())),
            Step::Rescue { which } if !self.live.is_empty() => {
                let (key, first, second) = self.live.remove(which % self.live.len());
                let turns = (Turn::Queued(first.into_queued()), Turn::Queued(second.into_queued()));
                self.put(self.envelope(Some(key), 1), 10, turns).await;
            }
            Step::Claim { backend, max, full } => {
                let full_routes = if full { vec![name("marks")] } else { Vec::new() };
                self.claim(Claim { backend: BACKENDS[backend], full_routes: &full_routes, max, now }).await;
            }
            Step::Deliver { which, len } => {
                self.settle(which, |payload| Outcome::Delivered(forebay::store::Answer { payload, ..rig::answer(b"") }), len).await;
            }
            Step::Again { which, wait, consumes } => {
                let due = now.after(Duration::from_millis(wait));
                let outcome =
                    |_| Outcome::Again { due, consumes_attempt: consumes, trips: u32::from(!consumes), why: format!("wait {wait}") };
                self.settle(which, outcome, 0).await;
            }
            Step::Die { which, answered } => {
                let outcome = |payload| {
                    let answer = answered.then(|| forebay::store::Answer { payload, ..rig::answer(b"") });
                    Outcome::Dead { reason: DeadReason::Refused, why: "no".into(), answer }
                };
                self.settle(which, outcome, 3000).await;
            }
            Step::Cancel { which } if !self.known.is_empty() => {
                let id = self.known[which % self.known.len()];
                let results = (self.model.cancel(id, now).await, self.real().cancel(id, now).await);
                assert_eq!(format!("{:?}", results.0), format!("{:?}", results.1));
            }
            Step::Redrive { route, limit } => {
                let filter = self.filter(route);
                let model = self.model.redrive(filter.clone(), now, limit).await.unwrap();
                assert_eq!(model, self.real().redrive(filter, now, limit).await.unwrap());
            }
            Step::Discard { route } => {
                let filter = self.filter(route);
                assert_eq!(self.model.discard(filter.clone(), now).await.unwrap(), self.real().discard(filter, now).await.unwrap());
            }
            Step::Prune => assert_eq!(self.model.prune(now).await.unwrap(), self.real().prune(now).await.unwrap()),
            Step::Pass { millis } => drop(self.now.fetch_add(millis, Relaxed)),
            Step::Reopen => {
                self.real().close().await;
                self.restart(self.disk.clone());
            }
            Step::Kill => self.restart(self.disk.kill()),
            Step::LosePower { seed } => self.restart(self.disk.lose_power(seed)),
            Step::EndLive { .. } | Step::Rescue { .. } | Step::Cancel { .. } => {}
        }
    }

    fn filter(&self, route: Option<usize>) -> Filter {
        let (backend, route) = route.map(|route| ROUTES[route]).unzip();
        Filter { backend: backend.map(name), route: route.map(name), ..Filter::default() }
    }

    async fn compare(&self) {
        let (model, real) = (self.model.counts(), self.real().counts());
        assert_eq!(model.routes, real.routes);
        assert!(real.routes.iter().all(|route| route.totals.balance()));
        let oldest =
            |counts: &forebay::store::Counts| counts.queues.iter().map(|queue| (queue.backend.clone(), queue.oldest)).collect::<Vec<_>>();
        assert_eq!(oldest(&model), oldest(&real));
        let pages =
            (self.model.page(Filter::default(), None, 1000).await.unwrap(), self.real().page(Filter::default(), None, 1000).await.unwrap());
        assert_eq!(pages.0.records, pages.1.records);
        for backend in BACKENDS {
            let due = |store: &dyn Store| store.next_due(backend, &[]).map(|due| due.max(self.now()));
            assert_eq!(due(&*self.model), due(self.real()));
        }
        for record in pages.1.records {
            self.compare_bytes(record.envelope.id, record.state).await;
        }
        let from = Timestamp::default();
        assert_eq!(self.model.history(from).await.unwrap(), self.real().history(from).await.unwrap());
        assert_eq!(self.model.status().requests, self.real().status().requests);
        assert_eq!(self.model.status().ages, self.real().status().ages);
        assert_eq!(self.model.room(0, 0).is_ok(), self.real().room(0, 0).is_ok());
    }

    async fn compare_bytes(&self, id: RequestId, state: State) {
        let bodies = (self.model.body(id).await, self.real().body(id).await);
        match bodies {
            (Ok(model), Ok(real)) => assert_eq!(read(&model).await.unwrap(), read(&real).await.unwrap()),
            (Err(StoreError::NotFound), Err(StoreError::NotFound)) => assert!(matches!(state, State::Delivered | State::Cancelled)),
            bodies => panic!("{id} {state}: {bodies:?}"),
        }
        match (self.model.answer(id).await, self.real().answer(id).await) {
            (Ok(model), Ok(real)) => assert_eq!(read(&model.payload).await.unwrap(), read(&real.payload).await.unwrap()),
            (Err(StoreError::NotFound), Err(StoreError::NotFound)) => {}
            answers => panic!("{id} {state}: {answers:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_real_engine_and_the_model_never_differ(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in steps {
                pair.apply(step).await;
                pair.compare().await;
            }
        });
    }
}
