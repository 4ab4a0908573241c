//! What the benchmarks of the store share: requests as they are queued, a closed loop of producers, a drain beside it, and the bare append log of the same run.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each benchmark uses a part of it, and one that cannot go on fails"
)]

use std::{
    fs::File,
    future::Future,
    io::Write,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use forebay::{
    envelope::{Clock, Delivery, Envelope, Field, OrderKey, Reason, RequestId},
    store::{Answer, Claim, NewRequest, Outcome, Payload, Settings, Store, redb::RedbStore},
};
use hdrhistogram::Histogram;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::{mpsc, oneshot};

/// Bytes of a body.
pub const BODY: usize = 1024;

/// Bytes of a whole request, head included.
pub const REQUEST: usize = BODY + 500;

/// A store that nothing but the disk limits.
pub fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings {
        path: folder.path().join("queue.redb"),
        max_requests: u64::MAX,
        max_bytes: u64::MAX,
        min_free_disk: 0,
        keep_delivered: Duration::from_secs(3600),
        keep_dead: Duration::from_secs(3600),
    }
}

pub fn open(folder: &tempfile::TempDir) -> Arc<RedbStore> {
    RedbStore::open(settings(folder), Clock::system()).unwrap()
}

fn envelope(key: Option<u64>) -> Envelope {
    let now = Clock::system().now();
    let header = |(name, value): (&'static str, &'static str)| Field::new(HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers = [
        ("host", "app.example.com"),
        ("content-type", "application/json"),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"),
        ("accept", "application/json, text/plain, */*"),
        ("x-forwarded-for", "203.0.113.7"),
        ("via", "1.1 forebay"),
    ];
    Envelope {
        id: RequestId::new(),
        backend: "app".into(),
        route: "delivery-marks".into(),
        method: Method::POST,
        target: "/api/v1/deliveries/0123456789/marks".into(),
        headers: headers.into_iter().map(header).collect(),
        trailers: Vec::new(),
        reason: Reason::Down,
        accepted_at: now,
        expires_at: now.after(Duration::from_secs(86_400)),
        delivery: Delivery::AtLeastOnce,
        max_attempts: 8,
        order_key: key.map(OrderKey::from_u64),
        hold_key_when_dead: false,
    }
}

/// Queues one request.
pub async fn append(store: &dyn Store, key: Option<u64>) {
    let turn = store.turn(key.map(OrderKey::from_u64)).unwrap().into_queued();
    let payload = Payload::from(Bytes::from_static(&[b'x'; BODY]));
    store.append(NewRequest { envelope: envelope(key), payload, turn }).await.unwrap();
}

/// One operation that is measured.
pub type Operation = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Appends to the store.
pub fn appends(store: &Arc<RedbStore>) -> Operation {
    let store = Arc::clone(store);
    Arc::new(move || {
        let store = Arc::clone(&store);
        Box::pin(async move { append(&*store, None).await })
    })
}

/// The bare append log: a thread that takes all that waits, writes it to the end of a file, syncs, and answers all.
pub fn log_appends(path: PathBuf) -> Operation {
    let (sender, mut receiver) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(1024);
    std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        let (mut batch, mut buffer) = (Vec::new(), Vec::new());
        while receiver.blocking_recv_many(&mut batch, 1024) > 0 {
            buffer.clear();
            batch.iter().for_each(|(record, _)| buffer.extend_from_slice(record));
            file.write_all(&buffer).unwrap();
            file.sync_data().unwrap();
            batch.drain(..).for_each(|(_, reply)| reply.send(()).unwrap());
        }
    });
    Arc::new(move || {
        let sender = sender.clone();
        Box::pin(async move {
            let (reply, done) = oneshot::channel();
            sender.send((vec![b'x'; REQUEST], reply)).await.unwrap();
            done.await.unwrap();
        })
    })
}

/// What a closed loop gave.
pub struct Rate {
    /// Operations per second.
    pub per_second: f64,
    /// Latency in microseconds.
    pub p50: u64,
    pub p99: u64,
    /// Bytes that the process had written to the disk for each byte of a request.
    pub amplification: f64,
}

impl Rate {
    pub fn print(&self, name: &str, producers: u64) {
        let Self { per_second, p50, p99, amplification } = self;
        println!(
            "{name}: {per_second:.0}/s with {producers}, p50 {p50} us, p99 {p99} us, {amplification:.2} bytes written for each of a request"
        );
    }
}

/// As many producers as told, each of which waits for its answer before it sends the next.
pub fn closed_loop(producers: u64, span: Duration, operation: &Operation) -> Rate {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let written = written_bytes();
    let begun = Instant::now();
    let mut all = Histogram::<u64>::new(3).unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..producers {
            let operation = Arc::clone(operation);
            tasks.push(tokio::spawn(async move {
                let mut times = Histogram::<u64>::new(3).unwrap();
                while begun.elapsed() < span {
                    let sent = Instant::now();
                    operation().await;
                    times.record(sent.elapsed().as_micros() as u64).unwrap();
                }
                times
            }));
        }
        for task in tasks {
            all.add(task.await.unwrap()).unwrap();
        }
    });
    let bytes = (all.len() * REQUEST as u64) as f64;
    Rate {
        per_second: all.len() as f64 / begun.elapsed().as_secs_f64(),
        p50: all.value_at_quantile(0.5),
        p99: all.value_at_quantile(0.99),
        amplification: (written_bytes() - written) as f64 / bytes,
    }
}

/// What the process had written to the disk, by proc(5).
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Resident memory of the process in bytes.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Delivers what is queued, on a thread of its own: until nothing is, or until told to stop. How many were delivered, and how long it took.
pub fn drain_beside(store: &Arc<RedbStore>, seats: u64, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<(u64, Duration)> {
    let (store, stop) = (Arc::clone(store), Arc::clone(stop));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        (runtime.block_on(drain(&store, seats, &stop)), begun.elapsed())
    })
}

/// Seats are filled as they become free, as replay does it.
async fn drain(store: &Arc<RedbStore>, seats: u64, stop: &AtomicBool) -> u64 {
    let mut delivered = 0;
    let mut settles = tokio::task::JoinSet::new();
    while !stop.load(Relaxed) {
        let max = seats as usize - settles.len();
        let claimed = store.claim(Claim { backend: "app", full_routes: &[], max, now: Clock::system().now() }).await.unwrap();
        if claimed.is_empty() && settles.is_empty() {
            break;
        }
        let is_short = claimed.len() < max;
        delivered += claimed.len() as u64;
        for claimed in claimed {
            let store = Arc::clone(store);
            settles.spawn(async move {
                let answer = Answer { status: 204, headers: Vec::new(), payload: Payload::from(Bytes::new()) };
                let outcome = Outcome::Delivered(answer);
                store.settle(claimed.envelope.id, claimed.attempt, Clock::system().now(), outcome).await.unwrap();
            });
        }
        if is_short || settles.len() as u64 == seats {
            settles.join_next().await.unwrap().unwrap();
        }
        while let Some(settled) = settles.try_join_next() {
            settled.unwrap();
        }
    }
    while settles.join_next().await.is_some() {}
    delivered
}

/// The middle of some figures, the least and the greatest.
pub fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}
