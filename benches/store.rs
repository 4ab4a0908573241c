//! Durable appends per second of the store, beside a bare append log on the same disk in the same run.
//!
//! `cargo bench --bench store -- [producers] [seconds] [requests to reopen]`; 64, 3 and 0 unless told. Both are fed by as many producers, each of which waits for
//! its answer before it sends the next; both sync before they answer, in groups without a timer. The log extends its file and does nothing else.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on fails, and says what it found")]

use std::{
    fs::File,
    future::Future,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forebay::{
    envelope::{Clock, Delivery, Envelope, Field, OrderKey, Reason, RequestId},
    store::{NewRequest, Payload, Settings, Store, Turn, redb::RedbStore},
};
use hdrhistogram::Histogram;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::{mpsc, oneshot};

const BODY: usize = 1024;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let producers = numbers.next().unwrap_or(64);
    let span = Duration::from_secs(numbers.next().unwrap_or(3));
    let reopened = numbers.next().unwrap_or(0);
    let folder = tempfile::tempdir_in(".").unwrap();
    let log = measure("bare log", producers, span, || start_log(folder.path().join("log")));
    let store = RedbStore::open(settings(&folder), Clock::system()).unwrap();
    let rate = measure("store", producers, span, || {
        let store = Arc::clone(&store);
        Arc::new(move || {
            let store = Arc::clone(&store);
            async move { append(&*store, None).await }
        })
    });
    println!("store / bare log: {:.2}", rate / log);
    let status = store.status();
    println!("{:.1} operations a commit", status.committed_operations as f64 / status.commits as f64);
    drop(store);
    if reopened > 0 {
        reopen(&folder, reopened);
    }
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

fn reopen(folder: &tempfile::TempDir, requests: u64) {
    let store = RedbStore::open(settings(folder), Clock::system()).unwrap();
    let held = store.status().requests;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let producers = (0..1024u64).map(|producer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..requests.saturating_sub(held) / 1024 {
                    append(&*store, Some(producer << 32 | number)).await;
                }
            })
        });
        for producer in producers.collect::<Vec<_>>() {
            producer.await.unwrap();
        }
    });
    drop(store);
    let before = resident_bytes();
    let begun = Instant::now();
    let store = RedbStore::open(settings(folder), Clock::system()).unwrap();
    let took = begun.elapsed();
    let held = store.status().requests;
    println!("reopened {held} requests in {took:.2?}, {} bytes of memory each", resident_bytes().saturating_sub(before) / held.max(1));
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
