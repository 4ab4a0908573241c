//! What an operator says of a backend, over what its health says.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Health, State};

/// Who decides whether a backend is sent anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Mode {
    /// Its health.
    #[default]
    Auto,
    /// Every write that may be queued is, and none is replayed: for a deploy, or a repair. Everything else goes by its health.
    Spill,
    /// It is taken to be well, whatever the breaker and the probes say. Its limit still holds.
    Pass,
}

impl Mode {
    /// All of them, by their numbers.
    const ALL: [Self; 3] = [Self::Auto, Self::Spill, Self::Pass];

    /// The name that users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Spill => "spill",
            Self::Pass => "pass",
        }
    }

    /// What a backend is fit for of which the breaker says that.
    const fn over(self, breaker: State) -> State {
        match self {
            Self::Auto | Self::Spill => breaker,
            Self::Pass => State::Passing,
        }
    }
}

impl Health {
    /// Who decides. One atomic load.
    pub fn mode(&self) -> Mode {
        Mode::ALL[usize::from(self.mode.load(Acquire)).min(Mode::ALL.len() - 1)]
    }

    /// Who decides, and what the backend is fit for.
    pub fn standing(&self) -> (Mode, State) {
        (self.mode(), self.state())
    }

    /// From now on that decides. Holds over a reload and a restart (see [`memory`](Self::memory)) until it is changed again.
    pub fn set_mode(&self, mode: Mode) {
        let policy = self.policy.lock();
        let before = self.mode();
        self.mode.store(mode as u8, Release);
        self.set_weights(&policy, self.now());
        self.apply(policy.state());
        drop(policy);
        if before != mode {
            let (backend, breaker) = (&self.name, self.breaker());
            tracing::info!(
                %backend, mode = mode.as_str(), before = before.as_str(),
                "backend {backend}: mode {}, which an operator asked for, in place of {}; its breaker says {breaker:?}", mode.as_str(), before.as_str()
            );
        }
    }

    /// What its breaker says, whatever the mode.
    pub fn breaker(&self) -> State {
        self.policy.lock().state()
    }

    /// How often its breaker has tripped so far, whatever the mode.
    pub fn trips(&self) -> u64 {
        self.trips.load(Relaxed)
    }

    /// How often of these it was not because it refused: a request may have brought it down.
    pub fn collapses(&self) -> u64 {
        self.collapses.load(Relaxed)
    }

    /// Lets everybody see what the backend is fit for. Under the lock of the policy. Whoever watches is told also when the state stays what it was: the mode may
    /// have changed.
    pub(super) fn apply(&self, breaker: State) {
        let state = self.mode().over(breaker);
        self.state.store(state as u8, Release);
        self.set_gate();
        self.states.send_replace(state);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::health::{Class, Concurrency, Memory, NoSeat, Settings, Signal};

    fn health() -> Arc<Health> {
        Health::new("app".into(), Settings { concurrency: Concurrency::Fixed(8), wait: Duration::ZERO, check: None }, 1)
    }

    fn trip(health: &Health) {
        (0..5).for_each(|_| health.report(0, Signal::ConnectFailure));
    }

    #[tokio::test]
    async fn in_pass_a_backend_that_sheds_is_sent_requests_and_in_auto_again_it_is_not() {
        let health = health();
        trip(&health);
        assert_eq!((health.state(), health.weights()[0].load(Acquire)), (State::Shedding, 0));
        health.set_mode(Mode::Pass);
        assert_eq!((health.state(), health.breaker(), health.limit()), (State::Passing, State::Shedding, 8));
        assert_eq!(health.weights()[0].load(Acquire), 100, "somebody has to take what is passed");
        assert!(health.seat(Class::Live).await.is_ok());
        health.set_mode(Mode::Auto);
        assert_eq!(health.state(), State::Shedding);
        assert_eq!(health.seat(Class::Live).await.unwrap_err(), NoSeat::Shedding);
    }

    #[tokio::test]
    async fn what_trips_while_it_is_forced_to_pass_shows_when_it_is_no_longer() {
        let health = health();
        health.set_mode(Mode::Pass);
        trip(&health);
        assert_eq!((health.state(), health.trips()), (State::Passing, 1));
        assert!(health.seat(Class::Replay).await.is_ok());
        health.set_mode(Mode::Auto);
        assert_eq!(health.state(), State::Shedding);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_refuses_trips_and_does_not_collapse() {
        let health = health();
        tokio::time::advance(Duration::from_secs(5)).await;
        (0..20).for_each(|_| health.report(0, Signal::Refusal));
        assert_eq!((health.state(), health.trips(), health.collapses()), (State::Shedding, 1, 0));
        let collapsed = self::health();
        trip(&collapsed);
        assert_eq!((collapsed.trips(), collapsed.collapses()), (1, 1));
    }

    #[tokio::test]
    async fn spill_changes_no_state_and_wakes_whoever_watches() {
        let health = health();
        let mut states = health.subscribe();
        health.set_mode(Mode::Spill);
        assert!(states.has_changed().unwrap());
        assert_eq!((*states.borrow_and_update(), health.state(), health.trips()), (State::Passing, State::Passing, 0));
    }

    #[test]
    fn a_mode_is_remembered() {
        let before = health();
        before.set_mode(Mode::Spill);
        let memory: Memory = serde_json::from_value(serde_json::to_value(before.memory()).unwrap()).unwrap();
        let after = health();
        after.remember(&memory);
        assert_eq!(after.mode(), Mode::Spill);
        let without: Memory = serde_json::from_str(r#"{"limit":null,"bases":[]}"#).unwrap();
        assert_eq!(without.mode, Mode::Auto, "as an earlier version wrote it");
    }
}
