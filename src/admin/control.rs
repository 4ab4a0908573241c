//! What an operator tells a backend: to hold its replay, how fast that is, and who decides over its health.
//!
//! Mode and pause are kept over a restart; another replay holds until the configuration is loaded again, which says what is wanted for good.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
};

use super::{AdminState, BackendView, Problem, api};

pub(super) async fn pause(State(state): State<Arc<AdminState>>, Path(name): Path<String>) -> Result<Json<api::Control>, Problem> {
    hold(&state, &name, true).await
}

pub(super) async fn resume(State(state): State<Arc<AdminState>>, Path(name): Path<String>) -> Result<Json<api::Control>, Problem> {
    hold(&state, &name, false).await
}

async fn hold(state: &AdminState, name: &str, paused: bool) -> Result<Json<api::Control>, Problem> {
    let backend = named(state, name)?;
    backend.queue.set_paused(paused);
    let kept = state.keep().await;
    Ok(Json(standing(&backend, kept)))
}

pub(super) async fn mode(
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    body: Result<Json<api::SetMode>, JsonRejection>,
) -> Result<Json<api::Control>, Problem> {
    let Json(asked) = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let backend = named(&state, &name)?;
    backend.health.set_mode(asked.mode);
    let kept = state.keep().await;
    Ok(Json(standing(&backend, kept)))
}

pub(super) async fn replay(
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    body: Result<Json<api::ReplayChange>, JsonRejection>,
) -> Result<Json<api::Replay>, Problem> {
    let Json(change) = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let backend = named(&state, &name)?;
    backend.queue.set_replay(&change).map_err(Problem::bad_request)?;
    Ok(Json(backend.queue.pace()))
}

fn standing(backend: &BackendView, kept: bool) -> api::Control {
    let (mode, state) = (backend.health.mode(), backend.health.state());
    api::Control { backend: backend.name.to_string(), state, mode, paused: backend.queue.paused(), kept }
}

fn named(state: &AdminState, name: &str) -> Result<BackendView, Problem> {
    let view = state.view();
    let known = || view.backends.iter().map(|backend| backend.name.as_ref()).collect::<Vec<&str>>().join(", ");
    let found = view.backends.iter().find(|backend| &*backend.name == name);
    found.cloned().ok_or_else(|| Problem::not_found(format!("there is no backend {name:?}; there are: {}", known())))
}
