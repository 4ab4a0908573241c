//! Queued requests and dead letters: looking at them, and sending dead ones round again.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use serde::Deserialize;

use super::{AdminState, Problem, api};
use crate::{
    envelope::{self, DeadReason, Field, InvalidId, Name, RequestId},
    store::{Filter, Record, Store, StoreError},
};

/// Requests of a page, unless another number is asked for.
const PAGE: usize = 100;

/// The most of a page, and of what is redriven in one step, so that neither keeps the store from its work.
const PAGE_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    backend: Option<Name>,
    route: Option<Name>,
    state: Option<String>,
    reason: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<api::Requests>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let after =
        query.after.as_deref().map(str::parse::<RequestId>).transpose().map_err(|error| Problem::bad_request(format!("after: {error}")))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be from 1 to {PAGE_MAX}")));
    }
    let filter = Filter {
        backend: query.backend,
        route: query.route,
        state: named("state", query.state.as_deref(), envelope::State::ALL, envelope::State::as_str)?,
        dead_reason: named("reason", query.reason.as_deref(), DeadReason::ALL, DeadReason::as_str)?,
    };
    let page = state.store.page(filter, after, limit).await?;
    let next = page.next.and(page.records.last()).map(|last| last.envelope.id.to_string());
    Ok(Json(api::Requests { requests: page.records.iter().map(summary).collect(), next }))
}

pub(super) async fn show(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<Json<api::RequestDetail>, Problem> {
    let record = state.store.get(id.parse().map_err(|error: InvalidId| Problem::not_found(format!("{id:?} is {error}")))?).await?;
    let headers = record.envelope.headers.iter().map(readable).collect();
    Ok(Json(api::RequestDetail { request: summary(&record), headers }))
}

pub(super) async fn redrive(
    State(state): State<Arc<AdminState>>,
    body: Result<Json<api::RedriveRequest>, JsonRejection>,
) -> Result<Json<api::Redriven>, Problem> {
    let Json(asked) = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    if asked.rate.is_some() {
        return Err(Problem::bad_request(
            "`rate` is not supported yet: the backend's replay settings govern how fast redriven requests go out",
        ));
    }
    let filter = Filter {
        backend: asked.backend.as_deref().map(Name::from),
        route: asked.route.as_deref().map(Name::from),
        state: Some(envelope::State::Dead),
        dead_reason: asked.reason,
    };
    let matched = count(&*state.store, &filter).await?;
    if asked.dry_run {
        return Ok(Json(api::Redriven { matched, redriven: 0, dry_run: true }));
    }
    let redriven = redrive_in_steps(&state, &filter, matched).await?;
    tracing::info!(
        backend = asked.backend,
        route = asked.route,
        reason = asked.reason.map(DeadReason::as_str),
        redriven,
        "dead letters were redriven"
    );
    Ok(Json(api::Redriven { matched, redriven, dry_run: false }))
}

/// Queues again at most as many as there were when it was asked: one that dies again meanwhile is not sent round for ever.
async fn redrive_in_steps(state: &AdminState, filter: &Filter, matched: u64) -> Result<u64, Problem> {
    let mut redriven = 0;
    while redriven < matched {
        let step = (matched - redriven).min(PAGE_MAX as u64);
        match state.store.redrive(filter.clone(), state.clock.now(), step).await {
            Ok(0) => break,
            Ok(some) => redriven += some,
            Err(error) => {
                let problem = Problem::from(error);
                return Err(Problem {
                    detail: format!("{} ({redriven} of {matched} were queued again before that)", problem.detail),
                    ..problem
                });
            }
        }
    }
    Ok(redriven)
}

/// How many dead letters `filter` means: by the counts where they tell, else by looking at each.
async fn count(store: &dyn Store, filter: &Filter) -> Result<u64, StoreError> {
    if filter.dead_reason.is_none() {
        let means = |wanted: &Option<Name>, name: &Name| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let routes = store.counts().routes;
        let meant = routes.iter().filter(|route| means(&filter.backend, &route.backend) && means(&filter.route, &route.route));
        return Ok(meant.map(|route| route.totals.dead).sum());
    }
    let (mut found, mut after) = (0, None);
    loop {
        let page = store.page(filter.clone(), after, PAGE_MAX).await?;
        found += page.records.len() as u64;
        after = page.records.last().map(|record| record.envelope.id);
        if page.next.is_none() || after.is_none() {
            return Ok(found);
        }
    }
}

fn named<T: Copy>(field: &str, given: Option<&str>, all: &[T], name: impl Fn(T) -> &'static str) -> Result<Option<T>, Problem> {
    let Some(given) = given else { return Ok(None) };
    all.iter().copied().find(|&value| name(value) == given).map(Some).ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|&value| name(value)).collect();
        Problem::bad_request(format!("{field} {given:?} is not one of {}", known.join(", ")))
    })
}

fn summary(record: &Record) -> api::Request {
    let envelope = &record.envelope;
    api::Request {
        id: envelope.id.to_string(),
        state: record.state,
        backend: envelope.backend.to_string(),
        route: envelope.route.to_string(),
        method: envelope.method.to_string(),
        target: envelope.target.clone(),
        body_bytes: record.body_bytes,
        reason: envelope.reason,
        delivery: envelope.delivery,
        accepted_at: envelope.accepted_at.to_string(),
        expires_at: envelope.expires_at.to_string(),
        changed_at: record.changed_at.to_string(),
        attempts: record.attempts,
        max_attempts: envelope.max_attempts,
        due_at: record.due.map(|due| due.to_string()),
        position: record.ahead,
        dead_reason: record.dead_reason,
        last_outcome: record.last_outcome.clone(),
        response_status: record.answer_status,
    }
}

/// A field as an operator may see it: what lets its bearer act as a user is not shown.
fn readable(field: &Field) -> (String, String) {
    let name = field.spelling.as_deref().unwrap_or(field.name.as_str()).to_owned();
    let lower = field.name.as_str();
    let secret = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "session", "signature"];
    let hidden = field.value.is_sensitive() || secret.iter().any(|word| lower.contains(word));
    let value = if hidden { "[hidden]".into() } else { String::from_utf8_lossy(field.value.as_bytes()).into_owned() };
    (name, value)
}
