//! One attempt: the request as it was sent, with what identifies it, and the backend's answer to it.
//!
//! What the answer means is not decided here, only read: see [`settle`](super::settle).

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_LENGTH, EXPECT, HOST, LOCATION, RETRY_AFTER, TRAILER, TRANSFER_ENCODING},
    response,
    uri::PathAndQuery,
};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::{
    backend::{ErrorKind, ResponseTimeout, SendError},
    envelope::verdict,
    health::{Quality, Signal},
    http1::{self, Origin},
    store::{Answer, Claimed, Payload, Spooler, StoreError},
};

use super::courier::{AnswerBody, Answered, Courier, Outgoing};

const FOREBAY_ID: HeaderName = HeaderName::from_static("forebay-id");
const FOREBAY_ATTEMPT: HeaderName = HeaderName::from_static("forebay-attempt");
const FOREBAY_ACCEPTED_AT: HeaderName = HeaderName::from_static("forebay-accepted-at");
const FOREBAY_REASON: HeaderName = HeaderName::from_static("forebay-reason");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Bytes of an answer's body that are kept for the client.
const KEPT_BODY: usize = 1024 * 1024;
/// Bytes of an answer's body that are read at all: the rest of a large one is let pass, so that the backend can finish in peace.
const READ_BODY: u64 = 64 * 1024 * 1024;
/// An answer's body that stands still for so long is not waited for: its head has said what became of the request.
const BODY_STALL: Duration = Duration::from_secs(30);

/// How an attempt ended, as far as it can be seen.
#[derive(Debug)]
pub(super) enum Ended {
    /// The backend answered.
    Answered {
        answer: Answer,
        /// It redirects to something that looks like a login page.
        to_login: bool,
        /// Its `Retry-After`, as it stands.
        retry_after: Option<String>,
    },
    /// It did not, and why.
    Unanswered { maybe_sent: bool, why: String },
    /// The stored request does not match its checksum, or is no request.
    Damaged { why: String },
    /// Our own store could not read the body, so that at most a part of it was sent.
    Unreadable { maybe_sent: bool, why: String },
    /// The program stops, and there was no answer yet.
    Interrupted,
}

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) ended: Ended,
    /// What it says about which server.
    pub(super) signal: Option<(usize, Signal)>,
    /// Time to the headers of the answer, if there was one.
    pub(super) rtt: Option<Duration>,
    /// What it says of how much the backend can take, if anything.
    pub(super) quality: Option<Quality>,
    /// No answer was waited for to the end: the backend may still work on it.
    pub(super) given_up: bool,
}

impl Attempted {
    /// An attempt that says nothing about the backend.
    fn silent(ended: Ended) -> Self {
        Self { ended, signal: None, rtt: None, quality: None, given_up: false }
    }
}

/// Sends a request and reads its answer; `timeout` is that of its route, where that has one. When `cut` resolves first, an answer whose head is there
/// counts, without its body.
pub(super) async fn deliver(
    courier: &dyn Courier,
    claimed: &Claimed,
    timeout: Option<Duration>,
    spooler: &Spooler,
    cut: impl Future<Output = ()>,
) -> Attempted {
    let mut cut = pin!(cut);
    let failure = Arc::default();
    let mut request = match request(claimed, &failure) {
        Ok(request) => request,
        Err(error) => return Attempted::silent(Ended::Damaged { why: error.to_string() }),
    };
    if let Some(timeout) = timeout {
        request.extensions_mut().insert(ResponseTimeout(timeout));
    }
    let began = Instant::now();
    let sent = tokio::select! {
        sent = courier.send(request) => sent,
        () = &mut cut => return Attempted { given_up: true, ..Attempted::silent(Ended::Interrupted) },
    };
    let rtt = began.elapsed();
    let Answered { response, server } = match sent {
        Ok(answered) => answered,
        Err(error) => return unanswered(error, failure.get()),
    };
    let (head, body) = response.into_parts();
    let payload = tokio::select! {
        payload = keep(body, spooler) => payload,
        () = cut => Payload::from(Bytes::new()),
    };
    let status = head.status.as_u16();
    let (signal, quality) = (Some((server, Signal::of_status(status))), Some(Quality::of_status(status)));
    Attempted { ended: answered(head, payload, claimed), signal, rtt: Some(rtt), quality, given_up: false }
}

fn unanswered(error: SendError, failure: Option<&StoreError>) -> Attempted {
    let signal = match error.kind {
        ErrorKind::NoServer | ErrorKind::Connect | ErrorKind::ConnectTimeout | ErrorKind::Tls | ErrorKind::Certificate => {
            Some(Signal::ConnectFailure)
        }
        ErrorKind::Reset | ErrorKind::Timeout | ErrorKind::BadResponse => Some(Signal::Failure),
        ErrorKind::RequestBody | ErrorKind::RequestTooLarge | ErrorKind::RequestStalled => None,
    };
    let ended = match (failure, error.kind) {
        (Some(damaged @ StoreError::Damaged(_)), _) => Ended::Damaged { why: damaged.to_string() },
        (Some(other), _) => Ended::Unreadable { maybe_sent: error.maybe_sent, why: other.to_string() },
        (None, _) => Ended::Unanswered { maybe_sent: error.maybe_sent, why: error.to_string() },
    };
    // A body that we could not read is our fault, whatever the connection said about it.
    let signal = signal.filter(|_| failure.is_none());
    let signal = error.server.zip(signal);
    let timed_out = error.kind == ErrorKind::Timeout;
    let quality = signal.map(|(server, _)| Quality::of_failure(server, timed_out));
    Attempted { ended, signal, rtt: None, quality, given_up: timed_out && failure.is_none() }
}

