//! Stopping, reloading, and not starting: what signals do, what is finished and what is left, and which exit code says what.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use common::{
    backend::{Backend, Step, Trigger, answer, answer_when},
    client::{self, Client},
    program::Program,
    site,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;

fn configuration(backend: &Backend, top: &str, more: &str) -> String {
    let routes = [
        site::route("rest", "/", ""),
        site::route("least", "/least/", "[routes.spill]\norder_by = \"none\""),
        site::route("most", "/most/", "[routes.spill]\norder_by = \"none\"\ndelivery = \"at-most-once\""),
    ];
    // Nobody is turned away because answers are slow to come, and two may be delivered at once.
    let limits = "concurrency = 100\nreplay = { profile = \"fixed\", concurrency = 2 }\n".to_owned();
    [site::legacy(&backend.url(), top, ""), limits, routes.concat(), more.to_owned()].concat()
}

fn post(target: &str, fields: &[&str]) -> Vec<u8> {
    client::request("POST", target, fields, "body")
}

const LATER: &[&str] = &["Prefer: respond-async"];

/// A program whose backend answers only when the trigger is pulled, and that is delivering one request of each of these targets from the queue, started in
/// this order.
async fn delivering(top: &str, targets: &[&str]) -> (Backend, Trigger, Program) {
    let backend = Backend::start().await;
    let program = Program::start(&configuration(&backend, top, "")).await;
    let trigger = Trigger::default();
    let held = trigger.clone();
    backend.otherwise(move |_| answer_when(&held, 200, &[], "done"));
    for target in targets {
        let before = backend.requests().len();
        assert_eq!(client::fetch(program.proxy(), post(target, LATER)).await.status, 202);
        backend.received(before + 1).await;
    }
    (backend, trigger, program)
}

async fn drained(program: &Program) -> Value {
    let empty = |status: &Value| status["totals"]["queued"] == 0 && status["totals"]["delivering"] == 0;
    program.status_when("an empty queue", empty).await["totals"].clone()
}

