//! Connections that become something else than HTTP, and answers that have no end: WebSockets and other upgrades, server-sent events, long polling.

mod common;

use common::{
    backend::{self, Act, Backend, Step, Trigger},
    client::{self, Client, Response},
    program::Program,
    site::Site,
};
use rustix::process::Signal;

/// The handshake of RFC 6455 section 1.2.
const HANDSHAKE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Version: 13\r\n\r\n";

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// "Hello" in one masked frame, and the answer in one that is not (RFC 6455 section 5.7).
const FROM_CLIENT: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
const FROM_SERVER: &[u8] = b"\x81\x05Hello";

async fn started(site: impl FnOnce(Site) -> Site) -> (Backend, Program) {
    let backend = Backend::start().await;
    let program = Program::start(&site(Site::passing(backend.url())).to_string()).await;
    (backend, program)
}

fn write(bytes: impl AsRef<[u8]>) -> Step {
    Step::Write(bytes.as_ref().to_vec())
}

fn hear(bytes: &[u8]) -> Step {
    Step::Hear(bytes.to_vec())
}

/// Agrees, hears one frame and answers it, and then waits.
fn chat(then: &Trigger) -> Act {
    vec![Step::Read, write(AGREED), hear(FROM_CLIENT), write(FROM_SERVER), Step::Wait(then.clone()), Step::Close]
}

async fn open(program: &Program) -> (Client, Response) {
    let mut client = Client::connect(program.proxy()).await;
    client.send(HANDSHAKE).await;
    let agreed = client.head().await;
    (client, agreed)
}

async fn in_flight(program: &Program) -> serde_json::Value {
    program.status().await["backends"][0]["in_flight"].clone()
}

