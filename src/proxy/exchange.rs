//! One request and its answer.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{Response, Uri};
use http_body::Body;

use crate::{
    backend::{Incoming, Reply, RequestBody, ResponseTimeout, SendError},
    envelope::{
        Delivery, Reason,
        order::{self, Subject},
        verdict::{self, Evidence, Live},
    },
    health::{Class, NoSeat, Rank},
    http1::{self, RequestHead, RequestOf, ResponseOf},
    store::{LiveTurn, QueuedTurn, Turn},
    telemetry::RequestOutcome,
};

use super::{
    Site, Worker,
    access::{Entry, Verdict},
    answer,
    body::{ClientBody, Seats},
    client::Client,
    decide::{Decision, Wishes, decide, reason_of},
    forward, grpc,
    inspect::{Malformed, Seen, inspect, is_asterisk},
    listener::Door,
    outcome,
    proxy_status::Failure,
    rescue::{self, Failed, Limits, Whole},
    route::{Changes, Found, Own, Route, Scene, Way},
    settings::Spill,
    spill::{Cause, Write, spill},
    tunnel,
    watch::Commitment,
};

/// What the requests of one connection share.
pub(super) struct Link {
    pub(super) worker: Arc<Worker>,
    pub(super) client: Client,
    pub(super) door: Arc<Door>,
}

/// What handling one request needs.
pub(super) struct Exchange {
    pub(super) link: Arc<Link>,
    /// Told when the request has become one that must be seen to its end, whatever the client does.
    pub(super) commitment: Commitment,
}

/// Whose write it is, and what they say about being queued.
#[derive(Debug, Clone, Copy)]
struct Sender {
    address: IpAddr,
    wishes: Wishes,
}

/// An answer, and what it was for the log and the counters.
type Answered = (ResponseOf<ClientBody>, Verdict);

// `#[inline]` on what is asynchronous and on the way of every request: so its future is made where it stays, and not made elsewhere and moved.
impl Exchange {
    /// Answers one request.
    #[inline]
    pub(super) async fn answer(&self, request: RequestOf<Incoming>) -> ResponseOf<ClientBody> {
        let RequestOf { head, body } = request;
        let began = Instant::now();
        let shared = &self.link.worker.shared;
        let site = shared.site.load_full();
        let mut entry = shared.access_log.is_on().then(|| {
            let client = self.link.client.address(&head.headers, &site.clients.trusted_proxies);
            Entry::begin(&shared.access_log, &shared.clock, began, client, &head)
        });
        let inspected = inspect(&head);
        let reads_grpc = grpc::reads_status(&head);
        // What is for the server as a whole goes where its root goes.
        let root = is_asterisk(&head.uri).then(|| Uri::from_static("/"));
        let is_https = || self.link.client.is_https(&head.headers);
        let found = site.routes.find(root.as_ref().unwrap_or(&head.uri), &head.headers, &head.method, is_https);
        let wait = site.rates.wait(&found, || Subject {
            uri: &head.uri,
            headers: &head.headers,
            client_ip: self.link.client.address(&head.headers, &site.clients.trusted_proxies),
        });
        let (mut response, verdict) = match (inspected, found) {
            (Err(what), _) => refused(answer::malformed(what, &head.headers)),
            _ if wait.is_some() => {
                let has_body = !body.is_end_stream();
                refused(answer::too_often(wait.unwrap_or_default(), has_body, &head.headers))
            }
            (_, Found::NoPath) => refused(answer::malformed(Malformed::Path, &head.headers)),
            _ if head.uri.path().starts_with(outcome::RESERVED) => {
                let client = self.link.client.address(&head.headers, &site.clients.trusted_proxies);
                let scene = Scene { client, method: &head.method, uri: &head.uri, headers: &head.headers };
                // Boxed, as all that few requests need: it would make every one larger.
                let response = Box::pin(outcome::serve(&*shared.store, shared.clock.now(), &site.routes, scene)).await;
                let is_good = response.status().as_u16() < 400;
                (response.into(), if is_good { Verdict::ANSWERED } else { Verdict::REFUSED })
            }
            (_, Found::Nothing) => refused(answer::no_route(&head.headers)),
            (Ok(Seen { max_forwards: Some(0), .. }), _) => {
                refused(answer::options(&site.routes.methods(root.as_ref().unwrap_or(&head.uri), &head.headers, is_https)))
            }
            (_, Found::OtherMethods(methods)) => refused(answer::other_methods(&methods, &head.headers)),
            (Ok(seen), Found::Way(way)) => {
                if let Some(entry) = &mut entry {
                    entry.routed(way.settings().backend(), &way.settings().name);
                }
                match way {
                    Way::Backend(route) => {
                        let answered = self.on_route(&site, route, RequestOf::new(head, body), &seen).await;
                        route.metrics.request(answered.1.outcome, began.elapsed());
                        if let Some(entry) = &mut entry {
                            entry.served(answered.1.server.and_then(|server| route.upstream.backend.server(server)));
                        }
                        answered
                    }
                    Way::Own(own) => {
                        let response = self.by_route(&site, own, head, &seen);
                        own.metrics.request(began.elapsed());
                        (response.into(), Verdict::ANSWERED)
                    }
                }
            }
        };
        if reads_grpc && verdict.outcome == RequestOutcome::Refused {
            grpc::tell(&mut response);
        }
        if let Some(mut entry) = entry {
            entry.answered(response.head.status, verdict);
            response.body.log_at_end(entry);
        }
        response
    }

