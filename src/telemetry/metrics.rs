//! What is counted as it happens, and the exposition of it all.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{
    ClientMetrics, Gauges, Histogram,
    scrape::{CertificateGauges, certificates_registry},
};
use crate::envelope::{DeadReason, Name, Reason};

/// Media type of [`Metrics::encode`] (OpenMetrics 1.0, which every Prometheus since 2.5 reads).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of every name.
pub(super) const PREFIX: &str = "forebay";

/// So many label names with their values.
pub(super) type Labels<const N: usize> = [(&'static str, Name); N];

type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// All metrics of the program (OpenMetrics text format, prefix `forebay_`, base units). Shared by all threads; labels are bounded by the names of
/// backends and routes in the configuration.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counters<3>,
    request_duration: Histograms<2>,
    spilled: Counters<3>,
    attempts: Counters<3>,
    attempt_duration: Histograms<2>,
    estimates: Histograms<1>,
    dead: Counters<3>,
    store: StoreMetrics,
    clients: ClientMetrics,
    access_log_dropped: Counter,
    last_reload_successful: Gauge,
    certificates: Mutex<Vec<CertificateGauges>>,
}

/// How a client's request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// The backend's answer was passed on.
    Passed,
    /// It was queued and answered 202.
    Spilled,
    /// We answered: 4xx, 502, 503, 504.
    Refused,
    /// The route has no backend: its redirect or fixed answer was given.
    Answered,
}

impl RequestOutcome {
    /// Those of a route to a backend, in order of declaration.
    const ALL: [Self; 3] = [Self::Passed, Self::Spilled, Self::Refused];

    /// The name that metrics and the access log show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Spilled => "spilled",
            Self::Refused => "refused",
            Self::Answered => "answered",
        }
    }
}

/// What became of an attempt of replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// The backend took it.
    Delivered,
    /// It will be tried again.
    Again,
    /// It was given up.
    Dead,
}

impl AttemptOutcome {
    const ALL: [Self; 3] = [Self::Delivered, Self::Again, Self::Dead];

    /// The name that metrics show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Again => "again",
            Self::Dead => "dead",
        }
    }
}

/// The metric handles of one route, looked up once per configuration. Clones share them.
#[derive(Debug, Clone)]
pub struct RouteMetrics(Arc<Route>);

/// Each array is indexed by its enum, in order of declaration.
#[derive(Debug)]
struct Route {
    requests: [Counter; RequestOutcome::ALL.len()],
    request_duration: [Histogram; RequestOutcome::ALL.len()],
    spilled: [Counter; Reason::ALL.len()],
    attempts: [Counter; AttemptOutcome::ALL.len()],
    attempt_duration: [Histogram; AttemptOutcome::ALL.len()],
    dead: [Counter; DeadReason::ALL.len()],
}

/// The metric handles of a route that has no backend: its answers are counted, and nothing else happens there.
#[derive(Debug, Clone)]
pub struct AnswerMetrics {
    requests: Counter,
    duration: Histogram,
}

impl AnswerMetrics {
    /// A client's request has been answered, `duration` after its head arrived.
    pub fn request(&self, duration: Duration) {
        self.requests.inc();
        self.duration.observe_duration(duration);
    }
}

/// The metric handles of the store. Clones share them.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    commit: Histogram,
    batch: Histogram,
}

impl StoreMetrics {
    /// A commit has become durable: so many operations rode in it, and it took so long from its first write to the return of its last sync.
    pub fn committed(&self, operations: u64, took: Duration) {
        self.batch.observe(operations);
        self.commit.observe_duration(took);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let durations: fn() -> Histogram = Histogram::of_durations;
        let mut registry = Registry::with_prefix(PREFIX);
        let clients = ClientMetrics::new(&mut registry);
        let mut metrics = Self {
            registry,
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations),
            spilled: Family::default(),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(durations),
            estimates: Family::new_with_constructor(Histogram::of_ratios),
            dead: Family::default(),
            store: StoreMetrics { commit: Histogram::of_durations(), batch: Histogram::of_batches() },
            clients,
            access_log_dropped: Counter::default(),
            last_reload_successful: Gauge::default(),
            certificates: Mutex::default(),
        };
        metrics.last_reload_successful.set(1);
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests of clients that were answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a client's request to the end of its answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register("spilled", "Writes that were acknowledged from the queue", self.spilled.clone());
        registry.register("replay_attempts", "Attempts to deliver a queued request that have ended", self.attempts.clone());
        registry.register_with_unit(
            "replay_attempt_duration",
            "Time that an attempt of replay took",
            Unit::Seconds,
            self.attempt_duration.clone(),
        );
        let help = "Estimates of when a queue will be empty, as a multiple of the time that it took: 1 is right";
        registry.register("replay_estimate_ratio", help, self.estimates.clone());
        registry.register("dead_letters", "Queued requests that replay gave up", self.dead.clone());
        registry.register_with_unit(
            "store_commit",
            "Time from the first write of a commit to the return of its last sync",
            Unit::Seconds,
            self.store.commit.clone(),
        );
        registry.register("store_batch_size", "Operations that rode in one commit", self.store.batch.clone());
        registry.register(
            "access_log_dropped",
            "Lines of the access log that were dropped because its disk was too slow or failed",
            self.access_log_dropped.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration was valid when it was last read (0 or 1)",
            self.last_reload_successful.clone(),
        );
        registry.register("build", "The version of the running program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    }

    /// The handles of a route. Takes locks: to be called once per route and configuration, not per request.
    pub fn route(&self, backend: &str, route: &str) -> RouteMetrics {
        let (backend, route) = (Name::from(backend), Name::from(route));
        let counter = |family: &Counters<3>, name: &'static str, value: &str| {
            let labels = [("backend", backend.clone()), ("route", route.clone()), (name, Name::from(value))];
            family.get_or_create_owned(&labels)
        };
        let histogram = |family: &Histograms<2>, outcome: &str| {
            family.get_or_create_owned(&[("route", route.clone()), ("outcome", Name::from(outcome))])
        };
        RouteMetrics(Arc::new(Route {
            requests: RequestOutcome::ALL.map(|outcome| counter(&self.requests, "outcome", outcome.as_str())),
            request_duration: RequestOutcome::ALL.map(|outcome| histogram(&self.request_duration, outcome.as_str())),
            spilled: std::array::from_fn(|at| counter(&self.spilled, "reason", Reason::ALL[at].as_str())),
            attempts: AttemptOutcome::ALL.map(|outcome| counter(&self.attempts, "outcome", outcome.as_str())),
            attempt_duration: AttemptOutcome::ALL.map(|outcome| histogram(&self.attempt_duration, outcome.as_str())),
            dead: std::array::from_fn(|at| counter(&self.dead, "reason", DeadReason::ALL[at].as_str())),
        }))
    }

