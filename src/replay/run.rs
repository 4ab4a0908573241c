//! The loop. All of a backend's attempts are futures of its one task, so that what they share needs no lock.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    future::{BoxFuture, select_all},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    envelope::{Clock, Name, Timestamp},
    health::{Class, Gate, Health, NoSeat, Seat, State},
    store::{Claim, Claimed, Outcome, Store, StoreError},
    telemetry::{AttemptOutcome, Metrics},
};

use super::{
    Handle, Shutdown, asked_to_stop,
    courier::Courier,
    deadline, deliver,
    pace::{Feedback, Pace},
    settle::{self, Judgement},
};

/// How long a store that cannot claim is left alone, and one that found nothing although something seemed due.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);
/// How long a request rests that was claimed for a seat of its route which live traffic then took: live traffic is served first there, and each
/// claim costs a commit.
const LOST_SEAT_PAUSE: Duration = Duration::from_millis(100);
/// Longest sleep until something falls due: wall clocks are set now and then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Time between two sweeps of idle connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What the loop and its attempts share.
pub(super) struct Context {
    pub(super) name: Name,
    pub(super) courier: Box<dyn Courier>,
    pub(super) health: Arc<Health>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) handle: Arc<Handle>,
    /// Gives numbers in 0..1.
    pub(super) random: fn() -> f64,
}

struct Loop {
    context: Arc<Context>,
    shutdown: Shutdown,
    pace: Pace,
    claims: FuturesUnordered<BoxFuture<'static, ClaimEnded>>,
    attempts: FuturesUnordered<BoxFuture<'static, Option<Report>>>,
    state: watch::Receiver<State>,
    last_state: State,
    /// Claims that may be under way at once: one more with each that found something, so that a queue of one is not asked for by all at once.
    claim_width: usize,
    no_claim_before: Option<Instant>,
    stopping: bool,
}

/// A claim that has ended, and the seat that was taken for it.
struct ClaimEnded {
    seat: Seat,
    result: Result<Option<Claimed>, StoreError>,
}

/// An attempt that was judged.
struct Report {
    began: Instant,
    feedback: Feedback,
    pause: Option<Option<Duration>>,
}

/// What has to happen before another attempt can begin. Ends of attempts, changes of health and of the handle are always waited for.
#[derive(Debug, Default)]
struct Obstacle {
    until: Option<Instant>,
    queue: bool,
    seat: bool,
    /// Full routes for which something is due.
    routes: Vec<Arc<Gate>>,
}

/// Replays until `shutdown`.
pub(super) async fn run(context: Arc<Context>, shutdown: Shutdown) {
    let state = context.health.subscribe();
    let last_state = *state.borrow();
    let pace = Pace::new(&context.handle.settings.load(), Instant::now());
    let this = Loop {
        shutdown,
        pace,
        claims: FuturesUnordered::new(),
        attempts: FuturesUnordered::new(),
        state,
        last_state,
        claim_width: 1,
        no_claim_before: None,
        stopping: false,
        context,
    };
    this.run().await;
}

impl Loop {
    async fn run(mut self) {
        let context = Arc::clone(&self.context);
        let wake: Arc<Notify> = context.store.wake(&context.name);
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let obstacle = self.begin_attempts().await;
            self.publish();
            if self.stopping && self.in_flight() == 0 {
                return;
            }
            tokio::select! {
                Some(claim) = self.claims.next() => self.claimed(claim),
                Some(report) = self.attempts.next() => self.ended(report),
                _ = self.state.changed() => self.health_changed(),
                () = context.handle.changed.notified() => self.pace.configure(&context.handle.settings.load(), Instant::now()),
                () = wake.notified(), if obstacle.queue => self.no_claim_before = None,
                () = context.health.seat_freed(), if obstacle.seat => {}
                () = any_vacant(&obstacle.routes), if !obstacle.routes.is_empty() => {}
                () = sleep_until(obstacle.until), if obstacle.until.is_some() => {}
                () = asked_to_stop(&mut self.shutdown), if !self.stopping => self.stopping = true,
                _ = sweeps.tick() => context.courier.sweep(),
            }
        }
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.claims.len() + self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Begins as many attempts as may be begun, and says what keeps the next one.
    async fn begin_attempts(&mut self) -> Obstacle {
        loop {
            let now = Instant::now();
            let full_routes = self.full_routes();
            if let Err(obstacle) = self.may_begin(&full_routes, now) {
                return obstacle;
            }
            // For replay this never waits.
            let seat = match self.context.health.seat(Class::Replay).await {
                Ok(seat) => seat,
                Err(NoSeat::Full) => return Obstacle { seat: true, ..Obstacle::default() },
                Err(NoSeat::Shedding) => return Obstacle::default(),
            };
            if let Err(until) = self.pace.take(now) {
                return Obstacle { until: Some(until), ..Obstacle::default() };
            }
            self.claims.push(Box::pin(claim(Arc::clone(&self.context), seat, full_routes)));
        }
    }

