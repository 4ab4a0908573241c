//! The stored form of requests and answers: `prost` messages, so that an older program reads a newer one's and the other way round.
//!
//! Numbers of fields are never used twice. Reasons and deliveries are stored by the names that users see.

use http::{HeaderName, HeaderValue, Method};
use prost::Message;

use super::{Answer, Payload};
use crate::envelope::{Delivery, Envelope, Field, Name, OrderKey, Reason, RequestId, Timestamp};

/// A stored message that this program cannot make sense of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored record cannot be read")]
pub(super) struct Unreadable;

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(fixed64, tag = "1")]
    id_high: u64,
    #[prost(fixed64, tag = "2")]
    id_low: u64,
    #[prost(string, tag = "3")]
    backend: String,
    #[prost(string, tag = "4")]
    route: String,
    #[prost(string, tag = "5")]
    method: String,
    #[prost(string, tag = "6")]
    target: String,
    #[prost(message, repeated, tag = "7")]
    headers: Vec<StoredField>,
    #[prost(message, repeated, tag = "8")]
    trailers: Vec<StoredField>,
    #[prost(string, tag = "9")]
    reason: String,
    #[prost(uint64, tag = "10")]
    accepted_at: u64,
    #[prost(uint64, tag = "11")]
    expires_at: u64,
    #[prost(bool, tag = "12")]
    at_most_once: bool,
    #[prost(uint32, tag = "13")]
    max_attempts: u32,
    #[prost(fixed64, optional, tag = "14")]
    order_key: Option<u64>,
    #[prost(bool, tag = "15")]
    hold_key_when_dead: bool,
    #[prost(message, optional, tag = "16")]
    file: Option<File>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredField {
    /// In the letters in which it came.
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct AnswerHead {
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<StoredField>,
    #[prost(message, optional, tag = "3")]
    file: Option<File>,
}

/// A body in a file of its own.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct File {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub(super) len: u64,
    /// CRC-32 of all of it.
    #[prost(fixed32, tag = "2")]
    pub(super) crc: u32,
}

/// The stored form of a new request without its body. Its length and the body's are what the request takes of `max_bytes`.
pub(super) fn request_head(envelope: &Envelope, payload: &Payload) -> Vec<u8> {
    encode_request(envelope, payload.as_file().map(|file| File { len: file.len, crc: file.crc }))
}

/// The stored form of a request without its body; `file` says that the body lies in a file of its own.
pub(super) fn encode_request(envelope: &Envelope, file: Option<File>) -> Vec<u8> {
    let (id_high, id_low) = halves(envelope.id);
    let head = Head {
        id_high,
        id_low,
        backend: envelope.backend.to_string(),
        route: envelope.route.to_string(),
        method: envelope.method.to_string(),
        target: envelope.target.clone(),
        headers: envelope.headers.iter().map(store_field).collect(),
        trailers: envelope.trailers.iter().map(store_field).collect(),
        reason: envelope.reason.to_string(),
        accepted_at: envelope.accepted_at.as_millis(),
        expires_at: envelope.expires_at.as_millis(),
        at_most_once: envelope.delivery == Delivery::AtMostOnce,
        max_attempts: envelope.max_attempts,
        order_key: envelope.order_key.map(OrderKey::as_u64),
        hold_key_when_dead: envelope.hold_key_when_dead,
        file,
    };
    head.encode_to_vec()
}

/// What [`encode_request`] made.
pub(super) fn decode_request(bytes: &[u8]) -> Result<(Envelope, Option<File>), Unreadable> {
    let head = Head::decode(bytes).map_err(|_| Unreadable)?;
    let envelope = Envelope {
        id: from_halves(head.id_high, head.id_low),
        backend: Name::from(head.backend),
        route: Name::from(head.route),
        method: Method::from_bytes(head.method.as_bytes()).map_err(|_| Unreadable)?,
        target: head.target,
        headers: head.headers.into_iter().map(load_field).collect::<Result<_, _>>()?,
        trailers: head.trailers.into_iter().map(load_field).collect::<Result<_, _>>()?,
        reason: Reason::from_name(&head.reason).ok_or(Unreadable)?,
        accepted_at: Timestamp::from_millis(head.accepted_at),
        expires_at: Timestamp::from_millis(head.expires_at),
        delivery: if head.at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
        max_attempts: head.max_attempts,
        order_key: head.order_key.map(OrderKey::from_u64),
        hold_key_when_dead: head.hold_key_when_dead,
    };
    Ok((envelope, head.file))
}

/// The stored form of an answer without its body.
pub(super) fn encode_answer(answer: &Answer, file: Option<File>) -> Vec<u8> {
    let headers = answer.headers.iter().map(store_field).collect();
    AnswerHead { status: answer.status.into(), headers, file }.encode_to_vec()
}

/// Status, fields and file of what [`encode_answer`] made.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<(u16, Vec<Field>, Option<File>), Unreadable> {
    let head = AnswerHead::decode(bytes).map_err(|_| Unreadable)?;
    let status = u16::try_from(head.status).map_err(|_| Unreadable)?;
    Ok((status, head.headers.into_iter().map(load_field).collect::<Result<_, _>>()?, head.file))
}

