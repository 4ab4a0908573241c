//! One attempt from its start to its durable end, and what is told of it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    envelope::{Clock, DeadReason, Name, RequestId, Timestamp},
    health::{Class, Health, Sample, Seat, Slowdown, State, Tick},
    store::{Claim, Claimed, Outcome, Store, StoreError},
    telemetry::{AttemptOutcome, Metrics},
};

use super::{
    Handle, Shutdown,
    courier::Courier,
    deadline, deliver,
    flood::{Flood, Say},
    pace::{Budget, Feedback, Sight, Slowness},
    settle::{self, Circumstances, Judgement},
};

/// What the loop and its attempts share.
pub(super) struct Context {
    pub(super) name: Name,
    pub(super) courier: Box<dyn Courier>,
    pub(super) health: Arc<Health>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) handle: Arc<Handle>,
    /// Looks at how the backend is.
    pub(super) sight: Box<dyn Fn() -> Sight + Send + Sync>,
    pub(super) accounts: Accounts,
    /// Gives numbers in 0..1.
    pub(super) random: fn() -> f64,
}

/// What attempts add to. Locked for a few instructions each.
pub(super) struct Accounts {
    pub(super) budget: Mutex<Budget>,
    pub(super) auth_expired: Mutex<Flood>,
}

impl Accounts {
    pub(super) fn new(now: Instant) -> Self {
        Self { budget: Mutex::new(Budget::new(now)), auth_expired: Mutex::default() }
    }
}

/// How a backend is, as its health knows it.
pub(super) fn sight_of(health: Arc<Health>) -> Box<dyn Fn() -> Sight + Send + Sync> {
    let slowness =
        |slowdown: Option<Slowdown>| slowdown.map_or_else(Slowness::default, |Slowdown { p50, samples }| Slowness { samples, p50 });
    Box::new(move || {
        let Tick { live, all, rtt, live_requests, live_waited, .. } = health.take_tick();
        Sight { live: slowness(live), all: slowness(all), live_requests, waited: live_waited, limit: health.limit(), rtt }
    })
}

/// A claim that has ended, and the seat that was taken for it.
pub(super) struct ClaimEnded {
    pub(super) seat: Seat,
    pub(super) result: Result<Option<Claimed>, StoreError>,
}

/// A claimed request that is to be sent.
pub(super) struct Task {
    pub(super) claimed: Claimed,
    /// Trips of the breaker during which it was at the backend and of which the store does not know.
    pub(super) owed: u32,
    /// Its places at the backend and in its route.
    pub(super) seats: (Seat, Option<Seat>),
}

/// An attempt that was judged.
pub(super) struct Report {
    pub(super) id: RequestId,
    pub(super) route: Name,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// Time to the headers of the answer, if there was one.
    pub(super) rtt: Option<Duration>,
    pub(super) feedback: Feedback,
    pub(super) pause: Option<Option<Duration>>,
    /// It was at the backend, that did not answer, and the breaker has not tripped for it yet.
    pub(super) unanswered: bool,
}

/// Begins an attempt of the next request, if there is one.
pub(super) async fn claim(context: Arc<Context>, seat: Seat, full_routes: Vec<Name>) -> ClaimEnded {
    let claim = Claim { backend: &context.name, full_routes: &full_routes, max: 1, now: context.clock.now() };
    let result = context.store.claim(claim).await.map(|claimed| claimed.into_iter().next());
    ClaimEnded { seat, result }
}

