//! What the tests of the loop run it on.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{
    super::*,
    flaky::Flaky,
    script::{Script, Step},
};
use crate::{
    envelope::{Clock, DeadReason, Delivery, Envelope, OrderKey, Reason, RequestId, Timestamp},
    health::{self, Health, Signal, probe},
    replay::{Handle, Profile, RouteGates, Settings, Status, attempt::Accounts},
    store::{Filter, NewRequest, Payload, Store, Totals, memory::MemoryStore},
    telemetry::Metrics,
};

/// Age at which the tests' requests are given up.
pub(super) const MAX_AGE: Duration = secs(24 * 3600);

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A backend of so many seats.
pub(super) fn seats(concurrency: u32) -> health::Settings {
    health::Settings { concurrency: health::Concurrency::Fixed(concurrency), wait: Duration::ZERO, check: None }
}

/// Settings without a rate.
pub(super) fn gentle(concurrency: u32) -> Settings {
    Settings { profile: Profile::Gentle, rate: None, concurrency: Some(concurrency) }
}

/// A request to be queued.
pub(super) struct New(Envelope);

pub(super) fn new(path: &str) -> New {
    New(Envelope {
        id: RequestId::new(),
        backend: "app".into(),
        route: "marks".into(),
        method: Method::POST,
        target: path.to_owned(),
        headers: Vec::new(),
        trailers: Vec::new(),
        reason: Reason::Down,
        accepted_at: Timestamp::default(),
        expires_at: Timestamp::default(),
        delivery: Delivery::AtLeastOnce,
        max_attempts: 8,
        order_key: None,
        hold_key_when_dead: false,
    })
}

impl New {
    pub(super) fn into_envelope(self) -> Envelope {
        self.0
    }

    pub(super) fn attempts(self, max_attempts: u32) -> Self {
        Self(Envelope { max_attempts, ..self.0 })
    }

    pub(super) fn delivery(self, delivery: Delivery) -> Self {
        Self(Envelope { delivery, ..self.0 })
    }

    pub(super) fn key(self, key: u64) -> Self {
        Self(Envelope { order_key: Some(OrderKey::from_u64(key)), ..self.0 })
    }

    pub(super) fn route(self, route: &str) -> Self {
        Self(Envelope { route: route.into(), ..self.0 })
    }
}

/// A model store with room for everything, and a clock that goes with the paused one.
pub(super) fn empty_store(began: Instant) -> (Clock, Arc<MemoryStore>) {
    let clock = Clock::from_fn(move || Timestamp::from_millis(1_795_348_800_000).after(began.elapsed()));
    let limits = crate::store::Settings {
        path: "unused".into(),
        max_requests: 1_000_000,
        max_bytes: u64::MAX,
        min_free_disk: 0,
        keep_delivered: secs(3600),
        keep_dead: secs(3600 * 24 * 14),
    };
    let store = MemoryStore::new(limits, clock.clone());
    (clock, store)
}

/// A loop that runs, and all that it runs on.
pub(super) struct Bench {
    pub(super) store: Arc<Flaky>,
    pub(super) handle: Arc<Handle>,
    pub(super) courier: Arc<Script>,
    pub(super) clock: Clock,
    pub(super) health: Arc<Health>,
    /// What is seen of the backend at the end of each tick.
    pub(super) sight: Arc<Mutex<Sight>>,
    /// Whether a probe passes.
    server_is_up: Arc<AtomicBool>,
    stop: watch::Sender<Option<Instant>>,
    task: Option<JoinHandle<()>>,
}

impl Bench {
    pub(super) fn new(settings: Settings) -> Self {
        Self::with(settings, RouteGates::default())
    }

    pub(super) fn with(settings: Settings, routes: RouteGates) -> Self {
        let began = Instant::now();
        let (clock, store) = empty_store(began);
        let store = Flaky::new(store);
        let health = Health::new("app".into(), seats(100), 1);
        let server_is_up = Arc::new(AtomicBool::new(false));
        let up = Arc::clone(&server_is_up);
        let asked: probe::Probe = Arc::new(move |_| Box::pin(std::future::ready(up.load(Ordering::Relaxed))));
        tokio::spawn(probe::run(Arc::clone(&health), asked, std::future::pending()));
        let courier = Script::new(Arc::clone(&health));
        let handle = Handle::new(settings, routes);
        let sight = Arc::new(Mutex::new(Sight { limit: 100, ..Sight::default() }));
        let looked_at = Arc::clone(&sight);
        let (stop, shutdown) = watch::channel(None);
        let context = Context {
            name: "app".into(),
            courier: Box::new(Arc::clone(&courier)),
            health: Arc::clone(&health),
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: clock.clone(),
            metrics: Arc::new(Metrics::default()),
            handle: Arc::clone(&handle),
            sight: Box::new(move || *looked_at.lock()),
            accounts: Accounts::new(began),
            random: || 0.5,
        };
        let task = Some(tokio::spawn(run(Arc::new(context), shutdown)));
        Self { store, handle, courier, clock, health, sight, server_is_up, stop, task }
    }

