//! What other rooms know, as it is at the moment of a scrape.
//!
//! Each scrape builds these from nothing, so that a backend that a reload took away leaves no stale series behind, and two scrapes at a
//! time do not mix.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};

use super::metrics::{Labels, PREFIX};
use crate::envelope::Name;

/// One look at queues, backends and the store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// Every backend that is configured or has anything queued.
    pub backends: Vec<BackendGauges>,
    /// The store, once it is open. Until then nothing is said of queues.
    pub store: Option<StoreGauges>,
}

/// One backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackendGauges {
    /// Its name.
    pub name: Name,
    /// Requests that wait.
    pub queued: u64,
    /// Requests whose attempt is under way.
    pub delivering: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Bytes of the waiting and of those under way.
    pub bytes: u64,
    /// Age of the oldest of them; zero when there is none.
    pub oldest_age: Duration,
    /// Its state and whether it is in it; empty for a backend that is no longer configured.
    pub breaker: Vec<(&'static str, bool)>,
    /// The most that may be at it at once; none for one that is no longer configured.
    pub concurrency_limit: Option<u32>,
    /// Requests at it; none for one that is no longer configured.
    pub in_flight: Option<u32>,
    /// Live requests that wait for a place; none for one that is no longer configured.
    pub waiting: Option<u32>,
    /// What is one word out of several, as far as it can be said.
    pub words: Vec<(Word, Name)>,
    /// How many times as slow as undisturbed it is; none while that is not known.
    pub slowdown: Option<f64>,
    /// Undisturbed latency in seconds of each route's `safe` and `unsafe` methods, as far as it is known.
    pub base_latencies: Vec<(Name, &'static str, f64)>,
    /// Its replay; none for one that is no longer configured.
    pub replay: Option<ReplayGauges>,
}

/// What is one word out of several: it is shown as a label of a gauge that is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Who decides whether the backend is sent anything.
    Mode,
    /// Why its limit is what it is.
    LimitWhy,
    /// What the window of replay did last, and why.
    Ramp,
    /// What keeps the next request of the queue.
    Hold,
}

impl Word {
    const ALL: [Self; 4] = [Self::Mode, Self::LimitWhy, Self::Ramp, Self::Hold];

    /// Name of the gauge, of its label, and its help.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Mode => ("mode", "mode", "1 for the mode of the backend: auto, spill or pass"),
            Self::LimitWhy => ("concurrency_limit_why", "why", "1 for the reason of the last move of the concurrency limit"),
            Self::Ramp => ("replay_ramp", "ramp", "1 for what the window of replay did last, and why"),
            Self::Hold => ("replay_hold", "hold", "1 for what keeps the next request of the queue"),
        }
    }
}

/// The replay of a backend's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReplayGauges {
    /// How many replayed requests may be at the backend.
    pub window: u32,
    /// How many are.
    pub in_flight: u32,
    /// Whether the window still grows by half at a time.
    pub slow_start: bool,
    /// Whether the backend is left alone because it asked for that.
    pub held: bool,
    /// Whether the backlog has been growing for 60 s although it is replayed.
    pub growing: bool,
    /// Ordering keys whose backlog has been growing for 60 s.
    pub growing_keys: u32,
    /// Whether many requests become dead letters because what they carry has expired.
    pub auth_expired: bool,
    /// Seconds until the queue is empty, if that can be said.
    pub drained_in: Option<f64>,
    /// How many times slower than at rest the backend answered in the last tick, if that is known.
    pub slowdown: Option<f64>,
    /// Whether an operator has stopped it.
    pub paused: bool,
    /// Deliveries per second, of late.
    pub rate: f64,
    /// Estimates of the last drain as a multiple of what it took, the median; none before the first drain of 10 s.
    pub estimate_ratio: Option<f64>,
}

