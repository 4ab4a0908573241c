//! Heads that are over, for those that come, and what they were written into: to make one and its tables anew costs more than to fill it.

use std::{cell::RefCell, thread::LocalKey};

use http::{HeaderMap, Method, Request, Uri};

use super::{AnswerHead, RequestHead};

/// Of each kind a thread keeps so many at most; a head is less than 4 KiB.
const MOST: usize = 32;
/// Fields that there is room for in a table. One that had to become larger is not kept.
const ROOM: usize = 24;

/// Bytes that there is room for in what a head is written into, and that are kept at most.
const TEXT: usize = 1024;
const MOST_TEXT: usize = 8 * 1024;

type Kept<T> = RefCell<Vec<T>>;

thread_local! {
    static REQUESTS: Kept<Box<RequestHead>> = const { RefCell::new(Vec::new()) };
    static ANSWERS: Kept<Box<AnswerHead>> = const { RefCell::new(Vec::new()) };
    static MAPS: Kept<HeaderMap> = const { RefCell::new(Vec::new()) };
    static TEXTS: Kept<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The head of a request that says nothing yet.
pub(super) fn request() -> Box<RequestHead> {
    take(&REQUESTS).unwrap_or_else(|| {
        let mut head = Box::new(RequestHead::from(Request::new(()).into_parts().0));
        head.headers = HeaderMap::with_capacity(ROOM);
        head
    })
}

/// The head of an answer that says nothing yet.
pub(super) fn answer() -> Box<AnswerHead> {
    take(&ANSWERS).unwrap_or_else(|| Box::new(AnswerHead::empty()))
}

/// A map of fields without any.
pub(super) fn map() -> HeaderMap {
    take(&MAPS).unwrap_or_else(|| HeaderMap::with_capacity(ROOM))
}

/// Keeps the head of a request that is over, and nothing of what is in it.
pub(super) fn give_request(mut head: Box<RequestHead>) {
    if is_of_use(&head.headers) {
        head.headers.clear();
        head.extensions.clear();
        head.origin = None;
        (head.method, head.uri) = (Method::GET, Uri::default());
        give(&REQUESTS, head);
    }
}

/// Keeps the head of an answer that is over, and nothing of what is in it.
pub(super) fn give_answer(mut head: Box<AnswerHead>) {
    head.clear();
    give(&ANSWERS, head);
}

/// Keeps a map, and nothing of what is in it.
pub(super) fn give_map(mut map: HeaderMap) {
    if is_of_use(&map) {
        map.clear();
        give(&MAPS, map);
    }
}

/// Makes room in what a head is going to be written into.
pub(super) fn text(out: &mut Vec<u8>) {
    if out.capacity() == 0
        && let Some(text) = take(&TEXTS)
    {
        *out = text;
    }
    out.reserve(TEXT);
}

/// Keeps what has been sent, and nothing of what is in it.
pub(super) fn give_text(mut text: Vec<u8>) {
    if (TEXT..=MOST_TEXT).contains(&text.capacity()) {
        text.clear();
        give(&TEXTS, text);
    }
}

fn is_of_use(headers: &HeaderMap) -> bool {
    (1..=2 * ROOM).contains(&headers.capacity())
}

fn take<T>(kept: &'static LocalKey<Kept<T>>) -> Option<T> {
    kept.try_with(|kept| kept.borrow_mut().pop()).ok().flatten()
}

fn give<T>(kept: &'static LocalKey<Kept<T>>, what: T) {
    let _at_the_end_of_a_thread = kept.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < MOST {
            kept.push(what);
        }
    });
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::http1::OwnField;

    #[test]
    fn nothing_of_a_head_is_found_in_the_next_one() {
        let mut head = request();
        head.headers.append("x-secret", "1".parse().unwrap());
        head.headers.append("x-secret", "2".parse().unwrap());
        head.extensions.insert("secret");
        (head.method, head.uri) = (Method::PUT, "/secret".parse().unwrap());
        let room = head.headers.capacity();
        give_request(head);
        let mut head = request();
        assert!(head.headers.is_empty() && head.headers.get("x-secret").is_none());
        assert!(head.extensions.get::<&str>().is_none() && head.extensions.is_empty());
        assert_eq!((&head.method, head.uri.path()), (&Method::GET, "/"));
        assert_eq!(head.headers.capacity(), room, "it is the same table");
        head.headers = HeaderMap::with_capacity(1000);
        give_request(head);
        assert!(request().headers.capacity() < 1000);
        let mut head = answer();
        head.status = StatusCode::IM_A_TEAPOT;
        head.came_mut().stand_in(b"secret", Some(0..6));
        static SECRET: OwnField = OwnField::new(http::header::VIA, "1", "Via: 1\r\n");
        head.append(&SECRET);
        give_answer(head);
        let mut head = answer();
        assert!(head.get(&http::header::VIA).is_none() && head.phrase().is_none() && head.status == StatusCode::OK);
        head.fields_mut().append("x-secret", "1".parse().unwrap());
        give_answer(head);
        let mut head = answer();
        assert!(head.get(&"x-secret".parse().unwrap()).is_none() && head.fields_mut().is_empty());
    }
}