    fn may_begin(&mut self, full_routes: &[Name], now: Instant) -> Result<(), Obstacle> {
        let until = |until| Err(Obstacle { until: Some(until), ..Obstacle::default() });
        if self.stopping || self.context.handle.is_paused() || self.context.health.state() == State::Shedding {
            return Err(Obstacle::default());
        }
        if let Some(held) = self.pace.held_until(now) {
            return until(held);
        }
        if self.in_flight() >= self.pace.window(now) || self.claims.len() >= self.claim_width {
            return Err(Obstacle::default());
        }
        if let Some(moment) = self.no_claim_before.filter(|&moment| moment > now) {
            return Err(Obstacle { until: Some(moment), queue: true, ..Obstacle::default() });
        }
        let Context { name, store, clock, .. } = &*self.context;
        let time = clock.now();
        match store.next_due(name, full_routes) {
            Some(due) if due <= time => Ok(()),
            due => {
                let pause = due.map(|due| due.since(time).min(LONGEST_SLEEP));
                let full_ones_are_due = !full_routes.is_empty() && store.next_due(name, &[]).is_some_and(|due| due <= time);
                let routes = if full_ones_are_due { self.gates_without_room() } else { Vec::new() };
                Err(Obstacle { until: pause.map(|pause| now + pause), queue: true, routes, ..Obstacle::default() })
            }
        }
    }

    /// Routes of which nothing may be claimed: full, or full if the claims under way are all theirs.
    fn full_routes(&self) -> Vec<Name> {
        let claiming = u32::try_from(self.claims.len()).unwrap_or(u32::MAX);
        let routes = self.context.handle.routes.load();
        let is_full = |gate: &Gate| gate.limit().saturating_sub(gate.in_flight()) <= claiming;
        routes.iter().filter(|(_, gate)| is_full(gate)).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Those of the full routes that have no seat at all; of the others it is a claim under way that may take the last.
    fn gates_without_room(&self) -> Vec<Arc<Gate>> {
        let routes = self.context.handle.routes.load();
        routes.values().filter(|gate| gate.in_flight() >= gate.limit()).map(Arc::clone).collect()
    }

    fn claimed(&mut self, ended: ClaimEnded) {
        let ClaimEnded { seat, result } = ended;
        // A stop that began with the end of the claim came before it: what is known of the stop must not depend on who is asked first.
        self.stopping |= self.shutdown.borrow().is_some();
        match result {
            Ok(Some(claimed)) => {
                self.claim_width = self.claim_width.saturating_add(1);
                self.begin(claimed, seat);
            }
            Ok(None) => {
                self.claim_width = 1;
                self.no_claim_before = Some(Instant::now() + CLAIM_PAUSE);
            }
            Err(StoreError::Closed) => self.stopping = true,
            Err(error) => {
                tracing::warn!(backend = %self.context.name, %error, "nothing can be taken from the queue; trying again");
                self.claim_width = 1;
                self.no_claim_before = Some(Instant::now() + CLAIM_PAUSE);
            }
        }
    }

    fn begin(&mut self, claimed: Claimed, seat: Seat) {
        let context = Arc::clone(&self.context);
        let shutdown = self.shutdown.clone();
        let routes = self.context.handle.routes.load();
        let future: BoxFuture<'static, Option<Report>> = match routes.get(&claimed.envelope.route).map(|gate| gate.try_seat()) {
            _ if self.stopping => Box::pin(give_back(context, claimed, Duration::ZERO, "forebay is stopping", shutdown)),
            // Live traffic was faster.
            Some(None) => Box::pin(give_back(context, claimed, LOST_SEAT_PAUSE, "its route was full", shutdown)),
            None => Box::pin(attempt(context, claimed, (seat, None), shutdown)),
            Some(route_seat) => Box::pin(attempt(context, claimed, (seat, route_seat), shutdown)),
        };
        self.attempts.push(future);
    }

