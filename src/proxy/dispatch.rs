//! A request that is at the backend: its seats, when it was sent, and what its end says about how much the backend can take.

use http::{StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body::Body;
use tokio::time::Instant;

use crate::{
    backend::{ErrorKind, RequestBody, ResponseBody, SendError},
    health::{Class, Kind, Quality, Sample},
    http1::ResponseOf,
};

use super::{body::Seats, route::Route};

/// A request between its dispatch and the head of its answer.
pub(super) struct UnderWay<'a> {
    seats: Held<'a>,
    began: Instant,
    /// Whether all that follows is the backend's time. A body that streams from a client takes what the client takes.
    timed: bool,
}

/// Seats of a request that is at the backend. Dropped (the client hung up), the backend's seat stays taken for a while: the backend does not
/// know, and works on.
struct Held<'a> {
    route: &'a Route,
    kind: Kind,
    seats: Option<Seats>,
}

impl<'a> UnderWay<'a> {
    /// It is sent now.
    pub(super) fn begin(route: &'a Route, seats: Seats, head: &Parts, body: &RequestBody) -> Self {
        let timed = body.is_end_stream() || !body.is_streaming();
        let seats = Held { route, kind: route.kind(&head.method), seats: Some(seats) };
        Self { seats, began: Instant::now(), timed }
    }

    /// No server has seen it; it is sent to another one.
    pub(super) fn begin_again(&mut self) {
        self.began = Instant::now();
    }

    /// The head of its answer is here: the seats are to be held until the end of the body.
    ///
    /// A tunnel or an event stream is no work that comes to an end. Where the backend's limit is found out, it gives back its seats now: what counts
    /// for that limit is how long answers take, and a few hundred silent WebSockets would keep everybody else out. Where a number is configured, it keeps
    /// them: the number says how many the servers can have at once, and one that has a thread for each has one for this too.
    pub(super) fn answered(mut self, response: &ResponseOf<ResponseBody>, now: Instant) -> Option<Seats> {
        self.sample(Quality::of_status(response.head.status.as_u16()), now);
        let mut seats = self.seats.seats.take();
        let route = self.seats.route;
        if is_endless(response)
            && route.upstream.health.is_adaptive()
            && let Some(seats) = &mut seats
        {
            seats.backend = None;
            if route.settings.concurrency.is_none() {
                seats.route = None;
            }
        }
        seats
    }

    /// There will be no answer.
    pub(super) fn failed(mut self, error: &SendError, now: Instant) {
        // What was the client's doing, or our disk's, says nothing; nor does it when there was no server to ask.
        if let Some(server) = error.server.filter(|_| !error.kind.is_of_the_request()) {
            self.sample(Quality::of_failure(server, error.kind == ErrorKind::Timeout), now);
        }
        if error.kind != ErrorKind::Timeout {
            self.seats.seats = None;
        }
    }

    fn sample(&self, quality: Quality, now: Instant) {
        let Held { route, kind, seats } = &self.seats;
        let Some(seat) = seats.as_ref().and_then(|seats| seats.backend.as_ref()) else { return };
        let rtt = self.timed.then(|| now - self.began);
        route.upstream.health.sample_at(seat, Sample { kind: *kind, class: Class::Live, rtt, quality }, now);
    }
}

/// A tunnel, or server-sent events: no length says when it ends.
fn is_endless(response: &ResponseOf<ResponseBody>) -> bool {
    let is_events = || {
        let content_type = response.head.get(&CONTENT_TYPE).unwrap_or_default();
        content_type.get(..17).is_some_and(|media| media.eq_ignore_ascii_case(b"text/event-stream"))
    };
    response.head.status == StatusCode::SWITCHING_PROTOCOLS || (response.body.size_hint().exact().is_none() && is_events())
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.seats.take().and_then(|seats| seats.backend) {
            self.route.upstream.health.abandon(seat, self.kind);
        }
    }
}
