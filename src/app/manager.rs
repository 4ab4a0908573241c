//! What the service manager is told (systemd's `Type=notify` and `Type=notify-reload`, sd_notify(3)): ready, reloading, stopping, and that we are alive.
//! Without a manager (no `NOTIFY_SOCKET`) all of this is nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

/// The service manager that started us, if one did.
#[derive(Debug)]
pub(super) struct Manager {
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
        Self { watchdog }
    }

    /// All is bound and answers.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready, NotifyState::Status("carrying traffic")]);
    }

    /// The configuration is being taken over. `ready`, or `kept`, must follow.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the service manager was not told of the reload"),
        }
    }

    /// A configuration with faults was not taken over.
    pub(super) fn kept(&self) {
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
