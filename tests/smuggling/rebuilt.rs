//! What is sent on looks as if a careful client had sent it, live and replayed.

use super::common::{
    backend::{Backend, Recorded},
    client,
    program::Program,
    site::Site,
    wire::values,
};

/// What a client may write in an unusual way without being ambiguous.
const UNUSUAL: &[&[u8]] = &[
    b"\r\n\r\nPOST /a?b HTTP/1.1\r\nHost:test\r\nX-Text:\t a  b \t\r\ncontent-length:  \t3 \r\n\r\nabc",
    b"POST /a?b HTTP/1.1\r\nHOST: test\r\nX-Text: a  b\r\ntransfer-encoding: CHUNKED\r\n\r\n0002;x=\"y\" ; z\r\nab\r\n1 ;q\r\nc\r\n000\r\n\r\n",
    b"POST http://test/a?b HTTP/1.1\r\nHost: other\r\nX-Text: a  b\r\nContent-Length: 3\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\n\r\nabc",
    b"POST /a?b HTTP/1.1\r\nHost: test\r\nX-Text: a  b\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: other\r\nTransfer-Encoding: x\r\n\r\n",
    b"POST /a?b HTTP/1.0\r\nHost: test\r\nX-Text: a  b\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
];

fn assert_careful(request: &Recorded, what: &str) {
    let head = std::str::from_utf8(&request.head).unwrap();
    let lines: Vec<_> = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").collect();
    assert_eq!(lines[0], "POST /a?b HTTP/1.1", "{what}");
    for line in &lines[1..] {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} in {what}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{line:?} in {what}");
        assert!(value == value.trim() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?} in {what}");
    }
    let count = |name| values(&request.fields, name).count();
    assert_eq!(count("host"), 1, "{head:?} for {what}");
    assert_eq!(count("content-length") + count("transfer-encoding"), 1, "{head:?} for {what}");
    assert_eq!((request.field("host"), request.field("x-text")), (Some("test"), Some("a  b")), "{what}");
    for gone in ["connection", "x-gone"] {
        assert_eq!(request.field(gone), None, "{what}");
    }
    assert_eq!((&request.body.content[..], request.body.complete), (&b"abc"[..], true), "{what}");
    assert!(
        request.body.trailers.iter().all(|(name, _)| !["content-length", "host", "transfer-encoding"].contains(&&*name.to_lowercase()))
    );
}

#[tokio::test]
async fn a_live_request_is_written_anew() {
    for site in [|url| Site::passing(url), |url| Site::spilling(url, "")] {
        let backend = Backend::start().await;
        let program = Program::start(&site(backend.url()).to_string()).await;
        for unusual in UNUSUAL {
            assert_eq!(client::fetch(program.proxy(), unusual).await.status, 200, "{:?}", String::from_utf8_lossy(unusual));
            assert_careful(backend.requests().last().unwrap(), &String::from_utf8_lossy(unusual));
        }
    }
}

#[tokio::test]
async fn a_replayed_request_is_written_anew_from_its_parts() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "when = \"always\"").to_string()).await;
    for (index, unusual) in UNUSUAL.iter().enumerate() {
        assert_eq!(client::fetch(program.proxy(), unusual).await.status, 202);
        let request = backend.received(index + 1).await.remove(index);
        assert_careful(&request, &String::from_utf8_lossy(unusual));
        assert_eq!(request.field("forebay-attempt"), Some("1"));
    }
}

#[tokio::test]
async fn an_upload_without_a_body_is_still_one_request() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    for empty in ["POST /a HTTP/1.1\r\nHost: test\r\n\r\n", "GET /a HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"] {
        assert_eq!(client::fetch(program.proxy(), empty).await.status, 200);
        let requests = backend.requests();
        let request = requests.last().unwrap();
        assert!(request.field("transfer-encoding").is_none() && request.field("content-length").is_none_or(|length| length == "0"));
    }
}

#[tokio::test]
async fn a_promise_of_trailers_that_did_not_come_is_not_passed_on() {
    let promise = "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (when, status) in [("needed", 200), ("always", 202)] {
        let backend = Backend::start().await;
        let program = Program::start(&Site::spilling(backend.url(), &format!("when = \"{when}\"")).to_string()).await;
        assert_eq!(client::fetch(program.proxy(), promise).await.status, status);
        let request = &backend.received(1).await[0];
        assert_eq!((request.field("trailer"), &request.body.content[..]), (None, &b"abc"[..]));
        assert_eq!(request.field("content-length").is_some(), request.field("transfer-encoding").is_none());
    }
}