    /// Answers one that cannot be understood.
    pub(super) fn refuse(&self, what: Malformed, head: &RequestHead) -> ResponseOf<ClientBody> {
        let shared = &self.link.worker.shared;
        let mut response = ResponseOf::from(answer::malformed(what, &head.headers));
        if !shared.access_log.is_on() {
            return response;
        }
        let mut entry = Entry::begin(&shared.access_log, &shared.clock, Instant::now(), self.link.client.peer(), head);
        entry.answered(response.head.status, Verdict::REFUSED);
        response.body.log_at_end(entry);
        response
    }

    /// A route that needs no backend.
    fn by_route(&self, site: &Site, own: &Own, mut head: Box<RequestHead>, seen: &Seen) -> Response<ClientBody> {
        let client = self.link.client.address(&head.headers, &site.clients.trusted_proxies);
        match self.link.client.prepare(&mut head, seen) {
            Ok(()) => own.answer(Scene { client, method: &head.method, uri: &head.uri, headers: &head.headers }),
            Err(what) => answer::malformed(what, &head.headers),
        }
    }

    /// A route to a backend, with what it changes in requests and answers.
    #[inline]
    async fn on_route(&self, site: &Site, route: &Route, request: RequestOf<Incoming>, seen: &Seen) -> Answered {
        let RequestOf { mut head, body } = request;
        let policy = route.spill(&head.method).filter(|_| !grpc::is_call(&head.method, &head.headers));
        let limit = route.settings.max_body.unwrap_or(site.clients.max_body);
        let limit = policy.map_or(limit, |policy| policy.max_body.min(limit));
        if body.size_hint().exact().is_some_and(|length| length > limit) {
            return refused(answer::too_large(limit, &head.headers));
        }
        // Before the client's own fields are taken out.
        let sender = (policy.is_some() || route.rewriter().is_some()).then(|| Sender {
            address: self.link.client.address(&head.headers, &site.clients.trusted_proxies),
            wishes: if seen.may_wish() { Wishes::of(&head.headers) } else { Wishes::default() },
        });
        let protocols = if seen.hop_by_hop { tunnel::asked_for(&head) } else { None };
        if let Err(what) = self.link.client.prepare(&mut head, seen) {
            return refused(answer::malformed(what, &head.headers));
        }
        if let Some(timeout) = route.settings.response_timeout {
            head.extensions.insert(ResponseTimeout(timeout));
        }
        let changes = match (route.rewriter(), sender) {
            (Some(rewriter), Some(Sender { address: client, .. })) => {
                match rewriter.changes(Scene { client, method: &head.method, uri: &head.uri, headers: &head.headers }) {
                    Some(changes) => Some(Arc::new(changes)),
                    None => return refused(answer::malformed(Malformed::Target, &head.headers)),
                }
            }
            _ => None,
        };
        let Some((policy, sender)) = policy.zip(sender) else {
            let body = match protocols {
                // One with a body is served without its upgrade, as RFC 9110 section 7.8 allows: what follows the head must be clear before the 101.
                Some(protocols) if body.is_end_stream() => {
                    tunnel::announce(protocols.clone(), &mut head.headers);
                    RequestBody::switching(protocols)
                }
                _ => RequestBody::streaming(body, limit, site.clients.idle_timeout, site.clients.min_body_rate),
            };
            let mut answered = self.pass(route, head, body, seen, changes.as_deref()).await;
            change(&mut answered, changes.as_deref());
            return answered;
        };
        let limits = Limits { bytes: limit, stall: site.clients.idle_timeout, floor: site.clients.min_body_rate };
        let mut answered = match self.whole(route, policy, sender.wishes, &head, body, limits).await {
            Ok(whole) => self.write(route, policy, sender, head, whole, changes.clone()).await,
            Err(response) => refused(response),
        };
        change(&mut answered, changes.as_deref());
        answered
    }

