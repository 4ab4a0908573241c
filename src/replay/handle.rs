//! What others may do to a backend's replay while it runs, and what they may see of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    envelope::{Name, Timestamp},
    health::gate::Gate,
};

use super::{Profile, Ramp, Settings};

/// The limits of those routes that have one of their own, shared with the live traffic.
pub type RouteGates = AHashMap<Name, Arc<Gate>>;

/// The response timeouts of those routes that have one of their own: what a live request may take, a replayed one may too.
pub type RouteTimeouts = AHashMap<Name, Duration>;

/// Time over which the rate of deliveries is taken, in seconds.
const RATE_SECONDS: u64 = 60;

/// The handle of one backend's replay. It outlives the loop, so that a pause survives a reload.
#[derive(Debug)]
pub struct Handle {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) routes: ArcSwap<RouteGates>,
    timeouts: ArcSwap<RouteTimeouts>,
    paused: AtomicBool,
    /// Notified when any of the above has changed.
    pub(super) changed: Notify,
    seen: Mutex<Seen>,
    deliveries: Mutex<Deliveries>,
}

/// Why no further attempt is begun at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Nothing is due: the queue is empty, or all of it waits for a retry, or for earlier requests of its key.
    #[default]
    Queue,
    /// All of the window is in use.
    Window,
    /// Four fifths of the backend's limit are taken.
    Limit,
    /// Live requests wait for a seat.
    LiveWaits,
    /// The ceiling on the rate is reached.
    Rate,
    /// What is due belongs to routes that are at their limit, or to heavy ones that have all of their share.
    Route,
    /// The backend sheds.
    Shedding,
    /// The backend asked to be left alone.
    Asked,
    /// A short pause shows how fast the backend is without replay.
    Measuring,
    /// A request that may have brought the backend down is to be alone.
    Suspect,
    /// An operator has stopped it.
    Paused,
    /// An operator wants every write queued.
    Mode,
    /// forebay stops.
    Stopping,
}

impl Hold {
    /// The name that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Window => "window",
            Self::Limit => "limit",
            Self::LiveWaits => "live-waits",
            Self::Rate => "rate",
            Self::Route => "route",
            Self::Shedding => "shedding",
            Self::Asked => "asked",
            Self::Measuring => "measuring",
            Self::Suspect => "suspect",
            Self::Paused => "paused",
            Self::Mode => "mode",
            Self::Stopping => "stopping",
        }
    }
}

/// What is to be seen of a backend's replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// How its pace is found.
    pub profile: Profile,
    /// Attempts under way.
    pub in_flight: u32,
    /// How many may be.
    pub window: u32,
    /// Whether the window still grows by half at a time.
    pub slow_start: bool,
    /// What the last tick did to the window, and why.
    pub ramp: Ramp,
    /// What keeps the next attempt.
    pub hold: Hold,
    /// Until when it leaves the backend alone because that asked for it.
    pub held_until: Option<Timestamp>,
    /// How many times slower than at rest the backend was in the last tick, if that was known.
    pub slowdown: Option<f64>,
    /// Deliveries per second over the last 60 s, or since the first within them.
    pub rate: f64,
    /// Whether an operator has stopped it.
    pub paused: bool,
    /// Whether the backlog has been growing for 60 s although it is replayed.
    pub growing: bool,
    /// Ordering keys whose backlog has been growing for 60 s.
    pub growing_keys: u32,
    /// Whether many requests are given up because what they carry has expired.
    pub auth_expired: bool,
    /// How the estimates of the last drain compare with what it took: 2 is twice as long. The median; none before the first drain of 10 s.
    pub estimate_ratio: Option<f64>,
}

/// What the loop shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Seen {
    pub(super) in_flight: u32,
    pub(super) window: u32,
    pub(super) slow_start: bool,
    pub(super) ramp: Ramp,
    pub(super) hold: Hold,
    pub(super) held_until: Option<Timestamp>,
    pub(super) slowdown: Option<f64>,
    pub(super) growing: bool,
    pub(super) growing_keys: u32,
    pub(super) auth_expired: bool,
    pub(super) estimate_ratio: Option<f64>,
}

/// Deliveries by second since the epoch, oldest first; seconds without one are absent.
#[derive(Debug, Default)]
struct Deliveries(VecDeque<(u64, u32)>);

