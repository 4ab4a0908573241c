//! An open-loop load: requests are due at fixed times, whether or not earlier ones have been answered, and latency counts from the due time. A
//! client gives up after a while; so many at once are all that there are. Or a closed one: so many clients, each of which asks again as soon as it is answered.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::common::message_length;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at once.
const CLIENTS: usize = 3000;

/// A stretch of load.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    pub span: Duration,
    /// Requests per second; of a closed loop, none.
    pub rate: f64,
    /// Clients of a closed loop.
    pub clients: usize,
    pub mix: Mix,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Mix {
    /// Reads alone.
    Reads,
    /// So many percent writes.
    Writes(u32),
    /// So many percent uploads of 2 s (which never spill) among reads of 20 ms.
    Uploads(u32),
    /// So many percent reads of 20 ms among those of 80 ms.
    Quick(u32),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// 2xx but 202.
    Good,
    /// 202.
    Queued,
    /// 503 or 429.
    Refused,
    /// Any other answer, or none.
    Failed,
}

/// One request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Since the beginning of the run.
    pub due: Duration,
    pub took: Duration,
    pub fate: Fate,
    pub slow: bool,
    /// Of a write.
    pub number: Option<u64>,
}

/// All requests of a run.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<Done>>);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

struct Client {
    idle: Mutex<Vec<TcpStream>>,
    /// Where the program is: it may be elsewhere after a restart.
    address: Arc<Mutex<SocketAddr>>,
}

/// Sends all of it; returns when the last one has ended.
pub async fn run(address: Arc<Mutex<SocketAddr>>, phases: &[Phase], began: Instant, log: Arc<Log>) {
    let client = Arc::new(Client { idle: Mutex::default(), address });
    let places = Arc::new(tokio::sync::Semaphore::new(CLIENTS));
    let mut due = Duration::ZERO;
    for phase in phases {
        let end = due + phase.span;
        if phase.clients > 0 {
            closed(&client, *phase, (began, began + end), &log).await;
        }
        while phase.clients == 0 && due < end {
            tokio::time::sleep_until(began + due).await;
            let (target, write, slow) = phase.mix.next();
            let number = write.then(|| NUMBERS.fetch_add(1, Relaxed));
            let target = number.map_or(target.to_owned(), |number| format!("{target}/{number}"));
            let log = log.clone();
            let done = move |fate, took| log.0.lock().push(Done { due, took, fate, slow, number });
            match places.clone().try_acquire_owned() {
                Err(_) => done(Fate::Failed, PATIENCE),
                Ok(place) => {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let asked = client.ask(&target, write);
                        let fate = tokio::time::timeout_at(began + due + PATIENCE, asked).await.ok().flatten().unwrap_or(Fate::Failed);
                        done(fate, (began + due).elapsed());
                        drop(place);
                    });
                }
            }
            due += Duration::from_secs_f64(1.0 / phase.rate);
        }
        due = end;
    }
    let _all = places.acquire_many(CLIENTS as u32).await;
}

/// Clients that ask again as soon as they are answered, until the end.
async fn closed(client: &Arc<Client>, phase: Phase, (began, end): (Instant, Instant), log: &Arc<Log>) {
    let clients = (0..phase.clients).map(|_| {
        let (client, log) = (client.clone(), log.clone());
        tokio::spawn(async move {
            while Instant::now() < end {
                let ((target, write, slow), due) = (phase.mix.next(), began.elapsed());
                let fate = tokio::time::timeout(PATIENCE, client.ask(target, write)).await.ok().flatten().unwrap_or(Fate::Failed);
                log.0.lock().push(Done { due, took: began.elapsed() - due, fate, slow, number: None });
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client does not panic");
    }
}

impl Mix {
    fn next(self) -> (&'static str, bool, bool) {
        let percent = fastrand::u32(0..100);
        match self {
            Self::Writes(part) if percent < part => ("/marks", true, false),
            Self::Reads | Self::Writes(_) => ("/read", false, false),
            Self::Uploads(part) if percent < part => ("/slow", false, true),
            Self::Quick(part) if percent >= part => ("/read", false, false),
            Self::Uploads(_) | Self::Quick(_) => ("/quick", false, false),
        }
    }
}

impl Client {
    async fn ask(&self, target: &str, write: bool) -> Option<Fate> {
        let request = match write {
            true => format!("POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: 4\r\n\r\nmark"),
            false => format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n"),
        };
        let kept = self.idle.lock().pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                let address = *self.address.lock();
                TcpStream::connect(address).await.ok()?
            }
        };
        let _set = stream.set_nodelay(true);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut buffer = Vec::with_capacity(1024);
        while message_length(&buffer).is_none() {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        let fate = match buffer.get(9..12)? {
            b"202" => Fate::Queued,
            [b'2', ..] => Fate::Good,
            b"503" | b"429" => Fate::Refused,
            _ => Fate::Failed,
        };
        self.idle.lock().push(stream);
        Some(fate)
    }
}