#[tokio::test]
async fn a_websocket_passes_both_ways_and_ends_with_its_server() {
    let (backend, program) = started(|site| site.top("workers = 1\nlog.access = \"stdout\"")).await;
    let end = Trigger::default();
    backend.next(chat(&end));
    let (mut client, agreed) = open(&program).await;
    assert_eq!(agreed.status, 101);
    let field = |name| agreed.field(name);
    assert_eq!((field("upgrade"), field("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!((field("sec-websocket-accept"), field("sec-websocket-protocol")), (Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Some("chat")));
    client.send(FROM_CLIENT).await;
    assert_eq!(client.bytes(FROM_SERVER.len()).await, FROM_SERVER);
    let request = &backend.received(1).await[0];
    assert_eq!(
        (request.target.as_str(), request.field("upgrade"), request.field("connection")),
        ("/chat?room=1", Some("websocket"), Some("Upgrade"))
    );
    assert_eq!(request.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(request.has_letters("Sec-WebSocket-Key"));
    // Its line is written when it has ended: that of a request that began later comes first.
    assert_eq!(client::fetch(program.proxy(), client::get("/other")).await.status, 200);
    assert_eq!(program.printed(0, "a line of the access log").await["target"], "/other");
    end.pull(1);
    client.ended().await;
    drop(client);
    let line = program.printed(1, "the next line").await;
    assert_eq!((&line["status"], &line["bytes_sent"]), (&101.into(), &FROM_SERVER.len().into()));
}

#[tokio::test]
async fn a_websocket_ends_with_its_client() {
    let (backend, program) = started(|site| site).await;
    backend.next(vec![Step::Read, write(AGREED), hear(b"bye"), Step::Read]);
    let (mut client, _) = open(&program).await;
    client.send("bye").await;
    client.half_close().await;
    // The backend takes the end of the stream for the end of the connection.
    client.ended().await;
    backend.disconnected().await;
}

#[tokio::test]
async fn what_comes_behind_an_upgrade_is_a_request_of_its_own_until_the_server_agrees() {
    let (backend, program) = started(|site| site).await;
    let go = Trigger::default();
    backend.next(vec![Step::ReadHead, Step::Wait(go.clone()), write(backend::response(403, &[], "no")), Step::Read]);
    let mut client = Client::connect(program.proxy()).await;
    client.send([HANDSHAKE.as_bytes(), b"GET /hidden HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"].concat()).await;
    go.pull(1);
    assert_eq!((client.response().await.status, client.response().await.status), (403, 200));
    let requests = backend.received(2).await;
    assert_eq!(requests[1].target, "/hidden");
    assert_eq!(requests[1].field("x-forwarded-for"), Some("127.0.0.1"), "it went through us, and was not just carried");
}

#[tokio::test]
async fn an_upgrade_within_which_http_would_go_on_is_never_passed_on() {
    let (backend, program) = started(|site| site).await;
    for protocol in ["h2c", "H2C", "HTTP/2.0", "TLS/1.2", "h2c, HTTP/1.1"] {
        let fields = ["Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__", &format!("Upgrade: {protocol}")];
        assert_eq!(client::fetch(program.proxy(), client::request("GET", "/", &fields, "")).await.status, 200, "{protocol}");
        let request = backend.requests().pop().unwrap();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(request.field(name), None, "{protocol}");
        }
    }
    let both = ["Connection: upgrade", "Upgrade: h2c, websocket"];
    assert_eq!(client::fetch(program.proxy(), client::request("GET", "/", &both, "")).await.status, 200);
    assert_eq!(backend.requests().pop().unwrap().field("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn an_upgrade_that_comes_with_a_body_is_served_without_it() {
    let (backend, program) = started(|site| site).await;
    let response =
        client::fetch(program.proxy(), client::request("POST", "/", &["Connection: upgrade", "Upgrade: websocket"], "body")).await;
    let request = backend.requests().pop().unwrap();
    assert_eq!((response.status, request.field("upgrade"), &request.body.content[..]), (200, None, &b"body"[..]));
}

#[tokio::test]
async fn a_server_that_switches_to_what_was_not_asked_for_gives_no_valid_answer() {
    let (backend, program) = started(|site| site).await;
    for (request, answer) in [
        (client::get("/"), AGREED.to_owned()),
        (HANDSHAKE.into(), AGREED.replacen("websocket", "h2c", 1)),
        (HANDSHAKE.into(), "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned()),
    ] {
        backend.next(backend::bytes(&answer));
        assert_eq!(client::fetch(program.proxy(), request).await.status, 502, "{answer}");
    }
}

#[tokio::test]
async fn open_websockets_and_event_streams_take_no_place_of_an_adaptive_limit_and_take_theirs_of_a_number() {
    for (concurrency, taken) in [("concurrency = \"adaptive\"", 0), ("concurrency = 2", 2)] {
        let (backend, program) = started(|site| site.backend(concurrency)).await;
        let end = Trigger::default();
        let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        backend.next(chat(&end)).next(vec![Step::Read, write(events), Step::Wait(end.clone()), write("0\r\n\r\n")]);
        let (mut socket, _) = open(&program).await;
        let mut stream = Client::connect(program.proxy()).await;
        stream.send(client::get("/events")).await;
        stream.head().await;
        assert_eq!(in_flight(&program).await, taken, "{concurrency}");
        let more = client::fetch(program.proxy(), client::get("/")).await;
        assert_eq!(more.status, if taken == 0 { 200 } else { 503 }, "{concurrency}");
        socket.send(FROM_CLIENT).await;
        socket.bytes(FROM_SERVER.len()).await;
        end.release();
        socket.ended().await;
        assert_eq!(stream.bytes(5).await, b"0\r\n\r\n");
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    }
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    let (backend, program) = started(|site| site).await;
    let next = Trigger::default();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let event = |step: &'static str| [Step::Wait(next.clone()), write(step)];
    backend.next(
        [vec![Step::Read, write(head)], [event("9\r\ndata: 1\n\n\r\n"), event("9\r\ndata: 2\n\n\r\n"), event("0\r\n\r\n")].concat()]
            .concat(),
    );
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::get("/events")).await;
    assert_eq!(client.head().await.field("content-type"), Some("text/event-stream"));
    for expected in ["9\r\ndata: 1\n\n\r\n", "9\r\ndata: 2\n\n\r\n", "0\r\n\r\n"] {
        next.pull(1);
        assert_eq!(client.bytes(expected.len()).await, expected.as_bytes());
    }
}

/// The program with an open websocket, told to stop.
async fn stopping(drain_timeout: &str) -> (Backend, Program, Client) {
    let (backend, program) = started(|site| site.top(&format!("workers = 1\ndrain_timeout = \"{drain_timeout}\""))).await;
    backend.next(chat(&Trigger::default()));
    let (client, _) = open(&program).await;
    program.signal(Signal::TERM);
    program.logged("the stop to begin", |line| line["message"].as_str().is_some_and(|message| message.starts_with("stopping"))).await;
    (backend, program, client)
}

#[tokio::test]
async fn a_stop_leaves_a_websocket_alone() {
    let (_backend, mut program, mut client) = stopping("1h").await;
    client.send(FROM_CLIENT).await;
    assert_eq!(client.bytes(FROM_SERVER.len()).await, FROM_SERVER);
    program.terminate().await;
    client.closed().await;
}

#[tokio::test]
async fn the_deadline_of_a_stop_ends_a_websocket() {
    let (_backend, mut program, mut client) = stopping("100ms").await;
    client.closed().await;
    assert!(program.ended().await.success());
}
