//! How many requests a backend can take at once, found out from how long they take. Policy alone: a window of finished requests comes in with the
//! time, a limit comes out. What is counted into a window is [`samples`](super::samples)'s business, what a class's undisturbed latency is, [`base`](super::base)'s.
//!
//! `x`, the slowdown, is the median of `rtt / base`; `a` the mean of requests in flight when each was admitted. Little's law makes
//! `q = a * (1 - 1/x)` the part of `a` that only stands in a queue at the backend. The limit is to keep a little in that queue and no more:
//!
//! ```text
//! >= 3 and > 10% bad      L = 0.7 * min(L, a), and it stays below that for a while (see refusals)
//! x > 2, holds back       L = min(L, max(1.1 a, L/2)) * max(0.7, 2/x)       and, where half is gone: was it us at all?
//! x > 2, holds not back   L = min(L, twice the most in flight)              and, the fourth time and after 2 s: this is the new normal
//! q > max(6, 0.30 L)      if the limit bounds the traffic: L -= 5%          and the same question
//! q < max(3, 0.15 L)      if the limit bounds the traffic: L *= 1.5 (slow start), += 10%, or += 1
//! else                    if it bounds the traffic for long: try 1.25 L
//! ```
//!
//! A backend that became slower for good looks overloaded. Three questions tell them apart. Does it keep up with what comes? In overload more and more is in
//! flight until the limit holds it back; where the limit does not, and no more is in flight than before, less would only turn clients away. Where it does hold
//! back, [`elasticity`](super::elasticity) is asked: latency that is made by our concurrency goes down with it, and latency that is not stays where it is. And
//! after five windows at the least limit nothing is left to cut. Where the limit is held down between the two thresholds by a base that is too low, the trial
//! with a quarter more finds it.
//!
//! No decay while the traffic, and not the limit, bounds what is in flight: an idle night must not end with a small limit. Sources: the
//! queue estimate is that of TCP Vegas (Brakmo and Peterson, 1995); thresholds relative to the limit keep it fair to small and large backends.

use std::time::Duration;

use super::{
    Why,
    elasticity::{Descent, elasticity},
    endured::{Endured, Mean},
    refusals::{Refusals, Turn},
    samples::Seen,
};

/// The limit of a backend that nothing is known of.
pub(super) const FIRST: f64 = 20.0;
/// The least limit: below it a window takes too long to fill.
pub(super) const LEAST: f64 = 4.0;
/// The largest limit of a backend that has just come back.
const MOST_AT_FIRST: f64 = 4.0 * LEAST;
/// The largest limit that is found by itself.
pub(super) const MOST: f64 = 512.0;
/// Slowdown past which the limit is cut at once.
const TOO_SLOW: f64 = 2.0;
/// Slowdown below which the limit grows fast at first.
const QUICK: f64 = 1.25;
/// In a trial: below it, latency does not depend on our concurrency.
const INELASTIC: f64 = 0.3;
/// Mean in flight, as a part of the limit, past which it holds back what comes; or one request in so many that is turned away.
const FULL: f64 = 0.95;
const TURNED_AWAY: u32 = 20;
/// Windows in which a backend that has come back is measured anew.
const LOOKS: u32 = 2;
/// The most that trials alone may raise the bases, while the limit bounds the traffic all the time. Where several proxies stand before one backend, each of them
/// causes a part of the latency, so that a quarter more of one alone never shows much.
const MOST_BY_TRIALS: f64 = 2.0;
/// Windows at the least limit after which slowness is taken for normal.
const FLOOR_WINDOWS: u32 = 5;
/// As slow is what is taken for normal then: one of several proxies that has been crowded out is to be no quicker to take it for normal than the others.
const MILDLY_SLOW: f64 = 1.7;
/// For so long afterwards, slowness under a limit that holds back is not taken for normal again.
const REBASED_FOR: Duration = Duration::from_secs(60);
/// A trial raises the limit to so much of itself.
const TRIAL: f64 = 1.25;
/// Requests, or time, that a trial lasts.
const TRIAL_REQUESTS: u32 = 200;
const TRIAL_SPAN: Duration = Duration::from_secs(3);
/// Time for which the limit bounds the traffic before a trial; doubled after each that finds nothing.
pub(super) const TRIAL_WAIT: Duration = Duration::from_secs(5);
pub(super) const LONGEST_TRIAL_WAIT: Duration = Duration::from_secs(60);

