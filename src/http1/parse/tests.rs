use super::*;

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\n";

/// What becomes of bytes that come in pieces of `piece` bytes: how long the head is, or what is wrong with it; none where more has to come.
fn found(bytes: &[u8], piece: usize) -> Result<Option<usize>, Fault> {
    for end in (piece.min(bytes.len())..bytes.len()).step_by(piece).chain([bytes.len()]) {
        let mut buffer = BytesMut::from(&bytes[..end]);
        if let Some((request, _, length)) = request(&mut buffer)? {
            let head = request.origin.as_ref().map(Origin::head).unwrap();
            assert_eq!(([head, &buffer[..]].concat(), head.len()), (bytes[..end].to_vec(), length));
            return Ok(Some(length));
        }
        assert_eq!(buffer, bytes[..end], "what is not whole stays");
    }
    Ok(None)
}

#[test]
fn what_is_in_order_is_a_head_in_pieces_of_any_size() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\r\n\r\nGET /%23 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G#T / HTTP/1.1\r\nHost: a\r\nX-Line: #\r\n\r\n".to_owned(),
        format!("{HEAD}Content-Length: 0\r\n\r\n"),
        format!("{HEAD}content-LENGTH:\t 5 \r\n\r\n"),
        format!("{HEAD}Content-Length-X: 5\r\nContent-Lengt: 7\r\n\r\n"),
        format!("{HEAD}Transfer-Encoding: gzip , Chunked\r\n\r\n"),
    ] {
        for piece in [1, 2, 3, 7, 64] {
            assert_eq!(found(format!("{head}\nGET").as_bytes(), piece), Ok(Some(head.len())), "{head:?} in pieces of {piece}");
        }
    }
}

#[test]
fn what_is_out_of_order_is_no_head_in_pieces_of_any_size() {
    for (bytes, fault) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Fault::LineFeed),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::LineFeed),
        ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", Fault::LineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::LineFeed),
        ("GET /a#b HTTP/1.1\r\n\r\n", Fault::Target),
        ("GET a/b HTTP/1.1\r\n\r\n", Fault::Target),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", Fault::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::LengthAndCoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n", Fault::LengthAndCoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Fault::Coding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Fault::Syntax(httparse::Error::HeaderValue)),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::Coding),
        ("GET / HTTP/2.1\r\n\r\n", Fault::Syntax(httparse::Error::Version)),
        ("GET / HTTP/1.a\r\n\r\n", Fault::Syntax(httparse::Error::Version)),
        ("GET / HTTP/1.21\r\n\r\n", Fault::Syntax(httparse::Error::NewLine)),
        ("GET / HTTP/1.2 \r\n\r\n", Fault::Syntax(httparse::Error::NewLine)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Syntax(httparse::Error::Version)),
    ] {
        for piece in [1, 2, 5, 64] {
            assert_eq!(found(bytes.as_bytes(), piece), Err(fault), "{bytes:?} in pieces of {piece}");
        }
    }
}

#[test]
fn a_head_says_whether_its_connection_stays_and_what_follows_it() {
    let said = |text: &str| request(&mut BytesMut::from(text)).unwrap().unwrap().1;
    for (text, stays) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false),
    ] {
        assert_eq!(said(text).stays(), stays, "{text:?}");
    }
    let said = said("POST / HTTP/1.1\r\nContent-Length: 7\r\nExpect: 100-Continue\r\nTE: gzip, Trailers\r\n\r\n");
    assert_eq!((said.length, said.chunked, said.expects, said.trailers), (Some(7), false, true, true));
}

