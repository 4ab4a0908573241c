//! kill -9, again and again, under load: the books of clients, queue and backend must agree.
//!
//! The real program stands between clients, each of which writes down every 202 and every 2xx that it gets, and a backend that keeps a ledger of
//! what it executed and that now and then answers 500 or 503 or resets. In each round the backend goes down, the queue is filled while the program is killed
//! at a random moment, the backend comes back, and the program is killed again while the queue drains and new writes come in; after the last one also while writes pass. A spreadsheet is half
//! uploaded at each kill, and every other restart is killed itself before it has recovered. At the end everything is delivered and counted:
//! nothing acknowledged may be missing, nothing may have arrived that no client sent, nothing may have been executed twice on the at-most-once
//! route, or twice without the same identity on the other, and the counters must be exact after each restart.
//!
//! Short with `cargo test`. Long by hand:
//! ```text
//! KILL_NINE_ROUNDS=10 KILL_NINE_REQUESTS=10000 cargo test --release --test kill_nine -- --nocapture
//! ```
//! `KILL_NINE_ROUNDS` rounds, in each of which the queue is filled up to `KILL_NINE_REQUESTS` requests before the kill that interrupts its draining.
//! `KILL_NINE_SEED` repeats the random choices of a run (which the program's own timing can still change).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod audit;
mod books;
#[path = "../common/mod.rs"]
mod common;
mod ledger;
mod load;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use books::Route;
use common::{backend::Backend, program::Program, site, within};
use ledger::Ledger;
use load::Load;
use serde_json::Value;
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_sent_twice_against_its_route_over_kill_nine() {
    let (rounds, requests) = (setting("KILL_NINE_ROUNDS", 3), setting("KILL_NINE_REQUESTS", 150));
    let seed = setting("KILL_NINE_SEED", fastrand::u64(..));
    eprintln!("{rounds} rounds of {requests} requests, KILL_NINE_SEED={seed}");
    let mut harness = Harness::start(seed, requests).await;
    for round in 1..=rounds {
        harness.fill(requests).await;
        harness.drain_a_part(requests).await;
        eprintln!("round {round}: {} kills, {}", harness.kills, harness.program.status().await["totals"]);
    }
    harness.pass(requests).await;
    harness.settle_the_books().await;
}

struct Harness {
    program: Program,
    backend: Backend,
    ledger: Arc<Ledger>,
    load: Load,
    random: fastrand::Rng,
    kills: u64,
}

impl Harness {
    async fn start(seed: u64, requests: u64) -> Self {
        let backend = Backend::start().await;
        let ledger = Ledger::new(seed, u32::try_from(50.max(requests / 20)).unwrap());
        ledger.keep_at(&backend);
        let program = Program::start(&configuration(&backend)).await;
        let load = Load::start(seed);
        load.program_is_at(program.proxy());
        Self { program, backend, ledger, load, random: fastrand::Rng::with_seed(seed), kills: 0 }
    }

    /// The backend goes down and the queue is filled up to `requests`; somewhere on the way the program is killed.
    async fn fill(&mut self, requests: u64) {
        self.backend.stop().await;
        let mut kill = true;
        loop {
            let missing = requests.saturating_sub(self.program.status().await["totals"]["queued"].as_u64().unwrap());
            if missing == 0 {
                return;
            }
            let ended = self.load.books.ended();
            let goal = *ended.borrow() + self.random.u64(1..=missing);
            self.load.allow(missing);
            if std::mem::take(&mut kill) {
                reach("writes", ended, goal).await;
                self.kill().await;
            }
            self.load.ended().await;
        }
    }

    /// The backend comes back; somewhere in the draining, with new writes among it, the program is killed.
    async fn drain_a_part(&mut self, requests: u64) {
        let replayed = self.ledger.replayed();
        let before = *replayed.borrow();
        let goal = before + self.random.u64(1..=requests / 3);
        self.backend.start_again().await;
        reach("the first replays", replayed.clone(), before + 1).await;
        self.load.allow(requests / 4);
        reach("replays", replayed, goal).await;
        self.kill().await;
        self.load.ended().await;
    }