/// What follows from a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// What was done and why.
    pub(super) why: Why,
    /// Every base is to be multiplied by this: slowness that we do not cause is the new normal.
    pub(super) rebase: Option<f64>,
}

/// The limit of one backend.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: f64,
    refusals: Refusals,
    slow_start: bool,
    /// The last window of slow start was slow.
    hesitates: bool,
    /// Windows in which a backend that has just come back may still turn out to be slower than it was.
    looks: u32,
    why: Why,
    /// While the limit goes down.
    descent: Option<Descent>,
    /// While the backend is slow and keeps up with what comes.
    endured: Option<Endured>,
    floor_windows: u32,
    /// Since when the limit bounds the traffic without growing, and what was seen since.
    bound: Option<(Duration, Mean)>,
    trial_wait: Duration,
    trial: Option<Trial>,
    /// How many times higher trials have made the bases since the limit last did not bound the traffic.
    raised_by_trials: f64,
    /// When slowness under a limit that held back was last taken for normal.
    rebased: Option<Duration>,
}

/// A slowdown at a concurrency, under a limit.
#[derive(Debug, Clone, Copy)]
struct Point {
    slowdown: f64,
    in_flight: f64,
    limit: f64,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    before: Point,
    began: Duration,
    seen: Mean,
    /// The first of two looks showed nothing against it.
    once: bool,
}

impl Limiter {
    /// The limit of a backend that nothing is known of.
    pub(super) fn new() -> Self {
        Self {
            limit: FIRST,
            refusals: Refusals::default(),
            slow_start: true,
            hesitates: false,
            looks: 0,
            why: Why::Unknown,
            descent: None,
            endured: None,
            floor_windows: 0,
            bound: None,
            trial_wait: TRIAL_WAIT,
            trial: None,
            raised_by_trials: 1.0,
            rebased: None,
        }
    }

    /// A limit that held in an earlier run.
    pub(super) fn remembered(limit: f64) -> Self {
        let limit = if limit.is_finite() { limit.clamp(LEAST, MOST) } else { FIRST };
        Self { limit, slow_start: false, why: Why::Remembered, ..Self::new() }
    }

    /// A backend that came back: few at first, then up again. Half of what it could take before; one that goes and comes again and again begins with less each
    /// time.
    pub(super) fn restart(&mut self) {
        *self = Self { limit: (self.limit / 2.0).clamp(LEAST, MOST_AT_FIRST), looks: LOOKS, why: Why::Probing, ..Self::new() };
    }

    /// Requests that may be in flight.
    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// The same, with what is still too little for a seat.
    pub(super) fn exactly(&self) -> f64 {
        self.limit
    }

    /// Why it is what it is.
    pub(super) fn why(&self) -> Why {
        self.why
    }

    /// A window has closed; `random` is in 0..1.
    pub(super) fn window(&mut self, seen: Seen, now: Duration, random: f64) -> Verdict {
        let verdict = self.judge(seen, now, random);
        self.limit = self.limit.clamp(LEAST, MOST);
        self.why = verdict.why;
        verdict
    }

    fn judge(&mut self, seen: Seen, now: Duration, random: f64) -> Verdict {
        let turn = self.refusals.window(&seen, self.limit, now);
        if turn != Turn::None {
            self.calm();
        }
        match turn {
            Turn::None => {}
            Turn::Cut => {
                self.limit = 0.7 * self.limit.min(seen.in_flight);
                return because(Why::Failing);
            }
            Turn::Back(limit) => {
                self.limit = limit;
                return because(Why::Failing);
            }
            Turn::Try(limit) => {
                self.limit = limit;
                return because(Why::Refusing);
            }
            Turn::Endure(limit) => {
                self.accept(limit);
                return because(Why::NotOurs);
            }
        }
        match seen.slowdown {
            None => because(self.why),
            Some(slowdown) if self.looks > 0 => self.look(slowdown, seen, now, random),
            Some(slowdown) if slowdown <= TOO_SLOW => self.steady(slowdown, seen, now, random),
            Some(slowdown) if self.holds_back(seen) => self.cut(slowdown, seen, now),
            Some(slowdown) => self.endure(slowdown, seen, now),
        }
    }

