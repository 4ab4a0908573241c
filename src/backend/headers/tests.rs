use super::*;
use crate::{fuzz, http1};

fn left(fields: &[(&'static str, &'static str)]) -> Vec<String> {
    let mut headers = HeaderMap::new();
    for &(name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    remove_hop_by_hop(&mut headers);
    let mut left: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    left.sort();
    left
}

#[test]
fn what_connection_names_goes_with_it() {
    assert_eq!(
        left(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("connection", "x-other"), ("x-other", "2"), ("accept", "*/*")]),
        ["accept: */*"]
    );
}

#[test]
fn what_belongs_to_one_connection_never_crosses() {
    let fields = ["keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "proxy-authorization", "proxy-authenticate", "te"];
    for name in fields {
        assert_eq!(left(&[(name, "x")]), [""; 0], "{name}");
    }
    for name in &HOP_BY_HOP {
        assert!(may_be_hop_by_hop(name) && (*name == CONNECTION || fields.contains(&name.as_str())), "{name}");
    }
}

#[test]
fn connection_cannot_take_away_host_or_length() {
    assert_eq!(left(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "3")]), ["content-length: 3", "host: a"]);
}

#[test]
fn the_wish_for_trailers_is_passed_on() {
    assert_eq!(left(&[("te", "gzip;q=0.5, Trailers"), ("connection", "te")]), ["connection: TE", "te: trailers"]);
}

#[test]
fn a_response_whose_end_is_in_doubt_has_a_fault() {
    let fault = |fields: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        fault_of(StatusCode::OK, &headers, None)
    };
    for sound in [&[][..], &[("content-length", "3")], &[("transfer-encoding", "Chunked")], &[("trailer", "x"), ("x-content-len", "y")]] {
        assert_eq!(fault(sound), None, "{sound:?}");
    }
    for bad in [
        &[("content-length", "3"), ("content-length", "3")][..],
        &[("content-length", "3, 3")],
        &[("content-length", "3"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "gzip")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
    ] {
        assert!(fault(bad).is_some(), "{bad:?}");
    }
    let mut switched = HeaderMap::new();
    let fault_of = |headers: &HeaderMap, asked| fault_of(StatusCode::SWITCHING_PROTOCOLS, headers, asked);
    assert!(fault_of(&switched, None).is_some());
    let asked = HeaderValue::from_static("websocket, IRC/6.9");
    assert!(fault_of(&switched, Some(&asked)).is_some(), "it has to say to which");
    for (chosen, sound) in [("WebSocket", true), ("irc/6.9", true), ("h2c", false), ("websocket, irc/6.9", false)] {
        switched.insert(UPGRADE, HeaderValue::from_static(chosen));
        assert_eq!(fault_of(&switched, Some(&asked)).is_none(), sound, "{chosen}");
    }
    assert!(fault_of(&switched, None).is_some());
}

const SEEDS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nServer: a\r\nDate: b\r\nContent-Type: c/d\r\nContent-Length: 5\r\nConnection: keep-alive\r\nX-a: 1\r\n\r\n",
    b"HTTP/1.1 404 Nope\nserver:a\nX-Old : 1 \nx-old\t:\t2\nX-Empty:\nx-empty: \n\n",
    b"HTTP/1.0 200 OK\r\nConnection: close, X-a\r\nX-a: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2\r\nX-A: 2\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 1\r\nContent-Length: 2\r\nTE: trailers\r\n\r\n",
    b"HTTP/1.1 200 \xff\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\nVary: b\r\nSet-Cookie: c\r\nVia: 1.0 x\r\nProxy-Connection: x\r\n\r\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"Connection: close\r\n",
    b"connection: Keep-Alive, Upgrade\r\n",
    b"Connection: x-a\r\n",
    b"Connection: close, keep-alive\r\n",
    b"Connection: content-length, te\n",
    b"Close: 1\r\n",
    b"Keep-Alive: 1\r\n",
    b"TE: trailers\r\n",
    b"TE: gzip\r\n",
    b"Upgrade: x\r\n",
    b"Proxy-Authenticate: x\r\n",
    b"Proxy-Authorization: x\r\n",
    b"Proxy-Connection : x\r\n",
    b"Content-Length: 007\r\n",
    b"Content-Length:7\r\n",
    b"transfer-encoding: chunked\r\n",
    b"date : x\r\n",
    b"X-Empty:\r\n",
    b"x-empty:\t\r\n",
    b"Via: 1.1 y\r\n",
    b"X-A: \x80\xff\r\n",
];

#[test]
fn fuzz_an_answer_loses_the_same_fields_as_it_came_and_as_a_map() {
    fuzz::run(SEEDS, WORDS, |text| http1::is_the_same_in_both_forms(text, remove_from_answer));
}
