//! How everything is: for people, for Prometheus, and for load balancers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};

use super::{
    AdminState, BackendView, Phase, Problem,
    api::{self, Backend, Clients, Queue, Route, Server, Status, Store, Totals},
};
use crate::{
    envelope::{Name, Timestamp},
    health,
    store::{self, Counts, StoreStatus},
    telemetry::{
        AgeGauges, BackendGauges, CONTENT_TYPE as OPENMETRICS, ClientMetrics, Gauges, Metrics, Refusal, RefusalGauges, ReplayGauges,
        StoreGauges, Word,
    },
};

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Requests are accepted, and writes can be queued.
pub(super) async fn readyz(State(state): State<Arc<AdminState>>) -> Result<&'static str, Problem> {
    match (state.phase(), state.store.status().failing) {
        (Phase::Starting, _) => Err(Problem::unavailable("forebay is starting")),
        (Phase::Opening, _) => {
            Err(Problem::unavailable("forebay is opening its store: live traffic passes, but no write can be queued yet"))
        }
        (Phase::Draining, _) => Err(Problem::unavailable("forebay is draining: it finishes what is in flight and then stops")),
        (Phase::Accepting, Some(why)) => Err(Problem::unavailable(format!("the store fails, so that no write can be queued: {why}"))),
        (Phase::Accepting, None) => Ok("ready\n"),
    }
}

pub(super) async fn status(State(state): State<Arc<AdminState>>) -> Json<Status> {
    Json(look(&state))
}

pub(super) async fn metrics(State(state): State<Arc<AdminState>>) -> Result<impl IntoResponse, Problem> {
    let text = state.metrics.encode(&gauges(&look(&state)));
    let text = text.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}")))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text))
}

/// One look at everything. The counts are read once, so that they agree with one another.
pub(super) fn look(state: &AdminState) -> Status {
    let (view, now, counts) = (state.view(), state.clock.now(), state.store.counts());
    if let Some(wrong) = counts.routes.iter().find(|route| !route.totals.balance()) {
        tracing::error!(backend = %wrong.backend, route = %wrong.route, totals = ?wrong.totals, "the counts of a route do not add up");
    }
    let known: BTreeSet<&str> = view.backends.iter().map(|backend| &*backend.name).collect();
    let gone: BTreeSet<&Name> = counts.routes.iter().map(|route| &route.backend).filter(|name| !known.contains(&***name)).collect();
    let configured =
        view.backends.iter().map(|backend| configured(backend, &state.metrics, queue(&backend.name, Some(backend), &counts, now)));
    let mut backends: Vec<Backend> =
        configured.chain(gone.into_iter().map(|name| unconfigured(name, queue(name, None, &counts, now)))).collect();
    let phase = state.phase();
    if phase == Phase::Opening {
        // Nothing is known of what is queued.
        backends.iter_mut().for_each(|backend| backend.queue.drained_in_seconds = None);
    }
    let routes = routes(&view.backends, &counts);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: now.to_string(),
        phase,
        totals: sum(counts.routes.iter().map(|route| &route.totals)),
        store: store(&view.store, state.store.status(), &backends, now),
        clients: clients(&state.metrics.clients(), view.max_connections),
        backends,
        routes,
    }
}

fn clients(metrics: &ClientMetrics, max_connections: usize) -> Clients {
    Clients {
        connections: metrics.open(),
        max_connections: max_connections as u64,
        refused: Refusal::ALL.iter().map(|&why| (why.as_str().to_owned(), metrics.refusals(why))).collect(),
        rate_limited: metrics.all_rate_limited(),
    }
}

fn configured(backend: &BackendView, metrics: &Metrics, queue: Queue) -> Backend {
    let weights = backend.health.weights();
    let servers = (backend.servers)().into_iter().zip(weights.iter()).filter_map(|(address, weight)| {
        let weight = weight.load(Ordering::Relaxed);
        Some(Server { address: address?, up: weight > 0, weight })
    });
    let load = backend.health.load();
    Backend {
        name: backend.name.to_string(),
        configured: true,
        state: Some(backend.health.state()),
        mode: backend.health.mode(),
        in_flight: backend.health.in_flight(),
        waiting: backend.health.waiting(),
        concurrency_limit: backend.health.limit(),
        concurrency_adaptive: load.adaptive,
        concurrency_why: Some(load.why),
        slowdown: load.slowdown,
        base_latencies: load.bases,
        servers: servers.collect(),
        spilled: metrics.spills(&backend.name, &backend.routes),
        queue,
    }
}