    /// With so few at it, slowness is not made by our concurrency: a backend that came back is cold, or has become another. It is measured anew, twice, since
    /// the first to finish are the fastest.
    fn look(&mut self, slowdown: f64, seen: Seen, now: Duration, random: f64) -> Verdict {
        let first = self.looks == LOOKS;
        self.looks -= 1;
        if slowdown <= QUICK {
            self.looks = 0;
            return self.steady(slowdown, seen, now, random);
        }
        if first {
            self.limit *= 1.5;
        }
        Verdict { why: Why::SlowerBack, rebase: Some(slowdown) }
    }

    /// Whether the limit keeps from the backend some of what comes. What replay does depends on the limit, so that it is never known not to.
    fn holds_back(&self, seen: Seen) -> bool {
        seen.replayed || seen.rejected.saturating_mul(TURNED_AWAY) > seen.requests || seen.in_flight >= FULL * f64::from(self.limit())
    }

    /// The backend is slow and all the same keeps up with what comes: less would make nobody faster. Either more and more is in flight, until the limit holds
    /// it back, or it has become slower for good.
    fn endure(&mut self, slowdown: f64, seen: Seen, now: Duration) -> Verdict {
        self.calm();
        self.limit = self.limit.min((2.0 * f64::from(seen.most_in_flight)).max(2.0 * LEAST));
        let endured = Endured::with(self.endured, slowdown, seen, now);
        if endured.is_normal(now) {
            self.accept(self.limit.max(1.25 * endured.mean.in_flight));
            return Verdict { why: Why::NotOurs, rebase: Some(endured.mean.slowdown) };
        }
        self.endured = Some(endured);
        because(Why::Enough)
    }

    fn cut(&mut self, slowdown: f64, seen: Seen, now: Duration) -> Verdict {
        self.calm();
        self.endured = None;
        if self.limit <= LEAST {
            self.floor_windows += 1;
            if self.floor_windows >= FLOOR_WINDOWS && self.may_rebase(now) {
                self.rebased = Some(now);
                self.accept(2.0 * LEAST);
                return Verdict { why: Why::NotOurs, rebase: Some(slowdown / MILDLY_SLOW) };
            }
        }
        // At most the half at once: with little in flight, one slow window proves little.
        let used = self.limit.min((1.1 * seen.in_flight).max(self.limit / 2.0));
        self.descend(slowdown, seen, now, used * (TOO_SLOW / slowdown).max(0.7), Why::Slow)
    }

    /// Where others crowd the backend, each slowness of theirs would be taken for normal, and answered with more.
    fn may_rebase(&self, now: Duration) -> bool {
        self.rebased.is_none_or(|at| now >= at + REBASED_FOR)
    }

    /// To this limit, unless what was cut so far has not made the backend faster.
    fn descend(&mut self, slowdown: f64, seen: Seen, now: Duration, to: f64, why: Why) -> Verdict {
        let mut descent = self.descent.unwrap_or_else(|| Descent::from(self.limit, seen.in_flight));
        descent.evidence.add(slowdown, seen.in_flight, seen.requests - seen.bad);
        if descent.is_in_vain(seen.in_flight) && self.may_rebase(now) {
            self.rebased = Some(now);
            self.accept(descent.limit.max(1.25 * descent.in_flight));
            return Verdict { why: Why::NotOurs, rebase: Some(descent.evidence.slowdown()) };
        }
        self.descent = Some(descent);
        self.limit = to;
        because(why)
    }

    /// The slowness is not made by us.
    fn accept(&mut self, limit: f64) {
        self.limit = limit;
        (self.descent, self.endured) = (None, None);
        self.floor_windows = 0;
        self.slow_start = true;
    }

