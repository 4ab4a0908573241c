//! The head of an answer. One that is passed on stays in the bytes in which it came: what its fields say of framing and connection is noted once, when it is read, and the lines that go on are
//! written as they came. A map of its fields is made only for who changes them.

use std::ops::Range;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
    response,
};
use httparse::Header;

use super::{
    Fault, Origin,
    letters::{known, spells},
    parse, spare,
    write::{self, Length, Told},
};

/// How long a connection is kept (RFC 2068 section 19.7.1).
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that belong to one connection whatever they say, also where `Connection` does not name them (RFC 9110 section 7.6.1).
pub static HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];

/// Bytes of a head whose memory is kept for others.
const MOST_KEPT: usize = 4 * 1024;

/// What stands before the body of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// Its status.
    pub status: StatusCode,
    /// The version in which it came.
    pub version: Version,
    /// Its fields as they came, but for what every proxy changes,
    came: Came,
    /// unless they are a map: these are all of them then.
    made: Option<Made>,
}

/// A field that we add to many answers, as it is written.
#[derive(Debug)]
pub struct OwnField {
    name: HeaderName,
    value: HeaderValue,
    line: &'static str,
}

impl OwnField {
    /// `line` is all of it, with its end.
    pub const fn new(name: HeaderName, value: &'static str, line: &'static str) -> Self {
        Self { name, value: HeaderValue::from_static(value), line }
    }

    /// Its value.
    pub fn value(&self) -> HeaderValue {
        self.value.clone()
    }
}

/// Fields as somebody made or changed them, and the letters of those that came.
#[derive(Debug)]
struct Made {
    map: HeaderMap,
    origin: Option<Origin>,
}

impl AnswerHead {
    /// One that says nothing yet.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::OK, version: Version::HTTP_11, came: Came::default(), made: None }
    }

    /// Forgets all that it said, and keeps its memory.
    pub(super) fn clear(&mut self) {
        (self.status, self.version) = (StatusCode::OK, Version::HTTP_11);
        self.came.clear();
        if let Some(Made { map, .. }) = self.made.take() {
            spare::give_map(map);
        }
    }

    /// The fields of one that says nothing yet, to be read.
    pub(super) fn came_mut(&mut self) -> &mut Came {
        &mut self.came
    }

    /// Its reason phrase, where it is not the usual one.
    pub(super) fn phrase(&self) -> Option<&[u8]> {
        self.came.phrase.as_ref().map(|phrase| part(&self.came.head, phrase))
    }

    /// The first value of a field.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        match &self.made {
            None => self.came.get(name),
            Some(Made { map, .. }) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, name: &HeaderName) {
        match &mut self.made {
            None => self.came.remove(name),
            Some(Made { map, .. }) => _ = map.remove(name),
        }
    }

    /// Adds a field, behind those of its name.
    pub fn append(&mut self, field: &'static OwnField) {
        match &mut self.made {
            None if self.came.added.is_none() => self.came.added = Some(field),
            _ => _ = self.fields_mut().append(&field.name, field.value.clone()),
        }
    }

    /// Takes out what belongs to the connection on which it came, as `remove` does from a map.
    pub fn leave_connection(&mut self, remove: impl FnOnce(&mut HeaderMap)) {
        match &mut self.made {
            None if !self.came.intricate => self.came.left = true,
            _ => remove(self.fields_mut()),
        }
    }

    /// Its fields, to be changed. They are a map from now on.
    pub fn fields_mut(&mut self) -> &mut HeaderMap {
        &mut self.made.get_or_insert_with(|| self.came.made()).map
    }

    /// Writes the fields without those of the framing.
    pub(super) fn write<'a>(&'a self, out: &mut Vec<u8>) -> Told<'a> {
        match &self.made {
            None => self.came.write(out),
            Some(Made { map, origin }) => write::fields(map, origin.as_ref(), out),
        }
    }
}

impl From<response::Parts> for AnswerHead {
    fn from(mut head: response::Parts) -> Self {
        let made = Made { origin: head.extensions.remove(), map: head.headers };
        Self { status: head.status, version: head.version, made: Some(made), ..Self::empty() }
    }
}

