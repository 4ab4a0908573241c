//! How fast a backend's queue is replayed: a window on what is under way, a ceiling on the rate, and pauses that the backend asked for.
//!
//! The window starts at one and is the feedback loop: it opens while the backend does well and halves when it does not. The ceiling is what an operator
//! allows at most, whatever the window says. Both are plain rules on a time that is passed in; whether the backend may be sent anything at all
//! is `health`'s business.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::{Rate, Settings};

/// Time over which attempts are judged together.
const TICK: Duration = Duration::from_secs(1);
/// After a cut the window stands still for this long: attempts that were under way at the cut say nothing about it.
const CUT_HOLD: Duration = Duration::from_secs(5);
/// So many bad attempts in one tick cut the window, however many went well.
const BAD_COUNT: u32 = 3;
/// One bad attempt in so many cuts the window.
const BAD_ONE_IN: u32 = 20;
/// Pause after a 429 or 503 without `Retry-After`; it doubles with each further one up to [`PAUSE_MAX`], or the attempts of a whole
/// queue would be used up on a backend that says "not now".
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A rate may be exceeded by what falls due in this time, or the grain of the timers would keep high rates from being reached.
const BURST: Duration = Duration::from_millis(20);

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

/// The pace of one backend's replay.
#[derive(Debug)]
pub(super) struct Pace {
    window: Window,
    ceiling: Option<Ceiling>,
    held_until: Option<Instant>,
    /// 429 and 503 in a row.
    rejections: u32,
    /// When the breaker last tripped.
    tripped_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            window: Window::new(settings.concurrency, now),
            ceiling: settings.rate.map(|rate| Ceiling::new(rate, now)),
            held_until: None,
            rejections: 0,
            tripped_at: None,
        }
    }

    /// Takes new settings over and keeps what was learnt.
    pub(super) fn configure(&mut self, settings: &Settings, now: Instant) {
        self.window.set_most(settings.concurrency);
        // A ceiling that stays the same keeps its account: a reload gives no new burst.
        if self.ceiling.as_ref().map(|ceiling| ceiling.rate) != settings.rate {
            self.ceiling = settings.rate.map(|rate| Ceiling::new(rate, now));
        }
    }

    /// Attempts that may be under way.
    pub(super) fn window(&mut self, now: Instant) -> u32 {
        self.window.size(now)
    }

    /// Until when the backend is left alone, if it is.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|&until| until > now)
    }

    /// Takes leave for one attempt from the ceiling; where there is none, the moment at which there will be.
    pub(super) fn take(&self, now: Instant) -> Result<(), Instant> {
        self.ceiling.as_ref().map_or(Ok(()), |ceiling| ceiling.take(now))
    }

    /// An attempt has ended that `began` then; `in_flight` counts those under way, this one included.
    pub(super) fn ended(&mut self, feedback: Feedback, began: Instant, in_flight: u32, now: Instant) {
        // What was under way at a trip says nothing about the backend that comes back, and must not open the window for it.
        if self.tripped_at.is_some_and(|tripped| began < tripped) {
            return;
        }
        if feedback == Feedback::Good {
            self.rejections = 0;
        }
        self.window.ended(feedback, in_flight, now);
    }

    /// The backend said "not now": it is left alone for as long as it asked, or a while of our own.
    pub(super) fn rejected(&mut self, asked: Option<Duration>, now: Instant) {
        // Answers to what was under way when the pause began are the same rejection.
        if self.held_until(now).is_none() {
            self.rejections = self.rejections.saturating_add(1);
        }
        let own = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.rejections.saturating_sub(1))).min(PAUSE_MAX);
        let until = now + asked.unwrap_or(own);
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }

    /// The breaker has tripped: begin again from one.
    pub(super) fn tripped(&mut self, now: Instant) {
        self.window = Window::new(self.window.most, now);
        self.tripped_at = Some(now);
    }
}

/// The window: slow start, then growth by a tenth a tick, halved when a tick was bad. It grows only while it is what bounds the replay
/// (RFC 7661 says why).
#[derive(Debug)]
struct Window {
    size: f64,
    most: u32,
    slow_start: bool,
    /// In the future after a cut: until then nothing counts.
    tick_began: Instant,
    total: u32,
    bad: u32,
    /// Whether all of it was in use at some time in this tick.
    limited: bool,
}

impl Window {
    fn new(most: u32, now: Instant) -> Self {
        Self { size: 1.0, most: most.max(1), slow_start: true, tick_began: now, total: 0, bad: 0, limited: false }
    }

    fn set_most(&mut self, most: u32) {
        self.most = most.max(1);
        self.size = self.size.min(f64::from(self.most));
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `most`, which is a u32")]
    fn size(&mut self, now: Instant) -> u32 {
        self.roll(now);
        self.size as u32
    }

    fn ended(&mut self, feedback: Feedback, in_flight: u32, now: Instant) {
        self.roll(now);
        if now < self.tick_began {
            return;
        }
        self.total += 1;
        self.bad += u32::from(feedback == Feedback::Bad);
        let limited = f64::from(in_flight) >= self.size.floor();
        self.limited |= limited;
        if self.bad >= BAD_COUNT {
            self.cut(now);
        } else if self.slow_start && limited && self.bad == 0 && feedback == Feedback::Good {
            self.grow(1.0);
        }
    }

    /// Ends the tick when its time is over.
    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.tick_began) < TICK {
            return;
        }
        if self.bad * BAD_ONE_IN > self.total {
            return self.cut(now);
        }
        if self.limited && self.bad == 0 && !self.slow_start {
            self.grow((self.size * 0.1).max(0.5));
        }
        self.begin_tick(now);
    }

    fn cut(&mut self, now: Instant) {
        self.size = (self.size / 2.0).max(1.0);
        self.slow_start = false;
        self.begin_tick(now + CUT_HOLD);
    }

    fn grow(&mut self, by: f64) {
        self.size = (self.size + by).min(f64::from(self.most));
    }

    fn begin_tick(&mut self, at: Instant) {
        (self.tick_began, self.total, self.bad, self.limited) = (at, 0, 0, false);
    }
}

/// The configured rate, as a token bucket.
#[derive(Debug)]
struct Ceiling {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, PassedIn, NoOpMiddleware<Nanos>>,
    now: PassedIn,
    epoch: Instant,
}

impl Ceiling {
    fn new(rate: Rate, now: Instant) -> Self {
        let each = (rate.per / rate.count.get()).max(Duration::from_nanos(1));
        let burst = u32::try_from(BURST.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
        let burst = std::num::NonZeroU32::new(burst).unwrap_or(std::num::NonZeroU32::MIN);
        // None only for a period of zero, which `each` is not.
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(rate.count)).allow_burst(burst);
        let clock = PassedIn::default();
        Self { rate, limiter: RateLimiter::direct_with_clock(quota, clock.clone()), now: clock, epoch: now }
    }

    fn take(&self, now: Instant) -> Result<(), Instant> {
        self.now.set(now.saturating_duration_since(self.epoch));
        self.limiter.check().map_err(|not_until| now + Duration::from(not_until.earliest_possible().duration_since(self.now.now())))
    }
}

/// A clock for the limiter that says what it was last told, in nanoseconds.
#[derive(Debug, Clone, Default)]
struct PassedIn(Arc<AtomicU64>);

impl PassedIn {
    fn set(&self, elapsed: Duration) {
        self.0.store(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for PassedIn {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[cfg(test)]
mod tests;
