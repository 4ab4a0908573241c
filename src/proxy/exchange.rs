//! One request and its answer.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderMap, Request, Response, header::CONTENT_LENGTH, header::TRAILER, header::VIA, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::{
    backend::{Reply, RequestBody, SendError, headers::remove_hop_by_hop},
    envelope::{
        Reason,
        order::{self, Subject},
        verdict::{self, Evidence, Live},
    },
    health::{Class, NoSeat},
    store::{LiveTurn, Payload, Turn},
};

use super::{
    Site, Worker,
    access::{Entry, Verdict},
    answer,
    body::{ClientBody, Seats},
    client::{Client, VIA_US},
    decide::{Decision, Wishes, decide, reason_of},
    dispatch::UnderWay,
    outcome,
    rescue::{self, Failed, Whole},
    route::Route,
    settings::Spill,
    spill::{Cause, Write, spill},
    watch::Commitment,
};

/// What handling one request needs.
pub(super) struct Exchange {
    pub(super) worker: Arc<Worker>,
    pub(super) client: Client,
    /// Told when the request has become one that must be seen to its end, whatever the client does.
    pub(super) commitment: Commitment,
}

/// An answer, and what it was for the log and the counters.
type Answered = (Response<ClientBody>, Verdict);

impl Exchange {
    /// Answers one request.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<ClientBody> {
        let began = Instant::now();
        let shared = &self.worker.shared;
        let site = shared.site.load_full();
        let mut entry = shared.access_log.is_on().then(|| {
            let client = self.client.address(request.headers(), &site.clients.trusted_proxies);
            Entry::begin(&shared.access_log, &shared.clock, began, client, &request)
        });
        let (response, verdict) = match site.routes.find(request.uri(), request.headers()) {
            _ if request.uri().path().starts_with(outcome::RESERVED) => {
                let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
                (outcome::serve(&*shared.store, shared.clock.now(), method, path, headers).await, Verdict::REFUSED)
            }
            None => (answer::no_route(request.headers()), Verdict::REFUSED),
            Some(route) => {
                let answered = self.on_route(&site, route, request).await;
                route.metrics.request(answered.1.outcome, began.elapsed());
                if let Some(entry) = &mut entry {
                    entry.routed(&route.upstream.name, &route.settings.name);
                }
                answered
            }
        };
        match entry {
            None => response,
            Some(mut entry) => {
                entry.answered(response.status(), verdict);
                response.map(|body| body.log_at_end(entry))
            }
        }
    }

    async fn on_route(&self, site: &Site, route: &Route, request: Request<Incoming>) -> Answered {
        let (mut head, body) = request.into_parts();
        let policy = route.spill(&head.method);
        let limit = policy.map_or(site.clients.max_body, |policy| policy.max_body.min(site.clients.max_body));
        if declared_length(&head.headers).is_some_and(|length| length > limit) {
            return refused(answer::too_large(limit, &head.headers));
        }
        // Before the client's own fields are taken out.
        let asked = policy.map(|_| (self.client.address(&head.headers, &site.clients.trusted_proxies), wishes(&head.headers)));
        if let Err(what) = self.client.prepare(&mut head) {
            return refused(answer::malformed(what, &head.headers));
        }
        match policy.zip(asked) {
            None => self.pass(route, head, RequestBody::streaming(body, limit)).await,
            Some((policy, (address, wishes))) => self.write(route, policy, wishes, address, limit, head, body).await,
        }
    }

    /// Everything that never spills: it streams both ways.
    async fn pass(&self, route: &Route, head: Parts, body: RequestBody) -> Answered {
        let accept = &head.headers;
        let seats = match self.seats(route, true).await {
            Ok(seats) => seats,
            Err(no_seat) => return refused(answer::not_now(reason_of(no_seat), route.upstream.health.retry_after(), accept)),
        };
        let (read, form) = (head.method.is_safe(), answer::wants_html(accept));
        match self.send(route, seats, Request::from_parts(head, body)).await {
            Ok((reply, seats)) => passed(reply, seats),
            Err(error) => refused(answer::send_failed(&error, read, route.upstream.health.retry_after(), form)),
        }
    }

    /// A write that may be queued: whole first, then decided over.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one request, taken apart once")]
    async fn write(
        &self,
        route: &Route,
        policy: &Spill,
        wishes: Wishes,
        address: IpAddr,
        limit: u64,
        head: Parts,
        body: Incoming,
    ) -> Answered {
        let store = &*self.worker.shared.store;
        let health = &route.upstream.health;
        // An upload that can only be queued is refused before it is read where the queue has no room for it.
        let must_queue = decide(policy.when, wishes, false, health.state()) != Decision::Pass;
        if must_queue && let Err(error) = store.room(declared_length(&head.headers).unwrap_or(0)) {
            return refused(answer::store_failed(&error, &head.headers));
        }
        let Whole { payload, trailers } = match rescue::collect(body, limit, store, must_queue).await {
            Ok(whole) => whole,
            Err(Failed::TooLarge(limit)) => return refused(answer::too_large(limit, &head.headers)),
            Err(Failed::Client) => return refused(answer::broken_body(&head.headers)),
            Err(Failed::Store(error)) => return refused(answer::store_failed(&error, &head.headers)),
        };
        self.commitment.whole();
        let subject = Subject { uri: &head.uri, headers: &head.headers, client_ip: address };
        let order_key = order::key(&route.upstream.name, &policy.order_by, subject);
        let write = Write { head, payload, trailers, order_key };
        let turn = store.turn(order_key);
        match (decide(policy.when, wishes, matches!(turn, Turn::Queued(_)), health.state()), turn) {
            (Decision::Pass, Turn::Live(turn)) => self.try_live(route, policy, wishes, write, turn).await,
            (Decision::Pass, Turn::Queued(turn)) => self.queue(route, policy, write, turn, Reason::Order).await,
            (Decision::Queue(reason), Turn::Live(turn)) => self.queue(route, policy, write, turn.into_queued(), reason).await,
            (Decision::Queue(reason), Turn::Queued(turn)) => self.queue(route, policy, write, turn, reason).await,
            (Decision::Refuse(reason), _) => refused(answer::not_now(reason, health.retry_after(), &write.head.headers)),
        }
    }

    /// A live attempt, and the rescue where it fails and may be made again.
    async fn try_live(&self, route: &Route, policy: &Spill, wishes: Wishes, write: Write, turn: LiveTurn) -> Answered {
        let health = &route.upstream.health;
        let refuse = |reason| refused(answer::not_now(reason, health.retry_after(), &write.head.headers));
        let seats = match self.seats(route, false).await {
            Ok(seats) => seats,
            Err(no_seat) if wishes.never_queue => return refuse(reason_of(no_seat)),
            Err(no_seat) => return self.queue(route, policy, write, turn.into_queued(), reason_of(no_seat)).await,
        };
        let outcome = self.send(route, seats, live_request(&write)).await;
        let evidence = match &outcome {
            Ok((reply, _)) => Evidence::Answer { status: reply.response.status(), to_login: false },
            Err(error) if error.maybe_sent => Evidence::NoAnswer,
            Err(_) => Evidence::NotSent,
        };
        let may_be_resent = policy.delivery == crate::envelope::Delivery::AtLeastOnce || write.head.method.is_idempotent();
        match (verdict::live(evidence, may_be_resent, health.failing()), outcome) {
            (Live::Spill, outcome) if !wishes.never_queue => {
                let failure = outcome.err().map(|error| error.kind);
                self.queue(route, policy, write, turn.into_queued(), Cause { reason: Reason::Rescued, failure }).await
            }
            (_, Ok((reply, seats))) => passed(reply, seats),
            (_, Err(error)) => refused(answer::send_failed(&error, false, health.retry_after(), answer::wants_html(&write.head.headers))),
        }
    }

    async fn queue(
        &self,
        route: &Route,
        policy: &Spill,
        write: Write,
        turn: crate::store::QueuedTurn,
        cause: impl Into<Cause>,
    ) -> Answered {
        let shared = &self.worker.shared;
        spill(&*shared.store, &shared.clock, route, policy, write, turn, cause.into()).await
    }

    /// Seats at the route and at the backend. A request that may be queued does not wait at the route's own limit: the queue is where it waits.
    async fn seats(&self, route: &Route, wait_at_route: bool) -> Result<Seats, NoSeat> {
        let health = &route.upstream.health;
        let of_route = match &route.gate {
            None => None,
            Some(gate) if wait_at_route => Some(gate.seat(health.wait()).await?),
            Some(gate) => Some(gate.try_seat().ok_or(NoSeat::Full)?),
        };
        let of_backend = health.seat(Class::Live).await?;
        Ok(Seats { backend: of_backend, _route: of_route })
    }

    /// Sends a request and tells the backend's health how it went. The seats come back with the answer; without one they are free again.
    async fn send(&self, route: &Route, seats: Seats, request: Request<RequestBody>) -> Result<(Reply, Seats), SendError> {
        let under_way = UnderWay::begin(route, seats, &request);
        match route.upstream.backend.send(&self.worker.pool, request).await {
            Ok(reply) => {
                let seats = under_way.answered(reply.server, reply.response.status());
                Ok((reply, seats))
            }
            Err(error) => {
                under_way.failed(&error);
                Err(error)
            }
        }
    }
}

