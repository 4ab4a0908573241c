//! A backend that goes away and comes back, seen from outside: no write is lost, no read is lied to, and the log says what happened.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use common::{
    backend::{self, Backend},
    client::{self, Client, Response},
    program::Program,
    site::Site,
    within,
};
use tokio::task::JoinSet;

const SPILL: &str = "[routes.spill]\norder_by = \"none\"";

fn honest(read: &Response) {
    assert_eq!(read.field("content-type"), Some("application/problem+json"));
    assert!(read.field("proxy-status").unwrap().starts_with("forebay; error="), "{read:?}");
    if read.status == 503 {
        assert!(read.field("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    }
}

/// Writes numbered bodies and reads, in turn, until told to stop. Gives the writes that were acknowledged, and whether by the backend.
async fn load(proxy: SocketAddr, worker: usize, stop: Arc<AtomicBool>) -> Vec<(String, bool)> {
    let mut client = Client::connect(proxy).await;
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        let body = format!("{worker}-{number}");
        let write = client.exchange(client::request("POST", "/marks", &[], &body)).await;
        match write.status {
            200 => acknowledged.push((body, true)),
            202 => acknowledged.push((body, false)),
            other => panic!("a write got {other}: {write:?}"),
        }
        let read = client.exchange(client::get("/pages")).await;
        match read.status {
            200 => {}
            // One that was under way when the backend died may have been executed: nobody knows.
            502 | 503 => honest(&read),
            other => panic!("a read got {other}: {read:?}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_dies_in_the_middle_of_a_load_costs_no_write() {
    let mut backend = Backend::start().await;
    // The load itself finds out that the backend is gone; no slow machine makes so many checks fail.
    let health = "health = { path = \"/healthz\", interval = \"250ms\", timeout = \"250ms\", fall = 1000, rise = 2 }";
    let site = Site::of(&[backend.url()]).top("workers = 2").backend(health).route("marks", "/marks", SPILL).route("pages", "/", "");
    let program = Program::start(&site.to_string()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        workers.spawn(load(program.proxy(), worker, Arc::clone(&stop)));
    }
    backend.received(200).await;
    backend.stop().await;
    let line = program.logged("the breaker to trip", |line| line["state"] == "shedding").await;
    assert_eq!((&line["backend"], &line["level"]), (&"app".into(), &"WARN".into()));
    let read = client::fetch(program.proxy(), client::get("/pages")).await;
    assert_eq!((read.status, read.field("proxy-status")), (503, Some("forebay; error=destination_unavailable; details=\"down\"")));
    honest(&read);
    within("a write in the queue", async { while program.status().await["totals"]["accepted"] == 0 {} }).await;
    backend.start_again().await;
    for state in ["probing", "passing"] {
        program.logged(state, |line| line["state"] == state && line["backend"] == "app").await;
    }
    stop.store(true, SeqCst);
    let mut live = BTreeSet::new();
    let mut queued = BTreeSet::new();
    while let Some(acknowledged) = workers.join_next().await {
        for (body, by_backend) in acknowledged.unwrap() {
            assert!(if by_backend { live.insert(body) } else { queued.insert(body) });
        }
    }
    assert!(!live.is_empty() && !queued.is_empty());
    let drained = async {
        loop {
            let totals = program.status().await["totals"].clone();
            let counts =
                ["queued", "delivering", "delivered", "dead", "cancelled", "discarded"].map(|state| totals[state].as_u64().unwrap());
            assert_eq!(totals["accepted"], counts.iter().sum::<u64>());
            assert_eq!(totals["dead"], 0);
            if totals["delivered"] == totals["accepted"] {
                return totals["accepted"].as_u64().unwrap();
            }
        }
    };
    let accepted = within("the queue to drain", drained).await;
    assert_eq!(accepted, queued.len() as u64, "each 202 is counted, and nothing else");
    let seen: BTreeSet<_> = backend
        .requests()
        .into_iter()
        .filter(|request| request.target == "/marks" && request.body.complete)
        .map(|request| String::from_utf8(request.body.content).unwrap())
        .collect();
    assert!(live.is_subset(&seen) && queued.is_subset(&seen));
}

#[tokio::test]
async fn answers_that_show_a_sick_backend_trip_the_breaker_too() {
    for status in [502, 503, 504] {
        let backend = Backend::start().await;
        let program = Program::start(&Site::of(&[backend.url()]).route("pages", "/", "").to_string()).await;
        backend.otherwise(move |_| backend::answer(status, &[], "sick"));
        let mut client = Client::connect(program.proxy()).await;
        let mut asked = 0;
        let refusal = loop {
            let answer = client.exchange(client::get("/")).await;
            if answer.text() != "sick" {
                break answer;
            }
            asked += 1;
        };
        assert!(asked >= 20, "its own answer, as long as it is asked: {asked}");
        assert_eq!(
            (refusal.status, refusal.field("proxy-status")),
            (503, Some("forebay; error=destination_unavailable; details=\"down\""))
        );
        let before = backend.requests().len();
        assert_eq!(client.exchange(client::get("/")).await.status, 503);
        assert!(backend.requests().iter().skip(before).all(|request| request.method == "HEAD"), "nothing but probes");
    }
}
