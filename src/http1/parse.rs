//! Reading heads, strictly where another reader could understand them differently.

use std::{borrow::Cow, mem::MaybeUninit, ops::Range};

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use httparse::{Header, ParserConfig, Status};
use memchr::memchr_iter;
use smallvec::SmallVec;

use super::{AnswerHead, Fault, MOST_FIELDS, Origin, RequestHead, answer::Kind, letters, spare};

/// What a head says of the connection and of the body that follows.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Said {
    /// The one length that it has.
    pub(super) length: Option<u64>,
    /// The body comes in chunks.
    pub(super) chunked: bool,
    /// The connection ends after this message; or it does not although it is one of HTTP/1.0.
    close: bool,
    keep_alive: bool,
    /// The client waits with its body for a 100.
    pub(super) expects: bool,
    /// The client reads trailers.
    pub(super) trailers: bool,
    old: bool,
}

impl Said {
    /// Whether the connection stays open after this message, as far as its sender is concerned (RFC 9112 section 9.3).
    pub(super) fn stays(&self) -> bool {
        !self.close && (!self.old || self.keep_alive)
    }

    /// Notes what a `Connection` says.
    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            self.close |= trimmed(option).eq_ignore_ascii_case(b"close");
            self.keep_alive |= trimmed(option).eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether it is of HTTP/1.0.
    pub(super) fn is_old(&self) -> bool {
        self.old
    }
}

/// Counts what may stand once only.
#[derive(Default)]
struct Framing {
    lengths: u32,
    length: Option<u64>,
    codings: u32,
    /// Whether the last coding so far is `chunked`, and whether it is the only one of its field.
    ends_in_chunks: bool,
    only_chunks: bool,
}

impl Framing {
    fn length(&mut self, value: &[u8]) {
        self.lengths += 1;
        self.length = number(value);
    }

    fn coding(&mut self, value: &[u8]) {
        self.codings += 1;
        let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        self.ends_in_chunks = trimmed(last).eq_ignore_ascii_case(b"chunked");
        self.only_chunks = self.ends_in_chunks && last.len() == value.len();
    }
}

/// The head of a request, what it says and how long it was, taken out of what has been read; none while it is not whole.
pub(super) fn request(buffer: &mut BytesMut) -> Result<Option<(Box<RequestHead>, Said, usize)>, Fault> {
    match read_request(buffer) {
        Err(Fault::Syntax(httparse::Error::Version)) => {
            let behind_target = memchr_iter(b' ', buffer).nth(1).map(|at| at + 1);
            read_lower(buffer, behind_target, read_request)
        }
        read => read,
    }
}

/// Reads what has come of HTTP/1.2 to 1.9, where that is what stands there, as what we know best of HTTP/1 (RFC 9110 section 2.5).
#[cold]
fn read_lower<T>(
    buffer: &mut BytesMut,
    version: Option<usize>,
    read: impl FnOnce(&mut BytesMut) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let unknown = Err(Fault::Syntax(httparse::Error::Version));
    let Some(at) = version else { return unknown };
    let Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9', ..]) = buffer.get_mut(at..) else { return unknown };
    let came = std::mem::replace(minor, b'1');
    let read = read(buffer);
    if matches!(read, Ok(None)) {
        // What is not whole stays as it is.
        buffer[at + 7] = came;
    }
    read
}

fn read_request(buffer: &mut BytesMut) -> Result<Option<(Box<RequestHead>, Said, usize)>, Fault> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(buffer, &mut slots).map_err(syntax)? {
        Status::Complete(length) => length,
        Status::Partial if has_bare_line_feed(buffer) => return Err(Fault::LineFeed),
        Status::Partial => return Ok(None),
    };
    if has_bare_line_feed(&buffer[..length]) {
        return Err(Fault::LineFeed);
    }
    let mut said = Said { old: parsed.version == Some(0), ..Said::default() };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| Fault::Target)?;
    let target_place = Place::of(parsed.path.unwrap_or_default().as_bytes(), buffer);
    let mut places = Places::new();
    places.extend(parsed.headers.iter().map(|field| (Place::of(field.name.as_bytes(), buffer), Place::of(field.value, buffer))));
    let head = taken(buffer, length);
    let mut request = spare::request();
    let framing = headers(&head, &places, &mut said, &mut request.headers)?;
    match (framing.codings, framing.lengths) {
        (0, 0) => {}
        (0, 1) => said.length = Some(framing.length.ok_or(Fault::Length)?),
        (0, _) => return Err(Fault::Length),
        (_, 0) if framing.ends_in_chunks && !said.old => said.chunked = true,
        (_, 0) => return Err(Fault::Coding),
        (_, _) => return Err(Fault::LengthAndCoding),
    }
    request.method = method;
    request.uri = target(&request.method, target_place.bytes(&head))?;
    request.version = if said.old { Version::HTTP_10 } else { Version::HTTP_11 };
    request.origin = Some(Origin::new(head));
    Ok(Some((request, said, length)))
}

