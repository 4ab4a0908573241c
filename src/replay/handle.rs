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

use super::Settings;

/// The limits of those routes that have one of their own, shared with the live traffic.
pub type RouteGates = AHashMap<Name, Arc<Gate>>;

/// Time over which the rate of deliveries is taken, in seconds.
const RATE_SECONDS: u64 = 60;

/// The handle of one backend's replay. It outlives the loop, so that a pause survives a reload.
#[derive(Debug)]
pub struct Handle {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) routes: ArcSwap<RouteGates>,
    paused: AtomicBool,
    /// Notified when any of the above has changed.
    pub(super) changed: Notify,
    seen: Mutex<Seen>,
}

/// What is to be seen of a backend's replay.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Status {
    /// Attempts under way.
    pub in_flight: u32,
    /// How many may be.
    pub window: u32,
    /// Deliveries per second over the last 60 s, or since the first within them.
    pub rate: f64,
    /// Whether an operator has stopped it.
    pub paused: bool,
    /// Until when it leaves the backend alone because that asked for it.
    pub held_until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Seen {
    in_flight: u32,
    window: u32,
    held_until: Option<Timestamp>,
    /// Deliveries by second since the epoch, oldest first; seconds without one are absent.
    deliveries: VecDeque<(u64, u32)>,
}

impl Handle {
    /// A handle with these settings, not paused.
    pub fn new(settings: Settings, routes: RouteGates) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            routes: ArcSwap::from_pointee(routes),
            paused: AtomicBool::new(false),
            changed: Notify::new(),
            seen: Mutex::default(),
        })
    }

    /// Replaces the settings and the routes' limits; what is under way goes on.
    pub fn configure(&self, settings: Settings, routes: RouteGates) {
        self.settings.store(Arc::new(settings));
        self.routes.store(Arc::new(routes));
        self.changed.notify_one();
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
        let mut seen = self.seen.lock();
        Status {
            in_flight: seen.in_flight,
            window: seen.window,
            rate: seen.rate(now),
            paused: self.is_paused(),
            held_until: seen.held_until.filter(|&until| until > now),
        }
    }

    /// How long until `queued` requests will have been delivered at the rate of the last 60 s, and after the pause that the backend asked
    /// for. None when that cannot be said: nothing has been delivered of late, or an operator has stopped it.
    pub fn drained_in(&self, queued: u64, now: Timestamp) -> Option<Duration> {
        if queued == 0 {
            return Some(Duration::ZERO);
        }
        let status = self.status(now);
        if status.paused || status.rate <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = queued as f64 / status.rate;
        let hold = status.held_until.map_or(Duration::ZERO, |until| until.since(now));
        Duration::try_from_secs_f64(seconds).ok()?.checked_add(hold)
    }

    pub(super) fn publish(&self, in_flight: u32, window: u32, held_until: Option<Timestamp>) {
        let mut seen = self.seen.lock();
        (seen.in_flight, seen.window, seen.held_until) = (in_flight, window, held_until);
    }

    pub(super) fn delivered(&self, now: Timestamp) {
        self.seen.lock().count(now);
    }
}

impl Seen {
    fn count(&mut self, now: Timestamp) {
        let second = now.as_millis() / 1000;
        match self.deliveries.back_mut() {
            // A clock that stepped back counts into the newest second.
            Some((newest, count)) if *newest >= second => *count += 1,
            _ => self.deliveries.push_back((second, 1)),
        }
        self.forget(second);
    }

    fn forget(&mut self, second: u64) {
        while self.deliveries.front().is_some_and(|&(oldest, _)| oldest + RATE_SECONDS <= second) {
            self.deliveries.pop_front();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 60 seconds, and a count of deliveries in them")]
    fn rate(&mut self, now: Timestamp) -> f64 {
        let second = now.as_millis() / 1000;
        self.forget(second);
        let Some(&(oldest, _)) = self.deliveries.front() else { return 0.0 };
        let delivered: u64 = self.deliveries.iter().map(|&(_, count)| u64::from(count)).sum();
        delivered as f64 / (second.saturating_sub(oldest) + 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Arc<Handle> {
        Handle::new(Settings { rate: None, concurrency: 8 }, RouteGates::default())
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
        handle.publish(0, 1, Some(at(1030)));
        assert_eq!(handle.drained_in(10, at(1000)), Some(Duration::from_secs(32)));
        handle.set_paused(true);
        assert_eq!(handle.drained_in(10, at(1000)), None);
    }

    #[test]
    fn a_pause_that_is_over_is_not_shown() {
        let handle = handle();
        handle.publish(2, 3, Some(at(1030)));
        assert_eq!(handle.status(at(1029)).held_until, Some(at(1030)));
        assert_eq!(handle.status(at(1030)), Status { in_flight: 2, window: 3, rate: 0.0, paused: false, held_until: None });
    }
}
