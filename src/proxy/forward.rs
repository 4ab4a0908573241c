//! Sending a live request, and what of its answer the client gets.

use std::{io, time::Duration};

use futures_util::future::select_ok;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

use crate::{
    backend::{ErrorKind, Pool, Reply, RequestBody, SendError, headers::remove_hop_by_hop_of},
    health::Signal,
    http1::{RequestHead, ResponseOf},
    store::Payload,
};

use super::{
    body::{ClientBody, Seats},
    client::via,
    dispatch::UnderWay,
    route::Route,
    spill::Write,
    tunnel::{self, Tunnel},
};

/// Servers that one request is tried at, where none before has seen it: more would make a client wait for one connect timeout after the other.
const MOST_SERVERS: u32 = 3;
/// The same where one may have seen it, and broke off: a request that kills its server should not kill them all.
const MOST_BROKEN: u32 = 2;

/// Time for a server that took no connections to take one: more than one in the same network needs, and nothing that a client would notice.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// Sends a request and tells the backend's health how it went. A server that certainly did not see it does not matter while there is another, nor one that broke
/// off a request that is safe, or did not answer it. The seats come back with the answer; without one they are free again, as soon as the backend is taken to be done
/// with it.
// So that its future is made where it stays.
#[inline]
pub(super) async fn send(
    pool: &Pool,
    route: &Route,
    seats: Seats,
    head: &RequestHead,
    mut body: RequestBody,
) -> Result<(Reply, Option<Seats>), SendError> {
    let backend = &route.upstream.backend;
    let mut under_way = UnderWay::begin(route, seats, head, &body);
    let mut tried: u64 = 0;
    let mut broken = 0;
    loop {
        let mut result = backend.send_avoiding(tried, pool, head, body).await;
        let now = Instant::now();
        if let Err(SendError { server: Some(server), spare: Some(_), .. }) = &result {
            let tried = tried | 1 << *server;
            if !backend.has_another(tried) {
                // Boxed, so that what hardly any request needs makes none of them larger.
                Box::pin(look_again(pool, route, tried)).await;
            }
        }
        // Of this try alone: what one server has seen says nothing about the next.
        let signal = signal_of(&result);
        let spare = match &mut result {
            Err(SendError { server: Some(server), kind, spare, maybe_sent, .. }) => {
                tried |= 1 << *server;
                broken += u32::from(*maybe_sent);
                // What one has seen is not unseen by the next.
                *maybe_sent = broken > 0;
                // Where all are slow, to ask twice would make them slower.
                let is_alone = || *kind == ErrorKind::Timeout && !route.upstream.health.any_is_well(tried);
                let may_go_on = broken < MOST_BROKEN && tried.count_ones() < MOST_SERVERS && backend.has_another(tried) && !is_alone();
                spare.take().filter(|_| may_go_on)
            }
            _ => None,
        };
        if let Some((server, signal)) = signal {
            report(route, server, signal, spare.is_some(), now);
        }
        if let Err(error) = &result {
            tracing::debug!(backend = %route.upstream.name, route = %route.settings.name, %error, "a request got no answer");
        }
        match spare {
            Some(spare) => {
                body = *spare;
                under_way.begin_again();
            }
            None => return finish(under_way, result, now),
        }
    }
}

/// Where no server that is up takes a connection, one may be back that took none before: servers that are restarted one by one are never all away. All of those
/// are asked at once, before the failure counts, which may be the one that takes the whole backend out.
async fn look_again(pool: &Pool, route: &Route, tried: u64) {
    let health = &route.upstream.health;
    let looks = health.unreachable(tried).into_iter().map(|server| {
        Box::pin(async move { if route.upstream.backend.reach(pool, server, SECOND_LOOK).await { Ok(server) } else { Err(()) } })
    });
    let looks: Vec<_> = looks.collect();
    if !looks.is_empty()
        && let Ok((server, _)) = select_ok(looks).await
    {
        health.reached(server);
    }
}

fn finish(under_way: UnderWay<'_>, result: Result<Reply, SendError>, now: Instant) -> Result<(Reply, Option<Seats>), SendError> {
    match result {
        Ok(reply) => {
            let seats = under_way.answered(&reply.response, now);
            Ok((reply, seats))
        }
        Err(error) => {
            under_way.failed(&error, now);
            Err(error)
        }
    }
}

