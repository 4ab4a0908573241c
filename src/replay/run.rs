//! The loop. All of a backend's attempts are futures of its one task, so that what they share needs no lock.

mod lookout;

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
    envelope::Name,
    health::{Class, Gate, Mode, NoSeat, Seat, State},
    store::{Claimed, StoreError},
};

use super::{
    Shutdown, asked_to_stop,
    attempt::{ClaimEnded, Context, Report, Task, attempt, claim, condemn, give_back},
    classes::Classes,
    handle::Hold,
    pace::{Pace, Pause, Ramp, Sight},
    suspects::{self, Suspects},
};
use lookout::Lookout;

/// How long a store that cannot claim is left alone, and one that found nothing although something seemed due.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);
/// How long a request rests that was claimed for a seat of its route which live traffic then took: live traffic is served first there, and each
/// claim costs a commit.
const LOST_SEAT_PAUSE: Duration = Duration::from_millis(100);
/// Longest sleep until something falls due: wall clocks are set now and then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Time between two sweeps of idle connections, and between two looks at how the backlog goes.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

struct Loop {
    context: Arc<Context>,
    shutdown: Shutdown,
    pace: Pace,
    classes: Classes,
    suspects: Suspects,
    alone: Alone,
    lookout: Lookout,
    /// What the last tick saw, and what it did.
    sight: Sight,
    ramp: Ramp,
    claims: FuturesUnordered<BoxFuture<'static, ClaimEnded>>,
    attempts: FuturesUnordered<BoxFuture<'static, Option<Report>>>,
    state: watch::Receiver<State>,
    /// Trips of the breaker, and collapses among them, as far as they are heeded.
    trips: (u64, u64),
    /// Claims that may be under way at once: one more with each that found something, so that a queue of one is not asked for by all at once.
    claim_width: usize,
    no_claim_before: Option<Instant>,
    stopping: bool,
}

/// Whether a suspect is to be, or is, alone at the backend as far as replay goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    No,
    /// One was claimed beside others. When these have ended, requests are claimed one by one until it comes again.
    Wanted,
    /// One is under way.
    UnderWay,
}

/// What has to happen before another attempt can begin. Ends of attempts, changes of health and of the handle are always waited for.
#[derive(Debug)]
struct Obstacle {
    hold: Hold,
    until: Option<Instant>,
    queue: bool,
    seat: bool,
    /// Full routes for which something is due.
    routes: Vec<Arc<Gate>>,
}

impl Obstacle {
    fn new(hold: Hold) -> Self {
        Self { hold, until: None, queue: false, seat: false, routes: Vec::new() }
    }

    fn until(hold: Hold, until: Instant) -> Self {
        Self { until: Some(until), ..Self::new(hold) }
    }
}

