//! How fast a backend's queue is replayed: a window on what is under way, a ceiling on the rate, a budget of retries, and pauses.
//!
//! The [`window`] starts at one and is the feedback loop. The [`ceiling`] is what an operator allows at most, whatever the window says. The [`budget`] keeps
//! retries few. All are plain rules on observations and a time that are passed in; whether the backend may be sent anything at all is
//! `health`'s business.

mod budget;
mod ceiling;
mod window;

use std::time::Duration;

use tokio::time::Instant;

use super::{Profile, Settings};

pub(super) use budget::Budget;
use ceiling::Ceiling;
pub use window::Ramp;
use window::Window;
pub(super) use window::{Sight, Slowness};

/// Shortest time over which attempts are judged together; twice the median of what a request takes where that is longer.
const TICK_MIN: Duration = Duration::from_secs(1);
/// See [`TICK_MIN`]: what is slower than half of this tells its story late, but it tells it.
const TICK_MAX: Duration = Duration::from_secs(60);
/// Pause after a 429 or 503 without `Retry-After`; it doubles with each further one up to [`PAUSE_MAX`], or the attempts of a whole
/// queue would be used up on a backend that says "not now".
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After so much of a drain, replay pauses to see how fast the backend is without it.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// For so long.
const MEASURE_FOR: Duration = Duration::from_millis(500);
/// After a rest of this length, what the window has learnt is no longer taken for true.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// How an attempt went, as far as the pace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feedback {
    /// The backend answered.
    Good,
    /// It says nothing about the backend's strength.
    Neutral,
    /// Timeout, reset, no connection, 429, 502, 503, 504.
    Bad,
}

/// Why nothing is begun for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// The backend asked for it.
    Asked,
    /// To see how fast the backend is without replay.
    Measuring,
}

