//! What a drain costs: claims and settles per second against accepts per second, and accepting while a queue is drained against accepting alone, beside
//! the bare append log of the same run.
//!
//! `cargo bench --bench replay -- [producers] [seconds] [rounds]`; 64, 1 and 5 unless told. Requests have 1.5 KB, everything is synced before its
//! answer. As many seats as producers; each delivers at once, so that the store is all that is measured. A delivery is two durable steps: the start of
//! the attempt, and its end. Medians are told at the end.

#![allow(missing_docs, reason = "a program, not a library")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on fails, and says what it found")]

#[path = "common/queue.rs"]
mod queue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use queue::{appends, closed_loop, drain_beside, log_appends, open, spread};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: [&str; 4] = [
    "accepts / bare log",
    "deliveries (claim and settle), alone / accepts alone",
    "accepts while drained / accepts alone",
    "accepts and deliveries side by side / accepts alone",
];

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u64>().ok());
    let producers = numbers.next().unwrap_or(64);
    let span = Duration::from_secs(numbers.next().unwrap_or(1));
    let rounds = numbers.next().unwrap_or(5);
    let mut ratios: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        for (ratios, ratio) in ratios.iter_mut().zip(round(producers, span)) {
            ratios.push(ratio);
        }
    }
    for (name, ratios) in NAMES.into_iter().zip(ratios) {
        let (median, least, most) = spread(ratios);
        println!("{name}: {median:.2} (median of {rounds}, {least:.2} to {most:.2}, {producers} producers)");
    }
}

fn round(producers: u64, span: Duration) -> [f64; 4] {
    let folder = tempfile::tempdir_in(".").unwrap();
    let log = closed_loop(producers, span, &log_appends(folder.path().join("log")));
    log.print("bare log", producers);
    let store = open(&folder);
    closed_loop(producers, span / 5, &appends(&store));
    let accepts = closed_loop(producers, span, &appends(&store));
    accepts.print("accepts", producers);
    let stop = Arc::new(AtomicBool::new(false));
    let drainer = drain_beside(&store, producers, &stop);
    let both = closed_loop(producers, span, &appends(&store));
    stop.store(true, Relaxed);
    let (meanwhile, took) = drainer.join().unwrap();
    both.print("accepts while drained", producers);
    let meanwhile = meanwhile as f64 / took.as_secs_f64();
    let begun = Instant::now();
    let (delivered, _) = drain_beside(&store, producers, &Arc::default()).join().unwrap();
    let alone = delivered as f64 / begun.elapsed().as_secs_f64();
    println!("deliveries: {meanwhile:.0}/s meanwhile, {alone:.0}/s alone");
    let accepted = accepts.per_second;
    [accepted / log.per_second, alone / accepted, both.per_second / accepted, (both.per_second + meanwhile) / accepted]
}
