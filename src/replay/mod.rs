//! From the queue to the backend: gate, pace, claim, deliver, settle.
//!
//! One [`Replay`] per backend takes requests out of the [`store`](crate::store) and sends them. Before each attempt it wants the backend's health to
//! allow it, a seat, room in the window and under the ceiling ([`pace`]), and room in the request's route; only then is one request claimed, which
//! makes the start of its attempt durable. It is sent ([`deliver`]), what came of it is judged by the domain's table, and that is made durable
//! ([`settle`]). A request that was at the backend each time it went down is replayed alone ([`suspects`]). So nothing is claimed ahead: after a crash only what really was under way may have been executed.
//!
//! Time in which the backend is not passing costs a request nothing but age. Order among requests is the store's business, the health of
//! the backend `health`'s, and what an outcome means `envelope`'s.

mod attempt;
mod backlog;
mod classes;
mod courier;
mod deliver;
mod estimates;
mod flood;
mod handle;
mod pace;
mod run;
mod settle;
mod suspects;
mod wire;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    backend::Backend,
    envelope::{Clock, Name},
    health::Health,
    store::{Store, StoreError},
    telemetry::Metrics,
};

pub use crate::envelope::Rate;
pub use handle::{Handle, Hold, RouteGates, RouteTimeouts, Status};
pub use pace::Ramp;

/// How a backend's queue is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How the pace is found.
    pub profile: Profile,
    /// Ceiling on attempts started, in requests per `per`; none for no ceiling.
    pub rate: Option<Rate>,
    /// Replayed requests at the backend at once, at most; none for as many as live traffic leaves.
    pub concurrency: Option<u32>,
}

/// How the pace of a replay is found. Whatever the profile, replay stops while the backend sheds or asked to be left alone, while a live request waits for a
/// seat, and while four fifths of the backend's limit are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As much as does not slow live traffic down.
    Gentle,
    /// As much as the limit leaves, however slow live traffic gets.
    Fast,
    /// The configured rate and concurrency, nothing else.
    Fixed,
}

impl Profile {
    /// The name that users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gentle => "gentle",
            Self::Fast => "fast",
            Self::Fixed => "fixed",
        }
    }
}

/// Says when to stop: none while all goes on; then the moment by which everything has to be over. It may be moved, and a sender that is gone
/// means at once.
pub type Shutdown = watch::Receiver<Option<Instant>>;

/// Time between two rounds of [`prune`].
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

/// What the replay of one backend works with.
pub struct Parts {
    /// The backend's name, under which the store keeps its queue.
    pub name: Name,
    /// Where to send.
    pub backend: Arc<Backend>,
    /// Whether to send.
    pub health: Arc<Health>,
    /// The queue.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
    /// Where attempts and dead letters are counted.
    pub metrics: Arc<Metrics>,
    /// Settings, routes' limits, and the pause.
    pub handle: Arc<Handle>,
}

/// The replay of one backend's queue.
pub struct Replay(attempt::Context);

impl Replay {
    /// A replay that has not begun.
    pub fn new(parts: Parts) -> Self {
        let Parts { name, backend, health, store, clock, metrics, handle } = parts;
        let courier = Box::new(wire::Wire::new(backend));
        let sight = attempt::sight_of(Arc::clone(&health));
        let accounts = attempt::Accounts::new(Instant::now());
        Self(attempt::Context { name, courier, health, store, clock, metrics, handle, sight, accounts, random: fastrand::f64 })
    }

    /// Replays until `shutdown` says when to stop.
    ///
    /// Then nothing new is sent, and what is under way is finished and settled by that moment. What has no answer by then is queued again where it
    /// may be resent, and is given up (`outcome-unknown`) where it may not: it may have been executed.
    pub async fn run(self, shutdown: Shutdown) {
        run::run(Arc::new(self.0), shutdown).await;
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replay").field(&self.0.name).finish()
    }
}

/// Every few seconds lets the store give up what is too old and forget what was kept long enough, until the shutdown begins. One per store.
pub async fn prune(store: Arc<dyn Store>, clock: Clock, mut shutdown: Shutdown) {
    let mut rounds = tokio::time::interval(PRUNE_INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = asked_to_stop(&mut shutdown) => return,
        }
        match store.prune(clock.now()).await {
            Ok(0) => {}
            Ok(touched) => tracing::debug!(touched, "requests given up for their age, or forgotten"),
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "old requests could not be pruned; trying again"),
        }
    }
}

/// Resolves when a shutdown has begun.
async fn asked_to_stop(shutdown: &mut Shutdown) {
    // An error means that nobody is left to say anything else.
    let _ = shutdown.wait_for(Option::is_some).await;
}

/// Resolves at the end of a shutdown, once there is one.
async fn deadline(mut shutdown: Shutdown) {
    loop {
        let deadline = *shutdown.borrow_and_update();
        let changed = match deadline {
            None => shutdown.changed().await,
            Some(deadline) => tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = shutdown.changed() => changed,
            },
        };
        if changed.is_err() {
            if let Some(deadline) = deadline {
                tokio::time::sleep_until(deadline).await;
            }
            return;
        }
    }
}
