//! What a client costs that is slow, greedy or gone: memory, and that for a while.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::{
    backend::{self, Backend},
    client::{self, Client},
    h2::{Http2, get},
    program::Program,
    read_head,
    site::Site,
    within,
};
use h2::RecvStream;
use http::Response;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

/// More than the sockets between a backend and a client hold.
const LARGE: usize = 32 << 20;

fn site(backend: &Backend, clients: &str) -> Site {
    Site::passing(backend.url()).clients(clients).top("workers = 1\nlog = { level = \"debug\" }")
}

/// Starts it with a backend whose next answer is a large one.
async fn with_a_large_answer(clients: &str) -> (Backend, Program) {
    let backend = Backend::start().await;
    backend.next(backend::answer(200, &[], "x".repeat(LARGE)));
    let program = Program::start(&site(&backend, clients).to_string()).await;
    (backend, program)
}

/// Resolves when the status says so. Nothing is logged when a seat becomes free, so that it is asked for again and again.
async fn until(program: &Program, what: &str, holds: impl Fn(&serde_json::Value) -> bool) {
    within(what, async { while !holds(&program.status().await) {} }).await;
}

/// Resolves when nothing is at the backend any more.
async fn the_seat_is_free(program: &Program) {
    until(program, "the seat to be free", |status| status["backends"][0]["in_flight"] == 0).await;
}

/// A connection of HTTP/2 and the answer that has begun on it. One that asked too late has been told so, or has been ended: another is made.
async fn answered_over_http2(program: &Program, target: &str) -> (Http2, Response<RecvStream>) {
    let asked = async {
        loop {
            if let Ok(mut client) = Http2::try_over(TcpStream::connect(program.proxy()).await.unwrap()).await
                && let Ok(response) = client.try_send(get(target), "").await
                && let Ok(answer) = response.await
            {
                assert_eq!(answer.status(), 200);
                return (client, answer);
            }
        }
    };
    within("an answer over HTTP/2", asked).await
}

#[tokio::test]
async fn who_does_not_read_its_answer_loses_it_and_its_seat() {
    let (_backend, program) = with_a_large_answer("send_timeout = \"100ms\"").await;
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::get("/")).await;
    assert_eq!(client.head().await.status, 200);
    the_seat_is_free(&program).await;
    program.logged("the end of the connection", |line| line["message"] == "a client's connection broke").await;
}