fn unconfigured(name: &Name, queue: Queue) -> Backend {
    Backend {
        name: name.to_string(),
        configured: false,
        state: None,
        mode: health::Mode::Auto,
        in_flight: 0,
        waiting: 0,
        concurrency_limit: 0,
        concurrency_adaptive: false,
        concurrency_why: None,
        slowdown: None,
        base_latencies: Vec::new(),
        servers: Vec::new(),
        spilled: BTreeMap::new(),
        queue,
    }
}

fn queue(name: &str, view: Option<&BackendView>, counts: &Counts, now: Timestamp) -> Queue {
    let totals = sum(counts.routes.iter().filter(|route| &*route.backend == name).map(|route| &route.totals));
    let held = counts.queues.iter().find(|queue| &*queue.backend == name);
    let replay = view.map(|view| &view.queue);
    let drained_in = match totals.queued + totals.delivering {
        0 => Some(0.0),
        _ => replay.and_then(|replay| replay.drained_in()).map(|span| span.as_secs_f64()),
    };
    Queue {
        queued: totals.queued,
        delivering: totals.delivering,
        dead: totals.dead,
        bytes: held.map_or(0, |held| held.bytes),
        oldest_age_seconds: held.and_then(|held| held.oldest).map(|oldest| now.since(oldest).as_secs_f64()),
        // JSON has no infinity or NaN.
        replay_rate: replay.map(|replay| replay.replay_rate()).filter(|rate| rate.is_finite()).unwrap_or_default(),
        drained_in_seconds: drained_in,
        paused: replay.is_some_and(|replay| replay.paused()),
        replay: replay.map(|replay| replay.pace()).map(presentable),
    }
}

/// JSON has no infinity or NaN.
fn presentable(replay: api::Replay) -> api::Replay {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    api::Replay { slowdown: finite(replay.slowdown), estimate_ratio: finite(replay.estimate_ratio), ..replay }
}

fn routes(backends: &[BackendView], counts: &Counts) -> Vec<Route> {
    let configured: Vec<(&Name, &Name)> =
        backends.iter().flat_map(|backend| backend.routes.iter().map(move |route| (&backend.name, route))).collect();
    let gone = counts.routes.iter().map(|route| (&route.backend, &route.route)).filter(|route| !configured.contains(route));
    let totals = |(backend, route): (&Name, &Name)| {
        let found = counts.routes.iter().find(|counted| counted.backend == *backend && counted.route == *route);
        found.map(|counted| wire(&counted.totals)).unwrap_or_default()
    };
    let line = |(backend, route): (&Name, &Name)| Route {
        name: route.to_string(),
        backend: backend.to_string(),
        totals: totals((backend, route)),
    };
    configured.iter().copied().chain(gone).map(line).collect()
}

fn store(limits: &store::Settings, status: StoreStatus, backends: &[Backend], now: Timestamp) -> Store {
    Store {
        failing: status.failing,
        // From the snapshot of the counts, so that they agree with the rest of the page.
        requests: backends.iter().map(|backend| backend.queue.queued + backend.queue.delivering).sum(),
        max_requests: limits.max_requests,
        bytes: backends.iter().map(|backend| backend.queue.bytes).sum(),
        max_bytes: limits.max_bytes,
        free_disk_bytes: Some(status.free_disk).filter(|&free| free != u64::MAX),
        min_free_disk_bytes: limits.min_free_disk,
        refusals: refusals(&status.refusals),
        ages: api::Ages {
            max_age: age(status.ages.max_age, None, now),
            keep_delivered: age(status.ages.keep_delivered, Some(limits.keep_delivered), now),
            keep_dead: age(status.ages.keep_dead, Some(limits.keep_dead), now),
        },
        damaged: status.damaged,
        commits: status.commits,
        committed_operations: status.committed_operations,
    }
}

fn refusals(refusals: &store::Refusals) -> api::Refusals {
    let refused =
        |refused: store::Refused| api::Refused { requests: refused.requests, since: refused.since.map(|since| since.to_string()) };
    api::Refusals {
        max_requests: refused(refusals.max_requests),
        max_bytes: refused(refusals.max_bytes),
        min_free_disk: refused(refusals.min_free_disk),
    }
}

fn age(age: store::Age, limit: Option<Duration>, now: Timestamp) -> api::Age {
    api::Age {
        requests: age.requests,
        next_at: age.next.map(|(at, _)| at.to_string()),
        next_in_seconds: age.next.map(|(at, _)| at.since(now).as_secs_f64()),
        next_requests: age.next.map_or(0, |(_, requests)| requests),
        limit_seconds: limit.map(|limit| limit.as_secs_f64()),
    }
}

