//! Requests as lines of JSON, with all that is stored of them: what `store export` writes and `store import` reads.
//!
//! ```text
//! {"line":"request","version":1,"id":"…","state":"queued",…,"body":{"text":"…"},"answer":null}
//! {"line":"request",…,"body":{"follows":1048576},…}            a long body: its bytes follow in lines of their own
//! {"line":"piece","of":"…","part":"body","data":{"text":"…"}}   until there are as many as were said
//! ```
//! Bytes that are UTF-8 stand as text, others in base64 (RFC 4648). Moments are RFC 3339 in UTC with milliseconds. Requests stand in the order in which they came. An
//! import ends with what the export began with: exporting again gives the same lines.

mod read;
mod write;

use std::str::FromStr;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use super::{Answer, Payload};
use crate::envelope::{DeadReason, Delivery, Envelope, Field, OrderKey, Reason, RequestId, State, Timestamp};

pub use read::{ImportError, Imported, import};
pub use write::{ExportError, Exported, export};

/// The version of the lines that are written, and the newest that are read.
const VERSION: u32 = 1;

/// Longest body in the line of its request, and longest piece of a longer one.
const PIECE: usize = 64 * 1024;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
enum Line {
    Request(Box<RequestLine>),
    Piece(PieceLine),
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLine {
    version: u32,
    id: String,
    state: State,
    backend: String,
    route: String,
    method: String,
    target: String,
    headers: Vec<(String, Text)>,
    trailers: Vec<(String, Text)>,
    reason: Reason,
    delivery: Delivery,
    accepted_at: Moment,
    changed_at: Moment,
    due_at: Moment,
    /// From its acceptance, or its last redrive.
    max_age_ms: u64,
    redriven_at: Option<Moment>,
    max_attempts: u32,
    attempts: u32,
    failures: u32,
    trips: u32,
    /// 16 hexadecimal digits.
    order_key: Option<String>,
    hold_key_when_dead: bool,
    dead_reason: Option<DeadReason>,
    last_outcome: String,
    body_bytes: u64,
    /// None when it is no longer needed.
    body: Option<Data>,
    answer: Option<AnswerLine>,
}

/// What the backend answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerLine {
    status: u16,
    headers: Vec<(String, Text)>,
    /// None when only its status is kept.
    body: Option<Data>,
}

/// A piece of a long body.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceLine {
    of: String,
    part: Part,
    data: Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Body,
    Answer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Data {
    Text(String),
    Base64(String),
    /// So many bytes, in lines that follow.
    Follows(u64),
}

/// The value of a field.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Base64 { base64: String },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Moment(Timestamp);

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.0.to_string()
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Timestamp::from_str(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// All that a store keeps of a request.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) envelope: Envelope,
    pub(super) state: State,
    pub(super) changed_at: Timestamp,
    pub(super) due: Timestamp,
    pub(super) redriven_at: Option<Timestamp>,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) trips: u32,
    pub(super) dead_reason: Option<DeadReason>,
    pub(super) last_outcome: String,
    pub(super) body_bytes: u64,
    /// None when it is no longer needed.
    pub(super) body: Option<Payload>,
    /// Status of the backend's answer.
    pub(super) answer_status: Option<u16>,
    pub(super) answer: Option<Answer>,
}

impl RequestLine {
    fn new(whole: &Whole, body: Option<Data>, answer: Option<Data>) -> Self {
        let Whole { envelope, .. } = whole;
        let answered = whole.answer_status.map(|status| AnswerLine {
            status,
            headers: whole.answer.iter().flat_map(|answer| &answer.headers).map(field).collect(),
            body: answer,
        });
        Self {
            version: VERSION,
            id: envelope.id.to_string(),
            state: whole.state,
            backend: envelope.backend.to_string(),
            route: envelope.route.to_string(),
            method: envelope.method.to_string(),
            target: envelope.target.clone(),
            headers: envelope.headers.iter().map(field).collect(),
            trailers: envelope.trailers.iter().map(field).collect(),
            reason: envelope.reason,
            delivery: envelope.delivery,
            accepted_at: Moment(envelope.accepted_at),
            changed_at: Moment(whole.changed_at),
            due_at: Moment(whole.due),
            max_age_ms: u64::try_from(envelope.expires_at.since(envelope.accepted_at).as_millis()).unwrap_or(u64::MAX),
            redriven_at: whole.redriven_at.map(Moment),
            max_attempts: envelope.max_attempts,
            attempts: whole.attempts,
            failures: whole.failures,
            trips: whole.trips,
            order_key: envelope.order_key.map(|key| format!("{:016x}", key.as_u64())),
            hold_key_when_dead: envelope.hold_key_when_dead,
            dead_reason: whole.dead_reason,
            last_outcome: whole.last_outcome.clone(),
            body_bytes: whole.body_bytes,
            body,
            answer: answered,
        }
    }

