//! What the log says of changes of a backend's health: one line each, with the evidence.

use super::{
    Health, State,
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
}
