//! Clients that speak HTTP/2 without TLS, on the listener where others speak HTTP/1.1.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::future::poll_fn;

use common::{
    backend::{Backend, Step, Trigger, answer, answer_when, bytes},
    client::{self, Client},
    frames::{ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, block, frame, heard},
    h2::{Answer, Http2, get, whole},
    program::Program,
    site::Site,
    within,
};
use http::{Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn connect(program: &Program) -> Http2 {
    Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await
}

async fn start(site: Site) -> Program {
    Program::start(&site.to_string()).await
}

#[tokio::test]
async fn a_client_may_begin_with_http2_on_any_listener() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let answer = connect(&program).await.exchange(get("/a?b=c"), "").await.unwrap();
    assert_eq!((answer.status, answer.text(), answer.field("via")), (200, "ok", Some("1.1 forebay")));
    let request = &backend.received(1).await[0];
    assert_eq!((request.target.as_str(), request.field("host"), request.field("via")), ("/a?b=c", Some("test"), Some("2.0 forebay")));
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
}

#[tokio::test]
async fn the_preface_may_come_in_pieces() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    // A relay that passes the client's first bytes on one by one.
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, proxy) = (relay.local_addr().unwrap(), program.proxy());
    tokio::spawn(async move {
        let (client, _) = relay.accept().await.unwrap();
        let server = TcpStream::connect(proxy).await.unwrap();
        server.set_nodelay(true).unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
        let up = async {
            let mut byte = [0];
            for _ in 0..40 {
                from_client.read_exact(&mut byte).await.unwrap();
                to_server.write_all(&byte).await.unwrap();
            }
            tokio::io::copy(&mut from_client, &mut to_server).await
        };
        let _ended = tokio::join!(up, tokio::io::copy(&mut from_server, &mut to_client));
    });
    let mut client = Http2::over(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(client.exchange(get("/"), "").await.unwrap().status, 200);
    // What only begins like it is a request as any other.
    let mut other = Client::connect(program.proxy()).await;
    other.send("PR").await;
    assert_eq!(other.exchange("OPFIND / HTTP/1.1\r\nHost: test\r\n\r\n").await.status, 200);
    assert_eq!(backend.received(2).await[1].method, "PROPFIND");
}

#[tokio::test]
async fn a_request_reaches_the_backend_as_http1_has_it() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let request = Request::post("http://test/").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
    assert_eq!(connect(&program).await.exchange(request, "body").await.unwrap().status, 200);
    let request = &backend.received(1).await[0];
    assert_eq!((request.field("cookie"), &request.body.content[..]), (Some("a=1; b=2"), &b"body"[..]));
    assert_eq!(request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie")).count(), 1);
    assert!(request.has_letters("X-Forwarded-For"));
}

#[tokio::test]
async fn what_two_readers_could_understand_differently_is_refused_and_the_connection_goes_on() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let mut client = connect(&program).await;
    let two_hosts = get("/").header("host", "other");
    assert_eq!(client.exchange(two_hosts, "").await.unwrap().status, 400);
    let tunnel = Request::builder().method(Method::CONNECT).uri("test:443");
    assert_eq!(client.exchange(tunnel, "").await.unwrap().status, 400);
    let wrong_length = Request::post("http://test/").header("content-length", "9");
    assert!(!matches!(client.exchange(wrong_length, "body").await, Ok(Answer { status: 200, .. })));
    assert_eq!(client.exchange(get("/good"), "").await.unwrap().status, 200);
    assert!(backend.requests().iter().all(|request| request.target == "/good" || !request.body.complete), "{:?}", backend.requests());
}

