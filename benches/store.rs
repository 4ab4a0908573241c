//! Durable appends per second of the store, beside a bare append log on the same disk in the same run.
//!
//! `cargo bench --bench store -- [producers] [seconds] [rounds]`; 64, 1 and 5 unless told. Log and store are fed by as many producers, each of which waits for
//! its answer before it sends the next; both sync before they answer, in groups without a timer. The log extends its file and does nothing
//! else. Rounds alternate, since the disk of a shared machine is not the same for long, and medians are told at the end. Every round then
//! drains what it queued, alone and while more is accepted.
//!
//! `-- --size N` queues N requests, without a key, with a few thousand keys and with a key each, and opens them again after a copy of the files as `kill -9` leaves them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on fails, and says what it found")]

use std::{
    fs::File,
    future::Future,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use forebay::{
    envelope::{Clock, Delivery, Envelope, Field, OrderKey, Reason, RequestId},
    store::{Answer, Claim, NewRequest, Outcome, Payload, Settings, Store, Turn, redb::RedbStore},
};
use hdrhistogram::Histogram;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::{mpsc, oneshot};

const BODY: usize = 1024;

fn main() {
    let numbers = |after: &str| {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let from = arguments.iter().position(|argument| argument == after).map_or(0, |at| at + 1);
        arguments[from..].iter().filter_map(|argument| argument.parse::<u64>().ok()).collect::<Vec<_>>()
    };
    if std::env::args().any(|argument| argument == "--size") {
        let requests = numbers("--size").first().copied().unwrap_or(1_000_000);
        return [Keys::None, Keys::Few, Keys::Unique].into_iter().for_each(|keys| size(requests, keys));
    }
    let mut numbers = numbers("").into_iter();
    let producers = numbers.next().unwrap_or(64);
    let span = Duration::from_secs(numbers.next().unwrap_or(1));
    let rounds = numbers.next().unwrap_or(5);
    let mut ratios: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let folder = tempfile::tempdir_in(".").unwrap();
        let log = measure("bare log", producers, span, || start_log(folder.path().join("log")));
        let store = RedbStore::open(settings(&folder), Clock::system()).unwrap();
        let appends = |name| {
            let before = store.status();
            let rate = measure(name, producers, span, || {
                let store = Arc::clone(&store);
                Arc::new(move || {
                    let store = Arc::clone(&store);
                    async move { append(&*store, None).await }
                })
            });
            let after = store.status();
            let commits = (after.commits - before.commits).max(1);
            println!("  {:.1} operations a commit", (after.committed_operations - before.committed_operations) as f64 / commits as f64);
            rate
        };
        let accepts = appends("store");
        let stop = Arc::new(AtomicBool::new(false));
        let drainer = drain_beside(&store, producers, &stop);
        let both = appends("store, drained meanwhile");
        stop.store(true, Relaxed);
        let meanwhile = drainer.join().unwrap() as f64 / span.as_secs_f64();
        let begun = Instant::now();
        stop.store(false, Relaxed);
        let drained = drain_beside(&store, producers, &stop).join().unwrap() as f64 / begun.elapsed().as_secs_f64();
        println!("drained {meanwhile:.0}/s meanwhile, {drained:.0}/s alone");
        for (ratios, ratio) in ratios.iter_mut().zip([accepts / log, drained / accepts, both / accepts, (both + meanwhile) / accepts]) {
            ratios.push(ratio);
        }
    }
    let names =
        ["store / bare log", "claims with their settles / accepts", "accepts while drained / accepts", "accepts and deliveries / accepts"];
    for (name, mut ratios) in names.into_iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("{name}: {:.2} (median of {rounds}, {:.2} to {:.2})", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]);
    }
}

/// Delivers what is queued on a thread of its own: until nothing is, or until told to stop. How many were delivered.
fn drain_beside(store: &Arc<RedbStore>, seats: u64, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let (store, stop) = (Arc::clone(store), Arc::clone(stop));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut delivered = 0;
            let mut settles = tokio::task::JoinSet::new();
            while !stop.load(Relaxed) {
                while settles.len() as u64 >= seats {
                    settles.join_next().await.unwrap().unwrap();
                    while settles.try_join_next().is_some() {}
                }
                let max = seats as usize - settles.len();
                let claimed = store.claim(Claim { backend: "app", full_routes: &[], max, now: Clock::system().now() }).await.unwrap();
                if claimed.is_empty() && settles.is_empty() {
                    break;
                }
                delivered += claimed.len() as u64;
                for claimed in claimed {
                    let store = Arc::clone(&store);
                    settles.spawn(async move {
                        let answer = Answer { status: 204, headers: Vec::new(), payload: Payload::from(Bytes::new()) };
                        let outcome = Outcome::Delivered(answer);
                        store.settle(claimed.envelope.id, claimed.attempt, Clock::system().now(), outcome).await.unwrap();
                    });
                }
            }
            while settles.join_next().await.is_some() {}
            delivered
        })
    })
}

fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings {
        path: folder.path().join("queue.redb"),
        max_requests: u64::MAX,
        max_bytes: u64::MAX,
        min_free_disk: 0,
        keep_delivered: Duration::from_secs(3600),
        keep_dead: Duration::from_secs(3600),
    }
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

async fn append(store: &dyn Store, key: Option<u64>) {
    let turn = match store.turn(key.map(OrderKey::from_u64)) {
        Turn::Live(turn) => turn.into_queued(),
        Turn::Queued(turn) => turn,
    };
    let payload = Payload::from(Bytes::from_static(&[b'x'; BODY]));
    store.append(NewRequest { envelope: envelope(key), payload, turn }).await.unwrap();
}

fn start_log(path: std::path::PathBuf) -> Arc<impl Fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync> {
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
            // As many bytes as a record of the store.
            sender.send((vec![b'x'; BODY + 500], reply)).await.unwrap();
            done.await.unwrap();
        }) as _
    })
}

fn measure<F, O>(name: &str, producers: u64, span: Duration, start: impl FnOnce() -> Arc<F>) -> f64
where
    F: Fn() -> O + Send + Sync + 'static,
    O: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = start();
    let written = written_bytes();
    let begun = Instant::now();
    let mut all = Histogram::<u64>::new(3).unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..producers {
            let send = Arc::clone(&send);
            tasks.push(tokio::spawn(async move {
                let mut times = Histogram::<u64>::new(3).unwrap();
                while begun.elapsed() < span {
                    let sent = Instant::now();
                    send().await;
                    times.record(sent.elapsed().as_micros() as u64).unwrap();
                }
                times
            }));
        }
        for task in tasks {
            all.add(task.await.unwrap()).unwrap();
        }
    });
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    let payload = all.len() as f64 * (BODY + 500) as f64;
    println!(
        "{name}: {rate:.0}/s with {producers} producers, p50 {} us, p99 {} us, {:.2} bytes written for each of {} of the request",
        all.value_at_quantile(0.5),
        all.value_at_quantile(0.99),
        (written_bytes() - written) as f64 / payload,
        BODY + 500,
    );
    rate
}

/// What the process had written to the disk, by proc(5).
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[derive(Debug, Clone, Copy)]
enum Keys {
    None,
    Few,
    Unique,
}

/// Queues so many requests, and opens them again as if the program had been killed.
fn size(requests: u64, keys: Keys) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = RedbStore::open(settings(&folder), Clock::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    const PRODUCERS: u64 = 1024;
    let steps = 4;
    for step in 0..steps {
        let begun = Instant::now();
        runtime.block_on(async {
            let producers = (0..PRODUCERS).map(|producer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for number in 0..requests / PRODUCERS / steps {
                        let number = (step * requests + number) * PRODUCERS + producer;
                        let key = match keys {
                            Keys::None => None,
                            Keys::Few => Some(number % 3001),
                            Keys::Unique => Some(number),
                        };
                        append(&*store, key).await;
                    }
                })
            });
            for producer in producers.collect::<Vec<_>>() {
                producer.await.unwrap();
            }
        });
        println!(
            "keys {keys:?}: {:.0}/s on the way to {} requests",
            (requests / steps) as f64 / begun.elapsed().as_secs_f64(),
            requests / steps * (step + 1)
        );
    }
    // What kill -9 leaves: the files as they are while the store is open.
    let copy = tempfile::tempdir_in(".").unwrap();
    let done = std::process::Command::new("cp")
        .arg("-r")
        .arg("--reflink=auto")
        .arg("--sparse=always")
        .arg(folder.path().join("."))
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(done.success());
    drop(store);
    drop(folder);
    let mut times = Vec::new();
    for _ in 0..2 {
        let before = resident_bytes();
        let begun = Instant::now();
        let store = RedbStore::open(settings(&copy), Clock::system()).unwrap();
        times.push(begun.elapsed());
        let held = store.status().requests;
        println!(
            "keys {keys:?}: {} bytes of memory for each of {held}, redb's cache included",
            resident_bytes().saturating_sub(before) / held.max(1)
        );
    }
    println!("keys {keys:?}: reopened in {:.2?} after kill -9, in {:.2?} after a stop", times[0], times[1]);
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
