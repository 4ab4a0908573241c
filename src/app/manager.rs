//! What the service manager is told (systemd's `Type=notify` and `Type=notify-reload`, sd_notify(3)): ready, reloading, stopping, and that we are alive.
//! Without a manager (no `NOTIFY_SOCKET`) all of this is nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

/// For so long each word that the store is being opened puts off the manager's own deadline for a start (`TimeoutStartSec=`).
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The service manager that started us, if one did.
#[derive(Debug)]
pub(super) struct Manager {
    /// Whether it was told that we are ready; before that there is nothing else to tell.
    ready: bool,
    /// Beats twice in the time within which it wants to hear of us (`WATCHDOG_USEC`).
    watchdog: Option<Interval>,
}

impl Manager {
    /// Reads from the environment what it wants to hear. Must be called within a runtime.
    pub(super) fn from_environment() -> Self {
        // An interval must be more than nothing.
        let period = sd_notify::watchdog_enabled().map(|within| (within / 2).max(Duration::from_millis(1)));
        let watchdog = period.map(|period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { ready: false, watchdog }
    }

    /// All is bound and answers, but the store is still being opened: the start may take longer. To be told again within [`PATIENCE`].
    pub(super) fn opening(&self) {
        let extend = u32::try_from(PATIENCE.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Status("carrying traffic while the store is being opened"), NotifyState::ExtendTimeoutUsec(extend)]);
    }

    /// All is bound and answers, and the store is open.
    pub(super) fn ready(&mut self) {
        self.ready = true;
        tell(&[NotifyState::Ready, NotifyState::Status("carrying traffic")]);
    }

    /// The configuration has been taken over.
    pub(super) fn reloaded(&mut self) {
        if self.ready {
            self.ready();
        }
    }

    /// The configuration is being taken over. `reloaded`, or `kept`, must follow.
    pub(super) fn reloading(&self) {
        if !self.ready {
            return;
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the service manager was not told of the reload"),
        }
    }

    /// A configuration with faults was not taken over.
    pub(super) fn kept(&self) {
        if !self.ready {
            return;
        }
        tell(&[NotifyState::Ready, NotifyState::Status("carrying traffic by the old configuration: the new one has faults, see the log")]);
    }

    /// The stop has begun and may take this long.
    pub(super) fn stopping(&self, at_most: Duration) {
        let extend = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight"), NotifyState::ExtendTimeoutUsec(extend)]);
    }

    /// Waits until it is time to say that we are alive, and says so; never ends where nobody wants to hear.
    pub(super) async fn beat(&mut self) {
        match &mut self.watchdog {
            Some(interval) => {
                interval.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

/// A manager that does not listen costs us nothing but its own patience.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
