//! Servers with so many workers each, and a queue before them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

/// Spread of the lognormal service times.
const SIGMA: f64 = 0.5;

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was down.
    Refused,
    /// It went down meanwhile.
    Broken,
    /// It has no room, and says so at once.
    Full,
}

/// The servers of one backend.
pub(crate) struct Backend {
    servers: Vec<Server>,
    random: Mutex<fastrand::Rng>,
}

struct Server {
    crew: Mutex<Crew>,
    in_flight: AtomicU32,
    /// Whether it is up, and how often that has changed.
    up: watch::Sender<(bool, u32)>,
}

struct Crew {
    workers: u32,
    /// Whether anybody may wait for a worker.
    queues: bool,
    busy: u32,
    slowness: f64,
    queue: VecDeque<oneshot::Sender<()>>,
}

impl Backend {
    /// So many servers with so many workers each.
    pub(crate) fn new(servers: usize, workers: u32) -> Arc<Self> {
        Self::of(servers, workers, true)
    }

    /// The same without a queue: what is more is refused at once.
    pub(crate) fn without_queue(servers: usize, workers: u32) -> Arc<Self> {
        Self::of(servers, workers, false)
    }

    fn of(servers: usize, workers: u32, queues: bool) -> Arc<Self> {
        let server = |_| Server {
            crew: Mutex::new(Crew { workers, queues, busy: 0, slowness: 1.0, queue: VecDeque::new() }),
            in_flight: AtomicU32::new(0),
            up: watch::Sender::new((true, 0)),
        };
        Arc::new(Self { servers: (0..servers).map(server).collect(), random: Mutex::new(fastrand::Rng::with_seed(1)) })
    }

    /// How many servers there are.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// All chance begins anew from this.
    pub(crate) fn seed(&self, seed: u64) {
        self.random.lock().seed(seed);
    }

    /// Where another chain of chances begins.
    pub(crate) fn another_seed(&self) -> u64 {
        self.random.lock().u64(..)
    }

    /// All work takes so many times as long.
    pub(crate) fn set_slowness(&self, slowness: f64) {
        self.servers.iter().for_each(|server| server.crew.lock().slowness = slowness);
    }

    /// Takes a server down, with all that it works on, or brings it back.
    pub(crate) fn set_up(&self, server: usize, up: bool) {
        let server = &self.servers[server];
        server.up.send_modify(|(was, life)| {
            *life += u32::from(*was != up);
            *was = up;
        });
        let mut crew = server.crew.lock();
        crew.queue.clear();
        crew.busy = 0;
    }

    /// Whether a server takes connections.
    pub(crate) fn is_up(&self, server: usize) -> bool {
        self.servers[server].up.borrow().0
    }

    /// The less loaded of two, by these weights; the first where all are out.
    pub(crate) fn choose(&self, weights: &[AtomicU32]) -> usize {
        let weight = |server: usize| weights[server].load(Relaxed);
        let up: Vec<usize> = (0..self.servers.len()).filter(|&server| weight(server) > 0).collect();
        let Some(last) = up.len().checked_sub(1) else { return 0 };
        let cost = |server: usize| f64::from(self.servers[server].in_flight.load(Relaxed) + 1) / f64::from(weight(server));
        let mut random = self.random.lock();
        let (one, other) = (up[random.usize(0..=last)], up[random.usize(0..=last)]);
        if cost(one) <= cost(other) { one } else { other }
    }

    /// Works on a request that takes a worker that long in the mean.
    pub(crate) async fn serve(&self, server: usize, mean: Duration) -> Result<(), Lost> {
        let server = &self.servers[server];
        let mut up = server.up.subscribe();
        let (is_up, life) = *up.borrow_and_update();
        if !is_up {
            return Err(Lost::Refused);
        }
        server.in_flight.fetch_add(1, Relaxed);
        let _leaves = Leaves(&server.in_flight);
        let turn = server.crew.lock().turn()?;
        if let Some(turn) = turn {
            turn.await.map_err(|_| Lost::Broken)?;
        }
        let takes = mean.mul_f64(server.crew.lock().slowness * self.lognormal());
        let broken = tokio::time::timeout(takes, up.wait_for(|state| state.1 != life)).await.is_ok();
        if broken {
            return Err(Lost::Broken);
        }
        server.crew.lock().next();
        Ok(())
    }

    fn lognormal(&self) -> f64 {
        let mut random = self.random.lock();
        // Box and Muller.
        let (left, right) = (random.f64().max(1e-12), random.f64());
        let normal = (-2.0 * left.ln()).sqrt() * (std::f64::consts::TAU * right).cos();
        (SIGMA * normal - SIGMA * SIGMA / 2.0).exp()
    }
}

impl Crew {
    /// Takes a worker; where none is free, what tells that one is.
    fn turn(&mut self) -> Result<Option<oneshot::Receiver<()>>, Lost> {
        if self.busy < self.workers {
            self.busy += 1;
            return Ok(None);
        }
        if !self.queues {
            return Err(Lost::Full);
        }
        let (send, receive) = oneshot::channel();
        self.queue.push_back(send);
        Ok(Some(receive))
    }

    fn next(&mut self) {
        self.busy -= 1;
        while self.busy < self.workers {
            let Some(turn) = self.queue.pop_front() else { break };
            self.busy += u32::from(turn.send(()).is_ok());
        }
    }
}

struct Leaves<'a>(&'a AtomicU32);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
