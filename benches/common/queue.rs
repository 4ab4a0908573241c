//! The store under test: what is appended to it, by how many producers, and what that writes to the disk.

use std::{
    future::Future,
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

use super::{Measured, measured, runtime};

/// Bytes of a request, head included; the body of it is this much less than the head.
pub const SIZE: usize = 1600;
const BODY: usize = 1024;

/// The store in a folder, without limits.
pub fn open(folder: &tempfile::TempDir) -> Arc<RedbStore> {
    let settings = Settings {
        path: folder.path().join("queue.redb"),
        max_requests: u64::MAX,
        max_bytes: u64::MAX,
        min_free_disk: 0,
        keep_delivered: Duration::from_secs(3600),
        keep_dead: Duration::from_secs(3600),
    };
    RedbStore::open(settings, Clock::system()).expect("the store opens")
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

/// One durable append.
pub async fn append(store: &dyn Store, key: Option<u64>) {
    let turn = match store.turn(key.map(OrderKey::from_u64)) {
        Turn::Live(turn) => turn.into_queued(),
        Turn::Queued(turn) => turn,
    };
    let payload = Payload::from(Bytes::from_static(&[b'x'; BODY]));
    store.append(NewRequest { envelope: envelope(key), payload, turn }).await.expect("the store takes it");
}

/// `producers` append without a key for `span`, each waiting for its answer before it sends the next.
pub fn appends(store: &Arc<RedbStore>, producers: usize, span: Duration) -> Measured {
    repeat(producers, span, || {
        let store = Arc::clone(store);
        async move { append(&*store, None).await }
    })
}

fn repeat<O>(producers: usize, span: Duration, act: impl Fn() -> O) -> Measured
where
    O: Future<Output = ()> + 'static,
{
    runtime().block_on(async {
        let begun = Instant::now();
        let one = || async {
            let mut times = Histogram::<u64>::new(3).expect("3 digits are possible");
            while begun.elapsed() < span {
                let sent = Instant::now();
                act().await;
                let _too_large = times.record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            times
        };
        let mut all = Histogram::<u64>::new(3).expect("3 digits are possible");
        for times in futures_util::future::join_all((0..producers).map(|_| one())).await {
            all.add(times).expect("the same range");
        }
        measured(&all, begun.elapsed(), 0)
    })
}

/// What the process had written to the disk, by proc(5).
pub fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// A figure of every round.
#[derive(Default)]
pub struct Figures(Vec<(String, Vec<f64>)>);

impl Figures {
    /// Adds what a round gave.
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    /// Medians with the least and the most.
    #[expect(clippy::print_stdout, reason = "the figures are what the program is for")]
    pub fn print(mut self) {
        for (name, values) in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let digits = if values[0] < 100.0 { 2 } else { 0 };
            let (middle, least, most) = (values[values.len() / 2], values[0], values[values.len() - 1]);
            println!("{name:<46}{middle:>10.digits$}   ({least:.digits$} to {most:.digits$})");
        }
    }
}
