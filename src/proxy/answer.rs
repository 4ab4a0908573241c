//! Every response that we write ourselves, and the only place where an error becomes an HTTP status.

mod unread;

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};

use crate::{
    backend::{ErrorKind, SendError},
    envelope::{Envelope, Reason, RequestId, State, Timestamp},
    http1,
    store::StoreError,
};

pub(super) use unread::Unread;

use super::{
    body::ClientBody,
    inspect::Malformed,
    page,
    proxy_status::{self, Failure, PROXY_STATUS},
    settings::{Accepted, Spill},
};

const FOREBAY_ID: HeaderName = HeaderName::from_static("forebay-id");
/// RFC 7240 section 3.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// After this long a client may ask again for room in the queue.
const FULL_FOR: Duration = Duration::from_secs(10);
/// After this long a client may ask again whether the store is open. A million requests are read in a few seconds.
const OPENS_IN: Duration = Duration::from_secs(2);
/// Where it is the client's request that is at fault, and no more is to be said (RFC 9209 section 2.3.27).
const REQUEST_ERROR: &str = "forebay; error=http_request_error";
const STALLED: &str = "The body of the request stopped coming.";
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Where the outcome of a request is read.
pub(super) fn location(id: RequestId) -> String {
    format!("{}{id}", super::outcome::PREFIX)
}

/// The 202 of a write that is durable.
pub(super) struct Queued<'a> {
    pub(super) envelope: &'a Envelope,
    pub(super) ahead: u64,
    pub(super) estimate: Duration,
    pub(super) now: Timestamp,
    /// What made it spill, where a live attempt failed.
    pub(super) failure: Option<Failure>,
}

impl Queued<'_> {
    /// The answer, in the form that the client takes, or in the one that the route prescribes.
    pub(super) fn answer(&self, spill: &Spill, html: bool) -> Response<ClientBody> {
        let mut response = match &spill.accepted {
            Some(Accepted { status, content_type, body }) => respond(*status, content_type.clone(), body.clone()),
            None if html => {
                respond(StatusCode::ACCEPTED, HTML, page::queued(&location(self.envelope.id), self.ahead + 1, self.envelope.accepted_at))
            }
            None => respond(StatusCode::ACCEPTED, JSON, self.json()),
        };
        let headers = response.headers_mut();
        if spill.accepted.is_none() {
            set(headers, LOCATION, &location(self.envelope.id));
            headers.insert(RETRY_AFTER, seconds(self.estimate));
        }
        set(headers, FOREBAY_ID, &self.envelope.id.to_string());
        set(headers, PROXY_STATUS, &proxy_status::of_reason(self.envelope.reason, self.failure));
        if self.envelope.reason == Reason::Asked {
            headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        }
        no_store(headers);
        response
    }

    fn json(&self) -> Bytes {
        let body = serde_json::json!({
            "id": self.envelope.id.to_string(),
            "state": State::Queued,
            "reason": self.envelope.reason,
            "accepted_at": self.envelope.accepted_at.to_string(),
            "expires_at": self.envelope.expires_at.to_string(),
            "position": self.ahead + 1,
            "estimated_delivery": self.now.after(self.estimate).to_string(),
            "location": location(self.envelope.id),
        });
        Bytes::from(body.to_string())
    }
}

/// A request that cannot be served now, and was not queued.
pub(super) struct Unavailable<'a> {
    /// What a person reads.
    pub(super) detail: &'a str,
    /// What a program reads: one word.
    pub(super) reason: &'a str,
    pub(super) retry_after: Duration,
    pub(super) proxy_status: String,
}

impl Unavailable<'_> {
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<ClientBody> {
        let mut response = problem_in(wants_html(headers), StatusCode::SERVICE_UNAVAILABLE, self.detail, Some(self.reason));
        response.headers_mut().insert(RETRY_AFTER, seconds(self.retry_after));
        set(response.headers_mut(), PROXY_STATUS, &self.proxy_status);
        response
    }
}

