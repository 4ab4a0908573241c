//! What the access log says of one request, gathered while it is answered and written when its answer has ended.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header::HOST, header::USER_AGENT};

use crate::{
    envelope::{Clock, Name, Reason, RequestId, Timestamp},
    telemetry::{AccessEntry, AccessLog, RequestOutcome},
};

/// One request's line. It is written when this is dropped, which is when the body of the answer has ended or was given up.
pub(super) struct Entry {
    log: AccessLog,
    at: Timestamp,
    began: Instant,
    client: IpAddr,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    status: StatusCode,
    bytes_sent: u64,
    backend: Option<Name>,
    route: Option<Name>,
    outcome: RequestOutcome,
    reason: Option<Reason>,
    request_id: Option<RequestId>,
}

/// How a request was answered, beyond its status.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) outcome: RequestOutcome,
    pub(super) reason: Option<Reason>,
    pub(super) request_id: Option<RequestId>,
}

impl Verdict {
    pub(super) const PASSED: Self = Self { outcome: RequestOutcome::Passed, reason: None, request_id: None };
    pub(super) const REFUSED: Self = Self { outcome: RequestOutcome::Refused, reason: None, request_id: None };

    pub(super) const ANSWERED: Self = Self { outcome: RequestOutcome::Answered, reason: None, request_id: None };

    pub(super) fn spilled(reason: Reason, id: RequestId) -> Self {
        Self { outcome: RequestOutcome::Spilled, reason: Some(reason), request_id: Some(id) }
    }
}

impl Entry {
    /// Begins a line for a request that has just arrived.
    pub(super) fn begin<B>(log: &AccessLog, clock: &Clock, began: Instant, client: IpAddr, request: &Request<B>) -> Box<Self> {
        Box::new(Self {
            log: log.clone(),
            at: clock.now(),
            began,
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(HOST).cloned(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            status: StatusCode::OK,
            bytes_sent: 0,
            backend: None,
            route: None,
            outcome: RequestOutcome::Refused,
            reason: None,
            request_id: None,
        })
    }

    pub(super) fn routed(&mut self, backend: Option<&Name>, route: &Name) {
        self.backend = backend.cloned();
        self.route = Some(route.clone());
    }

    pub(super) fn answered(&mut self, status: StatusCode, verdict: Verdict) {
        self.status = status;
        self.outcome = verdict.outcome;
        self.reason = verdict.reason;
        self.request_id = verdict.request_id;
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let target = self.uri.path_and_query().map_or("", |target| target.as_str());
        let duration: Duration = self.began.elapsed();
        self.log.write(&AccessEntry {
            at: self.at,
            client: self.client,
            method: self.method.as_str(),
            target,
            host: self.host.as_ref().and_then(|host| host.to_str().ok()),
            status: self.status.as_u16(),
            bytes_sent: self.bytes_sent,
            duration,
            backend: self.backend.as_deref(),
            route: self.route.as_deref(),
            outcome: self.outcome,
            reason: self.reason.map(Reason::as_str),
            request_id: self.request_id,
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
        });
    }
}