fn wire(totals: &store::Totals) -> Totals {
    let store::Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded } = *totals;
    Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded }
}

fn sum<'a>(all: impl Iterator<Item = &'a store::Totals>) -> Totals {
    all.fold(Totals::default(), |sum, next| Totals {
        accepted: sum.accepted + next.accepted,
        queued: sum.queued + next.queued,
        delivering: sum.delivering + next.delivering,
        delivered: sum.delivered + next.delivered,
        dead: sum.dead + next.dead,
        cancelled: sum.cancelled + next.cancelled,
        discarded: sum.discarded + next.discarded,
    })
}

/// What is one word out of several.
fn words(backend: &Backend) -> Vec<(Word, Name)> {
    let why = backend.concurrency_why.and_then(|why| serde_json::to_value(why).ok()).and_then(|why| Some(Name::from(why.as_str()?)));
    let mode = backend.configured.then(|| backend.mode.as_str().into());
    let replay = backend.queue.replay.as_ref();
    let (ramp, hold) = (replay.map(|replay| replay.ramp.as_str().into()), replay.map(|replay| replay.hold.as_str().into()));
    let words = [(Word::Mode, mode), (Word::LimitWhy, why), (Word::Ramp, ramp), (Word::Hold, hold)];
    words.into_iter().filter_map(|(word, value)| Some((word, value?))).collect()
}

/// The same look, as gauges.
fn gauges(status: &Status) -> Gauges {
    let opening = status.phase == Phase::Opening;
    let states = [(health::State::Passing, "passing"), (health::State::Shedding, "shedding"), (health::State::Probing, "probing")];
    let backends = status.backends.iter().map(|backend| BackendGauges {
        name: backend.name.as_str().into(),
        queued: backend.queue.queued,
        delivering: backend.queue.delivering,
        dead: backend.queue.dead,
        bytes: backend.queue.bytes,
        oldest_age: Duration::from_secs_f64(backend.queue.oldest_age_seconds.unwrap_or_default()),
        breaker: backend.state.map(|current| states.map(|(state, name)| (name, state == current)).to_vec()).unwrap_or_default(),
        concurrency_limit: backend.configured.then_some(backend.concurrency_limit),
        in_flight: backend.configured.then_some(backend.in_flight),
        waiting: backend.configured.then_some(backend.waiting),
        words: words(backend),
        slowdown: backend.slowdown,
        base_latencies: backend
            .base_latencies
            .iter()
            .map(|base| (base.route.as_str().into(), if base.safe { "safe" } else { "unsafe" }, f64::from(base.seconds)))
            .collect(),
        replay: backend.queue.replay.as_ref().filter(|_| !opening).map(|replay| ReplayGauges {
            window: replay.window,
            in_flight: replay.in_flight,
            slow_start: replay.slow_start,
            held: replay.held_until.is_some(),
            growing: replay.growing,
            growing_keys: replay.growing_keys,
            auth_expired: replay.auth_expired,
            drained_in: backend.queue.drained_in_seconds,
            slowdown: replay.slowdown,
            paused: backend.queue.paused,
            rate: backend.queue.replay_rate,
            estimate_ratio: replay.estimate_ratio,
        }),
    });
    let store = StoreGauges {
        requests: status.store.requests,
        max_requests: status.store.max_requests,
        bytes: status.store.bytes,
        max_bytes: status.store.max_bytes,
        free_disk: status.store.free_disk_bytes,
        min_free_disk: status.store.min_free_disk_bytes,
        refusals: {
            let api::Refusals { max_requests, max_bytes, min_free_disk } = &status.store.refusals;
            let all = [("max_requests", max_requests), ("max_bytes", max_bytes), ("min_free_disk", min_free_disk)];
            all.map(|(limit, refused)| RefusalGauges { limit, refused: refused.requests, refusing: refused.since.is_some() })
        },
        ages: {
            let api::Ages { max_age, keep_delivered, keep_dead } = &status.store.ages;
            [("max_age", max_age), ("keep_delivered", keep_delivered), ("keep_dead", keep_dead)].map(|(limit, age)| AgeGauges {
                limit,
                requests: age.requests,
                next_in: age.next_in_seconds,
                next_requests: age.next_requests,
            })
        },
        failing: status.store.failing.is_some(),
        damaged: status.store.damaged,
        commits: status.store.commits,
        committed_operations: status.store.committed_operations,
    };
    Gauges { backends: backends.collect(), store: (!opening).then_some(store) }
}
