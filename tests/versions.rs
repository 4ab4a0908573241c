//! Versions of HTTP/1 that are older or newer than ours (RFC 9110 section 2.5).

mod common;

use common::{
    backend,
    client::{self, Client},
    program::Program,
};

#[tokio::test]
async fn a_client_of_a_newer_minor_version_is_served_as_one_of_ours() {
    let (backend, program) = Program::passing().await;
    let mut client = Client::connect(program.proxy()).await;
    for minor in 2..=9 {
        let response = client.exchange(format!("POST /{minor} HTTP/1.{minor}\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi")).await;
        assert!(response.head.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&response.head));
        let request = backend.requests().pop().unwrap();
        assert!(request.head.starts_with(format!("POST /{minor} HTTP/1.1\r\n").as_bytes()));
        assert_eq!(request.body.content, b"hi");
    }
    assert_eq!(client.exchange("GET / HTTP/1.2\r\n\r\n").await.status, 400, "and needs a Host");
}

#[tokio::test]
async fn a_backend_of_a_newer_minor_version_is_understood_as_one_of_ours() {
    let (backend, program) = Program::passing().await;
    let mut client = Client::connect(program.proxy()).await;
    for minor in 2..=9 {
        backend.next(backend::bytes(format!("HTTP/1.{minor} 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")));
        let response = client.exchange(client::get("/")).await;
        assert!(response.head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", String::from_utf8_lossy(&response.head));
        assert_eq!((response.text(), response.complete), ("hi", true));
    }
    assert_eq!(backend.connections(), 1, "its connection is kept");
    backend.next(backend::bytes("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(client.exchange(client::get("/")).await.status, 502, "another major version is another protocol");
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_in_our_version_and_framed_as_it_can_read() {
    let (backend, program) = Program::passing().await;
    backend.otherwise(|_| backend::bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"));
    let mut client = Client::connect(program.proxy()).await;
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let response = client.response().await;
    assert!(response.head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", String::from_utf8_lossy(&response.head));
    assert_eq!((response.field("transfer-encoding"), response.field("content-length")), (None, None));
    assert_eq!((response.text(), response.field("connection")), ("hi", Some("close")), "it ends with its connection");

    backend.otherwise(|_| backend::answer(200, &[], "ok"));
    for (asks, is_kept) in [("", false), ("Connection: keep-alive\r\n", true)] {
        let mut client = Client::connect(program.proxy()).await;
        let response = client.exchange(format!("GET / HTTP/1.0\r\n{asks}\r\n")).await;
        assert_eq!((response.text(), response.field("connection")), ("ok", Some(if is_kept { "keep-alive" } else { "close" })));
        match is_kept {
            true => assert_eq!(client.exchange("GET / HTTP/1.0\r\n\r\n").await.status, 200),
            false => client.ended().await,
        }
    }
}