/// A target has no fragment (RFC 9112 section 3.2): one reader would cut it off, and another take it for a part of the path.
fn target(method: &Method, target: Bytes) -> Result<Uri, Fault> {
    if memchr::memchr(b'#', &target).is_some() {
        return Err(Fault::Target);
    }
    if target.len() > u16::MAX as usize - 1 {
        return Err(Fault::TargetTooLong);
    }
    let length = target.len();
    let uri = Uri::from_maybe_shared(target).map_err(|_| Fault::Target)?;
    if uri.authority().is_some() { absolute(uri, method, length) } else { Ok(uri) }
}

/// An absolute target of so many bytes, with the path that it goes on with where it has none: `/`, or `*` where it is for the server as a whole (RFC 9112
/// sections 3.2.1 and 3.2.4). The library says `/` of a path that is empty, and leaves it empty before a query.
fn absolute(uri: Uri, method: &Method, length: usize) -> Result<Uri, Fault> {
    let origin = uri.scheme_str().unwrap_or_default().len() + "://".len() + uri.authority().map_or(0, |authority| authority.as_str().len());
    let target = match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", target.as_str())).map_err(|_| Fault::Target)?
        }
        Some(_) if *method == Method::OPTIONS && length == origin => PathAndQuery::from_static("*"),
        _ => return Ok(uri),
    };
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| Fault::Target)
}

/// The head of an answer. Line feeds alone end lines here, and a space may stand before a colon: old servers send both, and neither goes on (RFC 9112
/// sections 2.2 and 5.1).
pub(super) fn response(buffer: &mut BytesMut) -> Result<Option<(Box<AnswerHead>, Said, usize)>, Fault> {
    match read_response(buffer) {
        Err(Fault::Syntax(httparse::Error::Version)) => {
            let start = buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            read_lower(buffer, start, read_response)
        }
        read => read,
    }
}

fn read_response(buffer: &mut BytesMut) -> Result<Option<(Box<AnswerHead>, Said, usize)>, Fault> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut slots).map_err(syntax)? {
        Status::Complete(length) if u32::try_from(length).is_err() => return Err(Fault::HeadTooLarge),
        Status::Complete(length) => length,
        Status::Partial => return Ok(None),
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Fault::Syntax(httparse::Error::Status))?;
    let mut said = Said { old: parsed.version == Some(0), ..Said::default() };
    let phrase = parsed.reason.unwrap_or_default();
    let phrase = (super::phrase(status) != Some(phrase)).then(|| Place::of(phrase.as_bytes(), buffer));
    let mut answer = spare::answer();
    let came = answer.came_mut();
    let mut framing = Framing::default();
    for field in parsed.headers.iter() {
        match came.note(field, buffer)? {
            Kind::Length => framing.length(field.value),
            Kind::Coding => framing.coding(field.value),
            Kind::Connection => said.connection(field.value),
            _ => {}
        }
    }
    // What says nothing about a body is not judged by it: an interim answer has none, and a 101 is followed by something else.
    if !status.is_informational() {
        match (framing.codings, framing.lengths) {
            (0, 0) => {}
            (0, 1) => said.length = Some(framing.length.ok_or(Fault::Length)?),
            (0, _) => return Err(Fault::Length),
            (1, 0) if framing.only_chunks && !said.old => said.chunked = true,
            (_, 0) => return Err(Fault::Coding),
            (_, _) => return Err(Fault::LengthAndCoding),
        }
    }
    answer.came_mut().stand_in(&buffer[..length], phrase.map(Place::range));
    buffer.advance(length);
    answer.status = status;
    answer.version = if said.old { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(Some((answer, said, length)))
}