impl Handle {
    /// A handle with these settings, not paused.
    pub fn new(settings: Settings, routes: RouteGates) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            routes: ArcSwap::from_pointee(routes),
            timeouts: ArcSwap::default(),
            paused: AtomicBool::new(false),
            changed: Notify::new(),
            seen: Mutex::default(),
            deliveries: Mutex::default(),
        })
    }

    /// Replaces the settings and the routes' limits; what is under way goes on.
    pub fn configure(&self, settings: Settings, routes: RouteGates) {
        self.settings.store(Arc::new(settings));
        self.routes.store(Arc::new(routes));
        self.changed.notify_one();
    }

    /// How it is to go.
    pub fn settings(&self) -> Settings {
        Settings::clone(&self.settings.load())
    }

    /// Replaces the settings alone; what is under way goes on.
    pub fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.changed.notify_one();
    }

    /// Replaces the routes' response timeouts, for attempts that begin from now on.
    pub fn set_timeouts(&self, timeouts: RouteTimeouts) {
        self.timeouts.store(Arc::new(timeouts));
    }

    /// The response timeout of a route that has one of its own.
    pub(super) fn timeout(&self, route: &Name) -> Option<Duration> {
        self.timeouts.load().get(route).copied()
    }

    /// Stops or resumes the replay. What is under way is finished.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether it is stopped.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// How it goes at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        let seen = *self.seen.lock();
        let Seen { in_flight, window, slow_start, ramp, hold, slowdown, growing, growing_keys, auth_expired, estimate_ratio, .. } = seen;
        Status {
            profile: self.settings.load().profile,
            in_flight,
            window,
            slow_start,
            ramp,
            hold,
            held_until: seen.held_until.filter(|&until| until > now),
            slowdown,
            rate: self.deliveries.lock().rate(now),
            paused: self.is_paused(),
            growing,
            growing_keys,
            auth_expired,
            estimate_ratio,
        }
    }

    /// How long until `queued` requests will have been delivered at the rate of the last 60 s, and after the pause that the backend asked
    /// for. None when that cannot be said: nothing has been delivered of late, or an operator holds it.
    pub fn drained_in(&self, queued: u64, now: Timestamp) -> Option<Duration> {
        if queued == 0 {
            return Some(Duration::ZERO);
        }
        let status = self.status(now);
        if status.paused || status.hold == Hold::Mode || status.rate <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = queued as f64 / status.rate;
        let hold = status.held_until.map_or(Duration::ZERO, |until| until.since(now));
        Duration::try_from_secs_f64(seconds).ok()?.checked_add(hold)
    }

    pub(super) fn publish(&self, seen: Seen) {
        *self.seen.lock() = seen;
    }

    pub(super) fn delivered(&self, now: Timestamp) {
        self.deliveries.lock().count(now);
    }
}

impl Deliveries {
    fn count(&mut self, now: Timestamp) {
        let second = now.as_millis() / 1000;
        match self.0.back_mut() {
            // A clock that stepped back counts into the newest second.
            Some((newest, count)) if *newest >= second => *count += 1,
            _ => self.0.push_back((second, 1)),
        }
        self.forget(second);
    }

    fn forget(&mut self, second: u64) {
        while self.0.front().is_some_and(|&(oldest, _)| oldest + RATE_SECONDS <= second) {
            self.0.pop_front();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 60 seconds, and a count of deliveries in them")]
    fn rate(&mut self, now: Timestamp) -> f64 {
        let second = now.as_millis() / 1000;
        self.forget(second);
        let Some(&(oldest, _)) = self.0.front() else { return 0.0 };
        let delivered: u64 = self.0.iter().map(|&(_, count)| u64::from(count)).sum();
        delivered as f64 / (second.saturating_sub(oldest) + 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Arc<Handle> {
        Handle::new(Settings { profile: Profile::Gentle, rate: None, concurrency: None }, RouteGates::default())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let handle = handle();
        assert_eq!(handle.status(at(1000)).rate, 0.0);
        for second in 1000..1010 {
            for _ in 0..20 {
                handle.delivered(at(second));
            }
        }
        assert_eq!(handle.status(at(1009)).rate, 20.0, "since the first delivery");
        assert_eq!(handle.status(at(1039)).rate, 5.0);
        assert_eq!(handle.status(at(1064)).rate, 20.0 * 5.0 / 60.0);
        assert_eq!(handle.status(at(1069)).rate, 0.0);
    }

    #[test]
    fn the_estimate_follows_rate_and_pause() {
        let handle = handle();
        assert_eq!(handle.drained_in(0, at(1000)), Some(Duration::ZERO));
        assert_eq!(handle.drained_in(10, at(1000)), None);
        for _ in 0..5 {
            handle.delivered(at(1000));
        }
        assert_eq!(handle.drained_in(10, at(1000)), Some(Duration::from_secs(2)));
        handle.publish(Seen { held_until: Some(at(1030)), ..Seen::default() });
        assert_eq!(handle.drained_in(10, at(1000)), Some(Duration::from_secs(32)));
        handle.set_paused(true);
        assert_eq!(handle.drained_in(10, at(1000)), None);
    }

    #[test]
    fn a_pause_that_is_over_is_not_shown() {
        let handle = handle();
        handle.publish(Seen { in_flight: 2, window: 3, held_until: Some(at(1030)), ..Seen::default() });
        assert_eq!(handle.status(at(1029)).held_until, Some(at(1030)));
        let status = handle.status(at(1030));
        assert_eq!((status.in_flight, status.window, status.held_until), (2, 3, None));
    }
}