    fn ended(&mut self, report: Option<Report>) {
        let Some(Report { began, feedback, pause }) = report else { return };
        let now = Instant::now();
        let in_flight = self.in_flight() + 1;
        self.pace.ended(feedback, began, in_flight, now);
        if let Some(asked) = pause {
            self.pace.rejected(asked, now);
        }
    }

    fn health_changed(&mut self) {
        let state = *self.state.borrow_and_update();
        let recovers = self.last_state == State::Shedding && state == State::Probing;
        if state != self.last_state && state != State::Passing && !recovers {
            self.pace.tripped(Instant::now());
        }
        self.last_state = state;
    }

    fn publish(&mut self) {
        let now = Instant::now();
        let held_until = self.pace.held_until(now).map(|until| self.context.clock.now().after(until - now));
        let window = self.pace.window(now);
        self.context.handle.publish(self.in_flight(), window, held_until);
    }
}

async fn sleep_until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}

/// Resolves when one of the gates may have a seat.
async fn any_vacant(gates: &[Arc<Gate>]) {
    select_all(gates.iter().map(|gate| Box::pin(gate.vacant()))).await;
}

async fn claim(context: Arc<Context>, seat: Seat, full_routes: Vec<Name>) -> ClaimEnded {
    let claim = Claim { backend: &context.name, full_routes: &full_routes, max: 1, now: context.clock.now() };
    let result = context.store.claim(claim).await.map(|claimed| claimed.into_iter().next());
    ClaimEnded { seat, result }
}

/// One attempt, from its start to its durable end.
async fn attempt(context: Arc<Context>, claimed: Claimed, seats: (Seat, Option<Seat>), shutdown: Shutdown) -> Option<Report> {
    let began = Instant::now();
    let cut = deadline(shutdown.clone());
    let attempted = deliver::deliver(&*context.courier, &claimed, context.store.spooler(), cut).await;
    // Before the seat is free for the next one: the breaker may be about to trip.
    if let Some((server, signal)) = attempted.signal {
        context.health.report(server, signal);
    }
    drop(seats);
    let now = context.clock.now();
    let Judgement { outcome, feedback, pause } =
        settle::judge(attempted.ended, &claimed.envelope, claimed.failures, now, (context.random)());
    match settle::settle(&*context.store, &context.clock, &claimed, &outcome, shutdown).await {
        Ok(()) => record(&context, &claimed, &outcome, began.elapsed(), now),
        Err(error) => tracing::error!(id = %claimed.envelope.id, %error, "the outcome of an attempt was not stored"),
    }
    Some(Report { began, feedback, pause })
}

/// Ends an attempt of which nothing was sent; the request is due again after `pause`.
async fn give_back(context: Arc<Context>, claimed: Claimed, pause: Duration, why: &str, shutdown: Shutdown) -> Option<Report> {
    let outcome = settle::give_back(context.clock.now().after(pause), why.to_owned());
    if let Err(error) = settle::settle(&*context.store, &context.clock, &claimed, &outcome, shutdown).await {
        tracing::error!(id = %claimed.envelope.id, %error, "a request that was not sent could not be given back");
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
            tracing::warn!(%id, %backend, %route, attempt, %reason, why, "request given up");
        }
    }
}

#[cfg(test)]
mod tests;
