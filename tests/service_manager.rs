//! What a service manager does with forebay: it passes listening sockets that it keeps over a restart (socket activation), and is told how things stand
//! (`Type=notify`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use common::{
    backend::{Backend, Trigger, answer_when},
    client::{self, Client},
    h2::{self, Http2},
    program::Program,
    site, within,
};
use rustix::process::Signal;
use tokio::{
    net::{TcpStream, UnixDatagram},
    task::JoinSet,
};

fn configuration(backend: &Backend, listen: &str) -> String {
    // The address of the listener is the first.
    let start = site::legacy(&backend.url(), "", "").replacen("127.0.0.1:0", listen, 1);
    // What has no order need not wait for the store to be open, and nobody is turned away because answers are slow to come.
    start + "concurrency = 100\n" + &site::route("all", "/", "[routes.spill]\norder_by = \"none\"")
}

/// A socket as a service manager holds it, and where it is.
fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A request that is under way, and what lets its answer come.
async fn under_way(backend: &Backend, program: &Program) -> (Trigger, Client) {
    let held = Trigger::default();
    let trigger = held.clone();
    let before = backend.requests().len();
    backend.otherwise(move |_| answer_when(&trigger, 200, &[], "done"));
    let mut busy = Client::connect(program.proxy()).await;
    busy.send(client::get("/busy")).await;
    backend.received(before + 1).await;
    (held, busy)
}