    /// The queue drains, new writes mostly pass, and the program is killed among them.
    async fn pass(&mut self, requests: u64) {
        self.drained().await;
        let ended = self.load.books.ended();
        let goal = *ended.borrow() + self.random.u64(1..=requests);
        self.load.allow(requests);
        reach("writes", ended, goal).await;
        self.kill().await;
        self.load.ended().await;
    }

    async fn drained(&self) -> Value {
        let is_empty = |status: &Value| status["totals"]["queued"] == 0 && status["totals"]["delivering"] == 0;
        self.program.status_when("an empty queue", is_empty).await
    }

    /// kill -9, a restart, and a look at the counters.
    async fn kill(&mut self) {
        let noted: BTreeMap<_, _> = Route::ALL.map(|route| (route.name(), self.load.books.bounds(route))).into();
        let half = self.load.half_an_upload(self.kills).await;
        self.load.program_is_gone();
        self.program.kill().await;
        drop(half);
        // What had reached the backend is in its ledger before anything is sent anew.
        self.backend.disconnected().await;
        self.kills += 1;
        if self.kills.is_multiple_of(2) {
            self.program.launch().await;
            // No event marks a moment in the middle of recovery; any will do.
            tokio::time::sleep(Duration::from_micros(self.random.u64(0..50_000))).await;
            self.program.kill().await;
            self.backend.disconnected().await;
            self.kills += 1;
        }
        self.program.run().await;
        let faults = audit::counters(&self.program.status().await, &noted, &self.load.books);
        assert!(faults.is_empty(), "after kill {}: {faults:#?}", self.kills);
        self.load.program_is_at(self.program.proxy());
    }

    /// Everything is delivered, and the books are compared.
    async fn settle_the_books(mut self) {
        let status = self.drained().await;
        let (mut faults, figures) = audit::everything(self.program.admin(), &self.load.books, &self.ledger).await;
        let noted = Route::ALL.map(|route| (route.name(), self.load.books.bounds(route))).into();
        faults.miscounted = audit::counters(&status, &noted, &self.load.books);
        for (name, seen) in [("accepted", figures.accepted), ("delivered", figures.delivered), ("dead", figures.outcome_unknown)] {
            if status["totals"][name] != seen {
                faults.miscounted.push(format!("{name}: counted {}, seen {seen}", status["totals"][name]));
            }
        }
        eprintln!("{} kills; {figures:#?}", self.kills);
        let [lost, phantom, duplicates] = [&faults.lost, &faults.phantom, &faults.duplicate].map(Vec::len);
        eprintln!("lost {lost}, phantom {phantom}, duplicates against the route {duplicates}, out of order {}", faults.disorder.len());
        assert!(faults.none(), "{faults:#?}");
        assert!(figures.queued_202 > 0 && figures.live_2xx > 0, "there was no load to speak of: {figures:?}");
        assert!(self.program.terminate().await.success());
    }
}

/// Waits until a count has come to `goal`.
async fn reach(what: &str, mut count: watch::Receiver<u64>, goal: u64) {
    while *count.borrow_and_update() < goal {
        within(what, count.changed()).await.unwrap();
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

fn configuration(backend: &Backend) -> String {
    let keys = "health = { path = \"/\", interval = \"300ms\", timeout = \"300ms\", fall = 3, rise = 1 }\nreplay = { concurrency = 32 }\n";
    let spill = |lines: &str| format!("[routes.spill]\nmax_attempts = 1000\n{lines}");
    let routes = [
        site::route("least", "/least/", &spill("delivery = \"at-least-once\"\norder_by = [\"header:x-order\"]")),
        site::route("most", "/most/", &spill("delivery = \"at-most-once\"\norder_by = \"none\"")),
    ];
    [site::legacy(&backend.url(), "", "keep_delivered = \"7d\""), keys.to_owned(), routes.concat()].concat()
}