/// The store and its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StoreGauges {
    /// Requests that it holds, queued and delivering.
    pub requests: u64,
    /// The most that it may hold.
    pub max_requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most that these may be.
    pub max_bytes: u64,
    /// Free bytes on its disk; none for an engine without one.
    pub free_disk: Option<u64>,
    /// Free bytes below which nothing new is accepted.
    pub min_free_disk: u64,
    /// What the limits on what is new have refused.
    pub refusals: [RefusalGauges; 3],
    /// What becomes of requests by their age.
    pub ages: [AgeGauges; 3],
    /// Whether nothing can be accepted because it fails.
    pub failing: bool,
    /// Records set aside since the start.
    pub damaged: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Operations that rode in them.
    pub committed_operations: u64,
}

/// A limit of the store on what is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalGauges {
    /// Its key in the configuration.
    pub limit: &'static str,
    /// Requests that it has refused since the start.
    pub refused: u64,
    /// Whether it has refused any of late.
    pub refusing: bool,
}

/// An age at which something becomes of requests in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AgeGauges {
    /// Its key in the configuration.
    pub limit: &'static str,
    /// Requests that will reach it.
    pub requests: u64,
    /// Seconds until the first of them do, if there are any.
    pub next_in: Option<f64>,
    /// How many do then, within one second.
    pub next_requests: u64,
}

/// One certificate that clients are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateGauges {
    /// Its file.
    pub file: Name,
    /// When it ends, in seconds since 1970, if it says so.
    pub expires_at: Option<u64>,
    /// Whether what its file holds now is in force.
    pub current: bool,
}

type Integers<const N: usize> = Family<Labels<N>, Gauge>;
type Seconds = Family<Labels<1>, Gauge<f64, AtomicU64>>;

impl Gauges {
    /// These gauges, ready to be encoded.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        register_health(&mut registry, &self.backends);
        register_words(&mut registry, &self.backends);
        register_replay(&mut registry, &self.backends);
        let help = "Whether the store is still being opened, so that nothing is known of the queues (0 or 1)";
        registry.register("store_opening", help, ConstGauge::new(i64::from(self.store.is_none())));
        if let Some(store) = self.store {
            register_queues(&mut registry, &self.backends);
            register_store(&mut registry, store);
        }
        registry
    }
}

/// The gauges of certificates, ready to be encoded. Nothing at all for a program without any.
pub(super) fn certificates_registry(certificates: &[CertificateGauges]) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    if certificates.is_empty() {
        return registry;
    }
    let expiry = Integers::<1>::default();
    let current = Integers::<1>::default();
    for certificate in certificates {
        let labels = [("certificate", certificate.file.clone())];
        if let Some(expires_at) = certificate.expires_at {
            expiry.get_or_create(&labels).set(integer(expires_at));
        }
        current.get_or_create(&labels).set(certificate.current.into());
    }
    let help = "When the certificate in force ends, in seconds since 1970";
    registry.register_with_unit("tls_certificate_expiry", help, Unit::Seconds, expiry);
    let help = "Whether the certificate and key that their files hold now are in force (0 or 1)";
    registry.register("tls_certificate_last_reload_successful", help, current);
    registry
}

fn register_queues(registry: &mut Registry, backends: &[BackendGauges]) {
    let requests = Integers::<2>::default();
    let dead = Integers::<1>::default();
    let bytes = Integers::<1>::default();
    let oldest = Seconds::default();
    for backend in backends {
        let name = || ("backend", backend.name.clone());
        requests.get_or_create(&[name(), ("state", "queued".into())]).set(integer(backend.queued));
        requests.get_or_create(&[name(), ("state", "delivering".into())]).set(integer(backend.delivering));
        dead.get_or_create(&[name()]).set(integer(backend.dead));
        bytes.get_or_create(&[name()]).set(integer(backend.bytes));
        oldest.get_or_create(&[name()]).set(backend.oldest_age.as_secs_f64());
    }
    registry.register("queue_requests", "Accepted requests that are not delivered yet, by state", requests);
    registry.register("queue_dead_letters", "Dead letters that are kept", dead);
    registry.register_with_unit("queue", "Bytes of the queued and the delivering", Unit::Bytes, bytes);
    let help = "Age of the oldest queued or delivering request; 0 when there is none";
    registry.register_with_unit("queue_oldest_age", help, Unit::Seconds, oldest);
}

