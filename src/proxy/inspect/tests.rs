use http::Request;

use super::*;

fn fault(request: http::request::Builder) -> Option<Malformed> {
    inspect(&request.body(()).unwrap().into_parts().0).err()
}

fn with(name: &str, value: &str) -> http::request::Builder {
    Request::post("/").header("host", "a").header(name, value)
}

#[test]
fn a_request_that_two_readers_could_understand_differently_is_refused() {
    assert_eq!(fault(with("host", "b")), Some(Malformed::Host));
    assert_eq!(fault(Request::get("/")), Some(Malformed::Host));
    assert_eq!(fault(Request::get("/").version(Version::HTTP_10)), None);
    assert_eq!(fault(with("content-length", "1").header("content-length", "1")), Some(Malformed::Length));
    assert_eq!(fault(with("transfer-encoding", "chunked").header("transfer-encoding", "chunked")), Some(Malformed::Coding));
    assert_eq!(fault(with("content_length", "1")), Some(Malformed::Lookalike));
    assert_eq!(fault(with("transfer_encoding", "chunked")), Some(Malformed::Lookalike));
}

#[test]
fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
    for good in
        ["", "a", "a.example", "A.example.:80", "my_host-1:8080", "192.0.2.1", "192.0.2.1:", "[2001:db8::1]", "[::ffff:192.0.2.1]:443"]
    {
        assert_eq!(fault(Request::get("/").header("host", good)), None, "{good:?}");
    }
    for bad in [
        "a b", "a/b", "a,b", "u@a", "a?b", "a#b", "a\\b", "a:b", "a:1:2", "a:123456", "[::1", "::1", "[]", "[::1]x", "[a]]", "\"a\"",
        "a;b", "a'",
    ] {
        assert_eq!(fault(Request::get("/").header("host", bad)), Some(Malformed::Host), "{bad:?}");
    }
}

#[test]
fn only_a_path_and_only_chunks_are_understood() {
    assert_eq!(fault(with("transfer-encoding", "gzip, chunked")), Some(Malformed::Coding));
    assert_eq!(fault(with("transfer-encoding", " Chunked")), None);
    for target in ["a.example", "ftp://a.example/", "*"] {
        assert_eq!(fault(Request::get(target).header("host", "a")), Some(Malformed::Target), "{target}");
    }
    assert_eq!(fault(Request::builder().method("CONNECT").uri("a.example:443").header("host", "a")), Some(Malformed::Target));
    assert_eq!(fault(Request::get("http://a@b.example/").header("host", "b.example")), Some(Malformed::UserInfo));
    assert_eq!(fault(Request::options("*").header("host", "a")), None);
}

#[test]
fn connection_cannot_take_away_what_is_meant_for_the_server() {
    for sound in ["close", "keep-alive, Upgrade", "TE, X-Private ,, close", "HTTP2-Settings", "Transfer-Encoding", ""] {
        assert_eq!(fault(with("connection", sound)), None, "{sound:?}");
    }
    for abuse in ["Host", "close, Content-Length", "authorization", "X-Forwarded-For", "cookie", "Forebay-Id", "a b", "\"x\"", "close;host"]
    {
        assert_eq!(fault(with("connection", abuse)), Some(Malformed::Connection), "{abuse:?}");
        assert_eq!(fault(with("connection", "close").header("connection", abuse)), Some(Malformed::Connection), "{abuse:?}");
    }
    let beyond_ascii = HeaderValue::from_bytes(b"close, \xe9").unwrap();
    assert_eq!(fault(Request::post("/").header("host", "a").header("connection", beyond_ascii)), Some(Malformed::Connection));
}

#[test]
fn only_one_expectation_can_be_met() {
    assert_eq!(fault(with("expect", "100-Continue")), None);
    for other in ["200-ok", "100-continue, x", ""] {
        assert_eq!(fault(with("expect", other)), Some(Malformed::Expectation), "{other:?}");
    }
}

#[test]
fn max_forwards_counts_for_options_only() {
    let options = |value: &'static str| Request::options("/").header("host", "a").header("max-forwards", value).body(()).unwrap();
    assert_eq!(inspect(&options("3").into_parts().0).unwrap().max_forwards, Some(3));
    for bad in ["-1", "+1", "", "1, 1", "99999999999999999999"] {
        assert_eq!(inspect(&options(bad).into_parts().0).unwrap_err(), Malformed::MaxForwards, "{bad:?}");
    }
    assert_eq!(fault(with("max-forwards", "nonsense")), None);
}

#[test]
fn a_request_that_goes_in_circles_is_stopped() {
    let through = |rounds| (0..rounds).fold(Request::get("/").header("host", "a"), |request, _| request.header("via", "1.1 forebay"));
    assert_eq!(fault(through(MOST_ROUNDS)), None);
    assert_eq!(fault(through(MOST_ROUNDS + 1)), Some(Malformed::Loop));
}
