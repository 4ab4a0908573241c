//! Clients and servers that write frames of HTTP/2 which no library would: nothing of a malformed message looks whole to the other side.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{
    backend::Backend,
    client,
    frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, block, frame, heard, serving},
    program::Program,
    site::Site,
    within,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// What begins the answer to these frames on a new connection, which may be that there is none.
async fn told(program: &Program, frames: &[Vec<u8>]) -> u8 {
    let mut stream = TcpStream::connect(program.proxy()).await.unwrap();
    stream.write_all(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat()).await.unwrap();
    loop {
        match heard(&mut stream).await {
            Ok((head, _)) if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) => return head[3],
            Ok(_) => {}
            Err(_) => return GOAWAY,
        }
    }
}

const PSEUDO: [(&str, &str); 3] = [(":scheme", "http"), (":authority", "test"), (":path", "/")];

/// The head of a request with one more field.
fn head(method: &str, field: (&str, &str)) -> Vec<u8> {
    block(&[&[(":method", method)], &PSEUDO[..], &[field]].concat())
}

#[tokio::test]
async fn a_field_that_http2_must_not_have_gets_no_further() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    for (name, value) in [
        ("accept", "*/*"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("X-Capital", "1"),
        ("x-split", "1\r\nx-forged: 2"),
        ("x split", "1"),
        (":path", "/second"),
        (":forged", "1"),
    ] {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", (name, value)));
        assert_eq!(within(name, told(&program, &[head])).await == HEADERS, name == "accept", "{name}");
    }
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_longer_than_its_request_says_is_not_taken_for_whole() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    for (length, parts, answered) in [
        ("4", ["bo", "dy"], true),
        ("0", ["", ""], true),
        ("2", ["bo", "dy"], false),
        ("0", ["", "body"], false),
        ("0", ["body", ""], false),
    ] {
        let head = frame(HEADERS, END_HEADERS, 1, &head("POST", ("content-length", length)));
        let [first, second] = parts.map(str::as_bytes);
        let frames = [head, frame(DATA, 0, 1, first), frame(DATA, END_STREAM, 1, second)];
        assert_eq!(within(length, told(&program, &frames)).await == HEADERS, answered, "{length} {parts:?}");
    }
    let whole: Vec<_> =
        backend.requests().into_iter().filter(|request| request.body.complete).map(|request| request.body.content).collect();
    assert_eq!(whole, [&b"body"[..], b""]);
}

async fn before(url: String) -> Program {
    Program::start(&Site::passing(url).backend("protocol = \"h2c\"").to_string()).await
}

#[tokio::test]
async fn a_malformed_answer_is_502_and_its_request_is_not_sent_again() {
    let answer = |number, stream| {
        let fields = [(":status", "200"), ("connection", "close")];
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(if number == 1 { &fields } else { &fields[..1] }))
    };
    let (url, asked) = serving(answer).await;
    let program = before(url).await;
    for (count, status) in [(1, 200), (2, 502), (3, 200)] {
        assert_eq!((client::fetch(program.proxy(), client::get("/")).await.status, asked.load(SeqCst)), (status, count));
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_in_its_middle_is_seen_to_break_off_also_without_an_error() {
    const NO_ERROR: [u8; 4] = [0; 4];
    let answer = |_, stream| {
        let head = frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")]));
        [head, frame(DATA, 0, stream, b"half"), frame(RST_STREAM, 0, stream, &NO_ERROR)].concat()
    };
    let program = before(serving(answer).await.0).await;
    let mut client = client::Client::connect(program.proxy()).await;
    client.send(client::get("/")).await;
    assert!(!client.try_response().await.is_ok_and(|response| response.complete));
}
