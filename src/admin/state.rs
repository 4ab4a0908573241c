//! What the admin room looks at: the store, and the backends of the configuration that is in force.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::api;
use crate::{
    envelope::{Clock, Name},
    health::{self, Health},
    store::{self, Store},
    telemetry::Metrics,
};

/// What this room may know of a backend's health.
pub trait HealthView: Send + Sync {
    /// What it is fit for now.
    fn state(&self) -> health::State;
    /// Who decides that.
    fn mode(&self) -> health::Mode;
    /// From now on that decides.
    fn set_mode(&self, mode: health::Mode);
    /// Requests at it now.
    fn in_flight(&self) -> u32;
    /// Live requests that wait for a place at it.
    fn waiting(&self) -> u32;
    /// The most that may be at it now.
    fn limit(&self) -> u32;
    /// The weight of each server.
    fn weights(&self) -> health::Weights;
    /// Its limit and what it rests on.
    fn load(&self) -> health::LoadView;
}

impl HealthView for Health {
    fn state(&self) -> health::State {
        self.state()
    }

    fn mode(&self) -> health::Mode {
        self.mode()
    }

    fn set_mode(&self, mode: health::Mode) {
        self.set_mode(mode);
    }

    fn in_flight(&self) -> u32 {
        self.in_flight()
    }

    fn waiting(&self) -> u32 {
        self.waiting()
    }

    fn limit(&self) -> u32 {
        self.limit()
    }

    fn weights(&self) -> health::Weights {
        self.weights()
    }

    fn load(&self) -> health::LoadView {
        self.load()
    }
}

/// What this room may know of the replay of a backend's queue.
pub trait QueueView: Send + Sync {
    /// Deliveries per second, of late.
    fn replay_rate(&self) -> f64;
    /// How long until the queue is empty, as far as it can be said.
    fn drained_in(&self) -> Option<Duration>;
    /// Whether an operator has stopped it.
    fn paused(&self) -> bool;
    /// Stops it, or lets it go on.
    fn set_paused(&self, paused: bool);
    /// How it finds its pace.
    fn pace(&self) -> api::Replay;
    /// Changes that, until the configuration is loaded again. Errors: what is wrong with the change, for people.
    fn set_replay(&self, change: &api::ReplayChange) -> Result<(), String>;
}

/// One backend of the configuration.
#[derive(Clone)]
pub struct BackendView {
    /// Its name.
    pub name: Name,
    /// Addresses of its servers now, by the numbers of their weights; none where there is no server of a number.
    pub servers: Arc<dyn Fn() -> Vec<Option<String>> + Send + Sync>,
    /// Names of the routes that lead to it.
    pub routes: Vec<Name>,
    /// Its health.
    pub health: Arc<dyn HealthView>,
    /// Its replay.
    pub queue: Arc<dyn QueueView>,
}

impl fmt::Debug for BackendView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendView").field("name", &self.name).field("servers", &(self.servers)()).finish_non_exhaustive()
    }
}

/// What a reload replaces, all at once.
#[derive(Debug, Clone)]
pub struct View {
    /// Backends in the order of the configuration.
    pub backends: Vec<BackendView>,
    /// Limits of the store.
    pub store: store::Settings,
    /// Connections that clients may have at once.
    pub max_connections: usize,
    /// The bearer token; without one every peer is let in.
    pub token: Option<String>,
}

/// Whether requests of clients are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet.
    Starting,
    /// Yes, but no write can be queued yet, and nothing is known of the queue: the store is still being opened.
    Opening,
    /// Yes.
    Accepting,
    /// No longer: what is in flight is finished.
    Draining,
}

/// An operator has changed what is to be kept over a restart; who keeps it says whether it is on the disk.
pub type Operated = oneshot::Sender<bool>;

/// Everything that the admin room is given. Shared by all of its connections.
pub struct AdminState {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    view: ArcSwap<View>,
    /// Tells who keeps it that an operator has changed what is to be kept.
    operated: mpsc::Sender<Operated>,
    phase: AtomicU8,
}

impl AdminState {
    /// In [`Phase::Starting`]. What an operator changes is told to `operated`.
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>, clock: Clock, view: View, operated: mpsc::Sender<Operated>) -> Arc<Self> {
        Arc::new(Self { store, metrics, clock, view: ArcSwap::from_pointee(view), operated, phase: AtomicU8::new(Phase::Starting as u8) })
    }

    /// The configuration has changed.
    pub fn set_view(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    /// What the configuration in force shows.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The program begins to accept, or ceases to.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Has what an operator changed kept over a restart, a kill -9 from now on included. False where that could not be.
    pub(super) async fn keep(&self) -> bool {
        let (operated, kept) = oneshot::channel();
        self.operated.send(operated).await.is_ok() && kept.await.unwrap_or(false)
    }

    /// Whether requests of clients are accepted.
    pub fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Relaxed);
        [Phase::Starting, Phase::Opening, Phase::Accepting].into_iter().find(|&known| known as u8 == phase).unwrap_or(Phase::Draining)
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").field("view", &self.view).field("phase", &self.phase()).finish_non_exhaustive()
    }
}