    /// Writes of these routes of a backend that were acknowledged from the queue since the start, by reason.
    pub fn spills(&self, backend: &str, routes: &[Name]) -> BTreeMap<Reason, u64> {
        let routes: Vec<RouteMetrics> = routes.iter().map(|route| self.route(backend, route)).collect();
        let of = |reason: Reason| routes.iter().map(|route| route.0.spilled[reason as usize].get()).sum();
        Reason::ALL.iter().map(|&reason| (reason, of(reason))).collect()
    }

    /// The handles of a route without a backend. To be called once per configuration too.
    pub fn answers(&self, route: &str) -> AnswerMetrics {
        let (route, outcome) = (Name::from(route), Name::from(RequestOutcome::Answered.as_str()));
        AnswerMetrics {
            requests: self.requests.get_or_create_owned(&[
                ("backend", Name::from("")),
                ("route", route.clone()),
                ("outcome", outcome.clone()),
            ]),
            duration: self.request_duration.get_or_create_owned(&[("route", route), ("outcome", outcome)]),
        }
    }

    /// A queue is empty that was expected to be so in `ratio` times the time that it took.
    pub fn estimated(&self, backend: &Name, ratio: f64) {
        self.estimates.get_or_create_owned(&[("backend", Name::clone(backend))]).observe_ratio(ratio);
    }

    /// The handles of the store.
    pub fn store(&self) -> StoreMetrics {
        self.store.clone()
    }

    /// The handles of clients' connections.
    pub fn clients(&self) -> ClientMetrics {
        self.clients.clone()
    }

    /// The counter of dropped lines that an [`AccessLog`](super::AccessLog) is opened with.
    pub fn access_log_dropped(&self) -> Counter<u64, AtomicU64> {
        self.access_log_dropped.clone()
    }

    /// The configuration was read again, and was it valid? It counts as valid until then: the program started with it.
    pub fn reloaded(&self, successful: bool) {
        self.last_reload_successful.set(i64::from(successful));
    }

    /// The certificates of all listeners, as they are now.
    pub fn certificates(&self, certificates: Vec<CertificateGauges>) {
        *self.certificates.lock() = certificates;
    }

    /// The whole exposition, of type [`CONTENT_TYPE`], with what other rooms know now.
    pub fn encode(&self, gauges: &Gauges) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &gauges.registry())?;
        encode_registry(&mut text, &certificates_registry(&self.certificates.lock()))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

impl RouteMetrics {
    /// A client's request has been answered, `duration` after its head arrived. On the hot path: atomics only.
    pub fn request(&self, outcome: RequestOutcome, duration: Duration) {
        if let (Some(count), Some(times)) = (self.0.requests.get(outcome as usize), self.0.request_duration.get(outcome as usize)) {
            count.inc();
            times.observe_duration(duration);
        }
    }

    /// A write was acknowledged from the queue.
    pub fn spilled(&self, reason: Reason) {
        self.0.spilled[reason as usize].inc();
    }

    /// An attempt of replay has ended.
    pub fn attempt(&self, outcome: AttemptOutcome, duration: Duration) {
        self.0.attempts[outcome as usize].inc();
        self.0.attempt_duration[outcome as usize].observe_duration(duration);
    }

    /// A queued request was given up.
    pub fn dead(&self, reason: DeadReason) {
        self.0.dead[reason as usize].inc();
    }
}

#[cfg(test)]
mod tests;