fn register_health(registry: &mut Registry, backends: &[BackendGauges]) {
    let breaker = Integers::<2>::default();
    let limit = Integers::<1>::default();
    let in_flight = Integers::<1>::default();
    let waiting = Integers::<1>::default();
    let slowdown = Seconds::default();
    let base: Family<Labels<3>, Gauge<f64, AtomicU64>> = Family::default();
    for backend in backends {
        let name = || ("backend", backend.name.clone());
        for &(state, is_in_it) in &backend.breaker {
            breaker.get_or_create(&[name(), ("state", state.into())]).set(is_in_it.into());
        }
        if let Some(value) = backend.concurrency_limit {
            limit.get_or_create(&[name()]).set(value.into());
        }
        if let Some(value) = backend.in_flight {
            in_flight.get_or_create(&[name()]).set(value.into());
        }
        if let Some(value) = backend.waiting {
            waiting.get_or_create(&[name()]).set(value.into());
        }
        if let Some(value) = backend.slowdown {
            slowdown.get_or_create(&[name()]).set(value);
        }
        for (route, methods, seconds) in &backend.base_latencies {
            base.get_or_create(&[name(), ("route", route.clone()), ("methods", (*methods).into())]).set(*seconds);
        }
    }
    registry.register("breaker_state", "1 for the state that the backend is in, 0 for the others", breaker);
    registry.register("concurrency_limit", "The most requests that may be at the backend at once", limit);
    registry.register("in_flight", "Requests at the backend, live and replayed together", in_flight);
    registry.register("waiting", "Live requests that wait for a place at the backend", waiting);
    registry.register("slowdown_ratio", "Median latency of the last window, as a multiple of the undisturbed one", slowdown);
    let help = "Undisturbed latency, by route and by whether the method is safe";
    registry.register_with_unit("base_latency", help, Unit::Seconds, base);
}

fn register_words(registry: &mut Registry, backends: &[BackendGauges]) {
    for word in Word::ALL {
        let (name, label, help) = word.names();
        let gauge = Integers::<2>::default();
        for backend in backends {
            let value = backend.words.iter().find(|(of, _)| *of == word);
            value.inspect(|(_, value)| _ = gauge.get_or_create(&[("backend", backend.name.clone()), (label, value.clone())]).set(1));
        }
        registry.register(name, help, gauge);
    }
}

