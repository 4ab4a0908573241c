//! The head of an answer. One that is passed on stays in the bytes in which it came: what its fields say of framing and connection is noted once, when it is read, and the lines that go on are
//! written as they came. A map of its fields is made only for who changes them.

mod came;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TRAILER, TRANSFER_ENCODING, UPGRADE},
    response,
};

use super::{
    Origin, spare,
    write::{self, Told},
};
use came::Came;
pub(super) use came::Kind;

/// How long a connection is kept (RFC 2068 section 19.7.1).
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that belong to one connection whatever they say, also where `Connection` does not name them (RFC 9110 section 7.6.1).
pub static HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];

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
        self.came.phrase()
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

    /// Takes out what announces trailers.
    pub fn announce_none(&mut self) {
        match &mut self.made {
            None if !self.came.trailer => {}
            None => self.came.remove(&TRAILER),
            Some(Made { map, .. }) => _ = map.remove(TRAILER),
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

#[cfg(test)]
pub(super) mod tests;
