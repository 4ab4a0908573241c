//! The operator's door: health, metrics, status and dead letters, on a listener of its own.
//!
//! | path | what it answers |
//! | --- | --- |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while it accepts; 503 with why while it starts, opens its store, drains, or the store fails |
//! | `GET /metrics` | OpenMetrics |
//! | `GET /api/v1/status` | [`api::Status`]: backends, queues, routes, the store, from one snapshot of the counts |
//! | `GET /api/v1/history` | [`api::History`]: exact counts by hour and route, of the last `hours` |
//! | `GET /api/v1/requests` | [`api::Requests`]: a page of requests |
//! | `GET /api/v1/requests/{id}` | [`api::RequestDetail`] |
//! | `POST /api/v1/backends/{name}/pause`, `/resume` | [`api::Control`]: holds its replay, and lets it go on |
//! | `PUT /api/v1/backends/{name}/replay` | [`api::ReplayChange`] to [`api::Replay`] |
//! | `PUT /api/v1/backends/{name}/mode` | [`api::SetMode`] to [`api::Control`] |
//! | `POST /api/v1/dead/redrive` | [`api::RedriveRequest`] to [`api::Redriven`] |
//!
//! Errors are `application/problem+json` (RFC 9457). Who may ask is decided in `guard`, the shape of answers is in [`api`], which the
//! command line shares. This room keeps nothing: it looks at the store and, through [`BackendView`], at the backends of the day.

pub mod api;
mod control;
mod guard;
mod history;
mod problem;
mod requests;
mod server;
mod state;
mod status;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{Method, Uri},
    middleware,
    routing::{get, post, put},
};

pub use problem::Problem;
pub use server::serve;
pub use state::{AdminState, BackendView, HealthView, Operated, Phase, QueueView, View};

/// Where the admin listener is and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its address.
    pub address: SocketAddr,
    /// The bearer token, read from `token_file`; without one every peer is let in, which only a loopback address may do.
    pub token: Option<String>,
}

/// All paths, with the guard before all but the two that load balancers ask.
fn router(state: Arc<AdminState>) -> Router {
    let open = Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .method_not_allowed_fallback(method_not_allowed);
    let guarded = Router::new()
        .route("/metrics", get(status::metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/requests", get(requests::list))
        .route("/api/v1/requests/{id}", get(requests::show))
        .route("/api/v1/dead/redrive", post(requests::redrive))
        .route("/api/v1/backends/{name}/pause", post(control::pause))
        .route("/api/v1/backends/{name}/resume", post(control::resume))
        .route("/api/v1/backends/{name}/mode", put(control::mode))
        .route("/api/v1/backends/{name}/replay", put(control::replay))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), guard::guard));
    guarded.merge(open).with_state(state)
}

async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(format!("nothing is at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}
