//! Durable appends per second of the store, beside a bare append log on the same disk in the same run.
//!
//! `cargo bench --bench store -- [producers] [seconds] [rounds]`; 64, 1 and 5 unless told. Log and store are fed by as many producers, each of which waits for
//! its answer before it sends the next; both sync before they answer, in groups without a timer. The log extends its file and does nothing
//! else. Rounds alternate, since the disk of a shared machine is not the same for long, and medians are told at the end.
//!
//! `-- --size N` queues N requests, without a key, with a few thousand keys and with a key each, and opens them again after a copy of the files as
//! `kill -9` leaves them: rates on the way, memory, and times. Memory is told as what each request of the last quarter added: redb's cache (64 MiB) is bounded, and
//! three quarters of a million requests fill it. Five million take 10 GB of disk, twice.

#![allow(missing_docs, reason = "a program, not a library")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on fails, and says what it found")]

#[path = "common/queue.rs"]
mod queue;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forebay::store::{Store, redb::RedbStore};
use queue::{append, appends, closed_loop, log_appends, open, resident_bytes, spread};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    if arguments.iter().any(|argument| argument == "--size") {
        let requests = numbers.next().unwrap_or(1_000_000);
        return [Keys::None, Keys::Few, Keys::Unique].into_iter().for_each(|keys| size(requests, keys));
    }
    let producers = numbers.next().unwrap_or(64);
    let span = Duration::from_secs(numbers.next().unwrap_or(1));
    let rounds = numbers.next().unwrap_or(5);
    let (mut ratios, mut p99s, mut amplifications) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let folder = tempfile::tempdir_in(".").unwrap();
        let log = closed_loop(producers, span, &log_appends(folder.path().join("log")));
        log.print("bare log", producers);
        let store = open(&folder);
        // What a store costs once, when it is new, is not what an append costs.
        closed_loop(producers, span / 5, &appends(&store));
        let before = store.status();
        let rate = closed_loop(producers, span, &appends(&store));
        let after = store.status();
        rate.print("store", producers);
        let commits = (after.commits - before.commits).max(1);
        println!("  {:.1} operations a commit", (after.committed_operations - before.committed_operations) as f64 / commits as f64);
        ratios.push(rate.per_second / log.per_second);
        p99s.push(rate.p99 as f64 / 1000.0);
        amplifications.push(rate.amplification);
    }
    for (name, figures) in [("store / bare log", ratios), ("p99 of the store, ms", p99s), ("write amplification", amplifications)] {
        let (median, least, most) = spread(figures);
        println!("{name}, {producers} producers: {median:.2} (median of {rounds}, {least:.2} to {most:.2})");
    }
}

#[derive(Debug, Clone, Copy)]
enum Keys {
    None,
    Few,
    Unique,
}

impl Keys {
    fn of(self, number: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Few => Some(number % 3001),
            Self::Unique => Some(number),
        }
    }
}

const PRODUCERS: u64 = 1024;
const STEPS: u64 = 4;

/// Queues so many requests, and opens them again as if the program had been killed.
fn size(requests: u64, keys: Keys) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = open(&folder);
    let mut sizes = Vec::new();
    for step in 0..STEPS {
        let begun = Instant::now();
        fill(&store, requests / STEPS, step * requests, keys);
        let rate = (requests / STEPS) as f64 / begun.elapsed().as_secs_f64();
        let (held, resident) = (store.status().requests, resident_bytes());
        sizes.push((held, resident));
        println!("keys {keys:?}: {rate:.0}/s on the way to {held} requests, {} MiB of memory", resident >> 20);
    }
    let ((few, small), (many, large)) = (sizes[sizes.len() - 2], sizes[sizes.len() - 1]);
    println!("keys {keys:?}: {:.1} bytes of memory for each more of {}", (large as f64 - small as f64) / (many - few) as f64, many - few);
    // What kill -9 leaves: the files as they are while the store is open.
    let copy = tempfile::tempdir_in(".").unwrap();
    let from = folder.path().join(".");
    let done = std::process::Command::new("cp").args(["-r", "--reflink=auto", "--sparse=always"]).arg(from).arg(copy.path()).status();
    assert!(done.unwrap().success());
    drop(store);
    drop(folder);
    for after in ["kill -9", "a stop"] {
        let (begun, cpu) = (Instant::now(), cpu_time());
        let store = open(&copy);
        let (took, cpu) = (begun.elapsed(), cpu_time() - cpu);
        assert_eq!(store.status().requests, many);
        println!("keys {keys:?}: {many} reopened in {took:.2?} after {after}, {cpu:.2?} of the opening thread on a processor");
    }
}

/// What this thread has had of a processor, by proc(5).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Queues `requests` with as many producers as fill a batch of the writer.
fn fill(store: &Arc<RedbStore>, requests: u64, first: u64, keys: Keys) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut producers = tokio::task::JoinSet::new();
        for producer in 0..PRODUCERS {
            let store = Arc::clone(store);
            producers.spawn(async move {
                for number in 0..requests / PRODUCERS {
                    append(&*store, keys.of((first + number) * PRODUCERS + producer)).await;
                }
            });
        }
        while let Some(done) = producers.join_next().await {
            done.unwrap();
        }
    });
}