fn register_replay(registry: &mut Registry, backends: &[BackendGauges]) {
    let replays = || backends.iter().filter_map(|backend| Some((&backend.name, backend.replay?)));
    let mut gauge = |name: &str, help: &str, value: fn(ReplayGauges) -> u32| {
        let gauge = Integers::<1>::default();
        replays().for_each(|(backend, replay)| {
            gauge.get_or_create(&[("backend", backend.clone())]).set(value(replay).into());
        });
        registry.register(name, help, gauge);
    };
    gauge("replay_window", "How many replayed requests may be at the backend at once", |replay| replay.window);
    gauge("replay_in_flight", "Replayed requests at the backend", |replay| replay.in_flight);
    gauge("replay_slow_start", "Whether the window of replay still grows by half at a time (0 or 1)", |replay| replay.slow_start.into());
    gauge("replay_held", "Whether replay leaves the backend alone because it asked for that (0 or 1)", |replay| replay.held.into());
    gauge("queue_growing", "Alarm: the backlog has been growing for 60 s although it is replayed (0 or 1)", |replay| replay.growing.into());
    gauge("queue_growing_keys", "Alarm: ordering keys whose backlog has been growing for 60 s", |replay| replay.growing_keys);
    let help = "Alarm: many requests become dead letters because what they carry has expired (0 or 1)";
    gauge("auth_expired_flood", help, |replay| replay.auth_expired.into());
    gauge("replay_paused", "Whether an operator has stopped the replay (0 or 1)", |replay| replay.paused.into());
    let known = |value: fn(ReplayGauges) -> Option<f64>| {
        let gauge = Seconds::default();
        for (backend, value) in replays().filter_map(|(backend, replay)| Some((backend, value(replay)?))) {
            gauge.get_or_create(&[("backend", backend.clone())]).set(value);
        }
        gauge
    };
    let (slowdown, rate) = (known(|replay| replay.slowdown), known(|replay| Some(replay.rate)));
    let (last_estimates, drained_in) = (known(|replay| replay.estimate_ratio), known(|replay| replay.drained_in));
    registry.register(
        "replay_slowdown_ratio",
        "How many times slower than at rest the backend answered in the last tick of replay",
        slowdown,
    );
    registry.register("replay_rate", "Deliveries per second over the last 60 s", rate);
    registry.register(
        "replay_last_estimate_ratio",
        "Estimates of the last drain, as a multiple of the time that it took: the median",
        last_estimates,
    );
    registry.register_with_unit("queue_drained_in", "Time until the queue is empty, as far as it can be said", Unit::Seconds, drained_in);
}

fn register_store(registry: &mut Registry, store: StoreGauges) {
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(integer(value)));
    gauge("store_requests", "Requests in the store, queued and delivering", store.requests);
    gauge("store_max_requests", "The most that it may hold (store.max_requests)", store.max_requests);
    gauge("store_failing", "Whether nothing can be accepted because the store fails (0 or 1)", store.failing.into());
    let mut gauge =
        |name: &str, help: &str, value: u64| registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(integer(value)));
    gauge("store", "Bytes of the requests in the store", store.bytes);
    gauge("store_max", "The most that these may be (store.max_bytes)", store.max_bytes);
    gauge("store_min_free_disk", "Free bytes on the disk below which nothing new is accepted (store.min_free_disk)", store.min_free_disk);
    if let Some(free) = store.free_disk {
        gauge("store_free_disk", "Free bytes on the disk of the store", free);
    }
    register_limits(registry, store);
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("store_damaged_records", "Records set aside because their bytes did not match their checksum", store.damaged);
    counter("store_commits", "Commits since the start", store.commits);
    counter("store_committed_operations", "Operations that rode in those commits", store.committed_operations);
}

fn register_limits(registry: &mut Registry, store: StoreGauges) {
    let (refused, refusing) = (Family::<Labels<1>, Counter>::default(), Integers::<1>::default());
    for limit in store.refusals {
        let labels = [("limit", limit.limit.into())];
        refused.get_or_create(&labels).inc_by(limit.refused);
        refusing.get_or_create(&labels).set(limit.refusing.into());
    }
    registry.register("store_refused", "Requests that a limit of the store has refused", refused);
    registry.register("store_refusing", "Whether a limit of the store has refused a request within the last 10 s (0 or 1)", refusing);
    let (aging, next, next_requests) = (Integers::<1>::default(), Seconds::default(), Integers::<1>::default());
    for age in store.ages {
        let labels = [("limit", age.limit.into())];
        aging.get_or_create(&labels).set(integer(age.requests));
        next_requests.get_or_create(&labels).set(integer(age.next_requests));
        if let Some(seconds) = age.next_in {
            next.get_or_create(&labels).set(seconds);
        }
    }
    let help = "Requests that will reach an age: queued ones max_age, delivered and cancelled ones keep_delivered, dead letters keep_dead";
    registry.register("store_aging_requests", help, aging);
    registry.register_with_unit("store_next_aged", "Time until the first of them reach it", Unit::Seconds, next);
    registry.register("store_next_aged_requests", "How many of them do then, within one second", next_requests);
}

/// Gauges are signed, and a number past their range would spoil the whole exposition.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
