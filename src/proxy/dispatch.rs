//! A request that is at the backend: its seats, when it was sent, and what its end says about the backend.

use http::{Request, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use crate::{
    backend::{ErrorKind, RequestBody, SendError},
    health::{Class, Kind, Quality, Sample, Signal},
};

use super::{body::Seats, route::Route};

/// A request between its dispatch and the head of its answer. Dropped before that (the client hung up), its seat stays taken for a while: the
/// backend does not know, and works on.
pub(super) struct UnderWay<'a> {
    route: &'a Route,
    kind: Kind,
    began: Instant,
    /// Whether all that follows is the backend's time. A body that streams from a client takes what the client takes.
    timed: bool,
    /// None once they were handed on.
    seats: Option<Seats>,
}

impl<'a> UnderWay<'a> {
    /// It is sent now.
    pub(super) fn begin(route: &'a Route, seats: Seats, request: &Request<RequestBody>) -> Self {
        let timed = request.body().is_end_stream() || !request.body().is_streaming();
        Self { route, kind: route.kind(request.method()), began: Instant::now(), timed, seats: Some(seats) }
    }

    /// The head of its answer is here. The seats are to be held until the end of the body.
    pub(super) fn answered(mut self, server: usize, status: StatusCode) -> Seats {
        self.route.upstream.health.report(server, Signal::of_status(status.as_u16()));
        #[expect(clippy::expect_used, reason = "they are taken here and in `failed` alone, and both end it")]
        let seats = self.seats.take().expect("a request that is under way has its seats");
        self.sample(&seats, Quality::of_status(status.as_u16()));
        seats
    }

    /// There will be no answer.
    pub(super) fn failed(mut self, error: &SendError) {
        let Some(seats) = self.seats.take() else { return };
        if error.kind == ErrorKind::RequestBody {
            // The client's doing, or our disk's: it says nothing of the backend.
            return;
        }
        let upstream = &self.route.upstream;
        tracing::debug!(backend = %upstream.name, route = %self.route.settings.name, %error, "a request got no answer");
        let Some(server) = error.server else { return };
        upstream.health.report(server, if error.maybe_sent { Signal::Failure } else { Signal::ConnectFailure });
        self.sample(&seats, Quality::Bad);
        if error.kind == ErrorKind::Timeout {
            self.seats = Some(seats);
        }
    }

    fn sample(&self, seats: &Seats, quality: Quality) {
        let rtt = self.timed.then(|| self.began.elapsed());
        self.route.upstream.health.sample(&seats.backend, Sample { kind: self.kind, class: Class::Live, rtt, quality });
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(seats) = self.seats.take() {
            self.route.upstream.health.abandon(seats.backend, self.kind);
        }
    }
}