    /// What it says, without its bodies; or what is wrong with it.
    fn read(&self) -> Result<Whole, String> {
        if self.version > VERSION {
            return Err(format!(
                "it is of version {}, this forebay reads up to {VERSION}: import it with the newer one that wrote it",
                self.version
            ));
        }
        let id = RequestId::from_str(&self.id).map_err(|error| format!("id: {error}"))?;
        let key = |text: &String| u64::from_str_radix(text, 16).map(OrderKey::from_u64).map_err(|error| format!("order_key: {error}"));
        let envelope = Envelope {
            id,
            backend: self.backend.as_str().into(),
            route: self.route.as_str().into(),
            method: Method::from_bytes(self.method.as_bytes()).map_err(|error| format!("method: {error}"))?,
            target: self.target.clone(),
            headers: self.headers.iter().map(load).collect::<Result<_, _>>()?,
            trailers: self.trailers.iter().map(load).collect::<Result<_, _>>()?,
            reason: self.reason,
            accepted_at: self.accepted_at.0,
            expires_at: Timestamp::from_millis(self.accepted_at.0.as_millis().saturating_add(self.max_age_ms)),
            delivery: self.delivery,
            max_attempts: self.max_attempts,
            order_key: self.order_key.as_ref().map(key).transpose()?,
            hold_key_when_dead: self.hold_key_when_dead,
        };
        self.agrees()?;
        let headers = |answer: &AnswerLine| answer.headers.iter().map(load).collect::<Result<Vec<_>, _>>();
        let answer = match &self.answer {
            Some(answer @ AnswerLine { body: Some(_), status, .. }) => {
                Some(Answer { status: *status, headers: headers(answer)?, payload: Payload::from(Bytes::new()) })
            }
            _ => None,
        };
        Ok(Whole {
            envelope,
            state: self.state,
            changed_at: self.changed_at.0,
            due: self.due_at.0,
            redriven_at: self.redriven_at.map(|moment| moment.0),
            attempts: self.attempts,
            failures: self.failures,
            trips: self.trips,
            dead_reason: self.dead_reason,
            last_outcome: self.last_outcome.clone(),
            body_bytes: self.body_bytes,
            body: None,
            answer_status: self.answer.as_ref().map(|answer| answer.status),
            answer,
        })
    }

    /// Whether its state and what comes with it go together.
    fn agrees(&self) -> Result<(), String> {
        let keeps_body = !matches!(self.state, State::Delivered | State::Cancelled);
        if keeps_body != self.body.is_some() {
            return Err(format!("a request that is {} has {} body", self.state, if keeps_body { "a" } else { "no" }));
        }
        if (self.state == State::Dead) != self.dead_reason.is_some() {
            return Err("dead_reason: a request has one when it is dead, and only then".to_owned());
        }
        if self.attempts == 0 && (self.answer.is_some() || self.state == State::Delivering) {
            return Err("attempts: 0, and yet it was at the backend".to_owned());
        }
        Ok(())
    }
}

impl Data {
    /// Bytes as they are written, of which it is known whether they are text.
    fn new(bytes: &[u8], text: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(plain) if text => Self::Text(plain.to_owned()),
            _ => Self::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }

    /// The bytes that stand here; none where they follow.
    fn read(self) -> Result<Option<Bytes>, String> {
        match self {
            Self::Text(text) => Ok(Some(text.into())),
            Self::Base64(text) => BASE64_STANDARD.decode(text).map(|bytes| Some(bytes.into())).map_err(|error| format!("base64: {error}")),
            Self::Follows(_) => Ok(None),
        }
    }
}

fn field(field: &Field) -> (String, Text) {
    let name = field.spelling.as_deref().unwrap_or(field.name.as_str()).to_owned();
    let value = match std::str::from_utf8(field.value.as_bytes()) {
        Ok(plain) => Text::Plain(plain.to_owned()),
        Err(_) => Text::Base64 { base64: BASE64_STANDARD.encode(field.value.as_bytes()) },
    };
    (name, value)
}

fn load((spelled, value): &(String, Text)) -> Result<Field, String> {
    let name = HeaderName::from_bytes(spelled.as_bytes()).map_err(|error| format!("field {spelled:?}: {error}"))?;
    let value = match value {
        Text::Plain(plain) => {
            HeaderValue::from_str(plain).or_else(|_| HeaderValue::from_bytes(plain.as_bytes())).map_err(|error| error.to_string())
        }
        Text::Base64 { base64 } => {
            let bytes = BASE64_STANDARD.decode(base64).map_err(|error| error.to_string());
            bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).map_err(|error| error.to_string()))
        }
    };
    let spelling = (spelled != name.as_str()).then(|| spelled.as_str().into());
    Ok(Field { value: value.map_err(|error| format!("field {spelled:?}: {error}"))?, name, spelling })
}