/// RFC 9110 section 2.5.
#[test]
fn a_higher_minor_version_is_taken_for_the_highest_that_is_known() {
    for minor in 1..=9 {
        let text = format!("POST /1.{minor} HTTP/1.{minor}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let (head, said, _) = request(&mut BytesMut::from(&*text)).unwrap().unwrap();
        assert_eq!((head.version, head.uri.path(), said.chunked), (Version::HTTP_11, &*format!("/1.{minor}"), true));
        assert!(said.stays() && !said.is_old());
        for before in ["", "\r\n"] {
            let text = format!("{before}HTTP/1.{minor} 200 OK\r\nContent-Length: 2\r\n\r\n");
            let (head, said, _) = response(&mut BytesMut::from(&*text)).unwrap().unwrap();
            assert_eq!((head.version, said.length, said.stays()), (Version::HTTP_11, Some(2), true));
        }
    }
    for other in ["HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.x 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.23 200 OK\r\n\r\n"] {
        assert!(response(&mut BytesMut::from(other)).is_err(), "{other:?}");
    }
}

/// RFC 9110 section 10.1.1: what HTTP/1.0 expects is ignored, for it knows no interim answers.
#[test]
fn a_client_of_http_1_0_does_not_wait_for_the_word_to_go_on() {
    let said = |version: &str| {
        let text = format!("POST / HTTP/{version}\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n");
        request(&mut BytesMut::from(&*text)).unwrap().unwrap().1
    };
    assert_eq!([said("1.1").expects, said("1.0").expects], [true, false]);
}

#[test]
fn a_bare_line_feed_is_refused_before_what_it_stands_in_is_whole() {
    for begun in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY", "\n", "\r\n\nGET"] {
        assert_eq!(request(&mut BytesMut::from(begun)).unwrap_err(), Fault::LineFeed, "{begun:?}");
    }
    for begun in ["X: a\n", "X: a\r\nY: b\nZ"] {
        assert_eq!(trailers(begun.as_bytes()).unwrap_err(), Fault::LineFeed, "{begun:?}");
    }
}

#[test]
fn a_target_has_as_many_bytes_as_a_uri_may_have_and_not_one_more() {
    let found = |length: usize| {
        let text = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
        request(&mut BytesMut::from(&*text)).map(|found| found.unwrap().0.uri.path().len())
    };
    const MOST: usize = u16::MAX as usize - 1;
    assert_eq!([found(MOST), found(MOST + 1), found(2 * MOST)], [Ok(MOST), Err(Fault::TargetTooLong), Err(Fault::TargetTooLong)]);
}

#[test]
fn spaces_and_tabs_around_a_value_and_its_elements_do_not_count() {
    for around in ["", " ", "\t", " \t \t"] {
        let list = |first: &str, second: &str| format!("{around}{first}{around},{around}{second}{around}\r\n");
        let head = format!(
            "POST / HTTP/1.1\r\nX:{around}a b\tc{around}\r\nConnection:{}TE:{}Transfer-Encoding:{}\r\n",
            list("close", "x"),
            list("trailers", "gzip"),
            list("gzip", "chunked")
        );
        let (head, said, _) = request(&mut BytesMut::from(&*head)).unwrap().unwrap();
        assert_eq!(head.headers["x"], "a b\tc", "{around:?}");
        assert_eq!((said.stays(), said.trailers, said.chunked), (false, true, true), "{around:?}");
    }
}

#[test]
fn an_answer_of_old_is_understood_and_one_whose_end_is_in_doubt_is_none() {
    let (old, said, length) = response(&mut BytesMut::from("HTTP/1.0 200 Fine\nX-Old : 1\nContent-Length \t: 2\n\nhi")).unwrap().unwrap();
    assert_eq!((old.get(&HeaderName::from_static("x-old")).unwrap(), said.length, said.stays(), length), (&b"1"[..], Some(2), false, 49));
    assert_eq!(old.phrase(), Some(&b"Fine"[..]));
    let of_old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(&mut BytesMut::from(of_old)).map(|_| ()), Err(Fault::Coding), "HTTP/1.0 has no chunks");
    for doubtful in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: -2\r\n",
    ] {
        let answer = |status: &str| response(&mut BytesMut::from(&*format!("HTTP/1.1 {status}\r\n{doubtful}\r\n"))).map(|_| ());
        assert!(answer("200 OK").is_err(), "{doubtful:?}");
        assert!(answer("103 Early Hints").is_ok(), "an interim answer has no body");
    }
}

#[test]
fn a_number_has_digits_only_and_fits() {
    for number_of in [0, 7, 10, 128, u64::MAX] {
        assert_eq!(number(number_of.to_string().as_bytes()), Some(number_of));
    }
    assert_eq!(number(b"007"), Some(7));
    for none in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "1/", ":1", "18446744073709551616", "99999999999999999999"] {
        assert_eq!(number(none.as_bytes()), None, "{none:?}");
    }
}

#[test]
fn what_frames_routes_or_authenticates_is_no_trailer() {
    for name in ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "Connection", "Set-Cookie", "TE", "Trailer", "Upgrade"] {
        let text = format!("X-Sum: 1\r\n{name}: 7\r\n\r\n");
        let (trailers, length) = trailers(text.as_bytes()).unwrap().unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"], length), (1, &HeaderValue::from_static("1"), text.len()), "{name}");
    }
}
