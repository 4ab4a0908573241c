//! A healthy backend sees and answers what it would without us: messages cross in both directions as they come.

mod common;

use common::{
    backend::{self, Backend, Step, Trigger},
    client::{self, Client},
    noise,
    program::Program,
    site::Site,
};

#[tokio::test]
async fn a_response_that_drips_arrives_as_it_drips() {
    let (backend, program) = Program::passing().await;
    let trigger = Trigger::default();
    let wait = || Step::Wait(trigger.clone());
    backend.next(vec![
        Step::Read,
        Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n".to_vec()),
        wait(),
        Step::Write(b"abc".to_vec()),
        wait(),
        Step::Write(b"def".to_vec()),
    ]);
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::get("/")).await;
    assert_eq!(client.head().await.field("content-length"), Some("6"));
    trigger.pull(1);
    assert_eq!(client.bytes(3).await, b"abc");
    trigger.pull(1);
    assert_eq!(client.bytes(3).await, b"def");
}

#[tokio::test]
async fn an_upload_goes_on_while_the_client_still_sends_it() {
    let (backend, program) = Program::passing().await;
    backend.next(vec![Step::ReadHead, Step::Write(backend::response(200, &[], "early")), Step::Read]);
    let mut client = Client::connect(program.proxy()).await;
    client.send("POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc").await;
    assert_eq!(client.response().await.text(), "early", "the backend had the head before the client had sent the body");
    client.send("def").await;
    assert_eq!(backend.received(1).await[0].body.content, b"abcdef");
}

#[tokio::test]
async fn trailers_and_chunks_cross_both_ways() {
    for site in [|url| Site::passing(url), |url| Site::spilling(url, "")] {
        let backend = Backend::start().await;
        let program = Program::start(&site(backend.url()).to_string()).await;
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Took\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Took: 7\r\n\r\n";
        backend.next(backend::bytes(answer)).next(backend::bytes(answer));
        let upload = "3\r\nfgh\r\n1\r\ni\r\n0\r\nX-Sum: 9\r\n\r\n";
        let head = "PUT / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let response = client::fetch(program.proxy(), format!("{head}{upload}")).await;
        assert_eq!((response.text(), response.complete), ("abcde", true));
        assert_eq!(
            (response.trailers, response.fields.iter().filter(|(name, _)| name == "Trailer").count()),
            (vec![("X-Took".to_owned(), b"7".to_vec())], 1)
        );
        let without = client::fetch(program.proxy(), client::get("/")).await;
        assert_eq!(
            (without.text(), without.trailers.len(), without.field("trailer")),
            ("abcde", 0, None),
            "who did not ask for them is promised none"
        );
        let request = &backend.received(1).await[0];
        assert_eq!((&request.body.content[..], request.field("transfer-encoding")), (&b"fghi"[..], Some("chunked")));
        assert_eq!(request.body.trailers, [("X-Sum".to_owned(), b"9".to_vec())]);
        assert_eq!(
            (request.field("te"), request.field("trailer"), request.field("content-length")),
            (Some("trailers"), Some("X-Sum"), None)
        );
    }
}

#[tokio::test]
async fn trailers_that_nobody_announced_still_reach_the_backend_on_a_spill_route() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "").to_string()).await;
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 9\r\n\r\n";
    assert_eq!(client::fetch(program.proxy(), chunked).await.status, 200);
    let request = &backend.received(1).await[0];
    assert_eq!(request.body.trailers, [("X-Sum".to_owned(), b"9".to_vec())]);
}

#[tokio::test]
async fn five_megabytes_cross_byte_for_byte_on_every_kind_of_route() {
    for site in [|url| Site::passing(url), |url| Site::spilling(url, "")] {
        let backend = Backend::start().await;
        let program = Program::start(&site(backend.url()).to_string()).await;
        let body = noise(5 << 20);
        backend.otherwise(|request| backend::answer(200, &[], &request.body.content));
        let response = client::fetch(program.proxy(), client::request("POST", "/", &[], &body)).await;
        assert_eq!(response.status, 200);
        assert!(response.body == body, "the backend's echo is not what was sent");
        let request = &backend.received(1).await[0];
        assert!(request.body.content == body && request.field("content-length") == Some("5242880"));
    }
}

#[tokio::test]
async fn connections_to_the_backend_are_used_again() {
    let (backend, program) = Program::passing().await;
    for _ in 0..3 {
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    }
    let mut client = Client::connect(program.proxy()).await;
    for _ in 0..3 {
        assert_eq!(client.exchange(client::request("POST", "/", &[], "x")).await.status, 200);
    }
    assert_eq!((backend.requests().len(), backend.connections()), (6, 1));
}

