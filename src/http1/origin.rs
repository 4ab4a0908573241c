//! Where a message came from: the letters of its field names, and who hears of interim answers.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    AnswerHead,
    letters::{capitals, spells},
};
use crate::envelope::Field;

/// Where a message came from.
///
/// Field names mean the same in any case (RFC 9110 section 5.1), but legacy servers and clients read them as text, so a name goes out as it came in.
#[derive(Clone)]
pub struct Origin {
    /// The head as it came; the values of its fields are parts of it.
    head: Bytes,
    interim: Option<Arc<dyn Interim>>,
}

/// Who is told of interim answers (RFC 9110 section 15.2) as they come.
pub trait Interim: Send + Sync {
    /// One has come. Its hop-by-hop fields are gone.
    fn interim(&self, answer: &mut AnswerHead);
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}

impl Origin {
    pub(super) fn new(head: Bytes) -> Self {
        Self { head, interim: None }
    }

    /// That of a message which came in no letters, as HTTP/2 has it.
    pub fn unwritten(interim: Arc<dyn Interim>) -> Self {
        Self::new(Bytes::new()).heard_by(interim)
    }

    pub(super) fn heard_by(mut self, interim: Arc<dyn Interim>) -> Self {
        self.interim = Some(interim);
        self
    }

    /// The fields of a head that is made of names in these letters, and what keeps the letters.
    pub fn of<'a>(fields: impl Iterator<Item = (&'a str, &'a HeaderName, &'a HeaderValue)>) -> (HeaderMap, Self) {
        let mut text = Vec::new();
        let mut places = Vec::new();
        for (spelling, name, value) in fields {
            text.extend_from_slice(spelling.as_bytes());
            text.extend_from_slice(b": ");
            places.push((name, value, text.len()));
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        let head = Bytes::from(text);
        let mut map = HeaderMap::with_capacity(places.len());
        for (name, value, at) in places {
            let placed = HeaderValue::from_maybe_shared(head.slice(at..at + value.len())).unwrap_or_else(|_| value.clone());
            map.append(name.clone(), placed);
        }
        (map, Self::new(head))
    }

    /// The head as it came.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Where the whole line of this field stands in the head, if it came as we would write it.
    pub(super) fn line(&self, name: &str, value: &HeaderValue) -> Option<Range<usize>> {
        let begin = self.place(value)?.checked_sub(name.len() + 2)?;
        let line = begin..begin + name.len() + value.len() + 4;
        let (came, rest) = self.head.get(line.clone())?.split_at(name.len());
        let is_whole = begin == 0 || self.head[begin - 1] == b'\n';
        let is_plain = rest.first_chunk() == Some(b": ") && rest.last_chunk() == Some(b"\r\n");
        (is_whole && is_plain && spells(came, name)).then_some(line)
    }

    /// Where a value stands in the head, if it came with it.
    fn place(&self, value: &HeaderValue) -> Option<usize> {
        (value.as_bytes().as_ptr() as usize).checked_sub(self.head.as_ptr() as usize).filter(|&at| at < self.head.len())
    }

    /// The letters in which the name of this field came; none when it did not come with the message.
    pub(super) fn spelling(&self, name: &HeaderName, value: &HeaderValue) -> Option<&[u8]> {
        if value.is_empty() {
            return self.spelling_of_nothing(name);
        }
        // A value that came is a part of the head, and its name stands before it.
        let before = self.head[..self.place(value)?].trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
        let start = before.len().checked_sub(name.as_str().len())?;
        let (line, spelling) = before.split_at(start);
        let is_whole = matches!(line, [] | [.., b'\n']);
        (is_whole && spells(spelling, name.as_str())).then_some(spelling)
    }

    /// An empty value is no part of anything.
    #[cold]
    fn spelling_of_nothing(&self, name: &HeaderName) -> Option<&[u8]> {
        self.head.split(|byte| *byte == b'\n').find_map(|line| {
            let (spelling, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
            let spelling = spelling.trim_ascii_end();
            (value[1..].trim_ascii().is_empty() && spells(spelling, name.as_str())).then_some(spelling)
        })
    }

    /// Tells of an interim answer.
    pub fn tell(&self, answer: &mut AnswerHead) {
        // A 100 is for whoever waits with a body, which nobody does who was not told so by us; and a 101 is no interim answer.
        if let Some(interim) = &self.interim
            && !matches!(answer.status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS)
        {
            interim.interim(answer);
        }
    }
}

/// The fields of a message in order, each in the letters in which it came or will go out. `left_out` are those that are not kept.
pub fn fields(headers: &HeaderMap, origin: Option<&Origin>, left_out: &[HeaderName]) -> Vec<Field> {
    let kept = headers.iter().filter(|(name, _)| !left_out.contains(name));
    kept.map(|(name, value)| {
        let mut letters = Vec::new();
        match origin.and_then(|origin| origin.spelling(name, value)) {
            Some(spelling) => letters.extend_from_slice(spelling),
            None => capitals(name, &mut letters),
        }
        let spelling = String::from_utf8(letters).ok().filter(|letters| letters != name.as_str()).map(String::into_boxed_str);
        Field { name: name.clone(), spelling, value: value.clone() }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(headers: &HeaderMap, origin: Origin) -> Vec<String> {
        let fields = fields(headers, Some(&origin), &[http::header::CONTENT_LENGTH]);
        fields.iter().map(|field| field.spelling.as_deref().unwrap_or(field.name.as_str()).to_owned()).collect()
    }

    #[test]
    fn letters_survive_being_written_down() {
        let came = [("Host", "a"), ("X-FooBar", "1"), ("eTAG", ""), ("SOAPAction", "\"\""), ("Content-Length", "7"), ("x-foobar", "2")];
        let fields: Vec<_> = came.iter().map(|(name, value)| (*name, name.parse().unwrap(), value.parse().unwrap())).collect();
        let (headers, origin) = Origin::of(fields.iter().map(|(spelling, name, value)| (*spelling, name, value)));
        assert_eq!(headers.get_all("x-foobar").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(spelled(&headers, origin), ["Host", "X-FooBar", "x-foobar", "eTAG", "SOAPAction"], "the order within one name stays");
    }

    #[test]
    fn a_name_that_came_in_no_letters_gets_capitals() {
        let (mut headers, origin) = Origin::of([("hOST", &http::header::HOST, &HeaderValue::from_static("a"))].into_iter());
        let host = headers[http::header::HOST].clone();
        headers.insert("x-host", host.clone());
        headers.insert("ost", host);
        headers.insert("x-own", HeaderValue::from_static("1"));
        assert_eq!(spelled(&headers, origin), ["hOST", "X-Host", "Ost", "X-Own"]);
    }

    #[test]
    fn a_line_is_taken_as_it_came_only_where_it_is_that_of_its_field() {
        let origin = Origin::new(Bytes::from_static(b"GET / HTTP/1.1\r\nX-A: 1\r\nx-b:2\r\nX-C: 3 \r\nX-D:  4\r\nX-E: 5\n\r\n"));
        let value = |text: &str| {
            let at = origin.head.iter().position(|byte| *byte == text.as_bytes()[0] && *byte != b'1').unwrap();
            HeaderValue::from_maybe_shared(origin.head.slice(at..=at)).unwrap()
        };
        let one = HeaderValue::from_maybe_shared(origin.head.slice(21..22)).unwrap();
        assert_eq!(origin.line("x-a", &one).map(|line| &origin.head()[line]), Some(&b"X-A: 1\r\n"[..]));
        assert_eq!(origin.line("x-z", &one), None, "the value has gone to another field");
        assert_eq!(origin.line("a", &one), None);
        for (name, text) in [("x-b", "2"), ("x-c", "3"), ("x-d", "4"), ("x-e", "5")] {
            assert_eq!(origin.line(name, &value(text)), None, "{name}");
            let spelling = origin.spelling(&HeaderName::from_static(name), &value(text)).unwrap();
            assert!(spelling.eq_ignore_ascii_case(name.as_bytes()));
        }
    }
}
