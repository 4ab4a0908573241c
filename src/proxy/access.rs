//! What the access log says of one request, gathered while it is answered and written when its answer has ended.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderValue, Method, StatusCode, Uri, Version,
    header::{AUTHORIZATION, HOST, REFERER, USER_AGENT},
    request::Parts,
};

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
    version: Version,
    host: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    server: Option<String>,
    server_time: Option<Duration>,
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
    /// The server that was asked last, by its index.
    pub(super) server: Option<usize>,
}

impl Verdict {
    pub(super) const PASSED: Self = Self { outcome: RequestOutcome::Passed, reason: None, request_id: None, server: None };
    pub(super) const REFUSED: Self = Self { outcome: RequestOutcome::Refused, reason: None, request_id: None, server: None };

    pub(super) const ANSWERED: Self = Self { outcome: RequestOutcome::Answered, reason: None, request_id: None, server: None };

    pub(super) fn spilled(reason: Reason, id: RequestId) -> Self {
        Self { outcome: RequestOutcome::Spilled, reason: Some(reason), request_id: Some(id), server: None }
    }
}

impl Entry {
    /// Begins a line for a request that has just arrived.
    pub(super) fn begin(log: &AccessLog, clock: &Clock, began: Instant, client: IpAddr, head: &Parts) -> Box<Self> {
        Box::new(Self {
            log: log.clone(),
            at: clock.now(),
            began,
            client,
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            host: head.headers.get(HOST).cloned(),
            authorization: head.headers.get(AUTHORIZATION).cloned(),
            referer: head.headers.get(REFERER).cloned(),
            user_agent: head.headers.get(USER_AGENT).cloned(),
            server: None,
            server_time: None,
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

    /// Which server answered, or did not: what can be seen at the head of the answer.
    pub(super) fn served(&mut self, server: Option<String>) {
        self.server_time = server.as_ref().map(|_| self.began.elapsed());
        self.server = server;
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
    }
}

/// Writes the line of what could not be read as a request, and was answered so.
pub(super) fn unread(log: &AccessLog, clock: &Clock, client: IpAddr, status: StatusCode) {
    log.write(&AccessEntry {
        at: clock.now(),
        client,
        method: None,
        target: None,
        protocol: None,
        host: None,
        status: status.as_u16(),
        bytes_sent: 0,
        duration: Duration::ZERO,
        server: None,
        server_time: None,
        backend: None,
        route: None,
        outcome: RequestOutcome::Refused,
        reason: None,
        request_id: None,
        user: None,
        referer: None,
        user_agent: None,
    });
}

impl Drop for Entry {
    fn drop(&mut self) {
        let absolute = self.uri.scheme().map(|_| self.uri.to_string());
        let target = absolute.as_deref().unwrap_or_else(|| self.uri.path_and_query().map_or("", |target| target.as_str()));
        let duration: Duration = self.began.elapsed();
        let user = self.authorization.as_ref().and_then(basic_user);
        self.log.write(&AccessEntry {
            at: self.at,
            client: self.client,
            method: Some(self.method.as_str()),
            target: Some(target),
            protocol: Some(protocol(self.version)),
            host: self.host.as_ref().and_then(|host| host.to_str().ok()),
            status: self.status.as_u16(),
            bytes_sent: self.bytes_sent,
            duration,
            server: self.server.as_deref(),
            server_time: self.server_time,
            backend: self.backend.as_deref(),
            route: self.route.as_deref(),
            outcome: self.outcome,
            reason: self.reason.map(Reason::as_str),
            request_id: self.request_id,
            user: user.as_deref(),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
        });
    }
}

/// The user's name of `Basic` credentials (RFC 7617 section 2), without the password.
fn basic_user(authorization: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, credentials) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    user.truncate(user.iter().position(|&byte| byte == b':')?);
    Some(user)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_without_the_password() {
        for (field, user) in [
            ("Basic am9lOnMzY3JldDpi", Some("joe")),
            ("basic am9lOg==", Some("joe")),
            ("Basic am9l", None),
            ("Basic !", None),
            ("Bearer am9lOg==", None),
            ("Basic", None),
        ] {
            assert_eq!(basic_user(&HeaderValue::from_static(field)).as_deref(), user.map(str::as_bytes), "{field}");
        }
    }
}
