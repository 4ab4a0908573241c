//! Byte for byte.

use crate::{
    CHECKED, at,
    common::{
        backend::{Backend, Recorded},
        client,
        program::Program,
        wire::Field,
    },
    configuration, drained, queue, take_down, writes,
};

/// What a proxy on the way has to add or may frame anew.
const NOT_THE_CLIENTS: &[&str] = &[
    "content-length",
    "transfer-encoding",
    "trailer",
    "connection",
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "idempotency-key",
    "forebay-id",
    "forebay-attempt",
    "forebay-accepted-at",
    "forebay-reason",
];

fn clients_own(fields: &[Field]) -> Vec<(String, String)> {
    let own = fields.iter().filter(|(name, _)| !NOT_THE_CLIENTS.contains(&name.to_ascii_lowercase().as_str()));
    own.map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned())).collect()
}

/// Sends these requests to a program whose backend is down, brings it back, and gives what it then gets, by target.
async fn replayed(requests: &[Vec<u8>]) -> (Vec<String>, Vec<Recorded>) {
    let mut backend = Backend::start().await;
    let program = Program::start(&configuration(&backend, CHECKED, &writes("order_by = \"none\""))).await;
    take_down(&mut backend, &program).await;
    let mut ids = Vec::new();
    for request in requests {
        ids.push(queue(&program, request).await);
    }
    backend.start_again().await;
    assert_eq!(drained(&program).await["delivered"], requests.len());
    let mut recorded = at(&backend);
    recorded.sort_by(|one, other| one.target.cmp(&other.target));
    (ids, recorded)
}

#[tokio::test]
async fn what_was_queued_arrives_exactly_as_it_was_sent() {
    let bytes: Vec<u8> = (0..=255).collect();
    let fields = [
        "ACCEPT: text/html;q=0.1,*/*",
        "X-oDD: first",
        "X-oDD: second",
        "x-lower: \u{e9}t\u{e9}",
        "COOKIE: a=1; b=\"2\"",
        "X-Empty:",
        "Content-Type: application/x-www-form-urlencoded",
    ];
    let requests = [
        client::request("POST", "/w/1?q=a%2Fb&&x=;%20y=~", &fields, &bytes),
        client::request("PUT", "/w/2/%7Ea/../b//c", &fields[..3], b"put"),
        client::request("PATCH", "/w/3", &[], b""),
        b"DELETE /w/4 HTTP/1.1\r\nhOST: test\r\nX-Last: 1\r\n\r\n".to_vec(),
    ];
    let (_, recorded) = replayed(&requests).await;
    let sent = [
        ("POST", "/w/1?q=a%2Fb&&x=;%20y=~", &fields[..], &bytes[..]),
        ("PUT", "/w/2/%7Ea/../b//c", &fields[..3], b"put"),
        ("PATCH", "/w/3", &[], b""),
        ("DELETE", "/w/4", &["X-Last: 1"], b""),
    ];
    assert_eq!(recorded.len(), sent.len());
    for (recorded, (method, target, fields, body)) in recorded.iter().zip(sent) {
        assert_eq!((recorded.method.as_str(), recorded.target.as_str()), (method, target));
        let host = if target == "/w/4" { "hOST" } else { "Host" };
        let own = std::iter::once((host.to_owned(), "test".to_owned())).chain(fields.iter().map(|field| {
            let (name, value) = field.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        }));
        assert_eq!(clients_own(&recorded.fields), own.collect::<Vec<_>>(), "{target}");
        assert_eq!(recorded.body.content, body, "{target}");
        assert!(recorded.body.complete && recorded.body.trailers.is_empty());
    }
    assert!(!recorded[3].fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")), "a DELETE that had no body has none");
    assert_eq!(recorded[2].field("content-length"), Some("0"));
}

#[tokio::test]
async fn trailers_arrive_after_the_body_that_they_followed() {
    let chunked = "POST /w/1 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nX-Own: 1\r\n\r\n\
                   4\r\nwiki\r\n5;ext=1\r\npedia\r\n0\r\nX-Sum: 9\r\n\r\n";
    let (_, recorded) = replayed(&[chunked.as_bytes().to_vec()]).await;
    assert_eq!(recorded[0].body.content, b"wikipedia");
    let trailers: Vec<_> = recorded[0].body.trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    assert_eq!(trailers, [("x-sum".to_owned(), b"9".to_vec())]);
    assert_eq!(clients_own(&recorded[0].fields), [("Host".into(), "test".into()), ("X-Own".into(), "1".into())]);
}

#[tokio::test]
async fn a_large_body_arrives_byte_for_byte() {
    let mut random = fastrand::Rng::with_seed(7);
    let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(5_000_001).collect();
    let mut chunked = b"PUT /w/2 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in large.chunks(100_003) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend([piece, b"\r\n"].concat());
    }
    chunked.extend(b"0\r\nX-Sum: 1\r\n\r\n");
    let (_, recorded) = replayed(&[client::request("PUT", "/w/1", &[], &large), chunked]).await;
    for recorded in &recorded {
        assert!(recorded.body.content == large, "{} bytes came of {}", recorded.body.content.len(), large.len());
    }
    assert_eq!(recorded[0].field("content-length"), Some("5000001"));
    assert_eq!(recorded[1].body.trailers.len(), 1);
}

#[tokio::test]
async fn a_replay_says_what_it_is_and_a_client_cannot_say_it_for_us() {
    let plain = client::request("POST", "/w/1", &[], "1");
    let own = client::request("POST", "/w/2", &["Idempotency-Key: \"mine\"", "Forebay-Id: forged", "forebay-Attempt: 9"], "2");
    let (ids, recorded) = replayed(&[plain, own]).await;
    for (recorded, id) in recorded.iter().zip(&ids) {
        let all = |name| recorded.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).count();
        assert_eq!(recorded.field("Forebay-Id"), Some(id.as_str()));
        assert_eq!(recorded.field("Forebay-Attempt"), Some("1"));
        assert_eq!(recorded.field("Forebay-Reason"), Some("down"));
        let accepted_at = recorded.field("Forebay-Accepted-At").unwrap();
        assert!(accepted_at.parse::<jiff::Timestamp>().is_ok(), "{accepted_at} is RFC 3339");
        for name in ["forebay-id", "forebay-attempt", "forebay-reason", "forebay-accepted-at", "idempotency-key", "host"] {
            assert_eq!(all(name), 1, "{name}");
        }
    }
    assert_eq!(recorded[0].field("Idempotency-Key"), Some(format!("\"{}\"", ids[0]).as_str()));
    assert_eq!(recorded[1].field("Idempotency-Key"), Some("\"mine\""));
}
