//! The breaker and the servers joined: what each signal and each probe changes, and when the next probes are due. Pure, with time and
//! randomness passed in; [`Health`](super::Health) gives it both and carries out what it says.
//!
//! When a round of probes is due, measured from the end of the one before (with a check in PASSING: from its beginning):
//!
//! | | PASSING | SHEDDING | PROBING |
//! | --- | --- | --- | --- |
//! | asked | servers that are out; with a check all | all | all |
//! | gap without a check | a tenth of the time that they are out, 200 ms to 2 s, +-50% | the breaker's | 1 s +-50% |
//! | gap with a check | its interval | the same, at most the interval | the same, at most the interval |
//!
//! The interval that an operator configured is one that the servers can bear, so that backing off further would only make the outage longer.
//! Once a server passes, the next round comes after 50 ms +-50%: it is the confirmation that everybody waits for.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    Check, Signal, State,
    breaker::{self, Breaker, Cause, Change},
    servers::{Evidence, Moved, Servers},
};

/// How often the weight of a recovered server is raised.
const RAMP_STEP: Duration = Duration::from_secs(1);

/// What has changed, in order.
pub(super) type Events = SmallVec<[Event; 2]>;

/// One thing that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A server went out or came back.
    Server(usize, Moved),
    /// The backend as a whole.
    Backend(Change),
}

#[derive(Debug)]
pub(super) struct Policy {
    breaker: Breaker,
    servers: Servers,
    check: Option<Check>,
    round: Option<Duration>,
    round_began: Duration,
}

impl Policy {
    /// So many servers, all taken to be up, and numbers for more, `room` in all; a check begins at once.
    pub(super) fn new(servers: usize, room: usize, check: Option<Check>) -> Self {
        let round = check.as_ref().map(|_| Duration::ZERO);
        Self { breaker: Breaker::default(), servers: Servers::new(servers, room), check, round, round_began: Duration::ZERO }
    }

    pub(super) fn state(&self) -> State {
        self.breaker.state()
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// A server has come or gone.
    pub(super) fn servers_mut(&mut self) -> &mut Servers {
        &mut self.servers
    }

    pub(super) fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }

    /// Whether the next success matters: it would end a row of failures.
    pub(super) fn is_suspicious(&self) -> bool {
        self.breaker.connect_failures() > 0 || self.servers.any_fails()
    }

    /// Successes in PASSING that were counted elsewhere, while nothing was suspicious.
    pub(super) fn successes(&mut self, count: u32, at: Duration) {
        self.breaker.successes(count, at);
    }

    /// A request at a server has ended. What comes late, from a server that is out or in SHEDDING, says nothing about now.
    pub(super) fn signal(&mut self, server: usize, signal: Signal, now: Duration, random: f64) -> Events {
        if self.state() == State::Shedding || !self.servers.up(server) {
            return Events::new();
        }
        let moved = self.told_server(server, signal, now);
        let change = self.breaker.record(signal, self.servers.all_fail_to_connect(), now);
        self.settle(server, moved, change, now, random)
    }

    /// A request at a server has failed, and goes to another one: the breaker hears of what comes of that.
    pub(super) fn server_failed(&mut self, server: usize, signal: Signal, now: Duration, random: f64) -> Events {
        if self.state() == State::Shedding || !self.servers.up(server) {
            return Events::new();
        }
        let moved = self.told_server(server, signal, now);
        self.settle(server, moved, None, now, random)
    }

    fn told_server(&mut self, server: usize, signal: Signal, now: Duration) -> Option<Moved> {
        match signal {
            Signal::ConnectFailure => self.servers.connect_failed(server, now),
            Signal::Failure => self.servers.failed(server, false, now),
            Signal::Refusal => self.servers.failed(server, true, now),
            Signal::Success | Signal::ApplicationError => {
                self.servers.answered(server);
                None
            }
        }
    }

    /// A server that took no connections takes one. In SHEDDING only probes speak.
    pub(super) fn reached(&mut self, server: usize, now: Duration, random: f64) -> Events {
        if self.state() == State::Shedding {
            return Events::new();
        }
        let moved = self.servers.reached(server, now);
        self.settle(server, moved, None, now, random)
    }