    fn steady(&mut self, slowdown: f64, seen: Seen, now: Duration, random: f64) -> Verdict {
        self.endured = None;
        self.floor_windows = 0;
        if self.trial.is_some() {
            return self.on_trial(slowdown, seen, now);
        }
        let queue = seen.in_flight * (1.0 - 1.0 / slowdown);
        let bound = seen.rejected > 0 || f64::from(seen.most_in_flight) >= 0.75 * self.limit;
        if !bound {
            (self.bound, self.descent, self.raised_by_trials) = (None, None, 1.0);
            return because(Why::Enough);
        }
        if queue > (0.3 * self.limit).max(6.0) {
            self.calm();
            return self.descend(slowdown, seen, now, self.limit - (0.05 * self.limit).max(1.0), Why::Queueing);
        }
        if queue < (0.15 * self.limit).max(3.0) {
            (self.bound, self.descent) = (None, None);
            self.trial_wait = TRIAL_WAIT;
            let (limit, why) = (self.limit, self.grow(slowdown));
            let Some(least) = self.refusals.hold(self.limit, now) else { return because(why) };
            self.limit = limit.max(least);
            return because(Why::Settled);
        }
        if self.descent.is_some() {
            let verdict = self.descend(slowdown, seen, now, self.limit, Why::Settled);
            if verdict.rebase.is_some() {
                return verdict;
            }
        }
        self.settled(slowdown, seen, now, random)
    }

    /// Between the thresholds, where only a trial tells more.
    fn settled(&mut self, slowdown: f64, seen: Seen, now: Duration, random: f64) -> Verdict {
        let (since, mut mean) = self.bound.unwrap_or((now, Mean::default()));
        mean.add(slowdown, seen);
        self.bound = Some((since, mean));
        if now.saturating_sub(since) >= self.trial_wait.mul_f64(0.75 + random / 2.0) {
            let before = Point { slowdown: mean.slowdown, in_flight: mean.in_flight, limit: self.limit };
            self.trial = Some(Trial { before, began: now, seen: Mean::default(), once: false });
            self.limit *= TRIAL;
            return because(Why::Trial);
        }
        because(Why::Settled)
    }

    fn grow(&mut self, slowdown: f64) -> Why {
        if self.slow_start && slowdown < QUICK {
            self.limit *= 1.5;
            self.hesitates = false;
            return Why::SlowStart;
        }
        // One window in thirty is as slow by chance alone.
        if !std::mem::replace(&mut self.hesitates, true) && self.slow_start && slowdown < 1.5 {
            self.limit += (0.1 * self.limit).max(1.0);
            return Why::SlowStart;
        }
        self.slow_start = false;
        self.limit += if slowdown < 1.1 { (0.1 * self.limit).max(1.0) } else { 1.0 };
        Why::Growing
    }

    fn on_trial(&mut self, slowdown: f64, seen: Seen, now: Duration) -> Verdict {
        let Some(mut trial) = self.trial.take() else { return because(self.why) };
        trial.seen.add(slowdown, seen);
        if trial.seen.requests < TRIAL_REQUESTS && now.saturating_sub(trial.began) < TRIAL_SPAN {
            self.trial = Some(trial);
            return because(Why::Trial);
        }
        let Mean { slowdown, in_flight, .. } = trial.seen;
        // Without more in flight nothing was tried.
        let more = in_flight > 1.1 * trial.before.in_flight;
        let too_far = self.raised_by_trials * slowdown > MOST_BY_TRIALS;
        if !more || too_far || elasticity(slowdown / trial.before.slowdown, in_flight / trial.before.in_flight) >= INELASTIC {
            self.limit = trial.before.limit;
            self.bound = None;
            self.trial_wait = (2 * self.trial_wait).min(LONGEST_TRIAL_WAIT);
            return because(Why::TrialEnded);
        }
        if !trial.once {
            self.trial = Some(Trial { began: now, seen: Mean::default(), once: true, ..trial });
            return because(Why::Trial);
        }
        self.bound = None;
        self.trial_wait = TRIAL_WAIT;
        self.raised_by_trials *= slowdown.max(1.0);
        Verdict { why: Why::TrialKept, rebase: Some(slowdown.max(1.0)) }
    }

    /// The time of growth without a question is over; a trial too.
    fn calm(&mut self) {
        self.slow_start = false;
        self.bound = None;
        self.trial_wait = TRIAL_WAIT;
        if let Some(trial) = self.trial.take() {
            self.limit = self.limit.min(trial.before.limit);
        }
    }
}

fn because(why: Why) -> Verdict {
    Verdict { why, rebase: None }
}

#[cfg(test)]
mod tests;
