//! What goes over the wire, both ways: the admin API writes these, the command line reads them.
//!
//! Moments are RFC 3339 in UTC, ages and spans are seconds, sizes are bytes, rates are requests per second.

mod clients;
mod history;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    envelope::{DeadReason, Delivery, Reason, State},
    health,
};

pub use clients::Clients;
pub use history::{History, HourCounts};

/// Everything at a glance. All counts come from one snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The moment of the snapshot.
    pub at: String,
    /// Whether requests of clients are accepted.
    pub phase: super::Phase,
    /// Sum over all routes.
    pub totals: Totals,
    /// Configured backends in the order of the configuration, then those that only the queue still knows.
    pub backends: Vec<Backend>,
    /// Routes, in the same order.
    pub routes: Vec<Route>,
    /// The store.
    pub store: Store,
    /// Clients.
    pub clients: Clients,
}

/// Exact counts: `accepted` = `queued` + `delivering` + `delivered` + `dead` + `cancelled` + `discarded`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Acknowledged, ever.
    pub accepted: u64,
    /// Waiting.
    pub queued: u64,
    /// Attempt under way.
    pub delivering: u64,
    /// Taken by the backend, ever.
    pub delivered: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Withdrawn, ever.
    pub cancelled: u64,
    /// Dead letters thrown away, ever.
    pub discarded: u64,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Whether the configuration still names it. The fields of one that it does not are empty, but for `queue`.
    pub configured: bool,
    /// What it is fit for; none when not configured.
    pub state: Option<health::State>,
    /// What decides that.
    pub mode: health::Mode,
    /// Requests at it, live and replayed.
    pub in_flight: u32,
    /// Live requests that wait for a place.
    #[serde(default)]
    pub waiting: u32,
    /// The most that may be at it.
    pub concurrency_limit: u32,
    /// Whether that is found by itself.
    pub concurrency_adaptive: bool,
    /// Why it is what it is; none when not configured.
    pub concurrency_why: Option<health::Why>,
    /// How many times as slow as undisturbed it is, by the median; none while that is not known.
    pub slowdown: Option<f64>,
    /// How long its requests take undisturbed, by class, as far as that is known.
    pub base_latencies: Vec<health::Remembered>,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Writes that were acknowledged from the queue since the start, by reason.
    #[serde(default)]
    pub spilled: BTreeMap<Reason, u64>,
    /// What waits for it.
    pub queue: Queue,
}

/// One server of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its address.
    pub address: String,
    /// Whether it is sent anything.
    pub up: bool,
    /// Its part in the load: 0 is none, 100 is a full one.
    pub weight: u32,
}

/// A backend's queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Waiting.
    pub queued: u64,
    /// Attempt under way.
    pub delivering: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Bytes of the waiting and of those under way.
    pub bytes: u64,
    /// Age of the oldest of them; none when there is none.
    pub oldest_age_seconds: Option<f64>,
    /// Deliveries per second, of late.
    pub replay_rate: f64,
    /// When it will be empty at that rate; 0 when it is, none while nothing can be said.
    pub drained_in_seconds: Option<f64>,
    /// Whether an operator has stopped its replay.
    pub paused: bool,
    /// How its replay finds its pace; none when the backend is not configured.
    pub replay: Option<Replay>,
}

/// How the replay of a queue goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// How its pace is found: `gentle`, `fast`, `fixed`.
    pub profile: String,
    /// The rate that it never exceeds, such as `50/s`.
    pub rate: Option<String>,
    /// The most that the window may become.
    pub concurrency: Option<u32>,
    /// Replayed requests at the backend.
    pub in_flight: u32,
    /// How many may be.
    pub window: u32,
    /// Whether the window still grows by half at a time.
    pub slow_start: bool,
    /// What the window did last, and why: `steady`, `slow-start`, `growing`, `feeling` (nothing is known of how slow the backend is), `slower` (it is,
    /// and the window was cut), `live-waited`, `failing`, `still`, `fixed`.
    pub ramp: String,
    /// What keeps the next request: `queue` (nothing is due), `window`, `limit`, `live-waits`, `rate`, `route`, `shedding`, `asked`, `measuring`, `suspect`,
    /// `paused`, `mode` (every write is to be queued), `stopping`.
    pub hold: String,
    /// Until when the backend is left alone, as it asked.
    pub held_until: Option<String>,
    /// How many times slower than at rest the backend answers, if that is known.
    pub slowdown: Option<f64>,
    /// Alarm: the backlog has been growing for 60 s although it is replayed.
    pub growing: bool,
    /// Alarm: ordering keys whose backlog has been growing for 60 s.
    pub growing_keys: u32,
    /// Alarm: many requests become dead letters because what they carry has expired.
    pub auth_expired: bool,
    /// Earlier estimates of when the queue will be empty, as a multiple of the time that it took; the median of the last drain.
    pub estimate_ratio: Option<f64>,
}

