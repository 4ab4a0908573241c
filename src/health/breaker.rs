//! The breaker: whether a backend as a whole is fit to be sent anything. Policy alone, as a state machine on times that are passed in.
//!
//! ```text
//!             5 connect failures in a row, or in 10 s n >= 20 and
//!             >= 50% failures, or >= 85% application errors,
//!             or 20 without a success, refusals among them, for 3 s,
//!             or no server left
//!   PASSING ───────────────────────────────────────────────────► SHEDDING
//!      ▲                                                          │    ▲
//!      │  20 successes, failures <= 10%        2 probes passed    │    │ any of the above,
//!      └────────────────────────────── PROBING ◄──────────────────┘    │ counted since PROBING began
//!                                         └────────────────────────────┘
//! ```
//!
//! It knows no servers (`servers`), no seats ([`gate`](super::gate)), and no clock: a time is the span since some fixed moment. The rules are
//! those of the project's overload rules, section 2, with these made precise:
//!
//! - A connect failure counts as a failure in the ten seconds too: a server that takes every other connection never fails five times in a row.
//! - A backend that refuses at once what it has no room for (503, and 502 where somebody answers for it) refuses the faster the more it is asked, so that its
//!   refusals outnumber whatever it does. They are the limit's matter as long as anything succeeds beside them. In PROBING 20 are enough, where no
//!   request has succeeded yet.
//! - PROBING may see so little traffic that ten seconds never hold 20 requests. There the counts reach back to its beginning, and the probes that
//!   go on meanwhile count with the requests, so that it ends in twenty probes at the latest when nobody comes. Counts start anew at
//!   100 requests, so that an early failure is not held against the backend for ever.
//! - The gap between probes doubles with each trial that fails (PROBING to SHEDDING), so that a backend that answers probes and fails at its work is
//!   not tried for ever in quick succession. It does not grow with failed probes: one `HEAD` at a time, a few in a second, hurts no server, and a long
//!   outage must not end with half a minute in which a backend is back and clients are refused.

use std::{fmt, time::Duration};

use super::{
    Signal, State,
    window::{Counts, Window},
};

/// Connect failures in a row that trip the breaker, and that take one server out.
pub const CONNECT_FAILURES: u32 = 5;
/// Fewer requests than this prove nothing.
pub const LEAST_REQUESTS: u32 = 20;
/// Part of the requests, in percent, that must have failed for a trip.
pub const FAILURES_PERCENT: u32 = 50;
/// Time without a success, with at least [`LEAST_REQUESTS`] in it, after which refusals trip the breaker.
pub const WITHOUT_SUCCESS: Duration = Duration::from_secs(3);
/// Part of the requests, in percent, that the application must have answered with 500 for a trip.
pub const APPLICATION_ERRORS_PERCENT: u32 = 85;
/// Successes that end PROBING.
pub const TRIAL_SUCCESSES: u32 = 20;
/// Part of a trial's requests, in percent, that may fail in a trial that ends well.
pub const TRIAL_FAILURES_PERCENT: u32 = 10;
/// Requests after which a trial without a verdict starts to count anew.
pub const TRIAL_LENGTH: u32 = 100;
/// Probe passes in a row, at one server that is up, that end SHEDDING.
pub const PROBE_PASSES: u32 = 2;
/// Seats in PROBING where a number is configured, at most: twice the least limit (4) of the overload rules, section 1.
pub const PROBING_LIMIT: u32 = 8;
/// The gap between probes that is doubled, before jitter.
pub const FIRST_GAP: Duration = Duration::from_secs(1);
/// The gap between probes while no trial has failed, before jitter.
pub const QUICK_GAP: Duration = Duration::from_millis(200);
/// The gap between the first probe that passed and those that confirm it, before jitter.
pub const CONFIRMING_GAP: Duration = Duration::from_millis(50);
/// The longest gap between probes, before jitter.
pub const LONGEST_GAP: Duration = Duration::from_secs(30);
/// A backend that trips again within this time after it began to pass keeps its gap.
pub const FLAP_TIME: Duration = Duration::from_secs(60);

/// `FIRST_GAP * 2^5` is past `LONGEST_GAP`: a larger exponent would change nothing.
const LARGEST_EXPONENT: u32 = 5;

/// The breaker of one backend.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// When `state` began.
    since: Duration,
    window: Window,
    trial: Counts,
    connect_failures: u32,
    /// Failures and refusals since the last success, and when that was; of what was before this state nothing is known.
    unsuccessful: u32,
    succeeded: Duration,
    /// A request has succeeded in this state; a probe is none.
    works: bool,
    exponent: u32,
}