    /// Everything that never spills: it streams both ways.
    #[inline]
    async fn pass(&self, route: &Route, mut head: Box<RequestHead>, body: RequestBody, seen: &Seen, changes: Option<&Changes>) -> Answered {
        let accept = &head.headers;
        let seats = match self.seats(route, Class::Live).await {
            Ok(seats) => seats,
            Err(no_seat) => return refused(answer::not_now(reason_of(no_seat), route.upstream.health.retry_after(), accept)),
        };
        let (read, form) = (head.method.is_safe(), seen.html && answer::wants_html(accept));
        if let Some(changes) = changes {
            changes.head(&mut head);
        }
        let outcome = forward::send(&self.link.worker.pool, route, seats, &head, body).await;
        http1::recycle(head);
        match outcome {
            Ok((reply, seats)) => passed(route, reply, seats),
            Err(error) => failed(&error, answer::send_failed(&error, read, route.upstream.health.retry_after(), form)),
        }
    }

    /// Reads the body of a write that may be queued; from here on it is seen to its end. Errors: the answer to one that is not whole.
    #[inline]
    async fn whole(
        &self,
        route: &Route,
        policy: &Spill,
        wishes: Wishes,
        head: &RequestHead,
        body: Incoming,
        limits: Limits,
    ) -> Result<Whole, Response<ClientBody>> {
        let store = &*self.link.worker.shared.store;
        // An upload that can only be queued is refused before it is read where the queue has no room for it.
        let must_queue = decide(policy.when, wishes, false, route.upstream.health.standing()) != Decision::Pass;
        if must_queue && let Err(error) = store.room(body.size_hint().exact().unwrap_or(0), 0) {
            return Err(answer::store_failed(&error, &head.headers));
        }
        let whole = rescue::collect(body, limits, store, must_queue).await.map_err(|failed| match failed {
            Failed::TooLarge(limit) => answer::too_large(limit, &head.headers),
            Failed::Client => answer::broken_body(&head.headers),
            Failed::Stalled => answer::stalled(&head.headers),
            Failed::Store(error) => answer::store_failed(&error, &head.headers),
        })?;
        self.commitment.whole();
        Ok(whole)
    }

    /// A whole write: decided over, then passed, queued or refused.
    #[inline]
    async fn write(
        &self,
        route: &Route,
        policy: &Spill,
        sender: Sender,
        head: Box<RequestHead>,
        whole: Whole,
        changes: Option<Arc<Changes>>,
    ) -> Answered {
        let (store, health) = (&*self.link.worker.shared.store, &route.upstream.health);
        let Sender { address, wishes } = sender;
        let subject = Subject { uri: &head.uri, headers: &head.headers, client_ip: address };
        let order_key = order::key(&route.upstream.name, &policy.order_by, subject);
        let write = Write { head, payload: whole.payload, trailers: whole.trailers, order_key, changes };
        let turn = match store.turn(order_key) {
            Ok(turn) => turn,
            Err(error) => return refused(answer::store_failed(&error, &write.head.headers)),
        };
        match (decide(policy.when, wishes, matches!(turn, Turn::Queued(_)), health.standing()), turn) {
            (Decision::Pass, Turn::Live(turn)) => self.try_live(route, policy, wishes, write, turn).await,
            (Decision::Pass, Turn::Queued(turn)) => self.queue(route, policy, write, turn, Reason::Order).await,
            (Decision::Queue(reason), Turn::Live(turn)) => self.queue(route, policy, write, turn.into_queued(), reason).await,
            (Decision::Queue(reason), Turn::Queued(turn)) => self.queue(route, policy, write, turn, reason).await,
            (Decision::Refuse(reason), _) => refused(answer::not_now(reason, health.retry_after(), &write.head.headers)),
        }
    }

