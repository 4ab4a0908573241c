//! Whether a backend may be sent anything, and how much at once.
//!
//! One [`Health`] per backend joins three things that do not know each other: the [`breaker`] (policy: Passing, Shedding, Probing), the
//! [`gate`] (mechanism: seats and waiters), and the [`probe`] (asking a server that is out whether it is back). The proxy and replay
//! take a seat before they send anything, and report how it went. It never sees HTTP: it is told [`Signal`]s.

pub mod breaker;
pub mod gate;
pub mod probe;

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use tokio::sync::watch;

pub use gate::Seat;

/// One backend's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Requests at the backend at once, live and replayed together; at least 1.
    pub concurrency: u32,
    /// How long a live request waits for a seat (at most twice `concurrency` of them do).
    pub wait: Duration,
    /// The active check; without one a server is asked only while it is out.
    pub check: Option<Check>,
}

/// The active health check of a backend's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Request target of the check.
    pub path: String,
    /// Time between two checks of one server.
    pub interval: Duration,
    /// Time for its whole answer.
    pub timeout: Duration,
    /// Failures in a row that take a server out.
    pub fall: u32,
    /// Passes in a row that bring it back.
    pub rise: u32,
}

/// What a backend is fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything is sent.
    Passing,
    /// Nothing is sent but probes.
    Shedding,
    /// A few at a time are sent, to see.
    Probing,
}

/// Who asks for a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A client waits for it: it may wait for a seat, and goes before replay.
    Live,
    /// From the queue: it never waits for a seat and gets none while a live request waits.
    Replay,
}

/// Why there was no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeat {
    /// The backend is not passing.
    Shedding,
    /// All seats stayed taken for the whole wait, or too many wait already.
    Full,
}

/// How a request at a server went, as far as its health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Any answer that shows a working application: 1xx to 4xx (429 included), 501, 505.
    Success,
    /// The application's own 500.
    ApplicationError,
    /// 502, 503, 504, a timeout after something was sent, a reset.
    Failure,
    /// No connection: refused, unreachable, connect timeout, no name, no TLS.
    ConnectFailure,
}

/// Load-balancing weights of a backend's servers, by index, written here and read where a server is chosen: 0 is out, 100 is full.
pub type Weights = Arc<[AtomicU32]>;

/// The health of one backend.
#[derive(Debug)]
pub struct Health {}

impl Health {
    /// A backend with `servers` servers, all taken to be up, Passing. `name` is for logs.
    pub fn new(_name: crate::envelope::Name, _settings: Settings, _servers: usize) -> Arc<Self> {
        todo!()
    }

    /// The weights of its servers.
    pub fn weights(&self) -> Weights {
        todo!()
    }

    /// What it is fit for now. One atomic load.
    pub fn state(&self) -> State {
        todo!()
    }

    /// Told of every change of state.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        todo!()
    }

    /// Takes a seat. Never waits for [`Class::Replay`]; for [`Class::Live`] as `Settings::wait` says.
    pub async fn seat(self: &Arc<Self>, _class: Class) -> Result<Seat, NoSeat> {
        todo!()
    }

    /// Resolves when a seat may be free for replay, or the state has changed; may resolve in vain.
    pub async fn seat_freed(&self) {
        todo!()
    }

    /// Requests at the backend now.
    pub fn in_flight(&self) -> u32 {
        todo!()
    }

    /// The most that may be at the backend at once, now.
    pub fn limit(&self) -> u32 {
        todo!()
    }

    /// When a client should come again: at the next probe while shedding, 2 s in overload; +-25% jitter, at least 1 s.
    pub fn retry_after(&self) -> Duration {
        todo!()
    }

    /// Told how a request at server number `server` went.
    pub fn report(&self, _server: usize, _signal: Signal) {
        todo!()
    }

    /// Whether the breaker holds that the backend fails as a whole.
    pub fn failing(&self) -> bool {
        self.state() != State::Passing
    }
}