#[tokio::test]
async fn a_kept_connection_that_is_known_to_be_closed_costs_nobody_a_request() {
    let mut backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).top("log.level = \"debug\"").to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    backend.stop().await;
    // Until the program has heard of it, a request may go out on it, and nobody can know what became of that one.
    program.logged("the end of the kept connection", |line| line["message"] == "a connection to a backend has ended").await;
    backend.start_again().await;
    assert_eq!(client::fetch(program.proxy(), client::request("POST", "/", &[], "x")).await.status, 200);
}

#[tokio::test]
async fn an_answer_without_a_body_stays_without_one() {
    let (backend, program) = Program::passing().await;
    let mut client = Client::connect(program.proxy()).await;
    backend.next(backend::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"a\"\r\n\r\n"));
    client.send("HEAD /h HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let response = client.response_to_head().await;
    assert_eq!((response.status, response.field("content-length"), response.field("etag")), (200, Some("1234"), Some("\"a\"")));

    backend.next(backend::bytes("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"));
    let response = client.exchange(client::get("/")).await;
    assert_eq!((response.status, response.field("content-length"), response.field("x-a")), (204, None, Some("b")));

    backend.next(backend::bytes("HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\n\r\n"));
    let response = client.exchange(client::get("/")).await;
    assert_eq!((response.status, response.field("etag")), (304, Some("\"b\"")));

    backend.next(backend::answer(200, &["Allow: GET, OPTIONS"], ""));
    let response = client.exchange("OPTIONS /h HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!((response.status, response.field("allow"), response.field("content-length")), (200, Some("GET, OPTIONS"), Some("0")));
    let requests = backend.received(4).await;
    let methods: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!((methods, backend.connections()), (vec!["HEAD", "GET", "GET", "OPTIONS"], 1));
}

#[tokio::test]
async fn status_and_reason_phrase_of_the_backend_come_through() {
    let (backend, program) = Program::passing().await;
    backend.next(backend::bytes("HTTP/1.1 299 Quite All Right\r\nContent-Length: 0\r\n\r\n"));
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((response.status, response.reason.as_str()), (299, "Quite All Right"));
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served() {
    let (backend, program) = Program::passing().await;
    backend.next(backend::bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    let mut client = Client::connect(program.proxy()).await;
    client.send("GET /old HTTP/1.0\r\n\r\n").await;
    let response = client.response().await;
    assert!(response.head.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&response.head));
    assert_eq!((response.text(), response.field("transfer-encoding")), ("abc", None), "it knows no chunks");
    let request = &backend.received(1).await[0];
    assert!(request.head.starts_with(b"GET /old HTTP/1.1\r\n"));
    assert_eq!(request.field("host"), Some(backend.address().to_string().as_str()), "HTTP/1.1 needs a Host");
}

#[tokio::test]
async fn a_client_that_waits_for_a_100_is_told_to_go_on() {
    for site in [|url| Site::passing(url), |url| Site::spilling(url, "")] {
        let backend = Backend::start().await;
        let program = Program::start(&site(backend.url()).to_string()).await;
        let mut client = Client::connect(program.proxy()).await;
        client.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
        assert_eq!(client.head().await.status, 100);
        assert_eq!(client.exchange("abc").await.status, 200);
        let request = &backend.received(1).await[0];
        assert_eq!((&request.body.content[..], request.field("expect")), (&b"abc"[..], None));
    }
}

#[tokio::test]
async fn an_absolute_target_reaches_the_backend_as_a_path() {
    let (backend, program) = Program::passing().await;
    let response = client::fetch(program.proxy(), "GET http://real.example:81/a?b=c HTTP/1.1\r\nHost: other\r\n\r\n").await;
    assert_eq!(response.status, 200);
    let request = &backend.received(1).await[0];
    assert_eq!((request.target.as_str(), request.field("host")), ("/a?b=c", Some("real.example:81")));
}

#[tokio::test]
async fn targets_reach_the_backend_as_they_were_written() {
    let (backend, program) = Program::passing().await;
    for target in ["/a//b/../c/%2e%2E/d", "/?", "/x?a=%20+b&&=", "/%C3%BC?%00", "/a|b~{c}\"d"] {
        assert_eq!(client::fetch(program.proxy(), client::get(target)).await.status, 200, "{target}");
        assert_eq!(backend.requests().last().unwrap().target, target);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (backend, program) = Program::passing().await;
    backend.otherwise(|request| backend::answer(200, &[], &request.target));
    let mut client = Client::connect(program.proxy()).await;
    client.send([client::get("/1"), client::request("POST", "/2", &[], "x"), client::get("/3")].concat()).await;
    for expected in ["/1", "/2", "/3"] {
        assert_eq!(client.response().await.text(), expected);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let (backend, program) = Program::passing().await;
    backend.next(backend::truncated(10, "half"));
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((response.text(), response.complete), ("half", false));
    backend.next(vec![
        Step::Read,
        Step::Write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()),
        Step::Close,
    ]);
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((response.text(), response.complete), ("half", false));
}