/// No seat, or an operator's or client's wish: 503.
pub(super) fn not_now(reason: Reason, retry_after: Duration, headers: &HeaderMap) -> Response<ClientBody> {
    let detail = match reason {
        Reason::Down => "The server behind this proxy is down. It will be tried again soon.",
        Reason::Overload => "The server behind this proxy has as much to do as it can take.",
        Reason::Order => "An earlier request of the same sender is still waiting, and this one may not be queued behind it.",
        _ => "The request could only be queued, and it asks not to be.",
    };
    Unavailable { detail, reason: reason.as_str(), retry_after, proxy_status: proxy_status::of_reason(reason, None) }.answer(headers)
}

/// The store cannot take it: 503, and nothing that was accepted is lost.
pub(super) fn store_failed(error: &StoreError, headers: &HeaderMap) -> Response<ClientBody> {
    let detail = format!("The request could not be queued: {error}.");
    let proxy_status = proxy_status::of_store(error);
    let retry_after = if matches!(error, StoreError::Opening) { OPENS_IN } else { FULL_FOR };
    Unavailable { detail: &detail, reason: error.as_str(), retry_after, proxy_status }.answer(headers)
}

/// A live attempt failed and may not be made again: 503 and when to come again where the backend certainly did not see the request; 504 where it may
/// have, and was too slow; 502 where it may have, and broke off (503 for a read, which does no harm twice, also where it was refused then); 400, 408 or 413 where it was the client's body that failed.
pub(super) fn send_failed(error: &SendError, read: bool, retry_after: Duration, html: bool) -> Response<ClientBody> {
    let (status, detail) = match error.kind {
        ErrorKind::RequestBody => (StatusCode::BAD_REQUEST, "The body of the request ended early or could not be read."),
        ErrorKind::RequestTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than is allowed here."),
        ErrorKind::RequestStalled => (StatusCode::REQUEST_TIMEOUT, STALLED),
        kind if !error.maybe_sent || (read && matches!(kind, ErrorKind::Reset | ErrorKind::Connect)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "The server behind this proxy is down. It will be tried again soon.")
        }
        ErrorKind::Timeout | ErrorKind::ConnectTimeout => {
            (StatusCode::GATEWAY_TIMEOUT, "The server behind this proxy did not answer in time.")
        }
        ErrorKind::NoServer | ErrorKind::Connect | ErrorKind::Tls | ErrorKind::Certificate | ErrorKind::Reset | ErrorKind::BadResponse => {
            (StatusCode::BAD_GATEWAY, "The server behind this proxy did not give a valid answer.")
        }
    };
    let mut response = problem_in(html, status, detail, None);
    let headers = response.headers_mut();
    set(headers, PROXY_STATUS, &proxy_status::of_kind(error.kind));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, seconds(retry_after));
    }
    if error.kind.is_of_the_request() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        return response.map(ClientBody::refusing);
    }
    response
}

/// No route: 404 from us, not from a backend.
pub(super) fn no_route(headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = problem(StatusCode::NOT_FOUND, "No route of this proxy leads there.", headers);
    set(response.headers_mut(), PROXY_STATUS, "forebay; error=destination_not_found");
    response
}

/// The answer of a route that leads to no backend.
pub(super) fn fixed(status: StatusCode, content_type: Option<&HeaderValue>, body: Bytes) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    response
}

/// The body is larger than the route or the proxy allows: 413. The rest of it is not read, so the connection closes.
pub(super) fn too_large(limit: u64, headers: &HeaderMap) -> Response<ClientBody> {
    let detail = format!("The body is larger than the {limit} bytes that are allowed here.");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, &detail, headers)
}

/// The request parsed but may not be understood or served: 400 for most, and the connection closes (RFC 9112 section 11.2).
pub(super) fn malformed(what: Malformed, headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = refuse(what.status(), what.as_str(), headers);
    set(response.headers_mut(), PROXY_STATUS, &format!("forebay; error={}", what.error()));
    response
}

/// An OPTIONS that is meant for the last proxy that it may reach (RFC 9110 section 7.6.2): 200, and with which methods a request would go further (section
/// 9.3.7). Where all do, those that servers usually know are named: what the one behind us makes of them only it could say.
pub(super) fn options(methods: &[&Method]) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(Bytes::new()));
    let named = if methods.is_empty() { "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" } else { &list(methods) };
    set(response.headers_mut(), ALLOW, named);
    response
}