/// A change of state and what caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The state that has ended.
    pub from: State,
    /// The state that has begun.
    pub to: State,
    /// The evidence.
    pub cause: Cause,
}

/// Evidence for a change of state; printed, it completes "shedding after …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// So many connects failed and none succeeded in between.
    ConnectFailures(u32),
    /// Gateway errors, timeouts, resets and failed connects among so many requests.
    Failures {
        /// How many failed.
        failures: u32,
        /// Of how many.
        requests: u32,
    },
    /// So many requests were refused, or failed beside refusals, and none succeeded.
    Refusals(u32),
    /// The application's own 500s among so many requests.
    ApplicationErrors {
        /// How many were answered with 500.
        errors: u32,
        /// Of how many.
        requests: u32,
    },
    /// So many probes of the last server failed in a row.
    FailedProbes(u32),
    /// So many probes of one server passed in a row.
    ProbePasses(u32),
    /// The trial ended well.
    Trial {
        /// Requests and probes that succeeded.
        successes: u32,
        /// Requests and probes that failed.
        failures: u32,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailures(count) => write!(f, "{count} connect failures in a row"),
            Self::Failures { failures, requests } => write!(f, "{failures} failures among {requests} requests"),
            Self::Refusals(count) => write!(f, "{count} requests without a success, refused or failed"),
            Self::ApplicationErrors { errors, requests } => write!(f, "{errors} application errors among {requests} requests"),
            Self::FailedProbes(count) => write!(f, "{count} failed probes in a row, with no server left"),
            Self::ProbePasses(count) => write!(f, "{count} probes passed in a row"),
            Self::Trial { successes, failures } => write!(f, "{successes} successes and {failures} failures"),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Passing,
            since: Duration::ZERO,
            window: Window::default(),
            trial: Counts::default(),
            connect_failures: 0,
            unsuccessful: 0,
            succeeded: Duration::ZERO,
            works: false,
            exponent: 0,
        }
    }
}

impl Breaker {
    /// The state that it is in.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it entered this state.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Connect failures since the last connection that succeeded.
    pub fn connect_failures(&self) -> u32 {
        self.connect_failures
    }

    /// Told how a request, or in PROBING a probe, went. `everywhere` says, for a connect failure, that no server is known to take
    /// connections: failures in a row at one of several servers are that server's matter.
    pub fn record(&mut self, signal: Signal, everywhere: bool, now: Duration) -> Option<Change> {
        if self.state == State::Shedding {
            // The answer of a request sent before the trip: only probes speak now.
            return None;
        }
        self.connect_failures = if signal == Signal::ConnectFailure { self.connect_failures.saturating_add(1) } else { 0 };
        let one = match signal {
            Signal::Success => Counts { successes: 1, ..Counts::default() },
            Signal::ApplicationError => Counts { application_errors: 1, ..Counts::default() },
            Signal::Refusal => Counts { refusals: 1, ..Counts::default() },
            Signal::Failure | Signal::ConnectFailure => Counts { failures: 1, ..Counts::default() },
        };
        self.works |= signal == Signal::Success;
        match signal {
            Signal::Success | Signal::ApplicationError => (self.unsuccessful, self.succeeded) = (0, now),
            Signal::Refusal | Signal::Failure | Signal::ConnectFailure => self.unsuccessful = self.unsuccessful.saturating_add(1),
        }
        self.window.add(one, now);
        if self.state == State::Probing {
            self.trial = self.trial.plus(one);
        }
        if everywhere && self.connect_failures >= CONNECT_FAILURES {
            return self.trip(Cause::ConnectFailures(self.connect_failures), now);
        }
        if signal != Signal::Success
            && let Some(cause) = fatal(self.window.sum(now)).or_else(|| self.in_vain(signal, now))
        {
            return self.trip(cause, now);
        }
        self.judge_trial(now)
    }

    /// Told of `count` successes in PASSING at `at` that were counted elsewhere: they can change no state, but weigh against later failures.
    pub fn successes(&mut self, count: u32, at: Duration) {
        if self.state == State::Passing && count > 0 {
            self.window.add(Counts { successes: count, ..Counts::default() }, at);
            (self.unsuccessful, self.succeeded) = (0, self.succeeded.max(at));
        }
    }

    /// In PROBING a probe counts as a request does, but for whether the backend does its work.
    pub fn probed(&mut self, passed: bool, now: Duration) -> Option<Change> {
        let works = self.works;
        let change = self.record(if passed { Signal::Success } else { Signal::Failure }, false, now);
        self.works = works && change.is_none();
        change
    }