async fn order_to_stop(program: &mut Program) {
    program.signal(Signal::TERM);
    program.logged("that the stop begins", |line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping"))).await;
}

#[tokio::test]
async fn no_request_is_refused_or_lost_while_the_program_is_restarted_on_a_passed_socket() {
    const CLIENTS: usize = 8;
    let backend = Backend::start().await;
    let (socket, address) = socket();
    let mut program = Program::prepare(&configuration(&backend, &address.to_string()), &["run", "-c", "config.toml"]);
    program.inherit(socket.into());
    program.run().await;
    assert_eq!(program.proxy(), address);

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (stop, answered) = (stop.clone(), answered.clone());
        clients.spawn(async move {
            while !stop.load(SeqCst) {
                let request = match number % 2 {
                    0 => client::get("/read"),
                    _ => client::request("POST", "/write", &[], "body"),
                };
                assert_eq!(client::fetch(address, request).await.status, 200);
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..3 {
        let before = answered.load(SeqCst);
        backend.received(backend.requests().len() + 4 * CLIENTS).await;
        assert!(program.terminate().await.success());
        program.run().await;
        assert!(answered.load(SeqCst) > before);
    }
    stop.store(true, SeqCst);
    while let Some(ended) = within("the clients' last answers", clients.join_next()).await {
        ended.unwrap();
    }
    assert_eq!(backend.requests().len(), answered.load(SeqCst), "each request was executed once");
}

#[tokio::test]
async fn a_connection_that_has_not_spoken_yet_is_heard_after_the_order_to_stop() {
    // It is waited for, though not for long: a client that came too late has to try again.
    within("a late client to be heard", async { while !is_heard_late().await {} }).await;
}

/// Tells a program to stop and then asks it on a connection that it has already: whether that was in time.
async fn is_heard_late() -> bool {
    let backend = Backend::start().await;
    let mut program = Program::start(&format!("workers = 1\n{}", configuration(&backend, "127.0.0.1:0"))).await;
    let mut late = Client::connect(program.proxy()).await;
    let mut idle = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
    assert_eq!(idle.exchange(h2::get("/idle"), "").await.unwrap().status, 200);
    let (held, mut busy) = under_way(&backend, &program).await;
    order_to_stop(&mut program).await;
    // Were it ended at once, it would be by now: this one is, after some words to and fro with the only worker.
    within("the end of an idle connection", idle.connection).await.unwrap().unwrap();
    let sent = late.try_send(client::request("POST", "/late", &[], "body")).await;
    held.release();
    let answer = late.try_response().await;
    let is_heard = sent.is_ok() && answer.is_ok();
    assert_eq!(backend.requests().len(), 2 + usize::from(is_heard));
    for answer in [busy.response().await].into_iter().chain(answer) {
        assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    }
    for client in [&mut busy, &mut late] {
        client.closed().await;
    }
    assert!(program.ended().await.success());
    is_heard
}

#[tokio::test]
async fn a_passed_socket_that_nothing_listens_on_is_a_bad_configuration_and_named() {
    let backend = Backend::start().await;
    let (socket, address) = socket();
    let mut program = Program::prepare(&configuration(&backend, "127.0.0.1:0"), &["run", "-c", "config.toml"]);
    program.inherit(socket.into());
    program.launch().await;
    assert_eq!(program.ended().await.code(), Some(78));
    let log = program.stderr();
    assert!(log.contains(&address.to_string()) && log.contains("[[listeners]]") && log.contains(".socket"), "{log}");
}

/// The end at which a service manager listens.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// The next thing it is told that is not a sign of life.
    async fn told(&self) -> String {
        loop {
            let told = self.heard().await;
            if told.trim() != "WATCHDOG=1" {
                return told;
            }
        }
    }

    async fn heard(&self) -> String {
        let mut bytes = [0; 1024];
        let length = within("the service manager to be told", self.0.recv(&mut bytes)).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn the_manager_is_told_ready_reloading_and_stopping_and_that_the_program_is_alive() {
    let backend = Backend::start().await;
    let good = configuration(&backend, "127.0.0.1:0");
    let mut program = Program::prepare(&good, &["run", "-c", "config.toml"]);
    let manager = Manager::listen(&program.path("notify"));
    program.variable("NOTIFY_SOCKET", program.path("notify").to_str().unwrap());
    program.variable("WATCHDOG_USEC", "20000");
    program.run().await;
    assert!(manager.told().await.starts_with("READY=1\n"));
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200, "ready means that it answers");

    for (configuration, outcome) in [(good.as_str(), "carrying traffic\n"), ("nonsense", "the old configuration")] {
        program.configure(configuration);
        program.signal(Signal::HUP);
        let told = manager.told().await;
        assert!(told.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told}");
        let told = manager.told().await;
        assert!(told.starts_with("READY=1\n") && told.contains(outcome), "{told}");
    }
    while manager.heard().await.trim() != "WATCHDOG=1" {}

    program.signal(Signal::TERM);
    let told = manager.told().await;
    assert!(told.starts_with("STOPPING=1\n") && told.contains("EXTEND_TIMEOUT_USEC=32000000"), "{told}");
    assert!(program.ended().await.success());
}

#[tokio::test]
async fn a_manager_that_does_not_read_holds_up_neither_a_start_nor_a_reload_nor_a_stop_and_hears_of_them_in_order() {
    let backend = Backend::start().await;
    let good = configuration(&backend, "127.0.0.1:0");
    let mut program = Program::prepare(&good, &["run", "-c", "config.toml"]);
    let manager = Manager::listen(&program.path("notify"));
    let full = UnixDatagram::unbound().unwrap();
    full.connect(program.path("notify")).unwrap();
    let fill = async || {
        // What is sent from here on and what was sent by others fill it together.
        full.writable().await.unwrap();
        while full.try_send(b"FULL=1").is_ok() {}
    };
    program.variable("NOTIFY_SOCKET", program.path("notify").to_str().unwrap());

    fill().await;
    program.run().await;
    program.reload(&good).await;
    let (held, mut busy) = under_way(&backend, &program).await;
    order_to_stop(&mut program).await;
    for expected in ["READY=1\n", "RELOADING=1\n", "READY=1\n", "STOPPING=1\n"] {
        let mut told = manager.told().await;
        while told == "FULL=1" {
            told = manager.told().await;
        }
        assert!(told.starts_with(expected), "{told} in place of {expected}");
    }
    held.release();
    assert_eq!(busy.response().await.status, 200);
    assert!(program.ended().await.success());

    fill().await;
    program.run().await;
    assert!(program.terminate().await.success(), "it ends also when nobody ever reads");
}
