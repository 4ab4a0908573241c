//! Heads of answers.

use super::{Stage, common::client, then_close};

#[tokio::test]
async fn an_answer_whose_end_is_in_doubt_is_none() {
    let answers: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nnox",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    ];
    Stage::set().await.refuse(answers).await;
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_none() {
    let answers: &[&[u8]] = &[
        b"garbage\r\n\r\n",
        b"<html>no</html>\r\n\r\n",
        b"220 smtp.example ESMTP\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/0.9 200 OK\r\n\r\nno",
        b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nX Y: 1\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ];
    Stage::set().await.refuse(answers).await;
}

#[tokio::test]
async fn a_head_without_end_is_no_answer_and_costs_little() {
    let stage = Stage::set().await;
    let many: String = (0..2000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = "x".repeat(2 << 20);
    for head in [format!("HTTP/1.1 200 OK\r\n{many}\r\n"), format!("HTTP/1.1 200 OK\r\nX: {long}"), format!("HTTP/1.1 200 {long}")] {
        let response = stage.get(then_close(head)).await.unwrap();
        assert_eq!((response.status, response.field("proxy-status")), (502, Some("forebay; error=http_protocol_error")));
    }
}

#[tokio::test]
async fn a_head_that_breaks_off_is_no_answer() {
    let stage = Stage::set().await;
    for part in
        ["", "HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r"]
    {
        for (method, status) in [("GET", 503), ("POST", 502)] {
            let before = stage.backend.requests().len();
            let response = stage.play(then_close(part), client::request(method, "/", &[], "")).await.unwrap();
            // One for each of the two good answers after it.
            let asked = stage.backend.requests().len() - before - 2;
            if method == "GET" && asked == 2 {
                // It was on a kept connection, and went once more on a new one (RFC 9112 section 9.3.1): the answer is the second one's.
                assert_eq!(response.status, 200, "{part:?}");
                continue;
            }
            assert_eq!(asked, 1, "{method} {part:?}");
            assert_eq!(response.status, status, "{part:?}");
            assert_eq!(response.field("proxy-status"), Some("forebay; error=connection_terminated"), "{part:?}");
        }
    }
}

/// RFC 9112 section 5.1 has a proxy take such spaces away; old servers send them.
#[tokio::test]
async fn spaces_before_a_colon_go_on_the_way() {
    let stage = Stage::set().await;
    let response = stage.get(super::bytes("HTTP/1.1 200 OK\r\nX-Old : 1\r\nContent-Length \t: 2\r\n\r\nhi")).await.unwrap();
    assert_eq!((response.status, response.text(), response.field("x-old")), (200, "hi", Some("1")));
    assert!(!response.head.windows(2).any(|pair| pair == b" :" || pair == b"\t:"));
}

/// RFC 9112 section 2.2 lets a recipient take a line feed alone for the end of a line; old servers send it, and the client gets whole ones.
#[tokio::test]
async fn line_feeds_alone_are_made_whole_on_the_way() {
    let stage = Stage::set().await;
    let response = stage.get(super::bytes("HTTP/1.1 200 OK\nX-Old: 1\nContent-Length: 2\n\nhi")).await.unwrap();
    assert_eq!((response.status, response.text(), response.field("x-old")), (200, "hi", Some("1")));
    assert!(response.head.iter().zip(&response.head[1..]).all(|(before, byte)| *byte != b'\n' || *before == b'\r'));
}