/// The live request of a write whose parts are kept for a rescue.
fn live_request(write: &Write) -> Request<RequestBody> {
    let mut request = Request::new(request_body(&write.payload, write.trailers.as_ref()));
    *request.method_mut() = write.head.method.clone();
    *request.uri_mut() = write.head.uri.clone();
    *request.headers_mut() = write.head.headers.clone();
    *request.extensions_mut() = write.head.extensions.clone();
    if write.trailers.is_some() {
        // Trailers need chunks (RFC 9112 section 6.5), and chunks exclude a length.
        request.headers_mut().remove(CONTENT_LENGTH);
    } else {
        request.headers_mut().remove(TRAILER);
    }
    request
}

fn request_body(payload: &Payload, trailers: Option<&HeaderMap>) -> RequestBody {
    match (payload.as_memory(), trailers) {
        (Some(bytes), None) => RequestBody::full(bytes.clone()),
        (Some(bytes), Some(trailers)) => {
            let trailers = trailers.clone();
            RequestBody::boxed(Full::new(bytes.clone()).map_err(|never| match never {}).with_trailers(async { Some(Ok(trailers)) }))
        }
        (None, None) => RequestBody::boxed(payload.body().map_err(std::io::Error::other)),
        (None, Some(trailers)) => {
            let trailers = trailers.clone();
            RequestBody::boxed(payload.body().map_err(std::io::Error::other).with_trailers(async { Some(Ok(trailers)) }))
        }
    }
}

/// The backend's own answer: nothing of ours but `Via`.
fn passed(reply: Reply, seats: Seats) -> Answered {
    let (mut head, body) = reply.response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    head.headers.append(VIA, VIA_US);
    head.version = http::Version::HTTP_11;
    (Response::from_parts(head, ClientBody::passing(body, seats)), Verdict::PASSED)
}

fn refused(response: Response<ClientBody>) -> Answered {
    (response, Verdict::REFUSED)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What the client says about being queued.
fn wishes(headers: &HeaderMap) -> Wishes {
    // Nearly no request has either; a look at the names is cheaper than two look-ups.
    if !headers.keys().any(|name| matches!(name.as_str(), "prefer" | "forebay-spill")) {
        return Wishes::default();
    }
    let says = |name: &str, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(word))
    };
    Wishes { queue: says("prefer", "respond-async"), never_queue: says("forebay-spill", "never") }
}
