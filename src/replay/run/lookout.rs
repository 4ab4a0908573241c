//! What the loop sees of its own work, and tells: ticks, backlogs, drains; one line of the log for each change of state, with its evidence.

use tokio::time::Instant;

use super::{Context, Hold, Loop};
use crate::{
    health::State,
    replay::{
        backlog::{Alarm, Backlogs},
        estimates::Estimates,
        handle::Seen,
        pace::Ramp,
    },
    store::Claimed,
};

/// What is watched over time.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    backlogs: Backlogs,
    estimates: Estimates,
    /// How the estimates of the last drain compared with the truth: their median.
    estimate_ratio: Option<f64>,
}

impl Loop {
    /// Ends the tick, if its time is over.
    pub(super) fn end_tick(&mut self) {
        let now = Instant::now();
        if now < self.pace.next_tick() || self.pace.is_resting() {
            return;
        }
        self.sight = (self.context.sight)();
        let (before, slow_start) = (self.window(), self.pace.slow_start());
        let ramp = self.pace.tick(&self.sight, self.attempting(), now);
        self.moved(ramp, before, slow_start && !self.pace.slow_start());
    }

    /// The window has, perhaps, moved; `telling` when that is a change of state.
    pub(super) fn moved(&mut self, ramp: Ramp, before: u32, telling: bool) {
        let backend = &self.context.name;
        let (after, was) = (self.window(), std::mem::replace(&mut self.ramp, ramp));
        let (slowdown, live, waited) = (self.sight.slowdown(), self.sight.live.samples, self.sight.waited);
        if telling {
            tracing::info!(
                %backend, window = after, before, why = ramp.as_str(), slowdown, live, waited,
                "backend {backend}: replay window {before} -> {after}: {}", evidence(ramp)
            );
        } else if ramp != was || before != after {
            tracing::debug!(%backend, window = after, before, why = ramp.as_str(), slowdown, live, waited, "replay window");
        }
    }

    /// The backend said "not now".
    pub(super) fn rejected(&mut self, asked: Option<std::time::Duration>, now: Instant) {
        let begins = self.pace.rejected(asked, now);
        if let Some(until) = self.pace.held_until(now).filter(|_| begins) {
            let backend = &self.context.name;
            let (seconds, whose) = ((until - now).as_secs_f64(), if asked.is_some() { "as it asked" } else { "since it said \"not now\"" });
            tracing::info!(%backend, seconds, asked = asked.is_some(), "backend {backend}: replay leaves it alone for {seconds} s, {whose}");
        }
    }

    pub(super) fn tell_trip(&self) {
        let (backend, window, in_flight) = (&self.context.name, self.window(), self.in_flight());
        tracing::info!(%backend, window, in_flight, "backend {backend}: replay begins anew from 1 after a trip of the breaker");
    }

    /// A request is on its way.
    pub(super) fn see_begin(&mut self, claimed: &Claimed) {
        self.classes.began(&claimed.envelope.route);
        if let Some(key) = claimed.envelope.order_key {
            let alarm = self.lookout.backlogs.see_key(key, self.context.store.pending(key), Instant::now());
            self.tell(alarm);
        }
    }

    /// Looks at how the backlog goes. Called every few seconds.
    pub(super) fn watch_backlog(&mut self, hold: Hold) {
        let now = Instant::now();
        if let Some(count) = self.context.accounts.auth_expired.lock().ended(now) {
            let backend = &self.context.name;
            tracing::warn!(%backend, count, "backend {backend}: no more dead letters for expired credentials; there were {count}");
        }
        let backlog = self.backlog();
        let replayed =
            self.context.health.state() != State::Shedding && !matches!(hold, Hold::Paused | Hold::Mode | Hold::Asked | Hold::Stopping);
        let alarm = if replayed { self.lookout.backlogs.see(backlog, now) } else { self.lookout.backlogs.stands() };
        self.tell(alarm);
        let alarm = self.lookout.backlogs.forget(now);
        self.tell(alarm);
        if backlog == 0 {
            self.drained(now);
        } else {
            let left = self.context.handle.drained_in(backlog, self.context.clock.now());
            if self.lookout.estimates.draining(left, now) {
                let backend = &self.context.name;
                tracing::info!(%backend, backlog, "backend {backend}: {backlog} requests are to be replayed");
            }
        }
    }

    /// Nothing can be begun; where nothing is under way either, replay rests, and the queue may be empty.
    pub(super) fn rest(&mut self, hold: Hold) {
        if self.in_flight() > 0 || hold == Hold::Measuring {
            return;
        }
        let now = Instant::now();
        self.pace.rests(now);
        if hold == Hold::Queue && self.lookout.estimates.is_draining() && self.backlog() == 0 {
            self.drained(now);
        }
    }

    pub(super) fn publish(&mut self, hold: Hold) {
        let now = Instant::now();
        let Context { handle, clock, health, accounts, .. } = &*self.context;
        handle.publish(Seen {
            in_flight: self.in_flight(),
            window: self.pace.window(health.limit()),
            slow_start: self.pace.slow_start(),
            ramp: self.ramp,
            hold,
            held_until: self.pace.held_until(now).map(|until| clock.now().after(until - now)),
            slowdown: self.sight.slowdown(),
            growing: self.lookout.backlogs.grows(),
            growing_keys: self.lookout.backlogs.growing_keys(),
            auth_expired: accounts.auth_expired.lock().is_on(),
            estimate_ratio: self.lookout.estimate_ratio,
        });
    }

    fn backlog(&self) -> u64 {
        let counts = self.context.store.counts();
        let of_backend = counts.routes.iter().filter(|route| route.backend == self.context.name);
        of_backend.map(|route| route.totals.queued + route.totals.delivering).sum()
    }

    fn drained(&mut self, now: Instant) {
        let Some((took, mut ratios)) = self.lookout.estimates.empty(now) else { return };
        let backend = &self.context.name;
        ratios.iter().for_each(|&ratio| self.context.metrics.estimated(backend, ratio));
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ratios.len() / 2).copied();
        self.lookout.estimate_ratio = median.or(self.lookout.estimate_ratio);
        let seconds = took.as_secs_f64();
        tracing::info!(%backend, seconds, estimate_ratio = median, "backend {backend}: the queue is empty after {seconds:.1} s");
    }

    fn tell(&self, alarm: Option<Alarm>) {
        let backend = &self.context.name;
        match alarm {
            None => {}
            Some(Alarm::Grows(backlog)) => {
                tracing::error!(%backend, backlog, "backend {backend}: its backlog has grown for 60 s although it is replayed, to {backlog}");
            }
            Some(Alarm::Over(backlog)) => {
                tracing::info!(%backend, backlog, "backend {backend}: its backlog grows no longer; it is {backlog}");
            }
            Some(Alarm::KeyGrows(key, pending)) => {
                tracing::error!(
                    %backend, ?key, pending,
                    "backend {backend}: the backlog of an ordering key has grown for 60 s, to {pending}: its requests come faster than one after the other can be replayed"
                );
            }
            Some(Alarm::KeysOver) => tracing::info!(%backend, "backend {backend}: the backlog of no ordering key grows any longer"),
        }
    }
}

/// What a move of the window rests on, in words.
fn evidence(ramp: Ramp) -> &'static str {
    match ramp {
        Ramp::Slower => "the backend became slower",
        Ramp::LiveWaited => "live requests had to wait",
        Ramp::Failing => "replayed requests failed",
        Ramp::Growing | Ramp::SlowStart | Ramp::Feeling | Ramp::Steady | Ramp::Still | Ramp::Fixed => "the end of slow start is reached",
    }
}
