//! What RFC 9110 asks of whoever stands between a client and a server, beyond handing messages on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    backend::{self, Backend},
    client::{self, Client},
    program::Program,
    site::Site,
    wire::values,
};

#[tokio::test]
async fn options_for_the_whole_server_reaches_the_backend_of_the_root() {
    let (backend, program) = Program::passing().await;
    backend.next(backend::answer(200, &["Allow: GET, OPTIONS"], ""));
    let response = client::fetch(program.proxy(), "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!((response.status, response.field("allow")), (200, Some("GET, OPTIONS")));
    let request = &backend.received(1).await[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("OPTIONS", "*"));
}

/// Sends a request with this target, and sees with which it reaches the backend.
async fn goes_on(backend: &Backend, program: &Program, method: &str, target: &str, expected: &str) {
    let response = client::fetch(program.proxy(), format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    let request = backend.requests().pop().unwrap();
    assert_eq!((response.status, request.method.as_str(), request.target.as_str()), (200, method, expected), "{method} {target}");
}

#[tokio::test]
async fn options_for_an_absolute_target_without_a_path_is_for_the_whole_server() {
    let (backend, program) = Program::passing().await;
    for (method, target, goes_on_as) in [
        ("OPTIONS", "http://Shop.test:81", "*"),
        ("OPTIONS", "http://[::1]", "*"),
        ("OPTIONS", "HTTP://test", "*"),
        ("OPTIONS", "http://test/", "/"),
        ("OPTIONS", "/a://test", "/a://test"),
    ] {
        goes_on(&backend, &program, method, target, goes_on_as).await;
    }
    let hosts: Vec<_> = backend.requests().iter().map(|request| request.field("host").unwrap().to_owned()).collect();
    assert_eq!(hosts[..2], ["Shop.test:81", "[::1]"]);
    let inside = client::fetch(program.proxy(), "OPTIONS http://user@test HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(inside.status, 400, "who is no host is none here either");
}

#[tokio::test]
async fn an_absolute_target_without_a_path_goes_on_with_one() {
    let (backend, program) = Program::passing().await;
    for (method, target, goes_on_as) in [
        ("GET", "http://test", "/"),
        ("GET", "http://test?", "/?"),
        ("GET", "http://test?a=b/c", "/?a=b/c"),
        ("OPTIONS", "http://test:81?a", "/?a"),
    ] {
        goes_on(&backend, &program, method, target, goes_on_as).await;
    }
}

#[tokio::test]
async fn options_goes_no_further_than_its_max_forwards() {
    let (backend, program) = Program::passing().await;
    let options = |fields: &str| format!("OPTIONS /a HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let mut client = Client::connect(program.proxy()).await;
    let ours = client.exchange(options("Max-Forwards: 0\r\n")).await;
    assert_eq!((ours.status, ours.field("content-length"), backend.requests().len()), (200, Some("0"), 0));
    for (sent, received) in [("Max-Forwards: 10\r\n", Some("9")), ("Max-Forwards: 1\r\n", Some("0")), ("", None)] {
        assert_eq!(client.exchange(options(sent)).await.status, 200);
        assert_eq!(backend.requests().last().unwrap().field("max-forwards"), received);
    }
    assert_eq!(client::fetch(program.proxy(), client::request("GET", "/", &["Max-Forwards: 0"], "")).await.status, 200);
    assert_eq!(backend.requests().last().unwrap().field("max-forwards"), Some("0"), "it counts for OPTIONS and TRACE only");
    assert_eq!(client.exchange(options("Max-Forwards: many\r\n")).await.status, 400);
}

/// What an answer would be, were it for us to give: as the routes have it, which is all that we know.
#[tokio::test]
async fn options_that_goes_no_further_is_told_which_methods_would() {
    let backend = Backend::start().await;
    let site = Site::of(&[backend.url()])
        .route("read", "/marks", "methods = [\"GET\", \"HEAD\", \"OPTIONS\"]")
        .route("write", "/marks/", "methods = [\"POST\", \"GET\"]")
        .route("all", "/free", "");
    let program = Program::start(&site.to_string()).await;
    let mut client = Client::connect(program.proxy()).await;
    let ours = "/.forebay/requests/01900000-0000-7000-8000-000000000000";
    for (target, status, allow) in [
        ("/marks", 200, Some("GET, HEAD, OPTIONS")),
        ("/marks/7", 200, Some("POST, GET, HEAD, OPTIONS")),
        ("/free", 200, Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")),
        ("/nowhere", 404, None),
        (ours, 405, Some("GET, HEAD, DELETE")),
    ] {
        let answer = client.exchange(format!("OPTIONS {target} HTTP/1.1\r\nHost: test\r\nMax-Forwards: 0\r\n\r\n")).await;
        assert_eq!((answer.status, answer.field("allow")), (status, allow), "{target}");
    }
    assert_eq!(backend.requests(), []);
}

#[tokio::test]
async fn via_names_the_version_in_which_a_message_came() {
    let (backend, program) = Program::passing().await;
    backend.next(backend::bytes("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let response = client::fetch(program.proxy(), "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(response.field("via"), Some("1.0 forebay"));
    assert_eq!(backend.received(1).await[0].field("via"), Some("1.0 forebay"));
}

#[tokio::test]
async fn a_request_that_goes_round_in_circles_is_stopped() {
    let (backend, program) = Program::passing().await;
    let fields = vec!["Via: 1.1 forebay"; 11];
    let mut client = Client::connect(program.proxy()).await;
    let response = client.exchange(client::request("GET", "/", &fields, "")).await;
    assert_eq!((response.status, response.field("proxy-status")), (502, Some("forebay; error=proxy_loop_detected")));
    assert_eq!(backend.requests(), []);
    let chain = client::request("GET", "/", &fields[..3], "");
    assert_eq!(client::fetch(program.proxy(), chain).await.status, 200, "some in a row are no circle");
}

#[tokio::test]
async fn a_field_that_reads_like_ours_to_a_server_without_hyphens_does_not_cross() {
    let (backend, program) = Program::passing().await;
    let forged = ["X_Forwarded_For: 1.2.3.4", "X-Forwarded_Proto: https", "Forebay_Attempt: 7", "X_Other: kept"];
    assert_eq!(client::fetch(program.proxy(), client::request("GET", "/", &forged, "")).await.status, 200);
    let request = &backend.received(1).await[0];
    for name in ["x_forwarded_for", "x-forwarded_proto", "forebay_attempt"] {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!((request.field("x_other"), request.field("x-forwarded-for")), (Some("kept"), Some("127.0.0.1")));
}

#[tokio::test]
async fn the_wish_for_trailers_is_told_to_the_next_hop_as_its_own() {
    let (backend, program) = Program::passing().await;
    let fields = ["TE: trailers, deflate;q=0.5", "Connection: TE"];
    assert_eq!(client::fetch(program.proxy(), client::request("GET", "/", &fields, "")).await.status, 200);
    let request = &backend.received(1).await[0];
    assert_eq!((request.field("te"), request.field("connection")), (Some("trailers"), Some("TE")));
}

#[tokio::test]
async fn a_method_that_nobody_knows_reaches_the_backend() {
    let (backend, program) = Program::passing().await;
    for method in ["PROPFIND", "get", "M-SEARCH", "X"] {
        assert_eq!(client::fetch(program.proxy(), client::request(method, "/", &[], "")).await.status, 200);
        assert_eq!(backend.requests().last().unwrap().method, method);
    }
}

#[tokio::test]
async fn an_answer_without_a_date_gets_one_and_a_date_stays_as_it_is() {
    let (backend, program) = Program::passing().await;
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert!(httpdate::parse_http_date(response.field("date").unwrap()).is_ok());
    let theirs = "Sun, 06 Nov 1994 08:49:37 GMT";
    backend.next(backend::answer(200, &[&format!("Date: {theirs}")], ""));
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!(values(&response.fields, "date").collect::<Vec<_>>(), [theirs.as_bytes()]);
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_interim_answer() {
    let (backend, program) = Program::passing().await;
    let mut client = Client::connect(program.proxy()).await;
    client.send("POST / HTTP/1.0\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    let response = client.exchange("abc").await;
    assert_eq!((response.status, response.interim), (200, vec![]));
    let request = &backend.received(1).await[0];
    assert_eq!((&request.body.content[..], request.field("expect")), (&b"abc"[..], None));
}

#[tokio::test]
async fn a_connection_ends_after_the_answer_when_its_client_says_so() {
    let (backend, program) = Program::passing().await;
    for last in ["GET /last HTTP/1.1\r\nHost: test\r\nConnection: Close\r\n\r\n", "GET /last HTTP/1.0\r\nHost: test\r\n\r\n"] {
        let mut client = Client::connect(program.proxy()).await;
        client.send([last.as_bytes(), &client::get("/beyond")].concat()).await;
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert!(last.contains("1.0") || response.field("connection").is_some_and(|option| option.eq_ignore_ascii_case("close")));
        client.ended().await;
    }
    assert!(backend.requests().iter().all(|request| request.target == "/last"));
    let mut client = Client::connect(program.proxy()).await;
    for _ in 0..2 {
        assert_eq!(client.exchange("GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n").await.status, 200);
    }
}

#[tokio::test]
async fn a_request_line_of_8000_octets_is_taken() {
    let (backend, program) = Program::passing().await;
    let target = format!("/{}", "x".repeat(8000));
    assert_eq!(client::fetch(program.proxy(), client::get(&target)).await.status, 200);
    assert_eq!(backend.received(1).await[0].target, target);
}

#[tokio::test]
async fn credentials_conditions_and_ranges_cross_as_they_are() {
    let (backend, program) = Program::passing().await;
    let sent = [
        "Authorization: Basic  a==",
        "If-None-Match: \"a\", W/\"b\"",
        "Range: bytes=0-1, 5-",
        "Cache-Control: no-transform",
        "Cookie: a=1; b=2",
    ];
    backend.next(backend::answer(
        206,
        &[
            "Content-Range: bytes 0-1/7",
            "WWW-Authenticate: Basic realm=\"x\", Digest",
            "Age: 7",
            "Vary: *",
            "ETag: W/\"b\"",
            "Server: old/1",
            "Proxy-Status: inner; error=dns_error",
        ],
        "ab",
    ));
    let response = client::fetch(program.proxy(), client::request("GET", "/", &sent, "")).await;
    let request = &backend.received(1).await[0];
    for field in sent {
        let (name, value) = field.split_once(": ").unwrap();
        assert_eq!(request.field(name), Some(value.trim()), "{name}");
    }
    for (name, value) in [
        ("content-range", "bytes 0-1/7"),
        ("www-authenticate", "Basic realm=\"x\", Digest"),
        ("age", "7"),
        ("vary", "*"),
        ("server", "old/1"),
        ("proxy-status", "inner; error=dns_error"),
    ] {
        assert_eq!(response.field(name), Some(value), "{name}");
    }
    assert_eq!((response.status, response.field("etag"), response.text()), (206, Some("W/\"b\""), "ab"));
}

#[tokio::test]
async fn a_method_that_our_own_resources_do_not_know_is_told_which_they_do() {
    let (_backend, program) = Program::passing().await;
    let ours = "/.forebay/requests/01900000-0000-7000-8000-000000000000";
    let response = client::fetch(program.proxy(), client::request("PUT", ours, &[], "")).await;
    assert_eq!(response.status, 405);
    assert!(response.field("allow").unwrap().contains("GET"), "{:?}", response.field("allow"));
}

#[tokio::test]
async fn an_old_client_is_never_switched_to_another_protocol() {
    let (backend, program) = Program::passing().await;
    backend.otherwise(|request| match request.field("upgrade") {
        Some(_) => backend::bytes("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        None => backend::answer(200, &[], "ok"),
    });
    let response = client::fetch(program.proxy(), "GET / HTTP/1.0\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert_eq!((response.status, backend.requests()[0].field("upgrade")), (200, None));
}

#[tokio::test]
async fn what_is_asked_for_by_https_is_not_served_without_tls() {
    let backend = Backend::start().await;
    let trusted = Site::passing(backend.url()).clients("trusted_proxies = [\"127.0.0.1\"]");
    for (site, forwarded, status) in [
        (Site::passing(backend.url()), "", 421),
        (Site::passing(backend.url()), "X-Forwarded-Proto: https\r\n", 421),
        (trusted.clone(), "", 421),
        (trusted, "X-Forwarded-Proto: https\r\n", 200),
    ] {
        let program = Program::start(&site.to_string()).await;
        let by_https = format!("GET https://test/a HTTP/1.1\r\nHost: test\r\n{forwarded}\r\n");
        assert_eq!(client::fetch(program.proxy(), by_https).await.status, status, "{forwarded}");
        let by_http = format!("GET http://test/a HTTP/1.1\r\nHost: test\r\n{forwarded}\r\n");
        assert_eq!(client::fetch(program.proxy(), by_http).await.status, 200, "{forwarded}");
        let mut http2 = common::h2::Http2::over(tokio::net::TcpStream::connect(program.proxy()).await.unwrap()).await;
        let mut request = http::Request::get("https://test/a");
        if !forwarded.is_empty() {
            request = request.header("x-forwarded-proto", "https");
        }
        assert_eq!(http2.exchange(request, "").await.unwrap().status, status, "{forwarded}");
    }
}