/// Without a length or chunks only a reset tells a part from the whole (RFC 9112 section 8).
#[tokio::test]
async fn an_old_client_that_does_not_read_its_answer_does_not_take_what_it_gets_for_all_of_it() {
    let backend = Backend::start().await;
    backend.next(backend::bytes(["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &"x".repeat(LARGE)].concat()));
    let program = Program::start(&site(&backend, "send_timeout = \"100ms\"").to_string()).await;
    let mut client = TcpStream::connect(program.proxy()).await.unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    program.logged("that it broke", |line| line["message"] == "a client's connection broke").await;
    let ended = within("the end of it", tokio::io::copy(&mut client, &mut tokio::io::sink())).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn who_reads_slowly_but_reads_gets_all_of_it() {
    let (_backend, program) = with_a_large_answer("send_timeout = \"10s\"").await;
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::get("/")).await;
    assert_eq!(client.head().await.status, 200);
    for _ in 0..LARGE / (1 << 20) {
        client.bytes(1 << 20).await;
    }
    the_seat_is_free(&program).await;
}

#[tokio::test]
async fn over_http_2_one_answer_that_is_not_taken_is_seen_among_others_that_are() {
    let (_backend, program) = with_a_large_answer("send_timeout = \"100ms\"\nheader_timeout = \"100ms\"").await;
    let (mut client, unread) = answered_over_http2(&program, "/large").await;
    // The connection is busy all the while.
    while let Ok(answer) = client.exchange(get("/small"), "").await {
        assert_eq!(answer.status, 200);
    }
    program
        .logged("the end of the connection", |line| line["message"].as_str().is_some_and(|text| text.contains("did not take an answer")))
        .await;
    drop(unread);
    the_seat_is_free(&program).await;
}

/// As old clients do it (RFC 9112 section 2.2). With what it holds itself small, most of the answer is still ours to send when that comes.
#[tokio::test]
async fn a_line_end_behind_a_body_costs_no_part_of_the_last_answer() {
    let backend = Backend::start().await;
    let body = "x".repeat(1 << 20);
    backend.next(backend::answer(200, &[], &body));
    let program = Program::start(&site(&backend, "").to_string()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut client = socket.connect(program.proxy()).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
    let _head = read_head(&mut client).await;
    client.write_all(b"\r\n").await.unwrap();
    let mut read = Vec::new();
    within("the end of it", tokio::io::AsyncReadExt::read_to_end(&mut client, &mut read)).await.unwrap();
    assert_eq!(read.len(), body.len());
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_given_up_on_every_kind_of_route() {
    let limits = "min_body_rate = \"1MiB/s\"\nmin_body_window = \"100ms\"";
    // A body is read in another way once some of it has come.
    for (spill, bytes) in [("", 11), ("[routes.spill]", 11), ("", 300_000), ("[routes.spill]", 300_000)] {
        let backend = Backend::start().await;
        let program = Program::start(&Site::of(&[backend.url()]).route("all", "/", spill).clients(limits).to_string()).await;
        let mut client = Client::connect(program.proxy()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(bytes))).await;
        let response = client.response().await;
        assert_eq!((response.status, response.field("connection")), (408, Some("close")), "{spill} after {bytes} bytes");
        client.closed().await;
        assert_eq!(program.status().await["totals"]["accepted"], 0);
        // Without a body there is nothing to be slow with.
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_others_have_theirs() {
    let backend = Backend::start().await;
    let balancer = "proxy_protocol = { from = [\"127.0.0.0/8\"] }";
    let site = site(&backend, "max_connections_per_client = 2").listener("127.0.0.2:0").listening(balancer);
    let program = Program::start(&site.to_string()).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(program.proxy()).await;
        assert_eq!(client.exchange(client::get("/")).await.status, 200);
        kept.push(client);
    }
    let mut third = Client::connect(program.proxy()).await;
    let refused = third.response().await;
    assert_eq!((refused.status, refused.field("proxy-status")), (429, Some("forebay; error=http_request_denied")));
    third.closed().await;
    until(&program, "a refusal", |status| status["clients"]["refused"]["client"] == 1).await;

    // Behind a balancer, whom it names counts: each has his own.
    let listening =
        program.logged("the second listener", |line| line["address"].as_str().is_some_and(|at| at.starts_with("127.0.0.2"))).await;
    let balanced = listening["address"].as_str().unwrap().parse().unwrap();
    for (source, status) in [("192.0.2.1", 200), ("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)] {
        let mut client = Client::connect(balanced).await;
        client.send(format!("PROXY TCP4 {source} 192.0.2.9 1 2\r\n")).await;
        // Who is turned away is told before it asks.
        client.try_send(client::get("/")).await.ok();
        assert_eq!(client.response().await.status, status, "{source}");
        kept.push(client);
    }

    kept.clear();
    until(&program, "an end of all", |status| status["clients"]["connections"] == 0).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_client_of_http2_that_reads_slowly_gets_all_of_it_and_is_not_idle_meanwhile() {
    let backend = Backend::start().await;
    let answer = common::noise(300_000);
    backend.otherwise({
        let answer = answer.clone();
        move |request| backend::answer(200, &[], if request.target == "/" { &answer[..] } else { b"ok" })
    });
    let program =
        Program::start(&site(&backend, "idle_timeout = \"200ms\"\nsend_timeout = \"30s\"\nheader_timeout = \"200ms\"").to_string()).await;
    let (_client, answered) = answered_over_http2(&program, "/").await;
    let mut body = answered.into_body();
    let (mut got, mut held) = (Vec::new(), 0);
    while got.len() < answer.len() {
        if let Some(data) = futures_util::FutureExt::now_or_never(body.data()).flatten() {
            let data = data.unwrap();
            held += data.len();
            got.extend_from_slice(&data);
            continue;
        }
        if held > 0 {
            // More than the timeout has passed when others have been sent away for being idle, one after the other.
            for _ in 0..2 {
                client::answered(program.proxy(), client::get("/idle")).await.0.ended().await;
            }
            body.flow_control().release_capacity(std::mem::take(&mut held)).unwrap();
        }
        let data = within("more of the answer", body.data()).await.unwrap().unwrap();
        held += data.len();
        got.extend_from_slice(&data);
    }
    assert!(got == answer);
}