    /// A probe of a server has ended. In PROBING it counts as a request does; in PASSING it speaks for its server alone.
    pub(super) fn probed(&mut self, server: usize, passed: bool, now: Duration, random: f64) -> Events {
        let was_up = self.servers.up(server);
        let moved = self.servers.probed(server, passed, self.check.as_ref(), now);
        let change = match self.state() {
            State::Shedding => self.breaker.probes_passed(self.servers.best_passes(), now),
            State::Probing if was_up => self.breaker.probed(passed, now),
            State::Probing | State::Passing => None,
        };
        self.settle(server, moved, change, now, random)
    }

    /// Whom to ask now; none if no round is due yet. After the answers of all of them comes [`end_round`](Self::end_round).
    pub(super) fn start_round(&mut self, now: Duration) -> Option<Vec<usize>> {
        self.round.filter(|due| *due <= now)?;
        self.round = None;
        self.round_began = now;
        let all = self.check.is_some() || self.state() != State::Passing;
        Some(if all { self.servers.present().collect() } else { self.servers.askable(now).collect() })
    }

    /// All probes of the round have ended.
    pub(super) fn end_round(&mut self, now: Duration, random: f64) {
        let from = if self.state() == State::Passing && self.check.is_some() { self.round_began } else { now };
        self.round = self.gap(now, random).map(|gap| (from + gap).max(now));
    }

    /// Probing begins, or begins again after a round that never ended.
    pub(super) fn resume(&mut self, now: Duration, random: f64) {
        if self.round.is_none() {
            self.schedule(now, random);
        }
    }

    /// A new configuration.
    pub(super) fn reconfigure(&mut self, check: Option<Check>, now: Duration, random: f64) {
        self.check = check;
        self.schedule(now, random);
    }

    /// When a client of a backend that sheds may hope for more, from `now` on: not before the next round of probes, nor before the outage is half as old again as
    /// it is, up to half a minute. What has been down for an hour is seldom back in a second, and all its clients would ask again in each.
    pub(super) fn hope(&self, now: Duration) -> Duration {
        let next = self.round.map_or(Duration::ZERO, |due| due.saturating_sub(now));
        next.max((now.saturating_sub(self.breaker.since()) / 2).min(breaker::LONGEST_GAP))
    }

    /// When the next round is due; none while one is under way, or when nobody needs one.
    #[cfg(test)]
    pub(super) fn round(&self) -> Option<Duration> {
        self.round
    }

    /// When to look again: for a round, or to raise the weight of a recovered server.
    pub(super) fn next_wake(&self, now: Duration) -> Option<Duration> {
        let ramp = self.servers.any_grows(now).then(|| now + RAMP_STEP);
        self.round.into_iter().chain(ramp).min()
    }

    /// What follows from a server's move and the breaker's own change: with no server left there is no backend.
    fn settle(&mut self, server: usize, moved: Option<Moved>, change: Option<Change>, now: Duration, random: f64) -> Events {
        let change = change.or_else(|| match moved {
            Some(Moved::Out(evidence)) if self.servers.all_out() => self.breaker.trip(cause(evidence), now),
            _ => None,
        });
        let mut events = Events::new();
        events.extend(moved.map(|moved| Event::Server(server, moved)));
        match &change {
            Some(change) => {
                if change.to == State::Shedding {
                    self.servers.forget();
                }
                self.schedule(now, random);
            }
            None if matches!(moved, Some(Moved::Out(_))) => {
                self.breaker.forget_failures();
                let sooner = self.gap(now, random).map(|gap| now + gap);
                self.round = self.round.into_iter().chain(sooner).min();
            }
            None => {}
        }
        events.extend(change.map(Event::Backend));
        events
    }

    fn schedule(&mut self, now: Duration, random: f64) {
        self.round = self.gap(now, random).map(|gap| now + gap);
    }

    fn gap(&self, now: Duration, random: f64) -> Option<Duration> {
        let interval = self.check.as_ref().map(|check| check.interval);
        let backoff = match self.state() {
            State::Shedding if !self.servers.any_passed() => self.breaker.gap(random),
            State::Shedding => breaker::confirming_gap(random),
            State::Probing => breaker::gap(0, random),
            State::Passing if interval.is_some() => return interval,
            State::Passing => return self.servers.gap(now, random),
        };
        Some(interval.map_or(backoff, |interval| backoff.min(interval)))
    }
}

fn cause(evidence: Evidence) -> Cause {
    match evidence {
        Evidence::ConnectFailures(count) => Cause::ConnectFailures(count),
        Evidence::Failures(count) => Cause::Failures { failures: count, requests: count },
        Evidence::FailedProbes(count) => Cause::FailedProbes(count),
    }
}

#[cfg(test)]
mod tests;
