//! Writing heads.

use std::{
    cell::RefCell,
    io::Write,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderMap, HeaderName, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
    request::Parts,
};

use super::{Origin, Phrase, origin::capitals};

/// Writes the head of a request, whose framing fields are left out.
pub(super) fn request(head: &Parts, out: &mut Vec<u8>) {
    out.reserve(512);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(&head.headers, head.extensions.get(), &[TRANSFER_ENCODING, CONTENT_LENGTH], out);
}

/// Writes the first line of an answer and its fields, without those of its framing.
pub(super) fn response<B>(response: &Response<B>, version: Version, out: &mut Vec<u8>) {
    out.reserve(512);
    let phrase = response.extensions().get::<Phrase>();
    match (version, response.status(), phrase) {
        // The line of most.
        (Version::HTTP_11, StatusCode::OK, None) => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        (version, status, phrase) => {
            out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(phrase.map_or(status.canonical_reason().unwrap_or_default().as_bytes(), |phrase| &phrase.0));
            out.extend_from_slice(b"\r\n");
        }
    }
    fields(response.headers(), response.extensions().get(), &[TRANSFER_ENCODING, CONTENT_LENGTH], out);
}

/// Writes fields, each name in the letters in which it came.
fn fields(headers: &HeaderMap, origin: Option<&Origin>, left_out: &[HeaderName; 2], out: &mut Vec<u8>) {
    for (name, value) in headers {
        if matches!(name.as_str().len(), 14 | 17) && left_out.contains(name) {
            continue;
        }
        if let Some(line) = origin.and_then(|origin| origin.line(name, value)) {
            out.extend_from_slice(line);
            continue;
        }
        match origin.and_then(|origin| origin.spelling(name, value)) {
            Some(spelling) => out.extend_from_slice(spelling),
            None => capitals(name, out),
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the trailers of a body and its end.
pub(super) fn trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    fields(trailers, None, &[TRANSFER_ENCODING, CONTENT_LENGTH], out);
}

/// Writes a length, in the letters in which it came.
pub(super) fn length(length: u64, headers: &HeaderMap, origin: Option<&Origin>, out: &mut Vec<u8>) {
    let came = headers.get(CONTENT_LENGTH).and_then(|value| origin?.spelling(&CONTENT_LENGTH, value));
    out.extend_from_slice(came.unwrap_or(b"Content-Length"));
    out.extend_from_slice(b": ");
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = length;
    loop {
        at -= 1;
        // A digit.
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes when an answer is sent, where it does not say so (RFC 9110 section 6.6.1).
pub(super) fn date(headers: &HeaderMap, out: &mut Vec<u8>) {
    if headers.contains_key(DATE) {
        return;
    }
    thread_local!(static NOW: RefCell<(Option<Instant>, Vec<u8>)> = const { RefCell::new((None, Vec::new())) });
    NOW.with_borrow_mut(|(until, line)| {
        let now = Instant::now();
        if until.is_none_or(|until| until <= now) {
            let (text, left) = written();
            *line = text;
            *until = Some(now + left);
        }
        out.extend_from_slice(line);
    });
}

/// The line that says the time, and for how long it is true.
#[expect(clippy::disallowed_methods, reason = "it tells the time and decides nothing")]
fn written() -> (Vec<u8>, Duration) {
    let now = SystemTime::now();
    let mut line = Vec::with_capacity(40);
    let _infallible = write!(line, "Date: {}\r\n", httpdate::fmt_http_date(now));
    let past = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    (line, Duration::from_secs(1).saturating_sub(Duration::from_nanos(past.into())))
}
