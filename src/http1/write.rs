//! Writing heads.

use std::{
    cell::RefCell,
    io::Write,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
};

use super::{AnswerHead, Origin, RequestHead, letters::capitals, parse, spare};

/// What the fields of a head say of its framing and its connection.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    /// The length of the body: the first one, where it is a number, and how it came.
    length: Option<(Option<u64>, Length<'a>)>,
    /// There is a transfer coding.
    pub(super) coded: bool,
    /// It says when it was sent.
    pub(super) dated: bool,
    /// It says that the connection ends.
    pub(super) closes: bool,
}

/// How a length came.
#[derive(Debug)]
pub(super) enum Length<'a> {
    /// As this value, of a head that came from there.
    Value(&'a HeaderValue, Option<&'a Origin>),
    /// In a line of its own.
    Line {
        name: &'a [u8],
        value: &'a [u8],
        /// All of it, where it came as it would be written.
        whole: Option<&'a [u8]>,
    },
}

impl<'a> Length<'a> {
    /// The letters of its name.
    fn name(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Value(value, origin) => origin?.spelling(&CONTENT_LENGTH, value),
            Self::Line { name, .. } => Some(name),
        }
    }

    /// All of its line, where that can go out as it came. A number does not begin with a zero then.
    fn line(&self) -> Option<&'a [u8]> {
        let (line, value) = match *self {
            Self::Value(value, origin) => {
                let origin = origin?;
                (origin.line(CONTENT_LENGTH.as_str(), value).map(|line| &origin.head()[line]), value.as_bytes())
            }
            Self::Line { value, whole, .. } => (whole, value),
        };
        line.filter(|_| matches!(value, [b'1'..=b'9', ..] | [b'0']))
    }
}

/// Writes the head of a request, whose framing fields are left out.
pub(super) fn request<'a>(head: &'a RequestHead, out: &mut Vec<u8>) -> Told<'a> {
    spare::text(out);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(&head.headers, head.origin.as_ref(), out)
}

/// Writes the first line of an answer and its fields, without those of its framing. It is of HTTP/1.1 whoever reads it (RFC 9110 section 2.5): what a client of
/// HTTP/1.0 does not know is kept from it by how the body is framed, and by what is said of the connection.
pub(super) fn response<'a>(head: &'a AnswerHead, out: &mut Vec<u8>) -> Told<'a> {
    spare::text(out);
    match (head.status, head.phrase()) {
        // The line of most.
        (StatusCode::OK, None) => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        (status, phrase) => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(phrase.unwrap_or(super::phrase(status).unwrap_or_default().as_bytes()));
            out.extend_from_slice(b"\r\n");
        }
    }
    head.write(out)
}

/// An answer that was made before it is known to whom it goes: all of it but its date.
#[derive(Debug, Clone)]
pub struct Finished {
    head: Bytes,
    body: Bytes,
}

impl Finished {
    /// This answer.
    pub fn new(answer: Response<Bytes>) -> Self {
        let (parts, body) = answer.into_parts();
        let (head, mut text) = (AnswerHead::from(parts), Vec::new());
        response(&head, &mut text).write_length(body.len() as u64, &mut text);
        Self { head: text.into(), body }
    }

