//! Servers that speak HTTP/2: many requests on one connection, and what is known of a request that its server did not process.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::{future::poll_fn, sync::atomic::Ordering::SeqCst};

use bytes::Bytes;
use common::{
    backend::{Backend, Step, Trigger},
    client::{self, Client},
    frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, PUSH_PROMISE, SETTINGS, block, frame, heard},
    h2::Http2,
    h2_server::{Deed, Server},
    program::Program,
    site::Site,
    tls::{Authority, Door},
    within,
};
use http::{HeaderMap, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn started(most_streams: u32, site: impl FnOnce(String) -> Site) -> (Server, Program) {
    let server = Server::start(most_streams).await;
    let program = Program::start(&site(server.url()).backend("protocol = \"h2c\"").to_string()).await;
    (server, program)
}

fn once(url: String) -> Site {
    Site::spilling(url, "delivery = \"at-most-once\"")
}

#[tokio::test]
async fn a_request_and_its_answer_cross_into_http_2_and_back_with_their_trailers() {
    let (server, program) = started(100, Site::passing).await;
    let request = "POST /pkg.Service/Call?x=1 HTTP/1.1\r\nHost: shop.example:81\r\nTE: trailers\r\nConnection: TE\r\nX-Camel: 1\r\nTrailer: X-Sum\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n";
    let response = client::fetch(program.proxy(), request).await;
    assert_eq!((response.status, response.text(), response.field("x-from")), (200, "ok", Some("h2")));
    assert_eq!(response.field("via"), Some("2.0 forebay"));
    assert_eq!(
        response.trailers.iter().map(|(name, value)| (name.to_lowercase(), &value[..])).collect::<Vec<_>>(),
        [("grpc-status".into(), &b"0"[..])]
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.head.uri.to_string(), "http://shop.example:81/pkg.Service/Call?x=1");
    let field = |name: &str| seen.head.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!((field("te"), field("connection"), field("host"), field("transfer-encoding")), (Some("trailers"), None, None, None));
    assert_eq!((&seen.body[..], seen.trailers.as_ref().unwrap()["x-sum"].to_str().unwrap()), (&b"abc"[..], "9"));
}

#[tokio::test]
async fn many_requests_share_a_connection_and_no_more_than_the_server_allows() {
    for (most_streams, connections) in [(100, 1), (4, 3)] {
        let (server, program) = started(most_streams, Site::passing).await;
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
        let go = Trigger::default();
        let mut clients = Vec::new();
        for asked in 0..10 {
            server.next(Deed::Answer(Some(go.clone())));
            let mut client = Client::connect(program.proxy()).await;
            client.send(client::get("/")).await;
            server.received(asked + 2).await;
            clients.push(client);
        }
        go.release();
        for mut client in clients {
            assert_eq!(client.response().await.status, 200);
        }
        assert_eq!(server.connections.load(SeqCst), connections, "at most {most_streams} streams");
    }
}

#[tokio::test]
async fn what_the_server_has_not_processed_is_sent_again_whatever_its_method() {
    let small = |framing: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n{body}");
    let large = "x".repeat(60_000);
    for (site, streams) in [(once as fn(String) -> Site, false), (Site::passing, true)] {
        let (server, program) = started(100, site).await;
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
        for (request, sum, body) in [
            (small("Content-Length: 5", "order"), None, "order"),
            (small("Transfer-Encoding: chunked", "3\r\nord\r\n2\r\ner\r\n0\r\nX-Sum: 9\r\n\r\n"), Some("9"), "order"),
            (small("Content-Length: 60000", &large), None, &large),
        ] {
            if sum.is_some() && !streams {
                // What was read whole and has trailers is queued.
                continue;
            }
            let before = server.seen().len();
            server.next(Deed::Refuse).next(Deed::Refuse);
            let response = client::fetch(program.proxy(), request).await;
            let seen = server.seen();
            assert_eq!((response.status, seen.len() - before), (200, 3));
            let trailers = seen.last().unwrap().trailers.as_ref();
            assert_eq!(
                (trailers.map(|trailers| trailers["x-sum"].to_str().unwrap()), &seen.last().unwrap().body[..]),
                (sum, body.as_bytes())
            );
        }
        assert_eq!(program.status().await["backends"][0]["state"], "passing");
    }
}

#[tokio::test]
async fn what_a_server_refuses_for_good_is_queued_and_delivered_once() {
    let (server, program) = started(100, once).await;
    for _ in 0..5 {
        server.next(Deed::Refuse);
    }
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 503, "it was the answer on a new connection");
    let queued = client::fetch(program.proxy(), client::request("POST", "/", &[], "order")).await;
    assert_eq!(queued.status, 202);
    program.becomes(&queued.id(), "delivered").await;
    assert_eq!(server.seen().iter().filter(|seen| seen.body == b"order").count(), 1);
}