impl From<AnswerHead> for response::Parts {
    fn from(mut answer: AnswerHead) -> Self {
        let mut head = http::Response::new(()).into_parts().0;
        (head.status, head.version) = (answer.status, answer.version);
        head.headers = std::mem::take(answer.fields_mut());
        if let Some(origin) = answer.made.and_then(|made| made.origin) {
            head.extensions.insert(origin);
        }
        head
    }
}

/// Fields as they came.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// All of the head. A copy, so that the memory in which it came is the body's alone.
    head: Vec<u8>,
    /// Where its reason phrase stands, if it is not the usual one.
    phrase: Option<Range<u32>>,
    /// Its fields, in order.
    lines: Vec<Line>,
    /// It has a `Connection`.
    connection: bool,
    /// Which fields go with the connection is more than their names can say.
    intricate: bool,
    /// Those of the connection are gone.
    left: bool,
    /// One that is not in the head.
    added: Option<&'static OwnField>,
}

/// Where a field stands in the head.
#[derive(Debug, Clone, Copy)]
struct Line {
    begin: u32,
    value: u32,
    end: u32,
    name: u16,
    kind: Kind,
    /// It came as it would be written: with one space, and with a carriage return.
    plain: bool,
}

/// What is to be known of a field by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Other,
    Date,
    Length,
    Coding,
    Connection,
    /// It belongs to the connection, whatever it says.
    OneHop,
    /// What becomes of it on the next connection depends on what it says.
    Te,
    /// It has been taken out.
    Gone,
}

impl Kind {
    pub(super) fn of(name: &[u8]) -> Self {
        let (known, kind) = match (name.len(), name.first().map_or(0, |first| first | 0x20)) {
            (4, b'd') => (DATE.as_str(), Self::Date),
            (14, b'c') => (CONTENT_LENGTH.as_str(), Self::Length),
            (17, b't') => (TRANSFER_ENCODING.as_str(), Self::Coding),
            (10, b'c') => (CONNECTION.as_str(), Self::Connection),
            (2, b't') => (TE.as_str(), Self::Te),
            (10, b'k') | (7, b'u') | (16 | 18 | 19, b'p') => {
                let is_known = HOP_BY_HOP.iter().any(|known| spells(name, known.as_str()));
                return if is_known { Self::OneHop } else { Self::Other };
            }
            _ => return Self::Other,
        };
        if spells(name, known) { kind } else { Self::Other }
    }

    /// Whether a field goes with the connection, whether or not `Connection` names it.
    fn is_of_connection(self) -> bool {
        matches!(self, Self::Coding | Self::Connection | Self::OneHop)
    }
}

/// Whether a value of `Connection` names only what goes with the connection anyway.
fn names_nothing_more(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"close")
        || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(|option| option.is_empty() || Kind::of(option).is_of_connection())
}

impl Line {
    /// Of a field that was found in `bytes`, which are fewer than 4 GiB.
    fn of(field: &Header<'_>, kind: Kind, bytes: &[u8]) -> Result<Self, Fault> {
        // As long as a name may be in a map.
        let name = u16::try_from(field.name.len()).map_err(|_| Fault::Syntax(httparse::Error::HeaderName))?;
        let begin = field.name.as_ptr() as usize - bytes.as_ptr() as usize;
        let name_end = begin + field.name.len();
        if field.value.is_empty() {
            // An empty value is no part of anything.
            return Ok(Self { begin: begin as u32, value: name_end as u32, end: name_end as u32, name, kind, plain: false });
        }
        let value = field.value.as_ptr() as usize - bytes.as_ptr() as usize;
        let end = value + field.value.len();
        // Two bytes at once.
        let stand = |at: usize, two: &[u8; 2]| bytes[at..].first_chunk() == Some(two);
        let plain = value == name_end + 2 && stand(name_end, b": ") && stand(end, b"\r\n");
        Ok(Self { begin: begin as u32, value: value as u32, end: end as u32, name, kind, plain })
    }

    fn name<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        let begin = self.begin as usize;
        &head[begin..begin + usize::from(self.name)]
    }

    fn value<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.value as usize..self.end as usize]
    }

    /// All of it, where it came as it would be written.
    fn whole<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        self.plain.then(|| &head[self.begin as usize..self.end as usize + 2])
    }
}