/// The client stopped sending its body: 408, and the connection closes. Nothing was queued or sent.
pub(super) fn stalled(headers: &HeaderMap) -> Response<ClientBody> {
    refuse(StatusCode::REQUEST_TIMEOUT, STALLED, headers)
}

/// The body ended early or is malformed: 400, and the connection closes. Nothing was queued or sent.
pub(super) fn broken_body(headers: &HeaderMap) -> Response<ClientBody> {
    refuse(StatusCode::BAD_REQUEST, "The body of the request ended early or is malformed.", headers)
}

fn refuse(status: StatusCode, detail: &str, headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = problem(status, detail, headers);
    set(response.headers_mut(), PROXY_STATUS, REQUEST_ERROR);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.map(ClientBody::refusing)
}

/// A client that asks too often: 429, and when to come again. What it sends with the request is not read, so that its connection ends where there is something.
pub(super) fn too_often(wait: Duration, has_body: bool, headers: &HeaderMap) -> Response<ClientBody> {
    let detail = "You ask more often than is allowed here. Come again later.";
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut response = if has_body { refuse(status, detail, headers) } else { problem(status, detail, headers) };
    response.headers_mut().insert(RETRY_AFTER, seconds(wait));
    set(response.headers_mut(), PROXY_STATUS, "forebay; error=http_request_denied; details=\"rate\"");
    response
}

/// An unknown request identity: 404.
pub(super) fn unknown_request(headers: &HeaderMap) -> Response<ClientBody> {
    problem(StatusCode::NOT_FOUND, "There is no such request, or its outcome is no longer kept.", headers)
}

/// A request that is not in the state for what was asked: 409.
pub(super) fn conflict(detail: &str, headers: &HeaderMap) -> Response<ClientBody> {
    problem(StatusCode::CONFLICT, detail, headers)
}

/// A method that our own resources, or the routes that lead there, do not know: 405.
pub(super) fn method_not_allowed(allow: &str, headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "This resource does not know that method.", headers);
    set(response.headers_mut(), ALLOW, allow);
    response
}

/// A method that no route takes there: 405, and those that are (RFC 9110 section 15.5.6).
pub(super) fn other_methods(methods: &[&Method], headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = method_not_allowed(&list(methods), headers);
    set(response.headers_mut(), PROXY_STATUS, REQUEST_ERROR);
    response
}

fn list(methods: &[&Method]) -> String {
    methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ")
}

/// JSON of our own.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response<ClientBody> {
    let mut response = respond(status, JSON, Bytes::from(body.to_string()));
    no_store(response.headers_mut());
    response
}

/// Nothing to say: 204.
pub(super) fn no_content() -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Problem details (RFC 9457), or a page for a browser.
fn problem(status: StatusCode, detail: &str, headers: &HeaderMap) -> Response<ClientBody> {
    problem_in(wants_html(headers), status, detail, None)
}

/// With a `reason`, a word in a member of our own (RFC 9457 section 3.2).
fn problem_in(html: bool, status: StatusCode, detail: &str, reason: Option<&str>) -> Response<ClientBody> {
    problem_bytes(html, status, detail, reason).map(ClientBody::full)
}

/// Its title is the phrase of its status, as RFC 9457 section 4.2.1 wants with `about:blank`.
fn problem_bytes(html: bool, status: StatusCode, detail: &str, reason: Option<&str>) -> Response<Bytes> {
    let title = http1::phrase(status).unwrap_or("Error");
    let mut response = if html {
        with_type(status, HTML, page::problem(status, title, detail))
    } else {
        let mut body = serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        if let Some(reason) = reason {
            body["reason"] = reason.into();
        }
        with_type(status, PROBLEM, body.to_string())
    };
    no_store(response.headers_mut());
    response
}

/// Whether a person reads the answer: `Accept` names HTML, and JSON not before it.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    accepted
        .map(|range| range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
        .find(|media| media.ends_with(b"/html") || media.ends_with(b"/json") || media.ends_with(b"+json"))
        .is_some_and(|media| media.ends_with(b"/html"))
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<ClientBody> {
    with_type(status, content_type, body).map(ClientBody::full)
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn no_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Whole seconds, rounded up, at least 1 (RFC 9110 section 10.2.3).
fn seconds(span: Duration) -> HeaderValue {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    HeaderValue::from(whole.max(1))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
