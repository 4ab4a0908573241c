//! Whether a backend may be sent anything, and how much at once.
//!
//! One [`Health`] per backend joins three things that do not know each other: the policy (the [`breaker`] with its Passing, Shedding and
//! Probing, and the servers one by one), the [`gate`] (mechanism: seats and waiters), and the [`probe`] (asking servers whether they are
//! back). The proxy and replay take a seat before they send anything, and report how it went. It never sees HTTP: it is told [`Signal`]s.
//!
//! What is called for each request costs a few atomic operations while all is well; the lock around the policy is taken for failures, for
//! what follows them, and once a second.

mod arrivals;
mod base;
pub mod breaker;
mod classes;
mod contest;
mod elasticity;
mod endured;
pub mod gate;
mod lag;
mod limit;
mod load;
mod logs;
mod mode;
mod policy;
pub mod probe;
mod quality;
mod refusals;
mod rounds;
mod samples;
mod seats;
mod servers;
mod share;
mod signal;
#[cfg(test)]
pub(crate) mod sim;
mod succession;
mod why;
mod window;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use gate::{Gate, Rank, Seat};
pub use load::{Kind, LoadView, Memory, Remembered, Sample};
pub use mode::Mode;
pub use quality::Quality;
pub use samples::{Slowdown, Tick};
pub use signal::Signal;
pub use why::Why;

use crate::envelope::Name;
use breaker::Cause;
use contest::Contest;
use load::Load;
use policy::{Event, Events, Policy};
use share::Share;
use window::Tally;

/// One backend's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Requests at the backend at once, live and replayed together.
    pub concurrency: Concurrency,
    /// How long a live request waits for a seat. As many may as [`Gate`] says.
    pub wait: Duration,
    /// The active check; without one a server is asked only while it is out.
    pub check: Option<Check>,
}

/// How many requests may be at a backend at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as it can take, found out from how long they take.
    Adaptive,
    /// So many; at least 1.
    Fixed(u32),
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
    /// A client waits for it, and without a seat it fails: it may wait for one, and goes before all others.
    Live,
    /// A client waits for it, and without a seat it is queued: it waits behind [`Live`](Self::Live), and not at all while these suffer.
    Spillable,
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

/// Load-balancing weights of a backend's servers, by index, written here and read where a server is chosen: 0 is out, 100 is full.
pub type Weights = Arc<[AtomicU32]>;

/// What a client is told in overload, before jitter.
const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(2);
/// No client is told to come sooner.
const LEAST_RETRY_AFTER: Duration = Duration::from_secs(1);

const PASSING: u8 = State::Passing as u8;
const SHEDDING: u8 = State::Shedding as u8;

/// The health of one backend.
pub struct Health {
    name: Name,
    /// Times inside are spans since this moment.
    start: Instant,
    random: fn() -> f64,
    gate: Arc<Gate>,
    policy: Mutex<Policy>,
    /// What it is fit for: what the breaker says, or the mode over it.
    state: AtomicU8,
    mode: AtomicU8,
    states: watch::Sender<State>,
    /// How often its breaker has tripped, and how often of these not because it refuses.
    trips: AtomicU64,
    collapses: AtomicU64,
    weights: Weights,
    tally: Tally,
    /// Whether a success must be shown to the policy at once.
    suspicious: AtomicBool,
    load: Load,
    contest: Contest,
    /// Routes that may take only a part of the seats.
    shares: Mutex<Vec<Share>>,
    wait_millis: AtomicU64,
    /// The next round of probes has moved.
    rescheduled: Notify,
    /// Another one has its seats now, and says how many there are.
    succeeded: AtomicBool,
}

impl Health {
    /// A backend with `servers` servers, all taken to be up, Passing. `name` is for logs.
    pub fn new(name: Name, settings: Settings, servers: usize) -> Arc<Self> {
        Self::with_room(name, settings, servers, servers)
    }

    /// The same with numbers for servers that may come later, `room` in all.
    pub fn with_room(name: Name, settings: Settings, servers: usize, room: usize) -> Arc<Self> {
        Self::with_random(name, settings, (servers, room), fastrand::f64)
    }

    fn with_random(name: Name, settings: Settings, numbers: (usize, usize), random: fn() -> f64) -> Arc<Self> {
        let gate = Gate::new(Load::new(settings.concurrency).limit());
        Self::made(name, settings, numbers, random, gate)
    }

    fn made(name: Name, settings: Settings, (servers, room): (usize, usize), random: fn() -> f64, gate: Arc<Gate>) -> Arc<Self> {
        let load = Load::new(settings.concurrency);
        Arc::new(Self {
            name,
            start: Instant::now(),
            random,
            gate,
            load,
            contest: Contest::default(),
            shares: Mutex::default(),
            policy: Mutex::new(Policy::new(servers, room, settings.check)),
            state: AtomicU8::new(State::Passing as u8),
            mode: AtomicU8::new(Mode::Auto as u8),
            states: watch::Sender::new(State::Passing),
            trips: AtomicU64::new(0),
            collapses: AtomicU64::new(0),
            weights: (0..room).map(|number| AtomicU32::new(if number < servers { 100 } else { 0 })).collect(),
            tally: Tally::default(),
            suspicious: AtomicBool::new(false),
            wait_millis: AtomicU64::new(millis(settings.wait)),
            rescheduled: Notify::new(),
            succeeded: AtomicBool::new(false),
        })
    }

