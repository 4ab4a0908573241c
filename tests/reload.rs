//! HUP changes everything but the store, the threads and the logs, and nobody who is being served notices.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use common::{
    backend::{Backend, Trigger, answer_when},
    client::{self, Client},
    h2::{self, Http2},
    program::Program,
    secure::Certificate,
    site::Site,
    within,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

/// How requests went.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Tally {
    /// Resolves when so many have ended.
    async fn reaches(&self, count: usize) {
        while self.answered.load(Relaxed) + self.failed.load(Relaxed) < count {
            tokio::task::yield_now().await;
        }
    }

    fn count(&self, answer: std::io::Result<client::Response>) {
        let good = answer.is_ok_and(|answer| answer.status == 200 && answer.complete);
        if good { &self.answered } else { &self.failed }.fetch_add(1, Relaxed);
    }
}

/// Asks until round `last`, on one connection or on a new one for each request.
async fn ask(address: SocketAddr, keep: bool, tally: Arc<Tally>, round: watch::Receiver<usize>, last: usize) {
    let mut kept = None;
    while *round.borrow() < last {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Client::connect(address).await,
        };
        let sent = client.try_send(client::get("/a")).await;
        tally.count(match sent {
            Ok(()) => client.try_response().await,
            Err(error) => Err(error),
        });
        kept = keep.then_some(client);
    }
}

/// Uploads one piece in each round.
async fn upload(address: SocketAddr, tally: Arc<Tally>, mut round: watch::Receiver<usize>, last: usize) {
    let mut client = Client::connect(address).await;
    client.send(format!("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", last * 1000)).await;
    for next in 1..=last {
        within("the next round", round.wait_for(|now| *now >= next)).await.unwrap();
        if client.try_send([b'x'; 1000]).await.is_err() {
            break;
        }
    }
    tally.count(client.try_response().await);
}

/// One of two configurations that differ in all that a reload changes, but the first listener.
fn site(backend: &Backend, odd: bool) -> String {
    let site = Site::of(&[backend.url()]).top("workers = 2").route("upload", "/upload", "[routes.spill]");
    if odd {
        let site = site.clients("idle_timeout = \"50s\"\nrate = \"1000000/s\"").backend("response_timeout = \"20s\"\nconcurrency = 500");
        site.route("all", "/", "").route("more", "/a", "concurrency = 400").listener("127.0.0.2:0").to_string()
    } else {
        site.backend("concurrency = 100").route("all", "/", "").to_string()
    }
}

#[tokio::test]
async fn twenty_reloads_under_load_fail_no_request() {
    const ROUNDS: usize = 20;
    let backend = Backend::start().await;
    let program = Program::start(&site(&backend, false)).await;
    let (tell, round) = watch::channel(0);
    let tallies: [Arc<Tally>; 3] = Default::default();
    let [kept, new, uploads] = &tallies;
    let mut load = JoinSet::new();
    for _ in 0..3 {
        load.spawn(ask(program.proxy(), true, kept.clone(), round.clone(), ROUNDS));
        load.spawn(ask(program.proxy(), false, new.clone(), round.clone(), ROUNDS));
        load.spawn(upload(program.proxy(), uploads.clone(), round.clone(), ROUNDS));
    }
    for number in 1..=ROUNDS {
        program.reload(&site(&backend, number % 2 == 1)).await;
        // Requests on either kind of connection go through every one of them.
        within("load", kept.reaches(number * 25)).await;
        within("load", new.reaches(number * 25)).await;
        tell.send_replace(number);
    }
    while let Some(ended) = within("the end of the load", load.join_next()).await {
        ended.unwrap();
    }
    for (name, tally) in ["kept", "new", "uploads"].iter().zip(&tallies) {
        let (answered, failed) = (tally.answered.load(Relaxed), tally.failed.load(Relaxed));
        eprintln!("{name}: {answered} answered, {failed} failed");
        assert!(failed == 0 && answered >= 3, "{name}: {answered} answered, {failed} failed; {}", program.stderr());
    }
}