    /// A live attempt, and the rescue where it fails and may be made again.
    #[inline]
    async fn try_live(&self, route: &Route, policy: &Spill, wishes: Wishes, write: Write, turn: LiveTurn) -> Answered {
        let health = &route.upstream.health;
        let refuse = |reason| refused(answer::not_now(reason, health.retry_after(), &write.head.headers));
        let class = if wishes.never_queue { Class::Live } else { Class::Spillable };
        let seats = match self.seats(route, class).await {
            Ok(seats) => seats,
            Err(no_seat) if wishes.never_queue => return refuse(reason_of(no_seat)),
            Err(no_seat) => return self.queue(route, policy, write, turn.into_queued(), reason_of(no_seat)).await,
        };
        let live = forward::live_head(&write);
        let head = live.as_deref().unwrap_or(&write.head);
        let outcome = forward::send(&self.link.worker.pool, route, seats, head, forward::live_body(&write)).await;
        let evidence = match &outcome {
            Ok((reply, _)) => Evidence::Answer { status: reply.response.head.status, to_login: false },
            Err(error) if error.maybe_sent => Evidence::NoAnswer,
            Err(_) => Evidence::NotSent,
        };
        let may_be_resent = policy.delivery == Delivery::AtLeastOnce || write.head.method.is_idempotent();
        match (verdict::live(evidence, may_be_resent, health.failing()), outcome) {
            (Live::Spill, outcome) if !wishes.never_queue => {
                // The seats are free before the write is queued.
                let failure = match outcome {
                    Ok((reply, _seats)) => Failure::Answer(reply.response.head.status),
                    Err(error) => Failure::NoAnswer(error.kind),
                };
                self.queue(route, policy, write, turn.into_queued(), Cause { reason: Reason::Rescued, failure: Some(failure) }).await
            }
            (_, Ok((reply, seats))) => {
                http1::recycle(write.head);
                passed(route, reply, seats)
            }
            (_, Err(error)) => {
                failed(&error, answer::send_failed(&error, false, health.retry_after(), answer::wants_html(&write.head.headers)))
            }
        }
    }

    async fn queue(&self, route: &Route, policy: &Spill, write: Write, turn: QueuedTurn, cause: impl Into<Cause>) -> Answered {
        let shared = &self.link.worker.shared;
        let (response, verdict) = Box::pin(spill(&*shared.store, &shared.clock, route, policy, write, turn, cause.into())).await;
        (response.into(), verdict)
    }

    /// Seats at the route and at the backend. A request that may be queued does not wait at the route's own limit: the queue is where it waits.
    #[inline]
    async fn seats(&self, route: &Route, class: Class) -> Result<Seats, NoSeat> {
        let health = &route.upstream.health;
        let of_route = match &route.gate {
            None => None,
            Some(gate) if class == Class::Live => Some(gate.seat(Rank::First, health.wait()).await?),
            Some(gate) => Some(gate.try_seat().ok_or(NoSeat::Full)?),
        };
        let of_backend = health.seat(class).await?;
        Ok(Seats { backend: Some(of_backend), route: of_route })
    }
}

fn passed(route: &Route, reply: Reply, seats: Option<Seats>) -> Answered {
    let server = Some(reply.server);
    (forward::passed(route, reply, seats), Verdict { server, ..Verdict::PASSED })
}

/// Makes the changes of its route in an answer.
fn change((response, verdict): &mut Answered, changes: Option<&Changes>) {
    match changes {
        Some(changes) if verdict.outcome == RequestOutcome::Passed => changes.answer(response.head.fields_mut()),
        Some(changes) => changes.own_answer(response.head.fields_mut()),
        None => {}
    }
}

/// The answer to a request that got none from its backend.
fn failed(error: &SendError, response: Response<ClientBody>) -> Answered {
    (response.into(), Verdict { server: error.server, ..Verdict::REFUSED })
}

fn refused(response: Response<ClientBody>) -> Answered {
    (response.into(), Verdict::REFUSED)
}
