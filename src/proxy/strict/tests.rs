use super::*;

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\n";

/// How much of `bytes` is in order, read in pieces of `piece` bytes; all of it when nothing is wrong.
fn in_order(bytes: &[u8], piece: usize) -> usize {
    let mut strict = Strict::default();
    let mut passed = 0;
    for piece in bytes.chunks(piece) {
        match strict.follow(piece) {
            Ok(()) => passed += piece.len(),
            Err(end) => return passed + end,
        }
    }
    passed
}

fn is_in_order(text: &str) -> bool {
    let whole = in_order(text.as_bytes(), usize::MAX) == text.len();
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(in_order(text.as_bytes(), piece) == text.len(), whole, "{text:?} in pieces of {piece}");
    }
    whole
}

#[test]
fn what_is_in_order_passes_and_the_next_request_is_found_behind_it() {
    for first in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\r\n\r\nGET /%23 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G#T / HTTP/1.1\r\nHost: a\r\nX-Line: #\r\n\r\n".to_owned(),
        format!("{HEAD}Content-Length: 0\r\n\r\n"),
        format!("{HEAD}content-LENGTH:\t 5 \r\n\r\na\nb\n\n"),
        format!("{HEAD}Content-Length-X: 5\r\nContent-Lengt: 7\r\n\r\n"),
        format!("{HEAD}Transfer-Encoding: Chunked\r\n\r\n5\r\na\nb#c\r\n0A;a=\"b\";c\r\n0123456789\r\n1 ; x\r\nx\r\n000\r\n\r\n"),
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"),
    ] {
        assert!(is_in_order(&first), "{first:?}");
        assert!(is_in_order(&format!("{first}GET / HTTP/1.1\r\n\r\n")), "{first:?}");
        assert!(!is_in_order(&format!("{first}GET / HTTP/1.1\n\n")), "{first:?}");
        assert!(!is_in_order(&format!("{first}\nGET / HTTP/1.1\r\n\r\n")), "{first:?}");
    }
}

#[test]
fn what_is_out_of_order_is_stopped_where_it_is() {
    for (passes, stopped) in [
        ("GET / HTTP/1.1", "\nHost: a\r\n\r\n"),
        ("GET /a#b HTTP/1.1\r", "\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "\n"),
        ("GET / HTTP/1.1\r\nHost: a", "\nX: b\r\n\r\n"),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r", "\nx"),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r", "\n0\r\n\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r", "\nx"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1", "\nx\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\0\r", "\nx\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\rb\r", "\nx\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 \r", "\nx\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r", "\n0\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r", "\nx\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r", "\n0\r\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "\n"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a", "\nY: b\r\n\r\n"),
    ] {
        let bytes = format!("{passes}{stopped}");
        for piece in [1, 2, 5, usize::MAX] {
            assert_eq!(in_order(bytes.as_bytes(), piece), passes.len(), "{bytes:?} in pieces of {piece}");
        }
    }
}

#[test]
fn what_will_be_refused_anyway_or_is_another_protocol_is_not_followed() {
    for beyond in [
        format!("{HEAD}Content-Length: +1\r\n\r\n\n"),
        format!("{HEAD}Content-Length: 99999999999999999999\r\n\r\n\n"),
        format!("{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n\n"),
        format!("{HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n\n"),
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n".to_owned(),
    ] {
        assert!(is_in_order(&beyond), "{beyond:?}");
    }
}

#[test]
fn what_is_read_in_its_place_comes_whole_through_the_smallest_buffer() {
    let mut strict = Strict::default();
    let mut room = [0; 64];
    let mut buffer = ReadBuf::new(&mut room);
    buffer.put_slice(b"beforeGET / HTTP/1.1\nHost: a\r\n");
    strict.look(&mut buffer, 6);
    assert_eq!(buffer.filled(), [b"beforeGET / HTTP/1.1", SPOILED].concat());
    assert!(!strict.spoil(&mut buffer), "no more than once");

    let mut strict = Strict::default();
    let mut read = Vec::new();
    let mut room = [b'\n'; 1];
    let mut buffer = ReadBuf::new(&mut room);
    buffer.set_filled(1);
    strict.look(&mut buffer, 0);
    loop {
        read.extend_from_slice(buffer.filled());
        buffer.clear();
        if !strict.spoil(&mut buffer) {
            break;
        }
    }
    assert_eq!(read, SPOILED);
}