    pub(super) async fn append(&self, new: New) -> RequestId {
        let accepted_at = self.clock.now();
        let envelope = Envelope { accepted_at, expires_at: accepted_at.after(MAX_AGE), ..new.0 };
        let turn = self.store.turn(envelope.order_key).unwrap().into_queued();
        let request = NewRequest { envelope, payload: Payload::from(Bytes::from_static(b"{}")), turn };
        self.store.append(request).await.unwrap().id
    }

    pub(super) async fn append_many(&self, prefix: &str, count: usize) {
        for number in 0..count {
            self.append(new(&format!("{prefix}/{number}"))).await;
        }
    }

    /// What the backend does next.
    pub(super) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.courier.steps.lock().extend(steps);
    }

    /// What it does with everything else.
    pub(super) fn default_step(&self, step: Step) {
        *self.courier.default.lock() = step;
    }

    /// The server goes down, and the breaker trips.
    pub(super) fn trip(&self) {
        self.server_is_up.store(false, Ordering::Relaxed);
        for _ in 0..5 {
            self.health.report(0, Signal::ConnectFailure);
        }
        assert_eq!(self.health.state(), State::Shedding);
    }

    /// The server is up, and the next probes will find it.
    pub(super) fn bring_back(&self) {
        self.server_is_up.store(true, Ordering::Relaxed);
    }

    /// Lets that much of the paused time pass.
    pub(super) async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// Lets the paused time pass, millisecond by millisecond, until something is so; fails when it is not within an hour.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let given_up = Instant::now() + secs(3600);
        while !is_so(self) {
            assert!(Instant::now() < given_up, "{what}, in vain");
            assert!(!self.task.as_ref().is_none_or(JoinHandle::is_finished), "{what}, but the loop has ended");
            self.pass(Duration::from_millis(1)).await;
        }
    }

    /// Until nothing is queued or under way.
    pub(super) async fn drained(&self) {
        self.until("the queue is empty", |bench| bench.totals().queued + bench.totals().delivering == 0).await;
    }

    /// Stops the loop, which must end within `within`.
    pub(super) async fn stop(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        self.stop.send_replace(Some(deadline));
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
        assert!(Instant::now() <= deadline + Duration::from_millis(1));
    }

    pub(super) fn shutdown(&self) -> Shutdown {
        self.stop.subscribe()
    }

    pub(super) fn status(&self) -> Status {
        self.handle.status(self.clock.now())
    }

    /// The sum over all routes.
    pub(super) fn totals(&self) -> Totals {
        self.store.counts().routes.into_iter().fold(Totals::default(), |sum, route| {
            let totals = route.totals;
            assert!(totals.balance(), "{totals:?}");
            Totals {
                accepted: sum.accepted + totals.accepted,
                queued: sum.queued + totals.queued,
                delivering: sum.delivering + totals.delivering,
                delivered: sum.delivered + totals.delivered,
                dead: sum.dead + totals.dead,
                cancelled: sum.cancelled + totals.cancelled,
                discarded: sum.discarded + totals.discarded,
            }
        })
    }

    /// What was sent, in order.
    pub(super) fn paths(&self) -> Vec<String> {
        self.courier.sent.lock().iter().map(|(_, path)| path.clone()).collect()
    }

    /// When it was sent.
    pub(super) fn times(&self) -> Vec<Duration> {
        self.courier.sent.lock().iter().map(|&(at, _)| at).collect()
    }

    pub(super) async fn dead_reason(&self, id: RequestId) -> Option<DeadReason> {
        self.store.get(id).await.unwrap().dead_reason
    }

    /// The most attempts that any request took.
    pub(super) async fn most_attempts(&self) -> u32 {
        let page = self.store.page(Filter::default(), None, 1000).await.unwrap();
        page.records.iter().map(|record| record.attempts).max().unwrap_or(0)
    }
}
