//! Clients and servers that write frames of HTTP/2 which no library would: nothing of a malformed message looks whole to the other side.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use common::{backend::Backend, client, program::Program, site::Site, within};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A field as a literal that is not remembered (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// What begins the answer to these frames on a new connection, which may be that there is none.
async fn told(program: &Program, frames: &[Vec<u8>]) -> u8 {
    let mut stream = TcpStream::connect(program.proxy()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[frame(SETTINGS, 0, 0, &[]), frames.concat()].concat()).await.unwrap();
    loop {
        match heard(&mut stream).await {
            Ok(head) if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) => return head[3],
            Ok(_) => {}
            Err(_) => return GOAWAY,
        }
    }
}

/// The head of the next frame, whose payload is read over.
async fn heard(stream: &mut TcpStream) -> io::Result<[u8; 9]> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
    stream.read_exact(&mut payload).await?;
    Ok(head)
}

fn pseudo(method: &str) -> Vec<u8> {
    [field(":method", method), field(":scheme", "http"), field(":authority", "test"), field(":path", "/")].concat()
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
        let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &[pseudo("GET"), field(name, value)].concat());
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
        let head = frame(HEADERS, END_HEADERS, 1, &[pseudo("POST"), field("content-length", length)].concat());
        let [first, second] = parts.map(str::as_bytes);
        let frames = [head, frame(DATA, 0, 1, first), frame(DATA, END_STREAM, 1, second)];
        assert_eq!(within(length, told(&program, &frames)).await == HEADERS, answered, "{length} {parts:?}");
    }
    let whole: Vec<_> =
        backend.requests().into_iter().filter(|request| request.body.complete).map(|request| request.body.content).collect();
    assert_eq!(whole, [&b"body"[..], b""]);
}

/// A server that answers each request with the next of these fields; how many it has had.
async fn serving(answers: Vec<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let asked_here = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            while let Ok(head) = heard(&mut stream).await {
                let said = match head[3] {
                    HEADERS => frame(HEADERS, END_STREAM | END_HEADERS, head[8], &answers[asked_here.fetch_add(1, SeqCst)]),
                    SETTINGS if head[4] == 0 => frame(SETTINGS, 1, 0, &[]),
                    _ => continue,
                };
                stream.write_all(&said).await.unwrap();
            }
        }
    });
    (url, asked)
}

#[tokio::test]
async fn a_malformed_answer_is_502_and_its_request_is_not_sent_again() {
    let good = field(":status", "200");
    let malformed = [good.clone(), field("connection", "close")].concat();
    let (url, asked) = serving(vec![good.clone(), malformed, good]).await;
    let program = Program::start(&Site::passing(url).backend("protocol = \"h2c\"").to_string()).await;
    for (count, status) in [(1, 200), (2, 502), (3, 200)] {
        assert_eq!((client::fetch(program.proxy(), client::get("/")).await.status, asked.load(SeqCst)), (status, count));
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_in_its_middle_is_seen_to_break_off_whatever_the_reason() {
    const NO_ERROR: [u8; 4] = [0; 4];
    let head = field(":status", "200");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            while let Ok(asked) = heard(&mut stream).await {
                let stream_id = asked[8];
                let said = match asked[3] {
                    HEADERS => [
                        frame(HEADERS, END_HEADERS, stream_id, &head),
                        frame(DATA, 0, stream_id, b"half"),
                        frame(RST_STREAM, 0, stream_id, &NO_ERROR),
                    ]
                    .concat(),
                    SETTINGS if asked[4] == 0 => frame(SETTINGS, 1, 0, &[]),
                    _ => continue,
                };
                stream.write_all(&said).await.unwrap();
            }
        }
    });
    let program = Program::start(&Site::passing(url).backend("protocol = \"h2c\"").to_string()).await;
    let mut client = client::Client::connect(program.proxy()).await;
    client.send(client::get("/")).await;
    assert!(!client.try_response().await.is_ok_and(|response| response.complete));
}
