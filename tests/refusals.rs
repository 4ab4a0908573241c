//! What cannot be read as a request is answered as any other refusal is: with its status, what it was for programs and for people, and the end of the connection.

mod common;

use common::{
    backend::Backend,
    client::{Client, Response, get},
    program::Program,
    secure::Certificate,
    site::Site,
};

/// Whether an answer says all that a refusal says.
fn is_a_refusal(response: &Response, status: u16, phrase: &str, error: &str) {
    let sent = String::from_utf8_lossy(&response.head);
    assert_eq!((response.status, &*response.reason), (status, phrase), "{sent}");
    assert_eq!(response.field("proxy-status"), Some(&*format!("forebay; error={error}")), "{sent}");
    assert_eq!((response.field("content-type"), response.field("connection")), (Some("application/problem+json"), Some("close")), "{sent}");
    assert!(response.field("date").is_some(), "{sent}");
    let problem = response.json();
    assert_eq!((&problem["type"], &problem["status"], &problem["title"]), (&"about:blank".into(), &status.into(), &phrase.into()));
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
}

async fn refused(program: &Program, request: impl AsRef<[u8]>, status: u16, phrase: &str) {
    let mut client = Client::connect(program.proxy()).await;
    let _perhaps_cut_short = client.try_send(request).await;
    is_a_refusal(&client.response().await, status, phrase, "http_request_error");
    client.ended().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_everything_else_is() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients("max_body = \"1KiB\"").to_string()).await;
    let long = "x".repeat(64 << 10);
    for (request, status, phrase) in [
        ("garbage\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nHost: test\r\nX : 1\r\n\r\n", 400, "Bad Request"),
        ("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n", 400, "Bad Request"),
        ("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Bad Request"),
        ("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400, "Bad Request"),
        ("GET /#a HTTP/1.1\r\nHost: test\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "Bad Request"),
        ("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1025\r\n\r\n", 413, "Content Too Large"),
        ("GET / HTTP/1.1\r\nHost: test\r\nExpect: more\r\n\r\n", 417, "Expectation Failed"),
        ("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "Not Implemented"),
        (&format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n"), 414, "URI Too Long"),
        (&format!("GET / HTTP/1.1\r\nHost: test\r\nX: {long}\r\n\r\n"), 431, "Request Header Fields Too Large"),
    ] {
        refused(&program, request, status, phrase).await;
    }
    assert_eq!(backend.requests(), []);
}

/// RFC 9110 section 9.3.2: a `HEAD` is never answered with content.
#[tokio::test]
async fn a_head_request_that_cannot_be_read_is_refused_without_content() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    for field in ["X : 1", "Content-Length: x", "Transfer-Encoding: gzip"] {
        let mut client = Client::connect(program.proxy()).await;
        client.send(format!("HEAD / HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n")).await;
        let response = client.response_to_head().await;
        assert_eq!((response.status, response.field("proxy-status")), (400, Some("forebay; error=http_request_error")), "{field}");
        client.ended().await;
    }
}

/// RFC 9112 section 3: where the first line alone is too long it is the target that is.
#[tokio::test]
async fn a_target_that_passes_the_limit_of_a_head_is_a_target_that_is_too_long() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients("max_header_bytes = \"8KiB\"").to_string()).await;
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(length - "GET / HTTP/1.1\r\n".len()));
    for (line, status, phrase) in [
        (line(8192), 431, "Request Header Fields Too Large"),
        (line(8193), 414, "URI Too Long"),
        (line(100_000), 414, "URI Too Long"),
        (format!("{}\r\n", "X".repeat(100_000)), 431, "Request Header Fields Too Large"),
    ] {
        refused(&program, format!("{line}Host: test\r\n\r\n"), status, phrase).await;
    }
    assert_eq!(backend.requests(), []);
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_as_everybody_else_is() {
    let backend = Backend::start().await;
    for (limit, status, phrase) in
        [("max_connections = 1", 503, "Service Unavailable"), ("max_connections_per_client = 1", 429, "Too Many Requests")]
    {
        let program = Program::start(&Site::passing(backend.url()).clients(limit).to_string()).await;
        let mut inside = Client::connect(program.proxy()).await;
        assert_eq!(inside.exchange(get("/")).await.status, 200);
        let mut outside = Client::connect(program.proxy()).await;
        let response = outside.response().await;
        is_a_refusal(&response, status, phrase, "http_request_denied");
        assert_eq!(response.field("retry-after"), Some("1"));
        outside.ended().await;
    }
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_is_told_so_as_everybody_else_is() {
    let backend = Backend::start().await;
    let site = Site::passing(backend.url()).listening("tls = { cert_file = \"a.crt\", key_file = \"a.key\" }");
    let mut program = Program::prepare(&site.to_string(), &["run", "-c", "config.toml"]);
    Certificate::of(&["a.test"]).write(program.directory(), "a");
    program.run().await;
    let mut client = Client::connect(program.proxy()).await;
    client.send(get("/")).await;
    let response = client.response().await;
    is_a_refusal(&response, 400, "Bad Request", "http_request_error");
    assert!(response.json()["detail"].as_str().unwrap().contains("https://"));
}

/// What the status line calls a status is what its server called it, also by a name of old.
#[tokio::test]
async fn a_backends_name_for_a_status_stays_as_it_is() {
    use common::backend::bytes;
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let mut client = Client::connect(program.proxy()).await;
    for line in ["413 Payload Too Large", "413 Content Too Large", "422 Unprocessable Entity", "422 Unprocessable Content", "413 "] {
        backend.next(bytes(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")));
        let head = client.exchange(get("/")).await.head;
        assert!(head.starts_with(format!("HTTP/1.1 {line}\r\n").as_bytes()), "{:?}", String::from_utf8_lossy(&head));
    }
}
