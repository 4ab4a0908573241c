use bytes::BytesMut;

use http::header::{CONTENT_LENGTH, TE};

use super::*;
use crate::http1::{parse, write};

static OWN: OwnField = OwnField::new(http::header::VIA, "1.1 forebay", "Via: 1.1 forebay\r\n");

fn read(text: &[u8]) -> Option<Box<AnswerHead>> {
    parse::response(&mut BytesMut::from(text)).ok().flatten().map(|(head, _, _)| head)
}

/// What is written of a head, line by line, and what is told of it.
fn written(head: &AnswerHead) -> (Vec<Vec<u8>>, Option<u64>, [bool; 3]) {
    let mut out = Vec::new();
    let told = write::response(head, &mut out);
    if let Some(length) = told.length() {
        told.write_length(length, &mut out);
    }
    let lines = out.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    (lines, told.length(), [told.coded, told.dated, told.closes])
}

/// In the order of the names, whose lines stay in theirs: a map has others among different names. And an empty value is no part of a head, so that its name in a
/// map has the letters of another one of that name.
fn by_name(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    lines.iter_mut().filter(|line| line.trim_ascii_end().ends_with(b":")).for_each(|line| line.make_ascii_lowercase());
    lines[1..].sort_by_key(|line| line.split(|byte| *byte == b':').next().unwrap().to_ascii_lowercase());
    lines
}

/// A head means the same and is written in the same lines, whether it stays as it came or is made a map, and whenever that is done; `leave` takes out of a map what
/// belongs to the connection. False for what is no head.
pub(crate) fn is_the_same_in_both_forms(text: &[u8], leave: fn(&mut HeaderMap)) -> bool {
    let changes: [&dyn Fn(&mut AnswerHead); 3] =
        [&|head| head.leave_connection(leave), &|head| head.remove(&CONTENT_LENGTH), &|head| head.append(&OWN)];
    let Some(mut early) = read(text) else { return false };
    early.fields_mut();
    for many in 0..=changes.len() {
        let (mut came, mut late) = (read(text).unwrap(), read(text).unwrap());
        for change in &changes[..many] {
            change(&mut came);
            change(&mut late);
        }
        if many > 0 {
            changes[many - 1](&mut early);
        }
        let names: Vec<_> = late.fields_mut().keys().cloned().collect();
        for name in &names {
            assert_eq!(came.get(name), early.get(name), "{name}");
            assert_eq!(late.get(name), early.get(name), "{name}");
        }
        assert_eq!(came.get(&TE).is_some(), names.contains(&TE));
        let [came, late, early] = [&came, &late, &early].map(|head| written(head));
        let in_order = |(lines, length, told): &(Vec<Vec<u8>>, _, _)| (by_name(lines.clone()), *length, *told);
        assert_eq!(in_order(&came), in_order(&late), "made a map after {many} changes");
        assert_eq!(in_order(&came), in_order(&early), "made a map before {many} changes");
        is_in_order(&[came.0.concat(), b"\r\n".to_vec()].concat(), came.0.len() - 1);
    }
    true
}

/// What goes out has one line for each field, and none that another reader could take for something else.
fn is_in_order(text: &[u8], fields: usize) {
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    for line in &lines[..lines.len() - 1] {
        assert_eq!(line.iter().position(|byte| *byte == b'\r'), Some(line.len() - 1), "{:?}", line.escape_ascii().to_string());
    }
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut parsed = httparse::Response::new(&mut slots);
    assert_eq!(parsed.parse(text).unwrap(), httparse::Status::Complete(text.len()), "no space before a colon either");
    assert_eq!(parsed.headers.len(), fields);
}

#[test]
fn what_may_stand_in_a_head_may_stand_in_a_map_whatever_the_byte() {
    let mut accepted = 0;
    for byte in 0..=u8::MAX {
        for text in [&[byte][..], &[b'a', byte, b'b'], &[b'a', byte]] {
            for (before, behind) in [(&b""[..], &b": 1"[..]), (b"X: ", b"")] {
                let text = [b"HTTP/1.1 200 OK\r\n", before, text, behind, b"\r\n\r\n"].concat();
                let Some(mut head) = read(&text) else { continue };
                accepted += 1;
                let came = head.came.lines.len();
                assert_eq!(head.fields_mut().len(), came, "{:?}", text.escape_ascii().to_string());
            }
        }
    }
    assert!(accepted > 3 * (77 + 223), "letters of names and of values: {accepted}");
    let long = |letters: usize| read(format!("HTTP/1.1 200 OK\r\n{}: 1\r\n\r\n", "a".repeat(letters)).as_bytes());
    assert_eq!(long(65_535).unwrap().fields_mut().len(), 1);
    assert!(long(65_536).is_none());
}

#[test]
fn what_passes_goes_out_as_it_came_and_in_its_order() {
    let text = "HTTP/1.1 200 OK\r\nServer: a\r\nx-B:  1\r\nConnection: keep-alive\r\nSET-Cookie: c\r\nContent-length: 5\r\nX-D: 4\r\nset-cookie: e\r\n";
    let mut head = read(format!("{text}Keep-Alive: x\r\nX-e:\n\r\n").as_bytes()).unwrap();
    head.leave_connection(|_| unreachable!("no map is needed"));
    head.append(&OWN);
    assert!(head.made.is_none(), "no map was needed");
    let (lines, length, _) = written(&head);
    let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line.trim_ascii_end()).into_owned()).collect();
    let expected = [
        "HTTP/1.1 200 OK",
        "Server: a",
        "x-B: 1",
        "SET-Cookie: c",
        "X-D: 4",
        "set-cookie: e",
        "X-e:",
        "Via: 1.1 forebay",
        "Content-length: 5",
    ];
    assert_eq!((lines, length), (expected.map(str::to_owned).to_vec(), Some(5)));
}

#[test]
fn each_field_of_one_connection_is_known_for_one_in_any_letters() {
    for name in &HOP_BY_HOP {
        let name = name.as_str();
        assert!(Kind::of(name.as_bytes()).is_of_connection() && Kind::of(name.to_uppercase().as_bytes()).is_of_connection(), "{name}");
        assert!(!Kind::of(format!("{}z", &name[..name.len() - 1]).as_bytes()).is_of_connection(), "{name}");
    }
}