#[tokio::test]
async fn a_write_is_queued_and_followed_to_its_answer() {
    let backend = Backend::start().await;
    let program = start(Site::spilling(backend.url(), "when = \"always\"")).await;
    let mut client = connect(&program).await;
    backend.next(answer(201, &["X-Answer: yes"], "made"));
    let accepted = client.exchange(Request::post("http://test/orders"), "order").await.unwrap();
    assert_eq!(accepted.status, 202);
    let location = accepted.field("location").unwrap().to_owned();
    program.becomes(accepted.field("forebay-id").unwrap(), "delivered").await;
    assert_eq!(client.exchange(get(&location), "").await.unwrap().status, 200);
    let real = client.exchange(get(&format!("{location}/response")), "").await.unwrap();
    assert_eq!((real.status, real.text(), real.field("x-answer")), (201, "made", Some("yes")));
    assert_eq!(backend.requests()[0].body.content, b"order");
}

#[tokio::test]
async fn a_body_past_the_limit_ends_its_stream_and_not_the_connection() {
    let backend = Backend::start().await;
    let program = start(Site::spilling(backend.url(), "max_body = \"4B\"")).await;
    let mut client = connect(&program).await;
    let declared = Request::post("http://test/").header("content-length", "5");
    assert_eq!(client.exchange(declared, "12345").await.unwrap().status, 413);
    assert_eq!(client.exchange(Request::post("http://test/"), "12345").await.unwrap().status, 413);
    assert_eq!(client.exchange(Request::post("http://test/"), "1234").await.unwrap().status, 200);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn who_begins_requests_only_to_cancel_them_is_cut_off_and_others_are_not() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).backend("concurrency = 100000")).await;
    let held = Trigger::default();
    let theirs = held.clone();
    backend.otherwise(move |request| if request.target == "/good" { answer(200, &[], "ok") } else { answer_when(&theirs, 200, &[], "") });
    let mut good = connect(&program).await;
    let flood = connect(&program).await;
    let cut_off = async {
        loop {
            let Ok(mut sender) = flood.sender.clone().ready().await else { return };
            let Ok((response, mut stream)) = sender.send_request(get("/slow").body(()).unwrap(), false) else { return };
            drop(response);
            stream.send_reset(h2::Reason::CANCEL);
            if flood.connection.is_finished() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the end of the flood", cut_off).await;
    held.release();
    assert_eq!(good.exchange(get("/good"), "").await.unwrap().status, 200);
}

/// A connection on which this has been written after the preface.
async fn written(program: &Program, frames: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(program.proxy()).await.unwrap();
    stream.write_all(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), frames].concat()).await.unwrap();
    stream
}