#[tokio::test]
async fn a_backend_has_no_more_requests_than_its_limit_over_a_reload_that_changes_it() {
    let backend = Backend::start().await;
    let site = |timeout| Site::passing(backend.url()).backend(&format!("concurrency = 1\nresponse_timeout = \"{timeout}\"")).to_string();
    let program = Program::start(&site("30s")).await;
    let trigger = Trigger::default();
    backend.next(answer_when(&trigger, 200, &[], "first"));
    let mut first = Client::connect(program.proxy()).await;
    first.send(client::get("/")).await;
    backend.received(1).await;
    program.reload(&site("20s")).await;
    // Nobody leaves while the second one waits, so it is sent away.
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 503);
    trigger.release();
    assert_eq!(first.response().await.text(), "first");
    assert_eq!(backend.requests().len(), 1);
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
}

#[tokio::test]
async fn what_is_being_delivered_is_finished_over_a_reload_however_long_it_takes() {
    let backend = Backend::start().await;
    let site = |timeout| {
        let lines = format!("response_timeout = \"{timeout}\"");
        let site = Site::spilling(backend.url(), "when = \"always\"\ndelivery = \"at-most-once\"").backend(&lines);
        site.clients("header_timeout = \"300ms\"").top("workers = 1\ndrain_timeout = \"100ms\"").to_string()
    };
    let program = Program::start(&site("30s")).await;
    let trigger = Trigger::default();
    backend.next(answer_when(&trigger, 200, &[], "done"));
    let id = client::answered(program.proxy(), client::request("POST", "/", &[], "order")).await.1.id();
    backend.received(1).await;
    program.reload(&site("20s")).await;
    // More than `drain_timeout` has passed when who says nothing has been sent away.
    Client::connect(program.proxy()).await.closed().await;
    trigger.release();
    program.becomes(&id, "delivered").await;
    assert_eq!(backend.requests().len(), 1);
}

