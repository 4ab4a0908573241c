//! Calls of gRPC on a route that spills: they stream both ways as on any other, none is queued, and what is wrong is said as their clients read it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{
    backend::{Backend, Step, answer, reset_after_reading},
    client,
    h2::{Http2, whole},
    program::Program,
    site::Site,
    within,
};
use http::Request;
use tokio::net::TcpStream;

fn call() -> http::request::Builder {
    Request::post("http://test/pkg.Service/Call").header("content-type", "application/grpc+proto").header("te", "trailers")
}

async fn start(backend: &Backend, spill: &str) -> (Program, Http2) {
    let program = Program::start(&Site::spilling(backend.url(), spill).to_string()).await;
    let client = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
    (program, client)
}

#[tokio::test]
async fn the_server_hears_a_call_and_answers_before_its_client_has_said_all() {
    let backend = Backend::start().await;
    let (_program, client) = start(&backend, "").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 2\r\n\r\nok";
    backend.next(vec![Step::ReadHead, Step::Write(head.into()), Step::Read]);
    let mut sender = within("room for a stream", client.sender.clone().ready()).await.unwrap();
    let (response, mut stream) = sender.send_request(call().body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"first"), false).unwrap();
    let answer = whole(within("an answer to a call that goes on", response).await.unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

#[tokio::test]
async fn a_call_is_never_queued_and_its_client_reads_why_it_was_not_served() {
    let mut backend = Backend::start().await;
    let (program, mut client) = start(&backend, "delivery = \"at-least-once\"\nwhen = \"always\"").await;
    assert_eq!(client.exchange(call(), "order").await.unwrap().text(), "ok", "there is nothing else that could be done with it");
    backend.stop().await;
    let down = client.exchange(call(), "order").await.unwrap();
    assert_eq!((down.status, down.field("grpc-status"), down.field("content-type")), (200, Some("14"), Some("application/grpc")));
    assert!(down.field("grpc-message").unwrap().starts_with("503 Service Unavailable: forebay; error="), "{:?}", down.headers);
    assert_eq!((down.text(), down.field("forebay-id")), ("", None));
    assert!(down.field("retry-after").is_some());
    // Over HTTP/1.1 there are no calls but those of gRPC-Web, whose clients read the status of HTTP.
    let web = client::request("POST", "/", &["Content-Type: application/grpc-web+proto"], "order");
    assert_eq!(client::fetch(program.proxy(), web).await.status, 503);
    assert_eq!(program.status().await["totals"]["accepted"], 0);
}

#[tokio::test]
async fn a_call_that_may_have_been_executed_is_not_told_to_be_made_again() {
    let backend = Backend::start().await;
    let (_program, mut client) = start(&backend, "").await;
    backend.next(reset_after_reading());
    assert_eq!(client.exchange(call(), "order").await.unwrap().field("grpc-status"), Some("2"));
    // What the server itself says goes on as it is.
    backend.next(answer(503, &[], "theirs"));
    let theirs = client.exchange(call(), "order").await.unwrap();
    assert_eq!((theirs.status, theirs.text(), theirs.field("grpc-status")), (503, "theirs", None));
}
