//! The frozen request.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::{OrderKey, Reason, RequestId, Timestamp};

/// The name of a backend or a route, shared by everything that refers to it.
pub type Name = Arc<str>;

/// One header or trailer field, in the order of the message (RFC 9110 section 5.3: order matters among equals).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Lowercase name, which is what it means.
    pub name: HeaderName,
    /// The name in the letters in which it came, when they were not all lowercase.
    pub spelling: Option<Box<str>>,
    /// Value, byte for byte.
    pub value: HeaderValue,
}

impl Field {
    /// A field whose name is spelled in lowercase.
    pub fn new(name: HeaderName, value: HeaderValue) -> Self {
        Self { name, spelling: None, value }
    }
}

/// What may be done about a request that may have been executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// It is sent again: the backend sees it once or more, with an `Idempotency-Key`.
    AtLeastOnce,
    /// It is never sent again by itself: the backend sees it once or not at all.
    AtMostOnce,
}

/// A request as it was sent, without its body: what the queue keeps and replay sends.
///
/// `headers` are those that the backend gets: hop-by-hop fields and a client's own `Forebay-*` are gone, `X-Forwarded-*` and
/// `Via` are set. The body's length decides between `Content-Length` and chunked at sending; neither is stored as a field
/// unless the client sent a `Content-Length`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its identity.
    pub id: RequestId,
    /// The backend that it is for.
    pub backend: Name,
    /// The route that it came by, whose policy holds for it.
    pub route: Name,
    /// Its method, which decides whether it is idempotent (RFC 9110 section 9.2.2).
    pub method: Method,
    /// Its request target in origin form, byte for byte: path and query.
    pub target: String,
    /// Header fields in order.
    pub headers: Vec<Field>,
    /// Trailer fields in order; empty for most.
    pub trailers: Vec<Field>,
    /// Why it was queued.
    pub reason: Reason,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it is given up if it has not been delivered.
    pub expires_at: Timestamp,
    /// What its route says about sending it again.
    pub delivery: Delivery,
    /// How many attempts its route gives it.
    pub max_attempts: u32,
    /// Requests with the same key are delivered one at a time, in the order of their arrival.
    pub order_key: Option<OrderKey>,
    /// Whether its death holds back the later ones of its key (`on_dead_letter = "hold"`).
    pub hold_key_when_dead: bool,
}

impl Envelope {
    /// Whether it may be sent again although it may have been executed: its route says so, or its method is idempotent.
    pub fn may_be_resent(&self) -> bool {
        self.delivery == Delivery::AtLeastOnce || self.method.is_idempotent()
    }
}
