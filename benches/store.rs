//! Durable appends per second of the store, beside a bare append log on the same disk in the same run.
//!
//! `cargo bench --bench store -- [seconds] [rounds]`; 1 and 5 unless told. Log and store are fed by as many producers, each of which waits for
//! its answer before it sends the next; both sync before they answer, in groups without a timer. The log extends its file and does nothing
//! else. Rounds alternate, since the disk of a shared machine is not the same for long; medians are told, with the least and the most.
//!
//! `-- --size N` queues N requests, without a key, with a few thousand keys and with a key each, and opens them again after a copy of the files as `kill -9` leaves them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on fails, and says what it found")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    bare_log,
    queue::{Figures, SIZE, append, appends, open, resident_bytes, written_bytes},
};
use forebay::store::Store;

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
    let span = Duration::from_secs(numbers.next().unwrap_or(1));
    let rounds = numbers.next().unwrap_or(5);
    let mut figures = Figures::default();
    for _ in 0..rounds {
        for producers in [64, 256] {
            let folder = tempfile::tempdir_in(".").unwrap();
            let log = bare_log(folder.path(), producers, span, SIZE);
            let store = open(&folder);
            let (before, written) = (store.status(), written_bytes());
            let accepts = appends(&store, producers, span);
            let after = store.status();
            let amplification = (written_bytes() - written) as f64 / (accepts.count as f64 * SIZE as f64);
            let batch = (after.committed_operations - before.committed_operations) as f64 / (after.commits - before.commits).max(1) as f64;
            figures.add(format!("bare log, accepts/s, {producers} producers"), log.rate);
            figures.add(format!("bare log, p99 in ms, {producers} producers"), log.p99 as f64 / 1e3);
            figures.add(format!("store, accepts/s, {producers} producers"), accepts.rate);
            figures.add(format!("store, p99 in ms, {producers} producers"), accepts.p99 as f64 / 1e3);
            figures.add(format!("store / bare log, {producers} producers"), accepts.rate / log.rate);
            figures.add(format!("bytes written per byte, {producers} producers"), amplification);
            figures.add(format!("operations a commit, {producers} producers"), batch);
        }
    }
    figures.print();
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
    let store = open(&folder);
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
        let store = open(&copy);
        times.push(begun.elapsed());
        let held = store.status().requests;
        println!(
            "keys {keys:?}: {} bytes of memory for each of {held}, redb's cache included",
            resident_bytes().saturating_sub(before) / held.max(1)
        );
    }
    println!("keys {keys:?}: reopened in {:.2?} after kill -9, in {:.2?} after a stop", times[0], times[1]);
}