/// One route at one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Its counts.
    pub totals: Totals,
}

/// The store and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Why nothing can be accepted, while nothing can.
    pub failing: Option<String>,
    /// Requests that it holds, queued and delivering.
    pub requests: u64,
    /// The most that it may hold.
    pub max_requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most that these may be.
    pub max_bytes: u64,
    /// Free bytes on its disk; none for an engine without one.
    pub free_disk_bytes: Option<u64>,
    /// Free bytes below which nothing new is accepted.
    pub min_free_disk_bytes: u64,
    /// What the limits on what is new have refused.
    pub refusals: Refusals,
    /// What becomes of requests by their age, and when next.
    pub ages: Ages,
    /// Records set aside since the start because their bytes did not match their checksum.
    pub damaged: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Operations that rode in them.
    pub committed_operations: u64,
}

/// What each limit on what is new has refused, by its key in `[store]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// As many requests as may be held.
    pub max_requests: Refused,
    /// As many bytes as may be held.
    pub max_bytes: Refused,
    /// Too little room on the disk.
    pub min_free_disk: Refused,
}

/// What one limit has refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Requests, since the start.
    pub requests: u64,
    /// Since when it has been refusing; none when it has refused nothing for 10 s.
    pub since: Option<String>,
}

/// What becomes of requests by their age, by the key in the configuration that says at which.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ages {
    /// Queued ones, which become dead letters (`expired`). Each route has its own.
    pub max_age: Age,
    /// Delivered and cancelled ones, whose outcome is forgotten.
    pub keep_delivered: Age,
    /// Dead letters, which are discarded.
    pub keep_dead: Age,
}

/// One of those ages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Age {
    /// Requests that will reach it, unless something else becomes of them.
    pub requests: u64,
    /// When the first of them do, to the second below; none when there are none.
    pub next_at: Option<String>,
    /// How long until then; 0 when it has passed.
    pub next_in_seconds: Option<f64>,
    /// How many do within that second.
    pub next_requests: u64,
    /// The age; none where each route has its own.
    pub limit_seconds: Option<f64>,
}

/// A page of requests, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// The requests.
    pub requests: Vec<Request>,
    /// `after` of the next page; none when this was the last.
    pub next: Option<String>,
}

/// One request, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its identity.
    pub id: String,
    /// Where it is in its life.
    pub state: State,
    /// Its backend.
    pub backend: String,
    /// Its route.
    pub route: String,
    /// Its method.
    pub method: String,
    /// Its request target.
    pub target: String,
    /// Length of its body.
    pub body_bytes: u64,
    /// Why it was queued.
    pub reason: Reason,
    /// What its route says about sending it again.
    pub delivery: Delivery,
    /// When it was accepted.
    pub accepted_at: String,
    /// When it is given up if it has not been delivered.
    pub expires_at: String,
    /// When it became what it is.
    pub changed_at: String,
    /// Attempts started so far.
    pub attempts: u32,
    /// Attempts that its route gives it.
    pub max_attempts: u32,
    /// When it may be tried next; only while queued.
    pub due_at: Option<String>,
    /// Requests of the same backend queued ahead of it; only while queued.
    pub position: Option<u64>,
    /// Why it is dead; only when dead.
    pub dead_reason: Option<DeadReason>,
    /// What happened at the last attempt; empty before one.
    pub last_outcome: String,
    /// Status of the backend's kept answer.
    pub response_status: Option<u16>,
}

/// One request with its header fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestDetail {
    /// What a listing shows of it.
    #[serde(flatten)]
    pub request: Request,
    /// Names and values in order; values of credentials are shown as `[hidden]`.
    pub headers: Vec<(String, String)>,
}

/// Which dead letters are to be queued again; an absent field means any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// Of this backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Of this route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Dead for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Not supported yet: anything but its absence is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<serde_json::Value>,
    /// Only say how many there are.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a redrive did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Dead letters that were meant.
    pub matched: u64,
    /// Those that were queued again; 0 in a dry run.
    pub redriven: u64,
    /// Whether it was one.
    pub dry_run: bool,
}

/// What `PUT /api/v1/backends/{name}/mode` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMode {
    /// Who decides from now on.
    pub mode: health::Mode,
}

/// What `PUT /api/v1/backends/{name}/replay` is asked: another replay, until the configuration is loaded again. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayChange {
    /// `gentle`, `fast` or `fixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// At most so fast, such as `50/s`; `none` for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// At most so many at once; 0 for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// How a backend stands after an operator told it something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Its name.
    pub backend: String,
    /// What it is fit for.
    pub state: health::State,
    /// Who decides over it.
    pub mode: health::Mode,
    /// Whether its replay is held.
    pub paused: bool,
    /// Whether that is on the disk: it then holds over a restart, and over a kill -9.
    pub kept: bool,
}
