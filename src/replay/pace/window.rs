//! The window of a scavenger: how much of a backend replay may use, found from what it does to live traffic.
//!
//! As LEDBAT++ does for background transfers (draft-irtf-iccrg-ledbat-plus-plus), replay takes what live traffic leaves, and gives way
//! when that gets slower, long before anything fails. Once a tick the first line of this table that fits moves the window `w`:
//!
//! ```text
//! it stands still after a cut              nothing
//! more than 5% of live requests waited     w *= 0.7, slow start is over (nothing while w = 1)
//! 3 replayed ones failed, or more than 5%  w /= 2, stands still for 5 s, slow start is over
//! nobody knows how slow the backend is     used up: w += 0.5
//! slower by more than tau                  w *= max(0.5, 1 - 0.5 * (x - 1 - tau) / tau), slow start is over
//! used up, slow start, x < 1 + 0.75 * tau  w += max(1, 0.5 * w)
//! used up, x < 1 + 0.5 * tau, third time   w += max(1, 0.25 * w): the backend has more to give than it had
//! used up                                  w += max(1, 0.1 * w) * (1 + tau - x) / tau, slow start is over
//! ```
//! `x` is how many times slower than at rest the backend answers, taken from live requests where there are enough of them. tau is 0.25, and 1.0 while
//! hardly anybody is there to notice; after each tick in which more than 5% of live requests waited it is 0.18 for three, so that those who suffer while a
//! backend comes back cold are better off afterwards. Whatever comes out, w is at least 1, at most what is configured, and at most 80% of the backend's limit.
//! The third line acts as soon as the third one has failed, and does not wait for the tick to end.

use std::time::Duration;

use tokio::time::Instant;

use super::super::Profile;

/// After a cut for failures the window stands still for this long: attempts that were under way at the cut say nothing about it.
const CUT_HOLD: Duration = Duration::from_secs(5);
/// So many bad attempts in one tick cut the window, however many went well.
const BAD_COUNT: u32 = 3;
/// One in so many (5%): bad attempts past it cut the window, and so do live requests that waited.
const ONE_IN: u32 = 20;
/// Ticks in a row that leave the backend nearly at rest after which the window grows faster.
const CALM_TICKS: u32 = 3;
/// Live samples from which on they alone say how slow the backend is.
const LIVE_SAMPLES: u32 = 10;
/// Fewer live samples than this in a tick: nobody is there to notice.
const FEW_SAMPLES: u32 = 5;
/// Samples without which nothing is known.
const LEAST_SAMPLES: u32 = 3;
/// How much slower replay may make the backend.
const TAU: f64 = 0.25;
/// The same after live requests had to wait: they are to be better off in the mean.
const TAU_OWED: f64 = 0.18;
/// For so many ticks after each in which they had to wait, and at most for so many.
const OWED: u32 = 3;
const MOST_OWED: u32 = 60;
/// The same while hardly anybody is there.
const TAU_ALONE: f64 = 1.0;
/// The part of the backend's limit that live and replayed requests may fill together before replay has to stop.
const SHARE: f64 = 0.8;

/// How slow a backend was, from so many samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::replay) struct Slowness {
    /// Requests that were answered.
    pub(in crate::replay) samples: u32,
    /// Median of how many times longer than at rest they took; at least about 1.
    pub(in crate::replay) p50: f64,
}

/// What was seen of a backend in one tick.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::replay) struct Sight {
    /// Of live requests.
    pub(in crate::replay) live: Slowness,
    /// Of live and replayed ones together.
    pub(in crate::replay) all: Slowness,
    /// Live requests that came.
    pub(in crate::replay) live_requests: u32,
    /// Those of them that had to wait for a seat.
    pub(in crate::replay) waited: u32,
    /// The most that may be at the backend at once.
    pub(in crate::replay) limit: u32,
    /// Median time to the headers of an answer, if one is known.
    pub(in crate::replay) rtt: Option<Duration>,
}

impl Sight {
    /// How many times slower than at rest, if that is known.
    pub(in crate::replay) fn slowdown(&self) -> Option<f64> {
        let of = if self.live.samples >= LIVE_SAMPLES { self.live } else { self.all };
        (of.samples >= LEAST_SAMPLES && of.p50.is_finite()).then_some(of.p50)
    }

    /// Whether there are live requests that replay could hurt.
    pub(in crate::replay) fn is_watched(&self) -> bool {
        self.live.samples >= FEW_SAMPLES
    }
}

/// What the last tick did to the window, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ramp {
    /// Nothing: it was not used up, or nothing is under way.
    #[default]
    Steady,
    /// It grows by half in each tick, and by one at least.
    SlowStart,
    /// It grows by a tenth, less the nearer the backend is to what it may be slowed down to; by a quarter once it has been nearly at rest for some ticks.
    Growing,
    /// It grows by a half of one: nothing is known of how slow the backend is.
    Feeling,
    /// It was cut because the backend is slower.
    Slower,
    /// It was cut because live requests had to wait.
    LiveWaited,
    /// It was cut because attempts failed.
    Failing,
    /// It stands still after such a cut.
    Still,
    /// It does not move: the profile is `fixed`.
    Fixed,
}

impl Ramp {
    /// The name that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::SlowStart => "slow-start",
            Self::Growing => "growing",
            Self::Feeling => "feeling",
            Self::Slower => "slower",
            Self::LiveWaited => "live-waited",
            Self::Failing => "failing",
            Self::Still => "still",
            Self::Fixed => "fixed",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    profile: Profile,
    most: u32,
    size: f64,
    slow_start: bool,
    still_until: Option<Instant>,
    /// In a row, since the last cut.
    calm_ticks: u32,
    /// Ticks for which live requests are to be slowed down less, since they had to wait before.
    owed_ticks: u32,
    ended: u32,
    bad: u32,
    /// Whether all of it was in use at some time in this tick.
    used_up: bool,
}

