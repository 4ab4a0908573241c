//! What happened in each hour.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;

use super::{AdminState, Problem, api};
use crate::{
    envelope::Timestamp,
    store::{HourCounts, KEPT_HOURS},
};

/// Hours that are shown unless another number is asked for.
const HOURS: u32 = 24;

/// All that are kept, and the one that is under way.
const HOURS_MAX: u32 = KEPT_HOURS + 1;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    hours: Option<u32>,
}

pub(super) async fn history(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<api::History>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let hours = query.hours.unwrap_or(HOURS);
    if !(1..=HOURS_MAX).contains(&hours) {
        return Err(Problem::bad_request(format!("hours must be from 1 to {HOURS_MAX}: 90 days are kept")));
    }
    let now = state.clock.now();
    let from = first_of(now, hours);
    let found = state.store.history(from).await?;
    Ok(Json(api::History {
        at: now.to_string(),
        from: from.to_string(),
        since: found.since.to_string(),
        hours: found.hours.iter().map(wire).collect(),
    }))
}

/// When the first of the last `hours` hours began, of which the one that is under way is the last.
fn first_of(now: Timestamp, hours: u32) -> Timestamp {
    let hour = HOUR.as_millis() as u64;
    let current = now.as_millis() / hour;
    Timestamp::from_millis((current + 1).saturating_sub(hours.into()) * hour)
}

fn wire(counts: &HourCounts) -> api::HourCounts {
    let moves = counts.moves;
    api::HourCounts {
        hour: counts.hour.to_string(),
        backend: counts.backend.to_string(),
        route: counts.route.to_string(),
        accepted: moves.accepted,
        delivered: moves.delivered,
        dead: moves.dead,
        cancelled: moves.cancelled,
        discarded: moves.discarded,
    }
}