/// What the end of a try says about its server, if anything.
fn signal_of(result: &Result<Reply, SendError>) -> Option<(usize, Signal)> {
    match result {
        Ok(reply) => Some((reply.server, Signal::of_status(reply.response.head.status.as_u16()))),
        Err(error) if error.kind.is_of_the_request() => None,
        // One that closes a connection, or refuses a request without having processed it, has been reached.
        Err(error) if error.maybe_sent || error.kind == ErrorKind::Reset => Some((error.server?, Signal::Failure)),
        Err(error) => Some((error.server?, Signal::ConnectFailure)),
    }
}

/// `goes_on`: another server is asked; what comes of that speaks for the backend, and this for its server alone.
fn report(route: &Route, server: usize, signal: Signal, goes_on: bool, now: Instant) {
    let health = &route.upstream.health;
    if goes_on { health.report_server(server, signal) } else { health.report_at(server, signal, now) }
}

/// The head of the live request of a write, where it is another than the write's own, which is kept for a rescue.
pub(super) fn live_head(write: &Write) -> Option<Box<RequestHead>> {
    if write.changes.is_none() && write.trailers.is_none() && !write.head.headers.contains_key(TRAILER) {
        return None;
    }
    let mut head = write.head.clone();
    let parts = &mut **head;
    write.change(&mut parts.uri, &mut parts.headers);
    match &write.trailers {
        Some(trailers) => chunk(&mut head.headers, trailers),
        None => _ = head.headers.remove(TRAILER),
    }
    Some(head)
}

/// The body of the live request of a write.
pub(super) fn live_body(write: &Write) -> RequestBody {
    request_body(&write.payload, write.trailers.as_ref())
}

/// Trailers need chunks (RFC 9112 section 7.1.2), chunks exclude a length, and only those trailers are sent that are announced.
fn chunk(headers: &mut HeaderMap, trailers: &HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let announced: Vec<_> =
        headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
    let is_announced = |name: &HeaderName| announced.iter().any(|announced| announced.trim().eq_ignore_ascii_case(name.as_str()));
    if !trailers.keys().all(is_announced) {
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
            headers.insert(TRAILER, names);
        }
    }
}

fn request_body(payload: &Payload, trailers: Option<&HeaderMap>) -> RequestBody {
    match (payload.as_memory(), trailers) {
        (Some(bytes), None) => RequestBody::full(bytes.clone()),
        (Some(bytes), Some(trailers)) => {
            let trailers = trailers.clone();
            RequestBody::boxed(Full::new(bytes.clone()).map_err(|never| match never {}).with_trailers(async { Some(Ok(trailers)) }))
        }
        (None, None) => RequestBody::boxed(payload.body().map_err(io::Error::other)),
        (None, Some(trailers)) => {
            let trailers = trailers.clone();
            RequestBody::boxed(payload.body().map_err(io::Error::other).with_trailers(async { Some(Ok(trailers)) }))
        }
    }
}

/// The backend's own answer: nothing of ours but `Via`.
pub(super) fn passed(route: &Route, reply: Reply, seats: Option<Seats>) -> ResponseOf<ClientBody> {
    let ResponseOf { mut head, body } = reply.response;
    let protocol = reply.switched.as_ref().and_then(|_| head.fields_mut().get(UPGRADE).cloned());
    remove_hop_by_hop_of(&mut head);
    if let Some(protocol) = protocol {
        tunnel::announce(protocol, head.fields_mut());
    }
    if head.status == StatusCode::NO_CONTENT {
        // Where there is never a body there must not be a length (RFC 9110 section 8.6), and some clients would wait for it.
        head.remove(&CONTENT_LENGTH);
    }
    if body.gives_request_up() {
        // Nor will we read it whole (RFC 9112 section 9.6).
        head.fields_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    head.append(via(head.version));
    head.version = Version::HTTP_11;
    let body = match reply.switched {
        None => ClientBody::passing(body, seats),
        Some(switched) => ClientBody::tunnel(Tunnel::new(*switched, body, seats, route.upstream.backend.tunnel_timeout())),
    };
    ResponseOf::new(head, body)
}
