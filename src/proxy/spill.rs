//! Freezing a write into an envelope and putting it into the queue.

use std::sync::Arc;

use http::{HeaderMap, Response, Uri, header::CONTENT_LENGTH};

use crate::{
    envelope::{Clock, Envelope, Field, OrderKey, Reason, RequestId},
    http1::{self, RequestHead},
    store::{NewRequest, Payload, QueuedTurn, Store},
    telemetry::RequestOutcome,
};

use super::{
    access::Verdict,
    answer::{self, Queued},
    body::ClientBody,
    proxy_status::Failure,
    route::{Changes, Route},
    settings::{OnDeadLetter, Spill},
};

/// A whole write, its head prepared for the backend.
pub(super) struct Write {
    pub(super) head: Box<RequestHead>,
    pub(super) payload: Payload,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) order_key: Option<OrderKey>,
    /// What its route changes in it before the backend sees it, live or later.
    pub(super) changes: Option<Arc<Changes>>,
}

impl Write {
    /// Makes the changes of its route in a request that is a copy of it.
    pub(super) fn change(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        if let Some(changes) = &self.changes {
            changes.request(uri, headers);
        }
    }
}

/// Why it goes into the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause {
    pub(super) reason: Reason,
    /// What failed, when a live attempt got no answer.
    pub(super) failure: Option<Failure>,
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Self {
        Self { reason, failure: None }
    }
}

/// Makes a write durable and answers the client: 202 once it is, 503 when it cannot be.
pub(super) async fn spill(
    store: &dyn Store,
    clock: &Clock,
    route: &Route,
    policy: &Spill,
    write: Write,
    turn: QueuedTurn,
    cause: Cause,
) -> (Response<ClientBody>, Verdict) {
    let html = answer::wants_html(&write.head.headers);
    let headers_of_failure = accept_of(&write.head.headers);
    let envelope = freeze(&write, route, policy, cause.reason, clock);
    let request = NewRequest { envelope: envelope.clone(), payload: write.payload, turn };
    match store.append(request).await {
        Ok(appended) => {
            route.metrics.spilled(cause.reason);
            let estimate = (route.upstream.estimate)(appended.ahead);
            let queued = Queued { envelope: &envelope, ahead: appended.ahead, estimate, now: clock.now(), failure: cause.failure };
            (queued.answer(policy, html), Verdict::spilled(cause.reason, envelope.id))
        }
        Err(error) => {
            tracing::debug!(route = %route.settings.name, %error, "a write could not be queued");
            let verdict = Verdict { outcome: RequestOutcome::Refused, reason: Some(cause.reason), request_id: None, server: None };
            (answer::store_failed(&error, &headers_of_failure), verdict)
        }
    }
}

/// Only what decides the form of an answer.
fn accept_of(headers: &HeaderMap) -> HeaderMap {
    headers.get_all(http::header::ACCEPT).iter().map(|value| (http::header::ACCEPT, value.clone())).collect()
}

fn freeze(write: &Write, route: &Route, policy: &Spill, reason: Reason, clock: &Clock) -> Envelope {
    let accepted_at = clock.now();
    let changed = write.changes.as_ref().map(|_| {
        let (mut uri, mut headers) = (write.head.uri.clone(), write.head.headers.clone());
        write.change(&mut uri, &mut headers);
        (uri, headers)
    });
    let (uri, headers) = changed.as_ref().map_or((&write.head.uri, &write.head.headers), |(uri, headers)| (uri, headers));
    Envelope {
        id: RequestId::new(),
        backend: route.upstream.name.clone(),
        route: route.settings.name.clone(),
        method: write.head.method.clone(),
        target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        // Its length is that of the body that is kept: a second opinion about it could only be wrong.
        headers: http1::fields(headers, write.head.origin.as_ref(), &[CONTENT_LENGTH]),
        trailers: write
            .trailers
            .as_ref()
            .map_or_else(Vec::new, |trailers| trailers.iter().map(|(name, value)| Field::new(name.clone(), value.clone())).collect()),
        reason,
        accepted_at,
        expires_at: accepted_at.after(policy.max_age),
        delivery: policy.delivery,
        max_attempts: policy.max_attempts,
        order_key: write.order_key,
        hold_key_when_dead: policy.on_dead_letter == OnDeadLetter::Hold,
    }
}