/// The pace of one backend's replay.
#[derive(Debug)]
pub(super) struct Pace {
    profile: Profile,
    window: Window,
    ceiling: Option<Ceiling>,
    held_until: Option<Instant>,
    /// 429 and 503 in a row.
    rejections: u32,
    /// When the breaker last tripped.
    tripped_at: Option<Instant>,
    tick_began: Instant,
    tick: Duration,
    /// Whether the last tick saw live requests.
    watched: bool,
    /// When the backend was last seen without replay, or the drain began; none while nothing is replayed.
    measured_at: Option<Instant>,
    /// While replay pauses to see that.
    measuring_until: Option<Instant>,
    rests_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            profile: settings.profile,
            window: Window::new(settings.profile, settings.concurrency),
            ceiling: settings.rate.map(|rate| Ceiling::new(rate, now)),
            held_until: None,
            rejections: 0,
            tripped_at: None,
            tick_began: now,
            tick: TICK_MIN,
            watched: false,
            measured_at: None,
            measuring_until: None,
            rests_since: None,
        }
    }

    /// Takes new settings over and keeps what was learnt.
    pub(super) fn configure(&mut self, settings: &Settings, now: Instant) {
        self.profile = settings.profile;
        self.window.configure(settings.profile, settings.concurrency);
        // A ceiling that stays the same keeps its account: a reload gives no new burst.
        if self.ceiling.as_ref().map(|ceiling| ceiling.rate) != settings.rate {
            self.ceiling = settings.rate.map(|rate| Ceiling::new(rate, now));
        }
    }

    /// Attempts that may be under way at a backend of that limit.
    pub(super) fn window(&self, limit: u32) -> u32 {
        self.window.size(limit)
    }

    pub(super) fn slow_start(&self) -> bool {
        self.window.slow_start()
    }

    /// Until when nothing is to begin, and why. To be asked before each attempt: that is what makes the pauses come round.
    pub(super) fn pause(&mut self, now: Instant) -> Option<(Pause, Instant)> {
        if let Some(until) = self.held_until(now) {
            return Some((Pause::Asked, until));
        }
        // Without live requests there is nobody whose pace a pause could show.
        let due = self.watched && self.measured_at.is_some_and(|measured| now >= measured + MEASURE_EVERY);
        if due && self.profile == Profile::Gentle {
            self.measuring_until = Some(now + MEASURE_FOR);
            self.measured_at = self.measuring_until;
        }
        self.measuring_until.filter(|&until| until > now).map(|until| (Pause::Measuring, until))
    }

    /// Until when the backend is left alone because it asked for that, if it is.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|&until| until > now)
    }

    /// Takes leave for one attempt from the ceiling; where there is none, the moment at which there will be.
    pub(super) fn take(&self, now: Instant) -> Result<(), Instant> {
        self.ceiling.as_ref().map_or(Ok(()), |ceiling| ceiling.take(now))
    }

    /// An attempt has begun, and so many are under way.
    pub(super) fn began(&mut self, in_flight: u32, limit: u32, now: Instant) {
        self.rests_since = None;
        self.measured_at.get_or_insert(now);
        self.window.filled(in_flight, limit);
    }

    /// Something is about to begin. Whether that ends a rest of more than a tick: what was seen meanwhile is not replay's doing, and the tick begins
    /// with this. After a long rest the window begins anew, too.
    pub(super) fn wakes(&mut self, now: Instant) -> bool {
        let Some(since) = self.rests_since.filter(|&since| now >= since + self.tick) else { return false };
        if now >= since + FORGET_AFTER {
            self.window.restart();
        }
        self.rests_since = None;
        self.tick_began = now;
        true
    }

    /// Whether nothing is under way.
    pub(super) fn is_resting(&self) -> bool {
        self.rests_since.is_some()
    }

    /// Nothing is under way, and nothing could be.
    pub(super) fn rests(&mut self, now: Instant) {
        self.rests_since.get_or_insert(now);
        self.measured_at = None;
    }

    /// When the tick is over.
    pub(super) fn next_tick(&self) -> Instant {
        self.tick_began + self.tick
    }

    /// Ends the tick, in which that was seen; so many are under way.
    pub(super) fn tick(&mut self, sight: &Sight, in_flight: u32, now: Instant) -> Ramp {
        // What takes longer than a tick fills the window all the same.
        self.window.filled(in_flight, sight.limit);
        self.tick_began = now;
        self.tick = sight.rtt.map_or(TICK_MIN, |rtt| (2 * rtt).clamp(TICK_MIN, TICK_MAX));
        self.watched = sight.is_watched();
        self.window.tick(sight, now)
    }

    /// An attempt has ended that `began` then. What that did to the window at once, if anything.
    pub(super) fn ended(&mut self, feedback: Feedback, began: Instant, now: Instant) -> Option<Ramp> {
        // What was under way at a trip says nothing about the backend that comes back.
        if self.tripped_at.is_some_and(|tripped| began < tripped) {
            return None;
        }
        if feedback == Feedback::Good {
            self.rejections = 0;
        }
        self.window.ended(feedback == Feedback::Bad, now)
    }

    /// The backend said "not now": it is left alone for as long as it asked, or a while of our own. Whether a pause begins with this.
    pub(super) fn rejected(&mut self, asked: Option<Duration>, now: Instant) -> bool {
        let begins = self.held_until(now).is_none();
        // Answers to what was under way when the pause began are the same rejection.
        if begins {
            self.rejections = self.rejections.saturating_add(1);
        }
        let own = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.rejections.saturating_sub(1))).min(PAUSE_MAX);
        let until = now + asked.unwrap_or(own);
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        begins
    }

    /// The breaker has tripped: begin again from one.
    pub(super) fn tripped(&mut self, now: Instant) {
        self.window.restart();
        self.tripped_at = Some(now);
        self.tick_began = now;
        (self.measured_at, self.measuring_until) = (None, None);
    }

    /// When the breaker last tripped.
    pub(super) fn tripped_at(&self) -> Option<Instant> {
        self.tripped_at
    }
}

#[cfg(test)]
mod tests;