fn answered(head: response::Parts, payload: Payload, claimed: &Claimed) -> Ended {
    let text = |name| head.headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let own_host = claimed.envelope.headers.iter().find(|field| field.name == HOST).and_then(|field| field.value.to_str().ok());
    let to_login = text(LOCATION).is_some_and(|location| verdict::looks_like_login(&location, own_host));
    let retry_after = text(RETRY_AFTER);
    // The framing was that of one connection; whoever hands the answer on frames what was kept of it.
    let headers = http1::fields(&head.headers, head.extensions.get(), &[TRANSFER_ENCODING, CONTENT_LENGTH]);
    Ended::Answered { answer: Answer { status: head.status.as_u16(), headers, payload }, to_login, retry_after }
}

/// Reads an answer's body to its end and keeps what is to be kept of it.
async fn keep(mut body: AnswerBody, spooler: &Spooler) -> Payload {
    let mut spool = spooler.begin(None);
    let (mut kept, mut read) = (0, 0);
    while read < READ_BODY {
        // A body that breaks off or stalls is kept as far as it came.
        let Ok(Some(Ok(frame))) = tokio::time::timeout(BODY_STALL, body.frame()).await else { break };
        let Ok(mut bytes) = frame.into_data() else { continue };
        read += bytes.len() as u64;
        bytes.truncate(KEPT_BODY - kept);
        kept += bytes.len();
        if !bytes.is_empty()
            && let Err(error) = spool.push(bytes).await
        {
            return not_kept(&error);
        }
    }
    spool.finish().await.unwrap_or_else(|error| not_kept(&error))
}

/// That the request is done matters more than what was answered.
fn not_kept(error: &StoreError) -> Payload {
    tracing::warn!(%error, "the body of a backend's answer could not be kept");
    Payload::from(Bytes::new())
}

/// The request that is sent: the stored one, framed anew, with what identifies it.
///
/// `Idempotency-Key`, where the client sent none, is the request's identity as a structured string, that is, in double quotes, as
/// draft-ietf-httpapi-idempotency-key-header section 2.1 has it: who reads it by that draft refuses a bare UUID, and who takes it as it
/// stands only needs it to be the same each time.
fn request(claimed: &Claimed, failure: &Arc<OnceLock<StoreError>>) -> Result<Request<Outgoing>, http::Error> {
    let envelope = &claimed.envelope;
    let trailers: HeaderMap = envelope.trailers.iter().map(|field| (field.name.clone(), field.value.clone())).collect();
    let mut head = Head::default();
    for field in &envelope.headers {
        // The body is here already, so that nobody needs to be asked for it.
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, EXPECT].contains(&field.name) {
            head.add(field.spelling.as_deref().unwrap_or(field.name.as_str()), field.name.clone(), field.value.clone());
        }
    }
    if !trailers.is_empty() {
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        head.add("Trailer", TRAILER, HeaderValue::try_from(names.join(", "))?);
    } else if !claimed.payload.is_empty() || [Method::POST, Method::PUT, Method::PATCH].contains(&envelope.method) {
        head.add("Content-Length", CONTENT_LENGTH, claimed.payload.len().into());
    }
    let id = envelope.id.to_string();
    if !head.has(&IDEMPOTENCY_KEY) {
        head.add("Idempotency-Key", IDEMPOTENCY_KEY, HeaderValue::try_from(format!("\"{id}\""))?);
    }
    head.add("Forebay-Id", FOREBAY_ID, HeaderValue::try_from(id)?);
    head.add("Forebay-Attempt", FOREBAY_ATTEMPT, claimed.attempt.into());
    head.add("Forebay-Accepted-At", FOREBAY_ACCEPTED_AT, HeaderValue::try_from(envelope.accepted_at.to_string())?);
    head.add("Forebay-Reason", FOREBAY_REASON, HeaderValue::from_static(envelope.reason.as_str()));

    let mut request = Request::new(Outgoing::new(&claimed.payload, trailers, Arc::clone(failure)));
    *request.method_mut() = envelope.method.clone();
    *request.uri_mut() = Uri::from(PathAndQuery::try_from(envelope.target.as_str())?);
    let (headers, origin) = Origin::of(head.0.iter().map(|(spelling, name, value)| (*spelling, name, value)));
    request.extensions_mut().insert(origin);
    *request.headers_mut() = headers;
    Ok(request)
}

/// The fields of a request, and the letters in which their names are written.
#[derive(Default)]
struct Head<'a>(Vec<(&'a str, HeaderName, HeaderValue)>);

impl<'a> Head<'a> {
    fn add(&mut self, spelling: &'a str, name: HeaderName, value: HeaderValue) {
        self.0.push((spelling, name, value));
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(_, of_field, _)| of_field == name)
    }
}

#[cfg(test)]
mod tests;