/// One attempt, from its start to its durable end.
pub(super) async fn attempt(context: Arc<Context>, task: Task, shutdown: Shutdown) -> Option<Report> {
    let Task { claimed, owed, seats } = task;
    let began = Instant::now();
    context.accounts.budget.lock().attempted(began);
    let (began_in, collapses) = (context.health.state(), context.health.collapses());
    let cut = deadline(shutdown.clone());
    let delivery = async {
        let timeout = context.handle.timeout(&claimed.envelope.route);
        let attempted = deliver::deliver(&*context.courier, &claimed, timeout, context.store.spooler(), cut).await;
        // Before the seat is free for the next one: the breaker may be about to trip.
        if let Some((server, signal)) = attempted.signal {
            context.health.report(server, signal);
        }
        let (seat, route_seat) = seats;
        let kind = context.health.kind(&claimed.envelope.route, claimed.envelope.method.is_safe());
        if let Some(quality) = attempted.quality {
            context.health.sample(&seat, Sample { kind, class: Class::Replay, rtt: attempted.rtt, quality });
        }
        if attempted.given_up {
            [Some(seat), route_seat].into_iter().flatten().for_each(|seat| context.health.abandon(seat, kind));
        }
        attempted
    };
    let attempted = delivery.await;
    // Also the one that it causes itself.
    let tripped = u32::try_from(context.health.collapses() - collapses).unwrap_or(u32::MAX);
    let (ended, now) = (Instant::now(), context.clock.now());
    let passing = tripped == 0 && began_in == State::Passing && context.health.state() == State::Passing;
    let unit = (context.random)();
    let circumstances = Circumstances { failures: claimed.failures, trips: claimed.trips, owed, tripped, passing, now, unit };
    let rtt = attempted.rtt;
    let Judgement { mut outcome, feedback, pause, sent, unanswered } = settle::judge(attempted.ended, &claimed.envelope, circumstances);
    if let Outcome::Again { due, .. } = &mut outcome
        && sent
    {
        *due = (*due).max(now.after(context.accounts.budget.lock().take(ended)));
    }
    match settle::settle(&*context.store, &context.clock, &claimed, &outcome, shutdown).await {
        Ok(()) => record(&context, &claimed, &outcome, ended - began, now),
        Err(error) => tracing::error!(id = %claimed.envelope.id, %error, "the outcome of an attempt was not stored"),
    }
    let (id, route, unanswered) = (claimed.envelope.id, claimed.envelope.route, unanswered && tripped == 0);
    Some(Report { id, route, began, ended, rtt, feedback, pause, unanswered })
}

/// Ends an attempt of which nothing was sent; the request is due again after `pause`.
pub(super) async fn give_back(
    context: Arc<Context>,
    claimed: Claimed,
    owed: u32,
    pause: Duration,
    why: &str,
    shutdown: Shutdown,
) -> Option<Report> {
    let outcome = settle::give_back(context.clock.now().after(pause), owed, why.to_owned());
    if let Err(error) = settle::settle(&*context.store, &context.clock, &claimed, &outcome, shutdown).await {
        tracing::error!(id = %claimed.envelope.id, %error, "a request that was not sent could not be given back");
    }
    None
}

/// Gives a request up that has brought the backend down once more, without sending it.
pub(super) async fn condemn(context: Arc<Context>, claimed: Claimed, trips: u32, shutdown: Shutdown) -> Option<Report> {
    let why = settle::poisoned(trips, "its connection broke just before");
    let outcome = Outcome::Dead { reason: DeadReason::Poison, why, answer: None };
    match settle::settle(&*context.store, &context.clock, &claimed, &outcome, shutdown).await {
        Ok(()) => record(&context, &claimed, &outcome, Duration::ZERO, context.clock.now()),
        Err(error) => tracing::error!(id = %claimed.envelope.id, %error, "a poisonous request could not be set aside"),
    }
    None
}

/// Counts and logs what was settled.
fn record(context: &Context, claimed: &Claimed, outcome: &Outcome, took: Duration, now: Timestamp) {
    let envelope = &claimed.envelope;
    let (id, backend, route, attempt) = (envelope.id, &context.name, &envelope.route, claimed.attempt);
    let metrics = context.metrics.route(backend, route);
    match outcome {
        Outcome::Delivered(answer) => {
            context.handle.delivered(now);
            metrics.attempt(AttemptOutcome::Delivered, took);
            tracing::debug!(%id, %backend, %route, attempt, status = answer.status, "request delivered");
        }
        Outcome::Again { due, why, .. } => {
            metrics.attempt(AttemptOutcome::Again, took);
            tracing::debug!(%id, %backend, %route, attempt, %due, why, "request will be tried again");
        }
        Outcome::Dead { reason, why, .. } => {
            metrics.attempt(AttemptOutcome::Dead, took);
            metrics.dead(*reason);
            let say = match reason {
                DeadReason::AuthExpired => context.accounts.auth_expired.lock().see(Instant::now()),
                _ => Say::It,
            };
            match say {
                Say::It => tracing::warn!(%id, %backend, %route, attempt, %reason, why, "request given up"),
                Say::Nothing => tracing::debug!(%id, %backend, %route, attempt, %reason, why, "request given up"),
                Say::Flood => {
                    tracing::error!(
                        %backend, %route, %reason, %id, why,
                        "backend {backend} refuses queued requests because what they carry has expired; many become dead letters, and only their number will be told"
                    );
                }
            }
        }
    }
}