    /// Why it may be sent nothing that refuses this and everything else for long, or everything in a trial.
    fn in_vain(&self, signal: Signal, now: Duration) -> Option<Cause> {
        let (is_over, refusals) = match self.state {
            State::Probing => (!self.works, self.trial.refusals),
            _ => (now.saturating_sub(self.succeeded) >= WITHOUT_SUCCESS, self.unsuccessful),
        };
        (signal == Signal::Refusal && is_over && refusals >= LEAST_REQUESTS).then_some(Cause::Refusals(refusals))
    }

    /// Whatever the counts say: it may be sent nothing from now on.
    pub fn trip(&mut self, cause: Cause, now: Duration) -> Option<Change> {
        match self.state {
            State::Shedding => return None,
            State::Probing => self.exponent = (self.exponent + 1).min(LARGEST_EXPONENT),
            State::Passing if now.saturating_sub(self.since) >= FLAP_TIME => self.exponent = 0,
            State::Passing => {}
        }
        Some(self.enter(State::Shedding, cause, now))
    }

    /// The failures so far were those of one server, which is out now; the others have yet to show theirs.
    pub fn forget_failures(&mut self) {
        self.connect_failures = 0;
        self.window.clear();
    }

    /// A server that is up has passed `passes` probes in a row since the trip.
    pub fn probes_passed(&mut self, passes: u32, now: Duration) -> Option<Change> {
        (self.state == State::Shedding && passes >= PROBE_PASSES).then(|| self.enter(State::Probing, Cause::ProbePasses(passes), now))
    }

    /// Time from one round of probes to the next in SHEDDING; `random` is in 0..1.
    pub fn gap(&self, random: f64) -> Duration {
        if self.exponent == 0 { jittered(QUICK_GAP, random) } else { gap(self.exponent, random) }
    }

    fn judge_trial(&mut self, now: Duration) -> Option<Change> {
        if self.state != State::Probing {
            return None;
        }
        let trial = self.trial;
        if trial.successes >= TRIAL_SUCCESSES && !more_than(trial.failures, TRIAL_FAILURES_PERCENT, trial.total()) {
            let cause = Cause::Trial { successes: trial.successes, failures: trial.failures };
            return Some(self.enter(State::Passing, cause, now));
        }
        if let Some(cause) = fatal(trial) {
            return self.trip(cause, now);
        }
        if trial.total() >= TRIAL_LENGTH {
            self.trial = Counts::default();
        }
        None
    }

    fn enter(&mut self, to: State, cause: Cause, now: Duration) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        self.since = now;
        self.window.clear();
        self.trial = Counts::default();
        self.connect_failures = 0;
        (self.unsuccessful, self.succeeded, self.works) = (0, now, false);
        Change { from, to, cause }
    }
}

/// `1 s * 2^exponent`, at most 30 s, then +-50%; `random` is in 0..1.
pub(super) fn gap(exponent: u32, random: f64) -> Duration {
    jittered(doubled(exponent), random)
}

/// `1 s * 2^exponent`, at most 30 s.
pub(super) fn doubled(exponent: u32) -> Duration {
    FIRST_GAP.saturating_mul(1 << exponent.min(LARGEST_EXPONENT)).min(LONGEST_GAP)
}

/// 50 ms +-50%; `random` is in 0..1.
pub(super) fn confirming_gap(random: f64) -> Duration {
    jittered(CONFIRMING_GAP, random)
}

/// +-50%; `random` is in 0..1.
pub(super) fn jittered(gap: Duration, random: f64) -> Duration {
    gap.mul_f64(0.5 + random.clamp(0.0, 1.0))
}

/// Why these counts trip the breaker, if they do.
fn fatal(counts: Counts) -> Option<Cause> {
    let requests = counts.total();
    if requests < LEAST_REQUESTS {
        return None;
    }
    if at_least(counts.failures, FAILURES_PERCENT, requests) {
        return Some(Cause::Failures { failures: counts.failures, requests });
    }
    if at_least(counts.application_errors, APPLICATION_ERRORS_PERCENT, requests) {
        return Some(Cause::ApplicationErrors { errors: counts.application_errors, requests });
    }
    None
}

fn at_least(part: u32, percent: u32, whole: u32) -> bool {
    u64::from(part) * 100 >= u64::from(percent) * u64::from(whole)
}

fn more_than(part: u32, percent: u32, whole: u32) -> bool {
    u64::from(part) * 100 > u64::from(percent) * u64::from(whole)
}

#[cfg(test)]
mod tests;