/// Replays until `shutdown`.
pub(super) async fn run(context: Arc<Context>, shutdown: Shutdown) {
    let state = context.health.subscribe();
    let trips = (context.health.trips(), context.health.collapses());
    let this = Loop {
        shutdown,
        pace: Pace::new(&context.handle.settings.load(), Instant::now()),
        classes: Classes::default(),
        suspects: Suspects::default(),
        alone: Alone::No,
        lookout: Lookout::default(),
        sight: Sight::default(),
        ramp: Ramp::default(),
        claims: FuturesUnordered::new(),
        attempts: FuturesUnordered::new(),
        state,
        trips,
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
            self.end_tick();
            let obstacle = self.begin_attempts().await;
            self.rest(obstacle.hold);
            self.publish(obstacle.hold);
            if self.stopping && self.in_flight() == 0 {
                return;
            }
            let tick = (self.in_flight() > 0).then(|| self.pace.next_tick());
            let until = obstacle.until.into_iter().chain(tick).min();
            tokio::select! {
                Some(claim) = self.claims.next() => self.claimed(claim),
                Some(report) = self.attempts.next() => self.ended(report),
                _ = self.state.changed() => self.health_changed(),
                () = context.handle.changed.notified() => self.pace.configure(&context.handle.settings.load(), Instant::now()),
                () = wake.notified(), if obstacle.queue => self.no_claim_before = None,
                () = context.health.seat_freed(), if obstacle.seat => {}
                () = any_vacant(&obstacle.routes), if !obstacle.routes.is_empty() => {}
                () = sleep_until(until), if until.is_some() => {}
                () = asked_to_stop(&mut self.shutdown), if !self.stopping => self.stopping = true,
                _ = sweeps.tick() => {
                    context.courier.sweep();
                    self.watch_backlog(obstacle.hold);
                }
            }
        }
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.claims.len() + self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Those of them that are not just claims.
    fn attempting(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Begins as many attempts as may be begun, and says what keeps the next one.
    async fn begin_attempts(&mut self) -> Obstacle {
        loop {
            let now = Instant::now();
            let full_routes = self.full_routes();
            if let Err(obstacle) = self.may_begin(&full_routes, now) {
                return obstacle;
            }
            if self.pace.wakes(now) {
                self.sight = (self.context.sight)();
            }
            // For replay this never waits.
            let seat = match self.context.health.seat(Class::Replay).await {
                Ok(seat) => seat,
                Err(NoSeat::Full) => {
                    let hold = if self.context.health.waiting() > 0 { Hold::LiveWaits } else { Hold::Limit };
                    return Obstacle { seat: true, ..Obstacle::new(hold) };
                }
                Err(NoSeat::Shedding) => return Obstacle::new(Hold::Shedding),
            };
            if let Err(until) = self.pace.take(now) {
                return Obstacle::until(Hold::Rate, until);
            }
            self.claims.push(Box::pin(claim(Arc::clone(&self.context), seat, full_routes)));
        }
    }

    fn may_begin(&mut self, full_routes: &[Name], now: Instant) -> Result<(), Obstacle> {
        if self.stopping {
            return Err(Obstacle::new(Hold::Stopping));
        }
        if self.context.handle.is_paused() {
            return Err(Obstacle::new(Hold::Paused));
        }
        if self.context.health.mode() == Mode::Spill {
            return Err(Obstacle::new(Hold::Mode));
        }
        if self.context.health.state() == State::Shedding {
            return Err(Obstacle::new(Hold::Shedding));
        }
        if let Some((pause, until)) = self.pace.pause(now) {
            let hold = if pause == Pause::Asked { Hold::Asked } else { Hold::Measuring };
            return Err(Obstacle::until(hold, until));
        }
        if self.alone != Alone::No && self.in_flight() > 0 {
            return Err(Obstacle::new(Hold::Suspect));
        }
        if self.in_flight() >= self.pace.window(self.context.health.limit()) || self.claims.len() >= self.claim_width {
            return Err(Obstacle::new(Hold::Window));
        }
        if let Some(moment) = self.no_claim_before.filter(|&moment| moment > now) {
            return Err(Obstacle { queue: true, ..Obstacle::until(Hold::Queue, moment) });
        }
        let Context { name, store, clock, .. } = &*self.context;
        let time = clock.now();
        match store.next_due(name, full_routes) {
            Some(due) if due <= time => Ok(()),
            due => {
                let pause = due.map(|due| due.since(time).min(LONGEST_SLEEP));
                let full_ones_are_due = !full_routes.is_empty() && store.next_due(name, &[]).is_some_and(|due| due <= time);
                let (hold, routes) = if full_ones_are_due { (Hold::Route, self.gates_without_room()) } else { (Hold::Queue, Vec::new()) };
                Err(Obstacle { until: pause.map(|pause| now + pause), queue: true, routes, ..Obstacle::new(hold) })
            }
        }
    }

    /// Routes of which nothing may be claimed: full, or full if the claims under way are all theirs; and those that have all that heavy
    /// ones may have.
    fn full_routes(&self) -> Vec<Name> {
        let claiming = u32::try_from(self.claims.len()).unwrap_or(u32::MAX);
        let routes = self.context.handle.routes.load();
        let is_full = |gate: &Gate| gate.limit().saturating_sub(gate.in_flight()) <= claiming;
        let mut full = self.classes.full(self.sight.rtt, self.context.health.limit(), claiming);
        full.extend(routes.iter().filter(|(_, gate)| is_full(gate)).map(|(name, _)| Arc::clone(name)));
        full
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
                // The suspect is gone, or does not come for a while.
                self.alone = Alone::No;
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
        let (context, shutdown) = (Arc::clone(&self.context), self.shutdown.clone());
        let id = claimed.envelope.id;
        let owed = self.suspects.take(id);
        let trips = claimed.trips.saturating_add(owed);
        if suspects::is_poison(trips) && !self.stopping {
            return self.attempts.push(Box::pin(condemn(context, claimed, trips, shutdown)));
        }
        let is_suspect = suspects::is_suspect(trips);
        let routes = self.context.handle.routes.load();
        let future: BoxFuture<'static, Option<Report>> = match routes.get(&claimed.envelope.route).map(|gate| gate.try_seat()) {
            _ if self.stopping => Box::pin(give_back(context, claimed, owed, Duration::ZERO, "forebay is stopping", shutdown)),
            // Live traffic was faster.
            Some(None) => Box::pin(give_back(context, claimed, owed, LOST_SEAT_PAUSE, "its route was full", shutdown)),
            _ if is_suspect && self.in_flight() > 0 => {
                self.alone = Alone::Wanted;
                Box::pin(give_back(context, claimed, owed, Duration::ZERO, "it is to be replayed alone", shutdown))
            }
            route_seat => {
                if is_suspect || self.alone == Alone::Wanted {
                    self.alone = Alone::UnderWay;
                }
                if is_suspect {
                    tracing::info!(
                        %id, backend = %context.name, route = %claimed.envelope.route, trips,
                        "a request that was at the backend each time it went down is replayed alone"
                    );
                }
                self.see_begin(&claimed);
                Box::pin(attempt(context, Task { claimed, owed, seats: (seat, route_seat.flatten()) }, shutdown))
            }
        };
        self.attempts.push(future);
        self.pace.began(self.attempting(), self.context.health.limit(), Instant::now());
    }

    fn ended(&mut self, report: Option<Report>) {
        if self.alone == Alone::UnderWay && self.in_flight() == 0 {
            self.alone = Alone::No;
        }
        let Some(report) = report else { return };
        let now = Instant::now();
        self.classes.ended(&report.route, report.rtt);
        if report.unanswered {
            self.suspects.unanswered(report.id, report.ended, self.pace.tripped_at());
        }
        let before = self.window();
        if let Some(ramp) = self.pace.ended(report.feedback, report.began, now) {
            self.moved(ramp, before, true);
        }
        if let Some(asked) = report.pause {
            self.rejected(asked, now);
        }
    }

    fn health_changed(&mut self) {
        let (trips, collapses) = (self.context.health.trips(), self.context.health.collapses());
        let before = std::mem::replace(&mut self.trips, (trips, collapses));
        let now = Instant::now();
        if before.1 != collapses {
            self.suspects.tripped(now);
        }
        if before.0 != trips {
            self.tell_trip();
            self.pace.tripped(now);
            self.ramp = Ramp::Steady;
        }
    }

    fn window(&self) -> u32 {
        self.pace.window(self.context.health.limit())
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

#[cfg(test)]
mod tests;