impl Window {
    pub(super) fn new(profile: Profile, most: Option<u32>) -> Self {
        let most = most.unwrap_or(u32::MAX).max(1);
        Self {
            profile,
            most,
            size: 1.0,
            slow_start: true,
            still_until: None,
            calm_ticks: 0,
            owed_ticks: 0,
            ended: 0,
            bad: 0,
            used_up: false,
        }
    }

    /// Takes other settings over and keeps what was learnt.
    pub(super) fn configure(&mut self, profile: Profile, most: Option<u32>) {
        self.profile = profile;
        self.most = most.unwrap_or(u32::MAX).max(1);
    }

    /// Begins anew from one.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.profile, Some(self.most));
    }

    /// Requests that may be under way at a backend of that limit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1 and at most `most`, which is a u32")]
    pub(super) fn size(&self, limit: u32) -> u32 {
        match self.profile {
            Profile::Fixed => self.most,
            Profile::Gentle | Profile::Fast => self.size.min(self.cap(limit)) as u32,
        }
    }

    pub(super) fn slow_start(&self) -> bool {
        self.slow_start && self.profile != Profile::Fixed
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, size: f64, slow_start: bool) {
        (self.size, self.slow_start) = (size, slow_start);
    }

    #[cfg(test)]
    pub(super) fn exactly(&self) -> f64 {
        self.size
    }

    /// So many are under way.
    pub(super) fn filled(&mut self, in_flight: u32, limit: u32) {
        self.used_up |= in_flight >= self.size(limit);
    }

    /// An attempt has ended. What it did to the window, if it did not leave that to the tick.
    pub(super) fn ended(&mut self, bad: bool, now: Instant) -> Option<Ramp> {
        if self.is_still(now) || self.profile == Profile::Fixed {
            return None;
        }
        self.ended += 1;
        self.bad += u32::from(bad);
        (self.bad >= BAD_COUNT).then(|| self.cut_for_failures(now))
    }

    /// Ends a tick in which that was seen.
    pub(super) fn tick(&mut self, sight: &Sight, now: Instant) -> Ramp {
        let ramp = self.first_match(sight, now);
        self.owed_ticks =
            if ramp == Ramp::LiveWaited { (self.owed_ticks + OWED).min(MOST_OWED) } else { self.owed_ticks.saturating_sub(1) };
        (self.ended, self.bad, self.used_up) = (0, 0, false);
        self.size = self.size.clamp(1.0, self.cap(sight.limit));
        ramp
    }

    fn first_match(&mut self, sight: &Sight, now: Instant) -> Ramp {
        if self.profile == Profile::Fixed {
            return Ramp::Fixed;
        }
        if self.is_still(now) {
            return Ramp::Still;
        }
        if sight.waited.saturating_mul(ONE_IN) > sight.live_requests {
            // With one under way it was not replay that they waited for, but a backend that is just back: it may still grow fast afterwards.
            return if self.size > 1.0 { self.cut(0.7, Ramp::LiveWaited) } else { Ramp::LiveWaited };
        }
        if self.bad.saturating_mul(ONE_IN) > self.ended {
            return self.cut_for_failures(now);
        }
        let tau = self.tau(sight);
        match (self.profile, sight.slowdown()) {
            (Profile::Gentle, None) if self.used_up => self.grow(0.5, Ramp::Feeling),
            (Profile::Gentle, Some(x)) if x > 1.0 + tau => self.cut((1.0 - 0.5 * (x - 1.0 - tau) / tau).max(0.5), Ramp::Slower),
            _ if !self.used_up => Ramp::Steady,
            (Profile::Gentle, Some(x)) if !self.slow_start || x >= 1.0 + 0.75 * tau => {
                self.slow_start = false;
                self.calm_ticks = if x < 1.0 + 0.5 * tau { self.calm_ticks + 1 } else { 0 };
                // A backend that answers faster than at rest makes nothing grow faster.
                let (part, room) = if self.calm_ticks >= CALM_TICKS { (0.25, 1.0) } else { (0.1, ((1.0 + tau - x) / tau).min(1.0)) };
                self.grow((part * self.size).max(1.0) * room, Ramp::Growing)
            }
            _ if self.slow_start => self.grow((0.5 * self.size).max(1.0), Ramp::SlowStart),
            _ => self.grow((0.1 * self.size).max(1.0), Ramp::Growing),
        }
    }

    fn tau(&self, sight: &Sight) -> f64 {
        match sight.is_watched() {
            false => TAU_ALONE,
            true if self.owed_ticks > 0 => TAU_OWED,
            true => TAU,
        }
    }

    fn cut_for_failures(&mut self, now: Instant) -> Ramp {
        self.still_until = Some(now + CUT_HOLD);
        (self.ended, self.bad) = (0, 0);
        self.cut(0.5, Ramp::Failing)
    }

    fn cut(&mut self, factor: f64, ramp: Ramp) -> Ramp {
        self.calm_ticks = 0;
        self.slow_start = false;
        self.size = (self.size * factor).max(1.0);
        ramp
    }

    fn grow(&mut self, by: f64, ramp: Ramp) -> Ramp {
        self.size += by;
        ramp
    }

    fn is_still(&self, now: Instant) -> bool {
        self.still_until.is_some_and(|until| now < until)
    }

    fn cap(&self, limit: u32) -> f64 {
        f64::from(self.most).min(SHARE * f64::from(limit)).max(1.0)
    }
}
