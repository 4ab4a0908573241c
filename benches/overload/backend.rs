//! A backend of known capacity: so many workers that sleep, a queue before them, and the ways in which such a backend suffers. It uses no CPU, so that
//! what is measured is the policy before it, not the machine.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{oneshot, watch},
};

use super::common::{message_length, runtime};

/// Workers of the standard backend, and the mean of what a request takes one: together 200 requests per second.
pub const WORKERS: u32 = 16;
pub const SERVICE: Duration = Duration::from_millis(80);
pub const CAPACITY: f64 = 200.0;
const SIGMA: f64 = 0.5;
/// A request to a path that begins so takes its own time.
pub const SLOW: &str = "/slow";
const SLOW_SERVICE: Duration = Duration::from_secs(2);
const QUICK: &str = "/quick";
const QUICK_SERVICE: Duration = Duration::from_millis(20);

/// How it suffers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nature {
    /// Service takes `1 + thrash * (in flight / workers - 1)` times as long with more in flight than workers.
    pub thrash: f64,
    /// In flight, at which it crashes, and for how long it is away.
    pub crash: Option<(u32, Duration)>,
}

/// The backend. What it does can be changed while it runs.
pub struct Backend {
    pub address: SocketAddr,
    nature: Nature,
    state: Mutex<State>,
    /// Thousandths of the standard service time.
    slowness: AtomicU64,
    pub in_flight: AtomicU32,
    pub crashes: AtomicU32,
    /// False while it is down; a new number with each change.
    up: watch::Sender<(bool, u32)>,
    executed: Mutex<HashMap<u64, u32>>,
}

struct State {
    workers: u32,
    busy: u32,
    queue: VecDeque<(String, oneshot::Sender<()>)>,
}

impl Backend {
    pub fn start(nature: Nature) -> Arc<Self> {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let socket = bound(None);
                let this = Arc::new(Self {
                    address: socket.local_addr().expect("it is bound"),
                    nature,
                    state: Mutex::new(State { workers: WORKERS, busy: 0, queue: VecDeque::new() }),
                    slowness: AtomicU64::new(1000),
                    in_flight: AtomicU32::new(0),
                    crashes: AtomicU32::new(0),
                    up: watch::Sender::new((true, 0)),
                    executed: Mutex::default(),
                });
                send.send(this.clone()).expect("somebody waits for it");
                this.live(socket).await;
            });
        });
        receive.recv().expect("it starts")
    }

    pub fn set_workers(&self, workers: u32) {
        self.state.lock().workers = workers;
    }

    /// Service takes so many times the standard.
    pub fn set_slowness(&self, factor: f64) {
        self.slowness.store((factor * 1000.0) as u64, Relaxed);
    }

    /// Takes it down, with all that it works on, or brings it back.
    pub fn set_up(&self, up: bool) {
        self.up.send_modify(|state| {
            if state.0 != up {
                *state = (up, state.1 + 1);
            }
        });
    }

    /// How often each numbered request was executed.
    pub fn executed(&self) -> HashMap<u64, u32> {
        self.executed.lock().clone()
    }

    async fn live(self: Arc<Self>, mut socket: TcpSocket) {
        let mut up = self.up.subscribe();
        loop {
            if !up.wait_for(|state| state.0).await.is_ok_and(|state| state.0) {
                return;
            }
            let listener = socket.listen(4096).expect("it is bound");
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => { tokio::spawn(self.clone().serve(stream)); }
                    _ = up.wait_for(|state| !state.0) => break,
                }
            }
            drop(listener);
            let mut state = self.state.lock();
            state.queue.clear();
            drop(state);
            // Bound and not listening: it refuses, and nobody else gets the port.
            socket = bound(Some(self.address));
        }
    }

    fn crash(self: &Arc<Self>, away: Duration) {
        if !self.up.borrow().0 {
            return;
        }
        self.crashes.fetch_add(1, Relaxed);
        self.set_up(false);
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(away).await;
            this.set_up(true);
        });
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let life = self.up.borrow().1;
        let mut up = self.up.subscribe();
        let _set = stream.set_nodelay(true);
        let mut buffer = Vec::with_capacity(4096);
        loop {
            let Some(length) = message_length(&buffer) else {
                tokio::select! {
                    read = stream.read_buf(&mut buffer) => if read.unwrap_or(0) == 0 { return },
                    _ = up.wait_for(|state| state.1 != life) => return reset(&stream),
                }
                continue;
            };
            let head = String::from_utf8_lossy(&buffer[..length]).into_owned();
            buffer.drain(..length);
            let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
            if head.starts_with("HEAD ") {
                let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            // It works on, also when nobody waits any more.
            let work = tokio::spawn(self.clone().work(target, life));
            tokio::select! {
                done = work => if !done.unwrap_or(false) { return reset(&stream) },
                _ = up.wait_for(|state| state.1 != life) => return reset(&stream),
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }

    async fn work(self: Arc<Self>, target: String, life: u32) -> bool {
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        let _leaves = Leaves(&self.in_flight);
        if let Some((limit, away)) = self.nature.crash
            && in_flight >= limit
        {
            self.crash(away);
            return false;
        }
        let turn = {
            let mut state = self.state.lock();
            if state.busy < state.workers {
                state.busy += 1;
                None
            } else {
                let (send, receive) = oneshot::channel();
                state.queue.push_back((target.clone(), send));
                Some(receive)
            }
        };
        if let Some(turn) = turn
            && turn.await.is_err()
        {
            return false;
        }
        tokio::time::sleep(self.service(&target)).await;
        self.next();
        if self.up.borrow().1 != life {
            return false;
        }
        if let Some(number) = target.rsplit('/').next().and_then(|number| number.parse().ok()) {
            *self.executed.lock().entry(number).or_default() += 1;
        }
        true
    }

    fn service(&self, target: &str) -> Duration {
        let mean = match target {
            _ if target.starts_with(SLOW) => SLOW_SERVICE,
            _ if target.starts_with(QUICK) => QUICK_SERVICE,
            _ => SERVICE,
        };
        let over = (f64::from(self.in_flight.load(Relaxed)) / f64::from(WORKERS) - 1.0).max(0.0);
        let factor = self.slowness.load(Relaxed) as f64 / 1000.0 * (1.0 + self.nature.thrash * over);
        mean.mul_f64(factor * (SIGMA * normal() - SIGMA * SIGMA / 2.0).exp())
    }

    fn next(&self) {
        let mut state = self.state.lock();
        state.busy -= 1;
        while state.busy < state.workers {
            let Some((_, turn)) = state.queue.pop_front() else { break };
            if turn.send(()).is_ok() {
                state.busy += 1;
            }
        }
    }
}

struct Leaves<'a>(&'a AtomicU32);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn bound(address: Option<SocketAddr>) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.set_reuseaddr(true).expect("it can be set");
    socket.bind(address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))).expect("the loopback has a port");
    socket
}

fn reset(stream: &TcpStream) {
    let _set = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Box and Muller.
fn normal() -> f64 {
    let (left, right) = (fastrand::f64().max(1e-12), fastrand::f64());
    (-2.0 * left.ln()).sqrt() * (std::f64::consts::TAU * right).cos()
}