#[tokio::test]
async fn what_may_have_been_processed_is_sent_again_only_where_that_does_no_harm() {
    let (server, program) = started(100, once).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    server.next(Deed::Break);
    assert_eq!(client::fetch(program.proxy(), client::request("POST", "/", &[], "order")).await.status, 502);
    assert_eq!(server.seen().len(), 2);
    server.next(Deed::Break);
    assert_eq!(client::fetch(program.proxy(), client::request("PUT", "/", &[], "order")).await.status, 200);
    assert_eq!(server.seen().len(), 4);
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nx";

#[tokio::test]
async fn an_upload_goes_on_after_its_answer_for_as_long_as_it_takes() {
    let (server, program) = started(100, |url| Site::passing(url).clients("header_timeout = \"100ms\"")).await;
    server.next(Deed::Unheard);
    let (mut client, answer) = client::answered(program.proxy(), UPLOAD).await;
    assert_eq!(answer.text(), "begun");
    for _ in 0..2 {
        client.send("x").await;
        // More than the time of a head has passed when who says nothing has been sent away.
        Client::connect(program.proxy()).await.closed().await;
    }
    client.send("x").await;
    server.received(1).await;
    assert_eq!(server.seen()[0].body, b"xxxx");
}

#[tokio::test]
async fn an_upload_that_stops_after_its_answer_is_given_up() {
    let (server, program) = started(100, |url| Site::passing(url).clients("idle_timeout = \"200ms\"")).await;
    // An upload that is given up before its answer has come is another matter, and tried again.
    let begins = async {
        loop {
            server.next(Deed::Unheard);
            let mut client = Client::connect(program.proxy()).await;
            client.send(UPLOAD).await;
            let answer = client.response().await;
            if answer.status != 408 {
                assert_eq!(answer.text(), "begun");
                return client;
            }
        }
    };
    within("an answer to an upload that has begun", begins).await.closed().await;
    server.received(1).await;
    assert!(server.seen().iter().all(|seen| seen.body == b"x"));
}

#[tokio::test]
async fn a_farewell_of_the_server_costs_no_request() {
    let (server, program) = started(100, Site::passing).await;
    for round in 1..=5 {
        server.next(Deed::Farewell);
        assert_eq!(client::fetch(program.proxy(), client::request("POST", "/", &[], "x")).await.status, 200);
        assert_eq!(server.seen().len(), round);
    }
    assert!(server.connections.load(SeqCst) > 1);
}

#[tokio::test]
async fn what_is_spoken_is_agreed_on_within_tls_and_an_upgrade_gets_a_connection_of_its_own() {
    let (authority, server, plain) = (Authority::new(), Server::start(100).await, Backend::start().await);
    let door = Door::open(&authority.sign(&["localhost"]), &[("h2", server.address), ("http/1.1", plain.address())]).await;
    let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
    authority.write(&program.path("ca.pem"));
    program.configure(&Site::passing(door.url()).backend("tls = { ca_file = \"ca.pem\" }").to_string());
    program.run().await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.field("x-from"), Some("h2"));
    assert_eq!(server.seen()[0].head.uri.scheme_str(), Some("https"));
    plain.next(vec![
        Step::Read,
        Step::Write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\npong".to_vec()),
    ]);
    let mut client = Client::connect(program.proxy()).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(client.head().await.status, 101);
    assert_eq!(client.bytes(4).await, b"pong");
    program.configure(&Site::passing(door.url()).backend("protocol = \"http/1.1\"\ntls = { ca_file = \"ca.pem\" }").to_string());
    program.crash_and_restart().await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.field("x-from"), None);
}

