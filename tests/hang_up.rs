//! A client that goes away before its answer: what had arrived whole is delivered or queued, what had not is neither.

mod common;

use common::{
    backend::{self, Backend, Step, Trigger},
    client::{self, Client},
    program::Program,
    site::Site,
};

/// It says when it has noticed that a client is gone.
async fn start(backend: &Backend, spill: &str) -> Program {
    Program::start(&Site::spilling(backend.url(), spill).top("workers = 1\nlog.level = \"debug\"").to_string()).await
}

/// Goes away, and resolves when the program has noticed that so many have.
async fn leave(client: Client, program: &Program, gone: usize) {
    client.abort();
    program.logged_times("the end of a client's connection", gone, |line| line["message"] == "a client's connection broke").await;
}

#[tokio::test]
async fn a_write_under_way_is_not_sent_twice_because_its_client_left() {
    let backend = Backend::start().await;
    let mut program = start(&backend, "").await;
    let trigger = Trigger::default();
    backend.next(backend::answer_when(&trigger, 200, &[], "done"));
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::request("POST", "/", &[], "order")).await;
    backend.received(1).await;
    leave(client, &program, 1).await;
    trigger.release();
    program.terminate().await;
    program.run().await;
    let totals = &program.status().await["totals"];
    assert_eq!((&totals["accepted"], backend.requests().len()), (&0.into(), 1), "it was delivered, live");
}

#[tokio::test]
async fn a_write_whose_attempt_fails_after_its_client_left_is_rescued() {
    let backend = Backend::start().await;
    let program = start(&backend, "").await;
    let trigger = Trigger::default();
    backend.next(vec![Step::Read, Step::Wait(trigger.clone()), Step::Reset]);
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::request("POST", "/", &[], "order")).await;
    backend.received(1).await;
    leave(client, &program, 1).await;
    trigger.release();
    let requests = backend.received(2).await;
    assert_eq!((&requests[1].body.content[..], requests[1].field("forebay-reason")), (&b"order"[..], Some("rescued")));
}

#[tokio::test]
async fn a_write_that_was_not_whole_is_nowhere() {
    let backend = Backend::start().await;
    let mut program = start(&backend, "when = \"always\"").await;
    for (gone, (framing, half)) in (1..).zip([("Content-Length: 10", "half"), ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")]) {
        let mut client = Client::connect(program.proxy()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n{framing}\r\n\r\n")).await;
        assert_eq!(client.head().await.status, 100, "it is being read");
        client.send(half).await;
        leave(client, &program, gone).await;
    }
    program.terminate().await;
    program.run().await;
    assert_eq!(program.status().await["totals"]["accepted"], 0);
    assert_eq!(backend.requests(), []);
}