/// Trailers and how many bytes they have, the empty line included; none while they are not whole. Fields that frame, route or authenticate are no trailers
/// (RFC 9110 section 6.5.1).
pub(super) fn trailers(bytes: &[u8]) -> Result<Option<(HeaderMap, usize)>, Fault> {
    let mut slots = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let (length, found) = match httparse::parse_headers(bytes, &mut slots).map_err(|_| Fault::Trailers)? {
        Status::Complete(found) => found,
        Status::Partial if has_bare_line_feed(bytes) => return Err(Fault::LineFeed),
        Status::Partial => return Ok(None),
    };
    if has_bare_line_feed(&bytes[..length]) {
        return Err(Fault::LineFeed);
    }
    let mut trailers = HeaderMap::new();
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Fault::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Fault::Trailers)?;
        if may_trail(&name) {
            trailers.append(name, value);
        }
    }
    Ok(Some((trailers, length)))
}

/// Whether a field may stand behind a body: none that frames, routes, authenticates or says who a client is (RFC 9110 section 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    // A server that knows no hyphens takes the one for the other.
    let name = if name.as_str().contains('_') { Cow::from(name.as_str().replace('_', "-")) } else { Cow::from(name.as_str()) };
    let name = &*name;
    // Ours, and those in which proxies tell a server whom they serve.
    let of_proxies = ["forebay-", "proxy-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix));
    !of_proxies
        && !matches!(
            name,
            "authorization"
                | "cache-control"
                | "connection"
                | "content-encoding"
                | "content-length"
                | "content-range"
                | "content-type"
                | "cookie"
                | "expect"
                | "forwarded"
                | "host"
                | "keep-alive"
                | "max-forwards"
                | "set-cookie"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "via"
                | "www-authenticate"
                | "x-real-ip"
        )
}

/// Takes out of trailers what may not be there.
pub fn keep_trailing(trailers: &mut HeaderMap) {
    let never: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in never {
        trailers.remove(name);
    }
}

/// Where something stands in a head.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    length: usize,
}

impl Place {
    /// Of what was found in `bytes`.
    fn of(found: &[u8], bytes: &[u8]) -> Self {
        let at = if found.is_empty() { 0 } else { found.as_ptr() as usize - bytes.as_ptr() as usize };
        Self { at, length: found.len() }
    }

    /// In a head of less than 4 GiB.
    fn range(self) -> Range<u32> {
        self.at as u32..(self.at + self.length) as u32
    }

    fn bytes(self, head: &Bytes) -> Bytes {
        head.slice(self.at..self.at + self.length)
    }
}

/// Names and values of fields; as many as most heads have need no memory of their own.
type Places = SmallVec<[(Place, Place); 24]>;

/// The first bytes of what has been read, which keep their memory.
fn taken(buffer: &mut BytesMut, length: usize) -> Bytes {
    if length == buffer.len() { std::mem::take(buffer).freeze() } else { buffer.split_to(length).freeze() }
}

/// The fields of a head, as parts of it.
fn headers(head: &Bytes, places: &[(Place, Place)], said: &mut Said, headers: &mut HeaderMap) -> Result<Framing, Fault> {
    // With room for what is added on the way.
    headers.reserve(places.len() + 6);
    let mut framing = Framing::default();
    for (name, value) in places {
        let letters = &head[name.at..name.at + name.length];
        let name = match letters::known(letters) {
            Some(name) => name,
            None => HeaderName::from_bytes(letters).map_err(|_| Fault::Syntax(httparse::Error::HeaderName))?,
        };
        let value = value.bytes(head);
        match name.as_str().len() {
            14 if name == CONTENT_LENGTH => framing.length(&value),
            17 if name == TRANSFER_ENCODING => framing.coding(&value),
            10 if name == CONNECTION => said.connection(&value),
            6 if name == EXPECT => said.expects |= value.eq_ignore_ascii_case(b"100-continue") && !said.old,
            2 if name == TE => {
                said.trailers |= value.split(|byte| *byte == b',').any(|coding| trimmed(coding).eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Fault::Syntax(httparse::Error::HeaderValue))?;
        headers.append(name, value);
    }
    Ok(framing)
}

fn syntax(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => Fault::HeadTooLarge,
        other => Fault::Syntax(other),
    }
}

/// Spaces and tabs around an element of a list go (RFC 9110 section 5.6.1), and nothing else does.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A number in digits only.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let mut number: Option<u64> = None;
    for digit in digits {
        let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
        number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(value.into())?);
    }
    number
}

/// Whether a line ends without a carriage return.
pub(super) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r')
}

#[cfg(test)]
mod tests;