/// The two halves of an identity, which sort as it does.
pub(super) fn halves(id: RequestId) -> (u64, u64) {
    let whole = u128::from_be_bytes(id.to_bytes());
    ((whole >> 64) as u64, whole as u64)
}

/// The identity of two halves.
pub(super) fn from_halves(high: u64, low: u64) -> RequestId {
    RequestId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

fn store_field(field: &Field) -> StoredField {
    let name = field.spelling.as_deref().unwrap_or(field.name.as_str()).to_owned();
    StoredField { name, value: bytes::Bytes::copy_from_slice(field.value.as_bytes()) }
}

fn load_field(stored: StoredField) -> Result<Field, Unreadable> {
    let name = HeaderName::from_bytes(stored.name.as_bytes()).map_err(|_| Unreadable)?;
    let spelling = (stored.name != name.as_str()).then(|| stored.name.into_boxed_str());
    let value = HeaderValue::from_maybe_shared(stored.value).map_err(|_| Unreadable)?;
    Ok(Field { name, spelling, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &[u8]) -> Field {
        let lower = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let spelling = (name != lower.as_str()).then(|| name.into());
        Field { name: lower, spelling, value: HeaderValue::from_bytes(value).unwrap() }
    }

    #[test]
    fn a_request_reads_back_byte_for_byte() {
        let envelope = Envelope {
            id: RequestId::new(),
            backend: "admin".into(),
            route: "order-upload".into(),
            method: Method::from_bytes(b"MKCOL").unwrap(),
            target: "/a/%2e?q=\u{e9}".into(),
            headers: vec![field("X-LEGACY", b"\xff\x80 latin"), field("accept", b"1"), field("accept", b"")],
            trailers: vec![field("digest", b"abc")],
            reason: Reason::Order,
            accepted_at: Timestamp::from_millis(5),
            expires_at: Timestamp::from_millis(u64::MAX),
            delivery: Delivery::AtMostOnce,
            max_attempts: 8,
            order_key: Some(OrderKey::from_u64(u64::MAX - 1)),
            hold_key_when_dead: true,
        };
        let file = Some(File { len: 1 << 40, crc: 7 });
        assert_eq!(decode_request(&encode_request(&envelope, file)), Ok((envelope, file)));
    }

    #[test]
    fn an_answer_reads_back_byte_for_byte() {
        let answer = Answer { status: 409, headers: vec![field("ETag", b"\"x\"")], payload: Payload::from(bytes::Bytes::new()) };
        assert_eq!(decode_answer(&encode_answer(&answer, None)), Ok((409, answer.headers, None)));
    }

    #[test]
    fn fields_of_a_newer_program_are_passed_over() {
        let mut bytes = AnswerHead { status: 200, headers: Vec::new(), file: None }.encode_to_vec();
        // Field 99, varint 1.
        bytes.extend([0x98, 0x06, 1]);
        assert_eq!(decode_answer(&bytes), Ok((200, Vec::new(), None)));
        assert_eq!(decode_answer(b"\xff"), Err(Unreadable));
    }

    #[test]
    fn fuzz_what_reads_as_a_record_is_written_as_it_reads() {
        let value = || HeaderValue::from_static("v");
        let fields = |names: &[&str]| names.iter().map(|name| field(name, b"v")).collect::<Vec<_>>();
        let envelope = Envelope {
            id: RequestId::from_bytes([7; 16]),
            backend: "admin".into(),
            route: "order-upload".into(),
            method: Method::PUT,
            target: "/a?b".into(),
            headers: fields(&["Host", "X-LEGACY", "accept"]),
            trailers: vec![Field { name: HeaderName::from_static("x"), spelling: None, value: value() }],
            reason: Reason::Order,
            accepted_at: Timestamp::from_millis(1_700_000_000_000),
            expires_at: Timestamp::from_millis(1_700_000_900_000),
            delivery: Delivery::AtLeastOnce,
            max_attempts: 8,
            order_key: Some(OrderKey::from_u64(9)),
            hold_key_when_dead: false,
        };
        let answer = Answer { status: 200, headers: fields(&["ETag", "Set-Cookie"]), payload: Payload::from(bytes::Bytes::new()) };
        let file = Some(File { len: 5, crc: 6 });
        let seeds = [encode_request(&envelope, None), encode_request(&envelope, file)];
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        crate::fuzz::run(&seeds, &[b"\x3a\x05\x0a\x01x\x12\0", b"\xff\xff\xff\xff\x0f", b"\r\n", b"\0"], |bytes| {
            let Ok((envelope, file)) = decode_request(bytes) else { return false };
            // Nothing that is read could break out of a head that is built from it.
            assert!(
                envelope.headers.iter().chain(&envelope.trailers).all(|field| !field
                    .value
                    .as_bytes()
                    .iter()
                    .any(|byte| b"\r\n\0".contains(byte)))
            );
            assert!(!envelope.method.as_str().contains([' ', '\r', '\n']));
            let spellings = envelope.headers.iter().filter_map(|field| field.spelling.as_deref());
            spellings.for_each(|letters| assert!(letters.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{letters:?}"));
            assert_eq!(decode_request(&encode_request(&envelope, file)), Ok((envelope, file)));
            true
        });
        crate::fuzz::run(&[&encode_answer(&answer, file)], &[b"\x12\x05\x0a\x01x\x12\0", b"\0"], |bytes| decode_answer(bytes).is_ok());
    }
}