/// Where it listens at this host, which may have come with its last reload.
async fn new_address(program: &Program, host: &str) -> SocketAddr {
    let at = |line: &Value| line["message"] == "listening" && line["address"].as_str().is_some_and(|at| at.starts_with(host));
    program.logged("a new listener", at).await["address"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn listeners_come_and_go_and_who_is_on_one_that_stays_does_not_notice() {
    let backend = Backend::start().await;
    let one = || Site::passing(backend.url());
    let program = Program::start(&one().to_string()).await;
    let mut first = Client::connect(program.proxy()).await;
    assert_eq!(first.exchange(client::get("/")).await.status, 200);

    program.reload(&one().listener("127.0.0.2:0").listener("unix:forebay.sock").to_string()).await;
    let second = new_address(&program, "127.0.0.2:").await;
    let mut kept = Client::connect(second).await;
    assert_eq!(kept.exchange(client::get("/")).await.status, 200);
    assert!(program.path("forebay.sock").exists());

    program.reload(&one().to_string()).await;
    let refused = async { while Client::try_connect(second).await.is_ok() {} };
    within("the listener to be gone", refused).await;
    assert!(!program.path("forebay.sock").exists());
    kept.closed().await;
    assert_eq!(first.exchange(client::get("/")).await.status, 200);
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
}

#[tokio::test]
async fn who_is_on_a_listener_that_goes_gets_what_it_has_asked_for_and_is_told_to_go() {
    let backend = Backend::start().await;
    let one = || Site::passing(backend.url());
    let program = Program::start(&one().listener("127.0.0.2:0").to_string()).await;
    let gone = new_address(&program, "127.0.0.2:").await;
    let trigger = Trigger::default();
    let held = trigger.clone();
    backend.otherwise(move |_| answer_when(&held, 200, &[], "late"));
    let mut idle = Client::connect(gone).await;
    let mut busy = Client::connect(gone).await;
    busy.send(client::get("/busy")).await;
    let mut second = Http2::over(TcpStream::connect(gone).await.unwrap()).await;
    let streamed = second.send(h2::get("/streamed"), "").await;
    let mut elsewhere = Client::connect(program.proxy()).await;
    elsewhere.send(client::get("/elsewhere")).await;
    backend.received(3).await;

    program.reload(&one().to_string()).await;
    idle.closed().await;
    let farewell = async {
        while second.sender.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("a GOAWAY", farewell).await;
    trigger.release();
    let last = busy.response().await;
    assert_eq!((last.status, last.text(), last.field("connection")), (200, "late", Some("close")));
    busy.closed().await;
    let last = h2::whole(within("the answer", streamed).await.unwrap()).await.unwrap();
    assert_eq!((last.status, last.text()), (200, "late"));
    within("the end of the connection", second.connection).await.unwrap().unwrap();
    let other = elsewhere.response().await;
    assert_eq!((other.status, other.field("connection")), (200, None), "what came by another listener goes on");
    assert_eq!(elsewhere.exchange(client::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_listener_moves_to_an_address_that_overlaps_with_its_own_and_back() {
    for workers in [1, 2] {
        let backend = Backend::start().await;
        let program = Program::start(&Site::passing(backend.url()).top(&format!("workers = {workers}")).to_string()).await;
        let at = |address: SocketAddr| {
            Site::passing(backend.url())
                .top(&format!("workers = {workers}"))
                .to_string()
                .replace("127.0.0.1:0\"\n\n", &format!("{address}\"\n\n"))
        };
        let narrow = program.proxy();
        let wide: SocketAddr = ([0, 0, 0, 0], narrow.port()).into();
        for (address, elsewhere) in [(wide, true), (narrow, false), (wide, true)] {
            program.reload(&at(address)).await;
            assert_eq!(client::fetch(narrow, client::get("/")).await.status, 200, "{address}");
            let other = SocketAddr::from(([127, 0, 0, 2], narrow.port()));
            let settled = async { while Client::try_connect(other).await.is_ok() != elsewhere {} };
            within("the old listener to be gone", settled).await;
        }
    }
}

#[tokio::test]
async fn a_port_on_which_another_forebay_listens_is_refused() {
    let backend = Backend::start().await;
    for workers in [1, 2] {
        let site = Site::passing(backend.url()).top(&format!("workers = {workers}")).to_string();
        let first = Program::start(&site).await;
        let taken = site.replace("127.0.0.1:0\"\n\n", &format!("{}\"\n\n", first.proxy()));
        assert_ne!(taken, site);
        let mut second = Program::prepare(&taken, &["run", "-c", "config.toml"]);
        second.launch().await;
        assert_eq!(second.ended().await.code(), Some(1));
        assert!(second.stderr().contains(&format!("cannot listen on {}", first.proxy())), "{}", second.stderr());
    }
}

#[tokio::test]
async fn a_listener_begins_to_speak_tls_and_ceases_to_without_losing_who_is_there() {
    let backend = Backend::start().await;
    let certificate = Certificate::of(&["a.test"]);
    let plain = Site::passing(backend.url());
    let secure = plain.clone().listening("tls = { cert_file = \"a.crt\", key_file = \"a.key\" }");
    let program = Program::start(&plain.to_string()).await;
    certificate.write(program.directory(), "a");
    let mut before = Client::connect(program.proxy()).await;
    assert_eq!(before.exchange(client::get("/")).await.status, 200);

    program.reload(&secure.to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 400, "plain HTTP on a port of TLS");
    let mut stream = certificate.connect(program.proxy(), "a.test", &["http/1.1"]).await.unwrap();
    stream.write_all(&client::get("/")).await.unwrap();
    let mut status = [0; 12];
    within("an answer", stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    assert_eq!(before.exchange(client::get("/")).await.status, 200);

    program.reload(&plain.to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_reload_that_cannot_listen_changes_nothing() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Site::of(&[backend.url()]).route("all", "/other", "").listener(&taken.local_addr().unwrap().to_string());
    program.configure(&other.to_string());
    program.signal(Signal::HUP);
    let line =
        program.logged("the refusal", |line| line["message"].as_str().is_some_and(|text| text.contains("has not been reloaded"))).await;
    assert!(line["message"].as_str().unwrap().contains(&taken.local_addr().unwrap().to_string()), "{line}");
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200, "the old routes are in force");
    let metrics = client::fetch(program.admin(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(metrics.text().contains("forebay_config_last_reload_successful 0\n"), "{}", metrics.text());
    drop(taken);
    program.reload(&Site::of(&[backend.url()]).route("all", "/other", "").to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 404);
}