/// A GET on this stream.
fn asked(stream: u8) -> Vec<u8> {
    let head = block(&[(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/")]);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)
}

/// RFC 9113 section 6.8: at first it is said that there is an end, and once that was heard, which stream was the last.
#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_takes_no_more() {
    let backend = Backend::start().await;
    let mut program = start(Site::passing(backend.url())).await;
    let trigger = Trigger::default();
    backend.next(answer_when(&trigger, 200, &[], "late"));
    let mut stream = written(&program, &asked(1)).await;
    backend.received(1).await;
    program.signal(rustix::process::Signal::TERM);
    loop {
        let (head, payload) = within("a farewell", heard(&mut stream)).await.unwrap();
        match head[3] {
            PING => stream.write_all(&frame(PING, ACK, 0, &payload)).await.unwrap(),
            GOAWAY if payload[..4] == [0, 0, 0, 1] => break,
            _ => {}
        }
    }
    stream.write_all(&asked(3)).await.unwrap();
    trigger.release();
    let (mut answered, mut body) = (Vec::new(), Vec::new());
    let end = loop {
        match within("the end of the connection", heard(&mut stream)).await {
            Ok((head, _)) if head[3] == HEADERS => answered.push(head[8]),
            Ok((head, payload)) if head[3] == DATA => body.extend(payload),
            Ok(_) => {}
            Err(end) => break end.kind(),
        }
    };
    assert_eq!((&answered[..], &body[..], end), (&[1][..], &b"late"[..], std::io::ErrorKind::UnexpectedEof));
    assert!(program.ended().await.success());
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_told_goodbye() {
    const NO_ERROR: [u8; 4] = [0; 4];
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients("idle_timeout = \"100ms\"\nheader_timeout = \"100ms\"")).await;
    let mut told = Vec::new();
    // One that was late with its preface is told nothing, and tried again.
    while told.is_empty() {
        let mut stream = written(&program, &asked(1)).await;
        while let Ok((head, payload)) = within("the end of the connection", heard(&mut stream)).await {
            match head[3] {
                HEADERS => told.push(None),
                GOAWAY => told.push(Some(payload[4..8].to_vec())),
                _ => {}
            }
        }
    }
    assert_eq!(told[..2], [None, Some(NO_ERROR.to_vec())], "an answer, and a farewell");
}

#[tokio::test]
async fn who_is_refused_while_it_sends_gets_its_answer_and_may_send_the_rest() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients("max_body = \"1KiB\"").to_string()).await;
    let client = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
    let mut sender = within("room for a stream", client.sender.clone().ready()).await.unwrap();
    let request = http::Request::post("http://test/").header("content-length", "1000000").body(()).unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    let answer = whole(within("an answer", response).await.unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.field("content-type")), (413, Some("application/problem+json")));
    // More than any window has room for, so that it must be read.
    for piece in 0..10 {
        stream.reserve_capacity(100_000);
        let mut sent = 0;
        while sent < 100_000 {
            let room =
                within("room", std::future::poll_fn(|cx| stream.poll_capacity(cx))).await.expect("a stream that is not reset").unwrap();
            stream.send_data(vec![0; room].into(), piece == 9 && sent + room == 100_000).unwrap();
            sent += room;
        }
    }
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn an_interim_answer_reaches_its_client_before_the_final_one_is_there() {
    let hints =
        "HTTP/1.1 103 Early Hints\r\nlinK: </a.css>; rel=preload\r\nX-Private: 1\r\nConnection: X-Private\r\nKeep-Alive: timeout=5\r\n\r\n";
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let mut client = connect(&program).await;
    let trigger = Trigger::default();
    let last = Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec());
    let wait = || Step::Wait(trigger.clone());
    backend.next(vec![Step::Read, Step::Write(hints.into()), wait(), Step::Write(hints.into()), wait(), last]);
    let mut response = client.send(get("/"), "").await;
    for _ in 0..2 {
        let early = within("an interim answer", poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
        assert_eq!(early.status(), 103);
        let fields: Vec<_> = early.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(fields, [("link", "</a.css>; rel=preload")], "and nothing of the backend's connection");
        trigger.pull(1);
    }
    let answer = whole(within("an answer", response).await.unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.text(), answer.field("link")), (200, "hi", None));
}

#[tokio::test]
async fn a_client_that_waits_for_the_word_to_go_on_gets_it_when_its_body_is_wanted() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let mut client = connect(&program).await;
    let request = Request::post("http://test/").header("expect", "100-continue").header("content-length", "2").body(()).unwrap();
    let (mut response, mut stream) = client.sender.send_request(request, false).unwrap();
    let early = within("the word to go on", poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(early.status(), 100);
    stream.send_data(bytes::Bytes::from_static(b"hi"), true).unwrap();
    let answer = whole(within("an answer", response).await.unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(backend.received(1).await[0].body.content, b"hi");
}

#[tokio::test]
async fn a_request_that_its_client_takes_back_in_the_middle_of_its_body_does_not_reach_the_backend_as_a_whole() {
    let backend = Backend::start().await;
    let program = start(Site::spilling(backend.url(), "")).await;
    let mut client = connect(&program).await;
    // No error, says the client: what came is all the same not what it began to send.
    for reason in [h2::Reason::NO_ERROR, h2::Reason::CANCEL] {
        let (_response, mut stream) = client.sender.send_request(Request::post("http://test/half").body(()).unwrap(), false).unwrap();
        stream.send_data(bytes::Bytes::from_static(b"half"), false).unwrap();
        stream.send_reset(reason);
    }
    let answer = client.exchange(Request::post("http://test/whole"), "all").await.unwrap();
    assert_eq!(answer.status, 200);
    let received: Vec<_> = backend.received(1).await.into_iter().map(|request| request.target).collect();
    assert_eq!(received, ["/whole"]);
}

/// Over HTTP/2 a value may have them in it (RFC 9113 section 8.2.1), where they mean nothing over HTTP/1.1: what is decided by a value is decided by what the
/// backend reads.
#[tokio::test]
async fn spaces_around_a_value_are_refused() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let mut client = connect(&program).await;
    for value in [" a", "a\t", " "] {
        let answer = client.exchange(get("/").header("x-padded", value), "").await.unwrap();
        assert_eq!((answer.status, answer.field("proxy-status")), (400, Some("forebay; error=http_request_error")), "{value:?}");
    }
    assert_eq!(backend.requests(), []);
    assert_eq!(client.exchange(get("/").header("x-spaced", "a \tb"), "").await.unwrap().status, 200);
    let mut sender = within("room for a stream", client.sender.clone().ready()).await.unwrap();
    let (response, mut stream) = sender.send_request(http::Request::post("http://test/").body(()).unwrap(), false).unwrap();
    stream.send_data("abc".into(), false).unwrap();
    stream.send_trailers(http::HeaderMap::from_iter([("x-sum".parse().unwrap(), " 9".parse().unwrap())])).unwrap();
    assert_eq!(within("an answer", response).await.unwrap().status(), 400);
    assert!(backend.received(2).await.iter().all(|request| request.method == "GET" || !request.body.complete));
}

