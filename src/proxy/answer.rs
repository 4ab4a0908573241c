//! Every response that we write ourselves, and the only place where an error becomes an HTTP status.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};

use crate::{
    backend::{ErrorKind, SendError},
    envelope::{Envelope, Reason, RequestId, State, Timestamp},
    store::StoreError,
};

use super::{
    body::ClientBody,
    client::Malformed,
    page,
    settings::{Accepted, Spill},
};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const FOREBAY_ID: HeaderName = HeaderName::from_static("forebay-id");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
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
    pub(super) failure: Option<ErrorKind>,
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
        set(headers, PROXY_STATUS, &proxy_status(self.envelope.reason, self.failure));
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
    /// What the client reads.
    pub(super) detail: &'a str,
    pub(super) retry_after: Duration,
    pub(super) proxy_status: String,
}

impl Unavailable<'_> {
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<ClientBody> {
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", self.detail, headers);
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
    Unavailable { detail, retry_after, proxy_status: proxy_status(reason, None) }.answer(headers)
}

/// The store cannot take it: 503, and nothing that was accepted is lost.
pub(super) fn store_failed(error: &StoreError, headers: &HeaderMap) -> Response<ClientBody> {
    let detail = format!("The request could not be queued: {error}.");
    let proxy_status = format!("forebay; error=proxy_internal_error; details={}", quoted(&error.to_string()));
    Unavailable { detail: &detail, retry_after: Duration::from_secs(10), proxy_status }.answer(headers)
}

/// A live attempt failed and may not be made again. 503 and when to come again where the backend certainly did not see the request; 504 where it may have, and
/// was too slow; 502 where it may have, and broke off (503 for a read, which does no harm twice); 400 where it was the client's body that failed.
pub(super) fn send_failed(error: &SendError, read: bool, retry_after: Duration, html: bool) -> Response<ClientBody> {
    let (status, title, detail) = match error.kind {
        ErrorKind::RequestBody => (StatusCode::BAD_REQUEST, "Bad request", "The body of the request ended early or could not be read."),
        kind if !error.maybe_sent || (read && kind == ErrorKind::Reset) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", "The server behind this proxy is down. It will be tried again soon.")
        }
        ErrorKind::Timeout | ErrorKind::ConnectTimeout => {
            (StatusCode::GATEWAY_TIMEOUT, "Gateway timeout", "The server behind this proxy did not answer in time.")
        }
        ErrorKind::Connect | ErrorKind::Reset | ErrorKind::BadResponse => {
            (StatusCode::BAD_GATEWAY, "Bad gateway", "The server behind this proxy did not give a valid answer.")
        }
    };
    let mut response = problem_in(html, status, title, detail);
    set(response.headers_mut(), PROXY_STATUS, &format!("forebay; error={}", error.kind.as_str()));
    match status {
        StatusCode::SERVICE_UNAVAILABLE => drop(response.headers_mut().insert(RETRY_AFTER, seconds(retry_after))),
        StatusCode::BAD_REQUEST => drop(response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"))),
        _ => {}
    }
    response
}

/// No route: 404 from us, not from a backend.
pub(super) fn no_route(headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = problem(StatusCode::NOT_FOUND, "Not found", "No route of this proxy leads there.", headers);
    set(response.headers_mut(), PROXY_STATUS, "forebay; error=destination_not_found");
    response
}

/// The body is larger than the route or the proxy allows: 413. The rest of it is not read, so the connection closes.
pub(super) fn too_large(limit: u64, headers: &HeaderMap) -> Response<ClientBody> {
    let detail = format!("The body is larger than the {limit} bytes that are allowed here.");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "Content too large", &detail, headers)
}

/// The request parsed but may not be understood: 400, and the connection closes (RFC 9112 section 11.2).
pub(super) fn malformed(what: Malformed, headers: &HeaderMap) -> Response<ClientBody> {
    refuse(StatusCode::BAD_REQUEST, "Bad request", what.as_str(), headers)
}

/// The body ended early or is malformed: 400, and the connection closes. Nothing was queued or sent.
pub(super) fn broken_body(headers: &HeaderMap) -> Response<ClientBody> {
    refuse(StatusCode::BAD_REQUEST, "Bad request", "The body of the request ended early or is malformed.", headers)
}

fn refuse(status: StatusCode, title: &str, detail: &str, headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = problem(status, title, detail, headers);
    set(response.headers_mut(), PROXY_STATUS, "forebay; error=http_request_error");
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An unknown request identity: 404.
pub(super) fn unknown_request(headers: &HeaderMap) -> Response<ClientBody> {
    problem(StatusCode::NOT_FOUND, "Not found", "There is no such request, or its outcome is no longer kept.", headers)
}

/// A request that is not in the state for what was asked: 409.
pub(super) fn conflict(detail: &str, headers: &HeaderMap) -> Response<ClientBody> {
    problem(StatusCode::CONFLICT, "Conflict", detail, headers)
}

/// A method that our own resources do not know: 405.
pub(super) fn method_not_allowed(allow: &'static str, headers: &HeaderMap) -> Response<ClientBody> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "This resource does not know that method.", headers);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
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
fn problem(status: StatusCode, title: &str, detail: &str, headers: &HeaderMap) -> Response<ClientBody> {
    problem_in(wants_html(headers), status, title, detail)
}

fn problem_in(html: bool, status: StatusCode, title: &str, detail: &str) -> Response<ClientBody> {
    let mut response = if html {
        respond(status, HTML, page::problem(status, title, detail))
    } else {
        let body = serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        respond(status, PROBLEM, Bytes::from(body.to_string()))
    };
    no_store(response.headers_mut());
    response
}

/// Whether a person reads the answer: `Accept` names HTML, and JSON not before it.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .find(|media| media.ends_with("/html") || media.ends_with("/json") || media.ends_with("+json"))
        .is_some_and(|media| media.ends_with("/html"))
}

/// Why, by the error types of RFC 9209 section 2.3; the reason itself stands in `details`.
fn proxy_status(reason: Reason, failure: Option<ErrorKind>) -> String {
    let error = match (reason, failure) {
        (Reason::Rescued, Some(kind)) => kind.as_str(),
        (Reason::Down, _) => "destination_unavailable",
        (Reason::Overload, _) => "connection_limit_reached",
        // A live attempt was answered with 429, 502, 503 or 504.
        (Reason::Rescued, None) => "http_response_incomplete",
        (Reason::Order | Reason::Asked | Reason::Mode | Reason::Always, _) => "proxy_internal_response",
    };
    format!("forebay; error={error}; details=\"{reason}\"")
}

/// An sf-string (RFC 9651 section 3.3.3).
fn quoted(text: &str) -> String {
    let printable = text.chars().filter(|letter| (' '..='~').contains(letter));
    let mut quoted = String::from("\"");
    for letter in printable {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(body));
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
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_browser_gets_a_page_and_a_program_gets_json() {
        assert!(wants_html(&accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")));
        for program in ["*/*", "application/json", "application/json, text/html", ""] {
            assert!(!wants_html(&accept(program)), "{program}");
        }
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        assert_eq!(seconds(Duration::ZERO), "1");
        assert_eq!(seconds(Duration::from_millis(2001)), "3");
    }

    #[test]
    fn details_cannot_break_out_of_their_quotes() {
        assert_eq!(quoted("a \"b\"\\ \r\nc\u{e9}"), r#""a \"b\"\\ c""#);
    }
}