    /// Takes over new settings; state, counts and seats stay as they are. Other servers in the configuration are another `Health`.
    pub fn reconfigure(&self, settings: Settings) {
        self.wait_millis.store(millis(settings.wait), Relaxed);
        let mut policy = self.policy.lock();
        self.load.configure(settings.concurrency);
        policy.reconfigure(settings.check, self.now(), (self.random)());
        self.set_gate();
        drop(policy);
        self.rescheduled.notify_one();
    }

    /// The weights of its servers.
    pub fn weights(&self) -> Weights {
        Arc::clone(&self.weights)
    }

    /// What it is fit for now. One atomic load.
    pub fn state(&self) -> State {
        match self.state.load(Acquire) {
            PASSING => State::Passing,
            SHEDDING => State::Shedding,
            _ => State::Probing,
        }
    }

    /// Told of every change of state.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.states.subscribe()
    }

    /// Takes a seat. Never waits for [`Class::Replay`]; for the others as `Settings::wait` says.
    pub async fn seat(self: &Arc<Self>, class: Class) -> Result<Seat, NoSeat> {
        match class {
            Class::Live => self.live_seat().await,
            Class::Spillable => self.spillable_seat().await,
            Class::Replay => self.spare_seat(),
        }
    }

    /// How long a live request waits for a seat, here and at the limits of routes.
    pub fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_millis.load(Relaxed))
    }

    /// Resolves when a seat may be free for replay (at once if one is), or the state has changed; may resolve in vain.
    pub async fn seat_freed(&self) {
        self.gate.freed().await;
    }

    /// Requests at the backend now.
    pub fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    /// Live requests that wait for a seat now.
    pub fn waiting(&self) -> u32 {
        self.gate.waiting()
    }

    /// The most that may be at the backend at once, now: 0 while shedding.
    pub fn limit(&self) -> u32 {
        self.gate.limit()
    }

    /// When a client should come again: while shedding after half the time that it has shed, at most 30 s, and not before the next probe; 2 s in overload; +-25% jitter,
    /// at least 1 s.
    pub fn retry_after(&self) -> Duration {
        let wait = match self.state() {
            State::Shedding => self.policy.lock().hope(self.now()),
            State::Passing | State::Probing => RETRY_AFTER_OVERLOAD,
        };
        wait.mul_f64(0.75 + (self.random)() / 2.0).max(LEAST_RETRY_AFTER)
    }

    /// Whether the breaker holds that the backend fails as a whole.
    pub fn failing(&self) -> bool {
        self.state() != State::Passing
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Lets `act` change the policy and carries out what follows, all under its lock, so that nobody sees the second change before the first.
    fn change(&self, act: impl FnOnce(&mut Policy, Duration, f64) -> Events) {
        let mut policy = self.policy.lock();
        let now = self.now();
        let (successes, at) = self.tally.drain(now);
        policy.successes(successes, at);
        let events = act(&mut policy, now, (self.random)());
        self.suspicious.store(policy.is_suspicious(), Release);
        if events.is_empty() {
            return;
        }
        self.set_weights(&policy, now);
        for event in &events {
            if let Event::Backend(change) = event {
                match change.to {
                    State::Shedding => {
                        self.trips.fetch_add(1, Relaxed);
                        let refuses = matches!(change.cause, Cause::Refusals(_));
                        self.collapses.fetch_add(u64::from(!refuses), Relaxed);
                    }
                    State::Probing => {
                        self.load.restart();
                        self.contest.begin(now);
                    }
                    State::Passing => {}
                }
                self.apply(change.to);
            }
        }
        drop(policy);
        self.rescheduled.notify_one();
        self.log(&events);
    }

    /// Under the lock of the policy, so that the last one to set it is right.
    fn set_gate(&self) {
        if self.succeeded.load(Relaxed) {
            return;
        }
        let limit = match self.state() {
            State::Shedding => return self.gate.close(),
            State::Passing => self.load.limit(),
            State::Probing => self.load.probing_limit(),
        };
        self.gate.set_limit(limit);
        self.shares.lock().iter().for_each(|share| share.apply(limit));
    }

    fn set_weights(&self, policy: &Policy, now: Duration) {
        // Where nothing but the mode speaks for a backend, all its servers are as good as one another.
        let forced = self.mode() == Mode::Pass && policy.servers().all_out();
        for (index, weight) in self.weights.iter().enumerate() {
            weight.store(if forced && policy.servers().is_present(index) { 100 } else { policy.servers().weight(index, now) }, Relaxed);
        }
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("name", &self.name).field("state", &self.state()).field("gate", &self.gate).finish_non_exhaustive()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
