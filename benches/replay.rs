//! What replay asks of the store: claims and settles, alone and while more is accepted, beside accepts alone and the bare append log of the same run.
//!
//! `cargo bench --bench replay -- [seconds] [rounds]`; 1 and 5 unless told. 64 producers, 64 requests at a backend that answers at once; requests of 1.6 KB,
//! and everything is durable before it is answered: accepts, starts of attempts (claims) and their outcomes (settles). A delivery is one of
//! both. Rounds alternate; medians are told, with the least and the most.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    bare_log,
    queue::{Figures, SIZE, appends, open},
    runtime,
};
use forebay::{
    envelope::Clock,
    store::{Answer, Claim, Outcome, Payload, Store, redb::RedbStore},
};
use tokio::task::JoinSet;

const PRODUCERS: usize = 64;
const SEATS: usize = 64;

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u64>().ok());
    let span = Duration::from_secs(numbers.next().unwrap_or(1));
    let rounds = numbers.next().unwrap_or(5);
    let mut figures = Figures::default();
    for _ in 0..rounds {
        let folder = tempfile::tempdir_in(".").unwrap();
        let log = bare_log(folder.path(), PRODUCERS, span, SIZE);
        let store = open(&folder);
        let alone = appends(&store, PRODUCERS, span);

        let stop = Arc::new(AtomicBool::new(false));
        let drainer = drain(&store, &stop);
        let both = appends(&store, PRODUCERS, span);
        stop.store(true, Relaxed);
        let beside = drainer.join().unwrap() as f64 / span.as_secs_f64();

        let begun = Instant::now();
        let drained = drain(&store, &Arc::default()).join().unwrap() as f64 / begun.elapsed().as_secs_f64();

        figures.add("bare log, accepts/s", log.rate);
        figures.add("accepts alone, /s", alone.rate);
        figures.add("deliveries alone, /s", drained);
        figures.add("accepts while draining, /s", both.rate);
        figures.add("deliveries meanwhile, /s", beside);
        figures.add("accepts alone / bare log", alone.rate / log.rate);
        figures.add("deliveries alone / accepts alone", drained / alone.rate);
        figures.add("claims and settles alone / accepts alone", 2.0 * drained / alone.rate);
        figures.add("accepts while draining / accepts alone", both.rate / alone.rate);
        figures.add("accepts and deliveries / accepts alone", (both.rate + beside) / alone.rate);
    }
    figures.print();
}

/// Delivers what is queued on a thread of its own: until nothing is, or until told to stop. How many were delivered.
fn drain(store: &Arc<RedbStore>, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (store, stop) = (Arc::clone(store), Arc::clone(stop));
    std::thread::spawn(move || {
        runtime().block_on(async {
            let mut delivered = 0;
            let mut settles = JoinSet::new();
            while !stop.load(Relaxed) {
                while settles.len() >= SEATS {
                    settles.join_next().await.unwrap().unwrap();
                    while settles.try_join_next().is_some() {}
                }
                let max = SEATS - settles.len();
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
