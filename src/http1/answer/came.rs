//! The fields of an answer as they came.

use std::ops::Range;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TE, TRAILER, TRANSFER_ENCODING},
};
use httparse::Header;

use super::{HOP_BY_HOP, Made, OwnField};
use crate::http1::{
    Fault, Origin,
    letters::{known, spells},
    parse, spare,
    write::{self, Length, Told},
};

/// Bytes of a head whose memory is kept for others.
const MOST_KEPT: usize = 4 * 1024;

/// Fields as they came.
#[derive(Debug, Default)]
pub(in crate::http1) struct Came {
    /// All of the head. A copy, so that the memory in which it came is the body's alone.
    head: Vec<u8>,
    /// Where its reason phrase stands, if it is not the usual one.
    phrase: Option<Range<u32>>,
    /// Its fields, in order.
    pub(super) lines: Vec<Line>,
    /// It has a `Connection`.
    connection: bool,
    /// It has a `Trailer`.
    pub(super) trailer: bool,
    /// Which fields go with the connection is more than their names can say.
    pub(super) intricate: bool,
    /// Those of the connection are gone.
    pub(super) left: bool,
    /// One that is not in the head.
    pub(super) added: Option<&'static OwnField>,
}

/// Where a field stands in the head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
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
pub(in crate::http1) enum Kind {
    /// Nothing.
    Other,
    Date,
    Length,
    Coding,
    Connection,
    Trailer,
    /// It belongs to the connection, whatever it says.
    OneHop,
    /// What becomes of it on the next connection depends on what it says.
    Te,
    /// It has been taken out.
    Gone,
}

impl Kind {
    pub(in crate::http1) fn of(name: &[u8]) -> Self {
        let (known, kind) = match (name.len(), name.first().map_or(0, |first| first | 0x20)) {
            (4, b'd') => (DATE.as_str(), Self::Date),
            (14, b'c') => (CONTENT_LENGTH.as_str(), Self::Length),
            (17, b't') => (TRANSFER_ENCODING.as_str(), Self::Coding),
            (10, b'c') => (CONNECTION.as_str(), Self::Connection),
            (7, b't') => (TRAILER.as_str(), Self::Trailer),
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
    pub(super) fn is_of_connection(self) -> bool {
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
    pub(super) fn clear(&mut self) {
        let Self { head, phrase, lines, connection, trailer, intricate, left, added } = self;
        head.clear();
        lines.clear();
        if head.capacity() > MOST_KEPT {
            *head = Vec::new();
        }
        (*phrase, *connection, *trailer, *intricate, *left, *added) = (None, false, false, false, false, None);
    }

    /// Notes a field that was found in `bytes`, and tells of what kind it is.
    pub(in crate::http1) fn note(&mut self, field: &Header<'_>, bytes: &[u8]) -> Result<Kind, Fault> {
        let kind = Kind::of(field.name.as_bytes());
        match kind {
            Kind::Connection => {
                self.intricate |= self.connection || !names_nothing_more(field.value);
                self.connection = true;
            }
            Kind::Trailer => self.trailer = true,
            Kind::Te => self.intricate = true,
            _ => {}
        }
        self.lines.push(Line::of(field, kind, bytes)?);
        Ok(kind)
    }

    /// The head in which the fields were found that have been noted, and in which the phrase stands, where it is not the usual one.
    pub(in crate::http1) fn stand_in(&mut self, head: &[u8], phrase: Option<Range<u32>>) {
        self.head.extend_from_slice(head);
        self.phrase = phrase;
    }

    /// Its reason phrase, where it is not the usual one.
    pub(super) fn phrase(&self) -> Option<&[u8]> {
        self.phrase.as_ref().map(|phrase| part(&self.head, phrase))
    }

    /// Those that have not been taken out.
    fn left(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kind != Kind::Gone && !(self.left && line.kind.is_of_connection()))
    }

    pub(super) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let line = self.left().find(|line| spells(line.name(&self.head), name.as_str()));
        let added = || self.added.filter(|added| added.name == name).map(|added| added.value.as_bytes());
        line.map(|line| line.value(&self.head)).or_else(added)
    }

    pub(super) fn remove(&mut self, name: &HeaderName) {
        for line in &mut self.lines {
            if spells(line.name(&self.head), name.as_str()) {
                line.kind = Kind::Gone;
            }
        }
        self.added.take_if(|added| added.name == name);
    }

    /// Writes them without those of the framing. Lines that came one after the other go out in one piece.
    pub(super) fn write<'a>(&'a self, out: &mut Vec<u8>) -> Told<'a> {
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
    pub(super) fn made(&mut self) -> Made {
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
