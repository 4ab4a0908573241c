//! A request that is at the backend: its seats, when it was sent, and what its end says about how much the backend can take.

use http::{Request, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use crate::{
    backend::{ErrorKind, RequestBody, SendError},
    health::{Class, Kind, Quality, Sample},
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
    pub(super) fn begin(route: &'a Route, seats: Seats, request: &Request<RequestBody>) -> Self {
        let timed = request.body().is_end_stream() || !request.body().is_streaming();
        let seats = Held { route, kind: route.kind(request.method()), seats: Some(seats) };
        Self { seats, began: Instant::now(), timed }
    }

    /// No server has seen it; it is sent to another one.
    pub(super) fn begin_again(&mut self) {
        self.began = Instant::now();
    }

    /// The head of its answer is here: the seats are to be held until the end of the body.
    pub(super) fn answered(mut self, status: StatusCode) -> Option<Seats> {
        self.sample(Quality::of_status(status.as_u16()));
        self.seats.seats.take()
    }

    /// There will be no answer.
    pub(super) fn failed(mut self, error: &SendError) {
        // What was the client's doing, or our disk's, says nothing; nor does it when there was no server to ask.
        if !error.kind.is_of_the_request() && error.server.is_some() {
            self.sample(Quality::Bad);
        }
        if error.kind != ErrorKind::Timeout {
            self.seats.seats = None;
        }
    }

    fn sample(&self, quality: Quality) {
        let Held { route, kind, seats } = &self.seats;
        let Some(seats) = seats else { return };
        let rtt = self.timed.then(|| self.began.elapsed());
        route.upstream.health.sample(&seats.backend, Sample { kind: *kind, class: Class::Live, rtt, quality });
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(seats) = self.seats.take() {
            self.route.upstream.health.abandon(seats.backend, self.kind);
        }
    }
}