impl Came {
    /// Forgets all of it, and keeps its memory.
    fn clear(&mut self) {
        let Self { head, phrase, lines, connection, intricate, left, added } = self;
        head.clear();
        lines.clear();
        if head.capacity() > MOST_KEPT {
            *head = Vec::new();
        }
        (*phrase, *connection, *intricate, *left, *added) = (None, false, false, false, None);
    }

    /// Notes a field that was found in `bytes`, and tells of what kind it is.
    pub(super) fn note(&mut self, field: &Header<'_>, bytes: &[u8]) -> Result<Kind, Fault> {
        let kind = Kind::of(field.name.as_bytes());
        match kind {
            Kind::Connection => {
                self.intricate |= self.connection || !names_nothing_more(field.value);
                self.connection = true;
            }
            Kind::Te => self.intricate = true,
            _ => {}
        }
        self.lines.push(Line::of(field, kind, bytes)?);
        Ok(kind)
    }

    /// The head in which the fields were found that have been noted, and in which the phrase stands, where it is not the usual one.
    pub(super) fn stand_in(&mut self, head: &[u8], phrase: Option<Range<u32>>) {
        self.head.extend_from_slice(head);
        self.phrase = phrase;
    }

    /// Those that have not been taken out.
    fn left(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kind != Kind::Gone && !(self.left && line.kind.is_of_connection()))
    }

    fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let line = self.left().find(|line| spells(line.name(&self.head), name.as_str()));
        let added = || self.added.filter(|added| added.name == name).map(|added| added.value.as_bytes());
        line.map(|line| line.value(&self.head)).or_else(added)
    }

    fn remove(&mut self, name: &HeaderName) {
        for line in &mut self.lines {
            if spells(line.name(&self.head), name.as_str()) {
                line.kind = Kind::Gone;
            }
        }
        self.added.take_if(|added| added.name == name);
    }

    /// Writes them without those of the framing. Lines that came one after the other go out in one piece.
    fn write<'a>(&'a self, out: &mut Vec<u8>) -> Told<'a> {
        let (head, mut told, mut piece) = (&self.head[..], Told::default(), 0..0);
        for line in self.left() {
            match line.kind {
                Kind::Length => {
                    let came = || Length::Line { name: line.name(head), value: line.value(head), whole: line.whole(head) };
                    told.hears_length(|| (parse::number(line.value(head)), came()));
                    continue;
                }
                Kind::Coding => {
                    told.coded = true;
                    continue;
                }
                Kind::Date => told.dated = true,
                Kind::Connection => told.closes |= write::closes(line.value(head)),
                _ => {}
            }
            if line.plain && line.begin == piece.end {
                piece.end = line.end + 2;
                continue;
            }
            out.extend_from_slice(part(head, &piece));
            piece = 0..0;
            if line.plain {
                piece = line.begin..line.end + 2;
            } else {
                for bytes in [line.name(head), b": ", line.value(head), b"\r\n"] {
                    out.extend_from_slice(bytes);
                }
            }
        }
        out.extend_from_slice(part(head, &piece));
        if let Some(field) = self.added {
            out.extend_from_slice(field.line.as_bytes());
        }
        told
    }

    /// The same as a map, whose values are parts of the head.
    #[cold]
    fn made(&mut self) -> Made {
        let head = Bytes::copy_from_slice(&self.head);
        let mut map = spare::map();
        for line in self.left() {
            let letters = line.name(&self.head);
            let name = known(letters).or_else(|| HeaderName::from_bytes(letters).ok());
            let value = HeaderValue::from_maybe_shared(head.slice(line.value as usize..line.end as usize));
            // What has been read as a field is one: see the tests.
            if let (Some(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
        if let Some(field) = self.added {
            map.append(&field.name, field.value.clone());
        }
        // The phrase stays.
        self.lines.clear();
        Made { map, origin: Some(Origin::new(head)) }
    }
}

fn part<'a>(head: &'a [u8], place: &Range<u32>) -> &'a [u8] {
    &head[place.start as usize..place.end as usize]
}

#[cfg(test)]
pub(super) mod tests;