/// This client would take pushes (RFC 9113 section 8.4), and the answers say what would be worth one.
#[tokio::test]
async fn nothing_is_pushed_to_a_client() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nLink: </a.css>; rel=preload; as=style\r\nContent-Length: 2\r\n\r\nok";
    backend.next(bytes(format!("{hints}{answer}")));
    let mut client = connect(&program).await;
    let mut response = client.send(get("/"), "").await;
    let mut pushes = response.push_promises();
    let answer = whole(within("an answer", response).await.unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert!(within("the end of all that may be pushed", pushes.push_promise()).await.is_none());
    assert_eq!(backend.requests().len(), 1);
}

/// RFC 9110 section 6.5.1. Over HTTP/1.1 and HTTP/2, on a route that streams and on one that spills.
#[tokio::test]
async fn trailers_cannot_say_what_only_a_head_may() {
    const NEVER: [&str; 9] = [
        "x-forwarded-for",
        "forebay-id",
        "via",
        "cookie",
        "proxy-authorization",
        "forwarded",
        "x_forwarded_for",
        "content_length",
        "forebay_id",
    ];
    let backend = Backend::start().await;
    let site = Site::of(&[backend.url()]).route("stream", "/stream", "").route("spill", "/spill", "[routes.spill]");
    let program = start(site).await;
    let fields = NEVER.iter().chain(&["x-sum"]);
    for target in ["/stream", "/spill"] {
        let text: String = fields.clone().map(|name| format!("{name}: 6.6.6.6\r\n")).collect();
        let request = format!("POST {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{text}\r\n");
        assert_eq!(client::fetch(program.proxy(), request).await.status, 200);

        let connection = connect(&program).await;
        let mut sender = within("room for a stream", connection.sender.clone().ready()).await.unwrap();
        let (response, mut stream) = sender.send_request(Request::post(format!("http://test{target}")).body(()).unwrap(), false).unwrap();
        stream.send_data("x".into(), false).unwrap();
        let trailers = fields.clone().map(|name| (name.parse().unwrap(), "6.6.6.6".parse().unwrap())).collect();
        stream.send_trailers(trailers).unwrap();
        assert_eq!(within("an answer", response).await.unwrap().status(), 200);
    }
    for request in backend.received(4).await {
        let names: Vec<_> = request.body.trailers.iter().map(|(name, _)| name.to_lowercase()).collect();
        assert_eq!(names, ["x-sum"], "{}", request.target);
        assert!(request.field("trailer").is_none_or(|named| named == "x-sum"), "only what comes is announced");
    }
}
