//! What the log says of changes of a backend's health: one line each, with the evidence.

use std::time::Duration;

use super::{
    Health, State,
    contest::Ended,
    policy::{Event, Events},
    servers::Moved,
};

impl Health {
    /// One line for each change. That the only server is out says no more than that the backend is.
    pub(super) fn log(&self, events: &Events) {
        let backend = &self.name;
        for event in events {
            match event {
                Event::Backend(change) if change.to == State::Shedding => {
                    tracing::warn!(%backend, state = "shedding", "backend {backend}: shedding after {}", change.cause);
                }
                Event::Backend(change) if change.to == State::Probing => {
                    tracing::info!(%backend, state = "probing", "backend {backend}: probing after {}", change.cause);
                }
                Event::Backend(change) => {
                    tracing::info!(%backend, state = "passing", "backend {backend}: passing after {}", change.cause);
                }
                Event::Server(..) if self.weights.len() == 1 => {}
                Event::Server(server, Moved::Out(evidence)) => {
                    tracing::warn!(%backend, server, "backend {backend}: server {server} is out after {evidence}");
                }
                Event::Server(server, Moved::Back(evidence)) => {
                    tracing::info!(%backend, server, "backend {backend}: server {server} is back after {evidence}");
                }
            }
        }
    }

    /// Reads begin to suffer: this one has waited so long, or was refused after it.
    pub(super) fn log_contest(&self, waited: Duration, refused: bool) {
        let (backend, waited) = (&self.name, waited.as_millis());
        let fate = if refused { "was refused after" } else { "waited" };
        tracing::warn!(%backend, contest = "on", "backend {backend}: reads before writes that may be queued, since a read {fate} {waited} ms");
    }

    /// They have ceased to.
    pub(super) fn log_contest_end(&self, ended: Ended) {
        let (backend, Ended { lasted, reads }) = (&self.name, ended);
        tracing::info!(
            %backend, contest = "off",
            "backend {backend}: reads and writes alike again, after {reads} reads that suffered within {:.1} s and none since", lasted.as_secs_f64()
        );
    }
}