#[tokio::test]
async fn interim_answers_of_a_server_reach_the_client_and_do_not_hide_its_final_one() {
    let (server, program) = started(100, Site::passing).await;
    server.next(Deed::Early);
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((response.status, response.text(), response.field("link")), (200, "ok", None));
    assert_eq!((response.interim, response.complete), (vec![103, 102], true));
}

/// RFC 9113 section 8.2.1: no value may be sent on with them.
#[tokio::test]
async fn spaces_around_values_of_answers_are_taken_away() {
    let (server, program) = started(100, Site::passing).await;
    server.next(Deed::Padded);
    let client = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
    let mut sender = within("room for a stream", client.sender.clone().ready()).await.unwrap();
    let request = Request::post("http://test/").header("te", "trailers").body(()).unwrap();
    let (mut response, mut stream) = sender.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    stream.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "9 9".parse().unwrap())])).unwrap();
    let interim = within("an interim answer", poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(interim.headers()["link"], "</a.css>");
    let (head, mut body) = within("an answer", response).await.unwrap().into_parts();
    assert_eq!(head.headers["x-from"], "h 2");
    assert_eq!(within("the body", body.data()).await.unwrap().unwrap(), "ok");
    assert_eq!(within("trailers", body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
    assert_eq!(server.seen()[0].trailers.as_ref().unwrap()["x-sum"], "9 9");
}

/// The stream and the payload of the next frame of this kind.
async fn payload_of(kind: u8, stream: &mut TcpStream) -> (u8, Vec<u8>) {
    loop {
        let (head, payload) = within("a frame", heard(stream)).await.unwrap();
        if head[3] == kind {
            return (head[8], payload);
        }
    }
}

#[tokio::test]
async fn a_server_is_asked_not_to_push_and_one_that_does_all_the_same_has_its_connection_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let program = Program::start(&Site::passing(url).backend("protocol = \"h2c\"").to_string()).await;
    let serving = async {
        let (mut stream, _) = within("a connection", listener.accept()).await.unwrap();
        drop(listener);
        within("the preface", stream.read_exact(&mut [0; PREFACE.len()])).await.unwrap();
        let settings = payload_of(SETTINGS, &mut stream).await.1;
        assert!(settings.chunks(6).any(|setting| setting == [0, 2, 0, 0, 0, 0]), "SETTINGS_ENABLE_PUSH is 0: {settings:?}");
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let asked = payload_of(HEADERS, &mut stream).await.0;
        // A promise of `GET http://shops/` on stream 2, the answer to it, and then the one that was asked for.
        let promised = [(":method", "GET"), (":scheme", "http"), (":authority", "shops"), (":path", "/")];
        let promise = frame(PUSH_PROMISE, END_HEADERS, asked, &[&[0, 0, 0, 2], &block(&promised)[..]].concat());
        let answers = [2, asked].map(|stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&[(":status", "200")])));
        stream.write_all(&[promise, answers.concat()].concat()).await.unwrap();
        assert_eq!(payload_of(GOAWAY, &mut stream).await.1[4..8], [0, 0, 0, 1], "PROTOCOL_ERROR");
    };
    let (response, ()) = tokio::join!(client::fetch(program.proxy(), client::get("/")), serving);
    assert!(response.status >= 500, "{}", response.status);
}