    /// All of it, as of now.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Writes it whole.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.write_head(out);
        out.extend_from_slice(&self.body);
    }

    /// Writes what a `HEAD` is answered with.
    pub(super) fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        date(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes fields, each name in the letters in which it came, without those of the framing.
pub(super) fn fields<'a>(headers: &'a HeaderMap, origin: Option<&'a Origin>, out: &mut Vec<u8>) -> Told<'a> {
    let mut told = Told::default();
    // Lines that came one after the other go out in one piece.
    let mut lines = 0..0;
    let head = origin.map_or(&[][..], Origin::head);
    for (name, value) in headers {
        if told.hears(name, value, origin) {
            continue;
        }
        let letters = name.as_str();
        let line = origin.and_then(|origin| origin.line(letters, value));
        match line {
            Some(line) if line.start == lines.end => lines.end = line.end,
            Some(line) => out.extend_from_slice(&head[std::mem::replace(&mut lines, line)]),
            None => {
                out.extend_from_slice(&head[std::mem::replace(&mut lines, 0..0)]);
                match origin.and_then(|origin| origin.spelling(name, value)) {
                    Some(spelling) => out.extend_from_slice(spelling),
                    None => capitals(name, out),
                }
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(&head[lines]);
    told
}

impl<'a> Told<'a> {
    /// Notes what a field says. True for those of the framing.
    fn hears(&mut self, name: &HeaderName, value: &'a HeaderValue, origin: Option<&'a Origin>) -> bool {
        match name.as_str().len() {
            14 if *name == CONTENT_LENGTH => {
                self.hears_length(|| (parse::number(value.as_bytes()), Length::Value(value, origin)));
                true
            }
            17 if *name == TRANSFER_ENCODING => {
                self.coded = true;
                true
            }
            10 if *name == CONNECTION => {
                self.closes |= closes(value.as_bytes());
                false
            }
            4 if *name == DATE => {
                self.dated = true;
                false
            }
            _ => false,
        }
    }

    /// Notes the length of the body, unless there is one already.
    pub(super) fn hears_length(&mut self, length: impl FnOnce() -> (Option<u64>, Length<'a>)) {
        self.length.get_or_insert_with(length);
    }

    /// The length that the head says its body has.
    pub(super) fn length(&self) -> Option<u64> {
        self.length.as_ref()?.0
    }

    /// Writes a length, in the letters in which it came.
    pub(super) fn write_length(&self, length: u64, out: &mut Vec<u8>) {
        let came = self.length.as_ref();
        if let Some((said, came)) = came
            && *said == Some(length)
            && let Some(line) = came.line()
        {
            out.extend_from_slice(line);
            return;
        }
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
        out.extend_from_slice(came.and_then(|(_, came)| came.name()).unwrap_or(b"Content-Length"));
        out.extend_from_slice(b": ");
        out.extend_from_slice(&digits[at..]);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a `Connection` says that the connection ends.
pub(super) fn closes(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Writes the trailers of a body and its end.
pub(super) fn trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    fields(trailers, None, out);
}

/// Writes when an answer is sent (RFC 9110 section 6.6.1).
pub(super) fn date(out: &mut Vec<u8>) {
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

/// The same, as the value of a field.
pub fn now() -> HeaderValue {
    let mut line = Vec::with_capacity(40);
    date(&mut line);
    let text = line.strip_prefix(b"Date: ").unwrap_or_default().trim_ascii_end();
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static(""))
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn fields_go_out_as_they_came_whatever_is_taken_out_or_added() {
        let came = "GET / HTTP/1.1\r\nHOST: a\r\nX-a: 1\r\nContent-length: 07\r\nX-B:2\r\nx-c: 3\r\nX-D: 4\r\nAccept: */*\r\nx-E: \r\n\r\n";
        let (mut came, _, _) = parse::request(&mut BytesMut::from(came)).unwrap().unwrap();
        let written = |request: &RequestHead| {
            let mut out = Vec::new();
            let told = request_and_length(request, &mut out);
            (String::from_utf8(out).unwrap(), told)
        };
        let first = "GET / HTTP/1.1\r\nHOST: a\r\nX-a: 1\r\n";
        let all = format!("{first}X-B: 2\r\nx-c: 3\r\nX-D: 4\r\nAccept: */*\r\nx-E: \r\nContent-length: 7\r\n");
        assert_eq!(written(&came), (all, Some(7)));
        let moved = came.headers.remove("x-d").unwrap();
        came.headers.insert("x-f", moved);
        came.headers.insert("content-length", HeaderValue::from_static("9"));
        let changed = written(&came).0;
        let mut lines: Vec<_> = changed.lines().collect();
        lines[1..].sort_unstable();
        let expected = ["GET / HTTP/1.1", "Accept: */*", "Content-Length: 9", "HOST: a", "X-B: 2", "X-F: 4", "X-a: 1", "x-E: ", "x-c: 3"];
        assert_eq!(lines, expected);
    }

    fn request_and_length(head: &RequestHead, out: &mut Vec<u8>) -> Option<u64> {
        let told = request(head, out);
        let length = told.length();
        told.write_length(length.unwrap_or(0), out);
        length
    }
}