async fn stop_begins(program: &Program, signal: Signal) {
    program.signal(signal);
    program.logged("that the stop begins", |line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping"))).await;
}

#[tokio::test]
async fn term_finishes_what_is_in_flight_and_leaves_nothing_half_done() {
    for signal in [Signal::TERM, Signal::INT] {
        let (backend, trigger, mut program) = delivering("", &["/least/queued", "/most/queued"]).await;
        let mut idle = Client::connect(program.proxy()).await;
        let mut live = Client::connect(program.proxy()).await;
        live.send(client::get("/live")).await;
        backend.received(3).await;
        stop_begins(&program, signal).await;
        idle.closed().await;
        let ready = client::fetch(program.admin(), client::get("/readyz")).await;
        assert_eq!((ready.status, ready.text().contains("draining")), (503, true), "{}", ready.text());
        assert_eq!(client::fetch(program.admin(), client::get("/healthz")).await.status, 200);
        trigger.release();
        let answered = live.response().await;
        assert_eq!((answered.status, answered.text()), (200, "done"));
        live.closed().await;
        assert_eq!(program.ended().await.code(), Some(0));

        program.run().await;
        let totals = &program.status().await["totals"];
        assert_eq!((&totals["delivered"], &totals["accepted"]), (&2.into(), &2.into()), "{totals}");
        assert_eq!(backend.requests().iter().filter(|request| request.target.ends_with("/queued")).count(), 2, "each was sent once");
    }
}

#[tokio::test]
async fn a_write_that_is_rescued_during_the_stop_is_durable_like_any_other() {
    let backend = Backend::start().await;
    let breaks = Trigger::default();
    backend.next(vec![Step::Read, Step::Wait(breaks.clone()), Step::Reset]);
    let mut program = Program::start(&configuration(&backend, "", "")).await;
    let mut live = Client::connect(program.proxy()).await;
    live.send(post("/least/live", &[])).await;
    backend.received(1).await;
    stop_begins(&program, Signal::TERM).await;
    breaks.release();
    assert_eq!(live.response().await.status, 202);
    assert!(program.ended().await.success());
    program.run().await;
    assert_eq!(drained(&program).await["delivered"], 1);
    assert_eq!(backend.received(2).await[1].target, "/least/live");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_the_next_start_knows_what_may_have_been_executed() {
    let (backend, trigger, mut program) = delivering("drain_timeout = \"1h\"", &["/least/queued", "/most/queued"]).await;
    let mut live = Client::connect(program.proxy()).await;
    live.send(client::get("/live")).await;
    backend.received(3).await;
    stop_begins(&program, Signal::TERM).await;
    program.signal(Signal::INT);
    assert_eq!(program.ended().await.code(), Some(0));
    trigger.release();
    settled_after_a_cut(&backend, &mut program).await;
}

#[tokio::test]
async fn the_deadline_ends_it_with_requests_in_flight() {
    let (backend, trigger, mut program) = delivering("drain_timeout = \"100ms\"", &["/least/queued", "/most/queued"]).await;
    let mut live = Client::connect(program.proxy()).await;
    live.send(client::get("/live")).await;
    backend.received(3).await;
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
    assert!(!program.stderr().contains("ERROR"), "what was cut off is written down: {}", program.stderr());
    trigger.release();
    settled_after_a_cut(&backend, &mut program).await;
}

/// What was under way at the end is sent again where it may be, and is a dead letter where not.
async fn settled_after_a_cut(backend: &Backend, program: &mut Program) {
    backend.disconnected().await;
    program.run().await;
    let totals = drained(program).await;
    assert_eq!((&totals["delivered"], &totals["dead"], &totals["accepted"]), (&1.into(), &1.into(), &2.into()), "{totals}");
    let dead = client::ask(program.admin(), "/api/v1/requests?state=dead").await;
    assert_eq!((&dead["requests"][0]["route"], &dead["requests"][0]["dead_reason"]), (&"most".into(), &"outcome-unknown".into()));
    let sent = |target: &str| backend.requests().iter().filter(|request| request.target == target).count();
    assert_eq!((sent("/least/queued"), sent("/most/queued")), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_over_routes_and_backends_without_a_failed_request() {
    let (old, new) = (Backend::start().await, Backend::start().await);
    old.otherwise(|_| answer(200, &[], "old"));
    new.otherwise(|_| answer(200, &[], "new"));
    let program = Program::start(&configuration(&old, "", "")).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for number in 0..4 {
        let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), program.proxy());
        load.spawn(async move {
            let mut client = Client::connect(address).await;
            while !stop.load(SeqCst) {
                let request = if number % 2 == 0 { client::get("/read") } else { post("/least/write", &[]) };
                assert_eq!(client.exchange(request).await.status, 200);
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    old.received(50).await;
    let added = "[backends.other]\nservers = [\"URL\"]\n[[routes]]\nname = \"added\"\npath = \"/added/\"\nbackend = \"other\"\n";

    // A route is added, to a backend of its own.
    assert_eq!(client::fetch(program.proxy(), client::get("/added/1")).await.text(), "old");
    program.reload(&configuration(&old, "", &added.replace("URL", &new.url()))).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/added/1")).await.text(), "new");
    assert_eq!(client::fetch(program.proxy(), client::get("/other")).await.text(), "old");

    // An invalid file changes nothing, and says so.
    program.configure("[[listeners]]\naddres = 1\n");
    program.signal(Signal::HUP);
    let refusal = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("the configuration was not reloaded"));
    let refused = program.logged("why it is not reloaded", refusal).await;
    assert!(refused["message"].as_str().unwrap().contains("addres"), "{refused}");
    assert_eq!(client::fetch(program.proxy(), client::get("/added/1")).await.text(), "new");
    gauge(&program, "0").await;

    // The servers of a backend are changed.
    program.reload(&configuration(&new, "", "")).await;
    let before = new.requests().len();
    new.received(before + 50).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/other")).await.text(), "new");
    gauge(&program, "1").await;
    stop.store(true, SeqCst);
    while let Some(client) = load.join_next().await {
        client.unwrap();
    }
    assert!(answered.load(SeqCst) >= 100);
    let totals = &program.status().await["totals"];
    assert_eq!(totals["accepted"], 0, "nothing had to be queued: {totals}");
}

/// Waits until `config_last_reload_successful` says so; it is set a moment after the log line.
async fn gauge(program: &Program, value: &str) {
    let line = format!("forebay_config_last_reload_successful {value}");
    let said = common::within(&line, async {
        loop {
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", program.admin());
            let text = client::fetch(program.admin(), request).await;
            if text.text().lines().any(|found| found == line) {
                return;
            }
        }
    });
    said.await;
}

#[tokio::test]
async fn what_is_queued_for_a_backend_whose_servers_change_goes_to_the_new_ones() {
    let (mut old, new) = (Backend::start().await, Backend::start().await);
    old.stop().await;
    let program = Program::start(&configuration(&old, "", "")).await;
    for number in 0..5 {
        assert_eq!(client::fetch(program.proxy(), post(&format!("/least/{number}"), LATER)).await.status, 202);
    }
    program.reload(&configuration(&new, "", "")).await;
    assert_eq!(drained(&program).await["delivered"], 5);
    let mut targets: Vec<_> = new.requests().into_iter().map(|request| request.target).filter(|target| target != "/").collect();
    targets.sort();
    assert_eq!(targets, ["/least/0", "/least/1", "/least/2", "/least/3", "/least/4"]);
}

#[tokio::test]
async fn a_data_directory_that_another_one_has_is_refused_and_the_other_goes_on() {
    let backend = Backend::start().await;
    let mut first = Program::start(&configuration(&backend, "", "")).await;
    let store = format!("[store]\npath = {:?}", first.path("data/forebay.redb"));
    let config = configuration(&backend, "", "").replace("[store]", &store);
    let mut second = Program::prepare(&config, &["run", "-c", "config.toml"]);
    second.launch().await;
    // Nothing is wrong with the configuration: the same start goes well once the other one is gone.
    assert_eq!(second.ended().await.code(), Some(1));
    assert!(second.stderr().contains("is in use by another running forebay"), "{}", second.stderr());
    assert_eq!(client::fetch(first.proxy(), post("/least/1", LATER)).await.status, 202);
    assert_eq!(drained(&first).await["delivered"], 1);
    assert!(first.terminate().await.success());
    second.run().await;
    assert_eq!(second.status().await["totals"]["delivered"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_one_by_mistake_takes_no_connection_from_the_first() {
    let backend = Backend::start().await;
    // With several workers the port is shared among sockets, and whoever binds it too would get its part.
    let first = Program::start(&configuration(&backend, "workers = 4", "")).await;
    let config = configuration(&backend, "workers = 4", "")
        .replace("[store]", &format!("[store]\npath = {:?}", first.path("data/forebay.redb")))
        .replacen("127.0.0.1:0", &first.proxy().to_string(), 1);
    let (stop, address) = (Arc::new(AtomicBool::new(false)), first.proxy());
    let stopped = Arc::clone(&stop);
    let load = tokio::spawn(async move {
        while !stopped.load(SeqCst) {
            assert_eq!(client::fetch(address, client::get("/")).await.status, 200);
        }
    });
    for _ in 0..10 {
        let mut second = Program::prepare(&config, &["run", "-c", "config.toml"]);
        second.launch().await;
        assert_eq!(second.ended().await.code(), Some(1), "{}", second.stderr());
    }
    stop.store(true, SeqCst);
    load.await.unwrap();
}

#[tokio::test]
async fn an_address_that_another_program_has_is_1_and_named() {
    let backend = Backend::start().await;
    let another = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = another.local_addr().unwrap().to_string();
    for table in ["[[listeners]]", "[admin]"] {
        let config = configuration(&backend, "", "");
        let config = config.replace(&format!("{table}\naddress = \"127.0.0.1:0\""), &format!("{table}\naddress = \"{taken}\""));
        let mut program = Program::prepare(&config, &["run", "-c", "config.toml"]);
        program.launch().await;
        assert_eq!(program.ended().await.code(), Some(1), "{table}: {}", program.stderr());
        assert!(program.stderr().contains(&taken), "{}", program.stderr());
    }
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_78_and_named_with_what_to_do() {
    let backend = Backend::start().await;
    // A file in the way of the folder, one in the way of the payloads, and a file system that takes no new files, not even from root.
    for (path, named) in [("config.toml/x.redb", "config.toml"), ("x.redb", "x.redb.payloads"), ("/proc/x/x.redb", "/proc/x")] {
        let config = configuration(&backend, "", "").replace("[store]", &format!("[store]\npath = {path:?}"));
        let mut program = Program::prepare(&config, &["run", "-c", "config.toml"]);
        std::fs::write(program.path("x.redb.payloads"), "in the way").unwrap();
        program.launch().await;
        assert_eq!(program.ended().await.code(), Some(78), "{path}: {}", program.stderr());
        let said = program.stderr();
        assert!(said.contains(named) && said.contains("writable disk"), "{path}: {said}");
    }
}

#[tokio::test]
async fn wrong_usage_is_2_and_a_wrong_configuration_78() {
    for (arguments, code) in [
        (&["run", "--nonsense"][..], 2),
        (&["walk"], 2),
        (&["run", "-c", "absent.toml"], 78),
        (&["run", "-c", "config.toml"], 78),
        (&["status", "--admin", "http://127.0.0.1:1"], 1),
    ] {
        let mut program = Program::prepare("worker = 1\n", arguments);
        program.launch().await;
        assert_eq!(program.ended().await.code(), Some(code), "{arguments:?}: {}", program.stderr());
        assert!(!program.stderr().is_empty());
    }
}
