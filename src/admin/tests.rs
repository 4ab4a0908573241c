mod scripted;
mod serving;

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use self::scripted::{Scripted, backend};
use super::{api::*, *};
use crate::{
    envelope::{Clock, DeadReason, Reason, Timestamp},
    store,
    telemetry::Metrics,
};

fn view(token: Option<&str>) -> View {
    let store = store::Settings {
        path: "data/forebay.redb".into(),
        max_requests: 1_000,
        max_bytes: 1 << 30,
        min_free_disk: 1 << 20,
        keep_delivered: Duration::from_secs(3600),
        keep_dead: Duration::from_secs(86_400),
    };
    View { backends: vec![backend("admin", &["order-upload", "reports"])], store, max_connections: 100, token: token.map(Into::into) }
}

/// An accepting forebay at 3.5 s past the epoch.
fn state_of(store: &Arc<Scripted>, token: Option<&str>) -> Arc<AdminState> {
    let clock = Clock::from_fn(|| Timestamp::from_millis(3_500));
    let state =
        AdminState::new(Arc::clone(store) as Arc<dyn store::Store>, Arc::new(Metrics::new()), clock, view(token), mpsc::channel(1).0);
    state.set_phase(Phase::Accepting);
    state
}

async fn send(state: &Arc<AdminState>, request: Request<Body>) -> Response<Body> {
    router(Arc::clone(state)).oneshot(request).await.unwrap()
}

async fn json<T: DeserializeOwned>(response: Response<Body>) -> T {
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 24).await.unwrap()).unwrap()
}

async fn get<T: DeserializeOwned>(state: &Arc<AdminState>, path: &str) -> (StatusCode, T) {
    let response = send(state, Request::get(path).body(Body::empty()).unwrap()).await;
    (response.status(), json(response).await)
}

async fn post<T: DeserializeOwned>(state: &Arc<AdminState>, path: &str, body: Value) -> (StatusCode, T) {
    let request = Request::post(path).header("content-type", "application/json").body(body.to_string().into()).unwrap();
    let response = send(state, request).await;
    (response.status(), json(response).await)
}

fn balances(totals: Totals) -> bool {
    totals.accepted == totals.queued + totals.delivering + totals.delivered + totals.dead + totals.cancelled + totals.discarded
}

#[tokio::test]
async fn every_count_of_a_status_balances_and_adds_up() {
    let store = Scripted::new();
    store.count("admin", "order-upload", [3, 1, 50, 2, 1, 4]);
    store.count("admin", "removed-route", [5, 0, 9, 0, 0, 0]);
    store.count("removed-backend", "marks", [7, 0, 1, 1, 0, 0]);
    let (code, status): (_, Status) = get(&state_of(&store, None), "/api/v1/status").await;
    assert_eq!(code, StatusCode::OK);

    assert!(balances(status.totals) && status.routes.iter().all(|route| balances(route.totals)));
    assert_eq!(status.totals.accepted, 61 + 14 + 9);
    assert_eq!(status.totals.accepted, status.routes.iter().map(|route| route.totals.accepted).sum::<u64>());
    let held: Vec<_> = status.backends.iter().map(|b| (&*b.name, b.queue.queued, b.queue.delivering, b.queue.dead)).collect();
    assert_eq!(held, [("admin", 8, 1, 2), ("removed-backend", 7, 0, 1)]);
    assert_eq!((status.store.requests, status.store.bytes), (16, 8192));
    let routes: Vec<_> = status.routes.iter().map(|route| (&*route.backend, &*route.name)).collect();
    let expected = [("admin", "order-upload"), ("admin", "reports"), ("admin", "removed-route"), ("removed-backend", "marks")];
    assert_eq!(routes, expected);
}

#[tokio::test]
async fn a_status_has_the_names_of_the_contract() {
    let store = Scripted::new();
    store.count("admin", "order-upload", [3, 1, 0, 2, 0, 0]);
    let state = state_of(&store, None);
    for route in ["order-upload", "reports", "of-another-backend"] {
        state.metrics.route("admin", route).spilled(Reason::Overload);
    }
    let (_, status): (_, Value) = get(&state, "/api/v1/status").await;
    let backend = json!({
        "name": "admin", "configured": true, "state": "shedding", "mode": "auto", "in_flight": 2, "waiting": 3, "concurrency_limit": 20,
        "concurrency_adaptive": true, "concurrency_why": "slow", "slowdown": 2.25,
        "base_latencies": [{ "route": "order-upload", "safe": false, "seconds": 2.5 }],
        "servers": [
            {"address": "http://127.0.0.1:9001", "up": false, "weight": 0},
            {"address": "http://127.0.0.1:9002", "up": true, "weight": 40},
        ],
        "spilled": {"down": 0, "overload": 2, "order": 0, "rescued": 0, "asked": 0, "mode": 0, "always": 0},
        "queue": {
            "queued": 3, "delivering": 1, "dead": 2, "bytes": 4096, "oldest_age_seconds": 2.5, "replay_rate": 2.5,
            "drained_in_seconds": 90.0, "paused": false,
            "replay": {
                "profile": "gentle", "rate": null, "concurrency": null, "in_flight": 0, "window": 7, "slow_start": false, "ramp": "growing", "hold": "window", "held_until": null,
                "slowdown": null, "growing": false, "growing_keys": 0, "auth_expired": false, "estimate_ratio": null,
            },
        },
    });
    assert_eq!(status["backends"][0], backend);
    let totals = json!({"accepted": 6, "queued": 3, "delivering": 1, "delivered": 0, "dead": 2, "cancelled": 0, "discarded": 0});
    assert_eq!(status["routes"][0], json!({"name": "order-upload", "backend": "admin", "totals": totals}));
    assert_eq!((&status["phase"], &status["at"]), (&json!("accepting"), &json!("1970-01-01T00:00:03.500Z")));
    assert_eq!((&status["store"]["max_requests"], &status["store"]["free_disk_bytes"]), (&json!(1_000), &json!(5_u64 << 30)));
}

#[tokio::test]
async fn an_empty_queue_is_drained_now_whatever_replay_estimates() {
    let (_, status): (_, Status) = get(&state_of(&Scripted::new(), None), "/api/v1/status").await;
    assert_eq!(status.backends[0].queue.drained_in_seconds, Some(0.0));
    assert_eq!(status.backends[0].queue.oldest_age_seconds, None);
}

#[tokio::test]
async fn a_reload_shows_in_the_next_answer() {
    let state = state_of(&Scripted::new(), None);
    state.set_view(View { backends: vec![backend("app", &[])], ..view(None) });
    let (_, status): (_, Status) = get(&state, "/api/v1/status").await;
    assert_eq!(status.backends.iter().map(|backend| &*backend.name).collect::<Vec<_>>(), ["app"]);
}

#[tokio::test]
async fn readiness_says_why_not_and_liveness_does_not_care() {
    let store = Scripted::new();
    let state = state_of(&store, Some("s3cret"));
    let ask = async |path: &str| {
        let response = send(&state, Request::get(path).body(Body::empty()).unwrap()).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(to_bytes(response.into_body(), 4096).await.unwrap().into()).unwrap())
    };
    assert_eq!(ask("/readyz").await, (200, "ready\n".into()));
    store.status.lock().failing = Some("no space left on device".into());
    let (status, body) = ask("/readyz").await;
    assert!(status == 503 && body.contains("no space left on device"), "{body}");
    for (phase, word) in [(Phase::Starting, "starting"), (Phase::Opening, "opening"), (Phase::Draining, "draining")] {
        state.set_phase(phase);
        let (status, body) = ask("/readyz").await;
        assert!(status == 503 && body.contains(word), "{body}");
        assert_eq!(ask("/healthz").await.0, 200);
    }
}

#[tokio::test]
async fn everything_but_health_wants_the_token() {
    let state = state_of(&Scripted::new(), Some("s3cret"));
    for path in ["/metrics", "/api/v1/status", "/api/v1/requests", "/api/v1/requests/x", "/api/v1/dead/redrive", "/nowhere", "/"] {
        let refused = send(&state, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status(), 401, "{path}");
        assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"forebay\"");
        let admitted = Request::get(path).header("authorization", "Bearer s3cret").body(Body::empty()).unwrap();
        assert_ne!(send(&state, admitted).await.status(), 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(send(&state, Request::get(path).body(Body::empty()).unwrap()).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let state = state_of(&Scripted::new(), None);
    let unknown = crate::envelope::RequestId::new();
    let with_type = |body: &'static str| Request::post("/api/v1/dead/redrive").header("content-type", "application/json").body(body.into());
    let cases = [
        (Request::get("/nowhere").body(Body::empty()), 404),
        (Request::get(format!("/api/v1/requests/{unknown}")).body(Body::empty()), 404),
        (Request::get("/api/v1/requests/42").body(Body::empty()), 404),
        (Request::post("/api/v1/status").header("content-type", "application/json").body(Body::empty()), 405),
        (Request::delete("/healthz").body(Body::empty()), 405),
        (Request::get("/api/v1/requests?state=lost").body(Body::empty()), 400),
        (Request::get("/api/v1/requests?reason=lost").body(Body::empty()), 400),
        (Request::get("/api/v1/requests?limit=0").body(Body::empty()), 400),
        (Request::get("/api/v1/requests?after=42").body(Body::empty()), 400),
        (Request::get("/api/v1/requests?colour=red").body(Body::empty()), 400),
        (with_type("{"), 400),
        (with_type("{\"backends\":\"admin\"}"), 422),
        (with_type("{\"rate\":\"5/s\"}"), 400),
        (Request::post("/api/v1/dead/redrive").body("{}".into()), 415),
        (Request::get("/api/v1/status").header("host", "evil.example").body(Body::empty()), 421),
    ];
    for (request, status) in cases {
        let request = request.unwrap();
        let what = format!("{} {}", request.method(), request.uri());
        let response = send(&state, request).await;
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
        assert_eq!(response.headers().contains_key("allow"), status == 405, "{what}");
        let problem: Problem = json(response).await;
        assert!(problem.status == status && !problem.title.is_empty() && !problem.detail.is_empty(), "{what}: {problem:?}");
    }
}

#[tokio::test]
async fn metrics_come_from_the_same_look() {
    let store = Scripted::new();
    store.count("admin", "order-upload", [3, 1, 50, 2, 1, 4]);
    let response = send(&state_of(&store, None), Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().into()).unwrap();
    for line in [
        "forebay_queue_requests{backend=\"admin\",state=\"queued\"} 3",
        "forebay_queue_oldest_age_seconds{backend=\"admin\"} 2.5",
        "forebay_breaker_state{backend=\"admin\",state=\"shedding\"} 1",
        "forebay_breaker_state{backend=\"admin\",state=\"passing\"} 0",
        "forebay_in_flight{backend=\"admin\"} 2",
        "forebay_store_requests 4",
        "forebay_store_commits_total 11",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn dead_letters_are_listed_page_by_page_without_gap_or_repetition() {
    let store = Scripted::new();
    store.bury("admin", "order-upload", DeadReason::Refused, 5);
    store.bury("app", "marks", DeadReason::Expired, 2);
    let state = state_of(&store, None);
    let (mut seen, mut target) = (Vec::new(), "/api/v1/requests?state=dead&reason=refused&limit=2".to_owned());
    loop {
        let (_, page): (_, Requests) = get(&state, &target).await;
        seen.extend(page.requests.into_iter().map(|request| request.id));
        let Some(next) = page.next else { break };
        target = format!("/api/v1/requests?state=dead&reason=refused&limit=2&after={next}");
    }
    let buried: Vec<_> =
        store.records.lock().iter().filter(|r| &*r.envelope.backend == "admin").map(|r| r.envelope.id.to_string()).collect();
    assert_eq!(seen, buried);
}

#[tokio::test]
async fn a_request_is_shown_without_its_credentials() {
    let store = Scripted::new();
    store.bury("admin", "order-upload", DeadReason::Refused, 1);
    let id = store.records.lock()[0].envelope.id;
    let (_, shown): (_, RequestDetail) = get(&state_of(&store, None), &format!("/api/v1/requests/{id}")).await;
    assert_eq!(shown.request.id, id.to_string());
    assert_eq!((shown.request.dead_reason, shown.request.response_status), (Some(DeadReason::Refused), Some(422)));
    assert_eq!(shown.headers, [("authorization".into(), "[hidden]".into()), ("X-Shop".into(), "7".into())]);
}

#[tokio::test]
async fn a_dry_run_counts_and_touches_nothing() {
    let store = Scripted::new();
    store.bury("admin", "order-upload", DeadReason::Refused, 2_100);
    store.bury("app", "marks", DeadReason::Expired, 2);
    let state = state_of(&store, None);
    for (filter, matched) in
        [(json!({}), 2_102), (json!({"backend": "app"}), 2), (json!({"reason": "refused"}), 2_100), (json!({"route": "x"}), 0)]
    {
        let mut body = filter.clone();
        body["dry_run"] = true.into();
        let (_, done): (_, Redriven) = post(&state, "/api/v1/dead/redrive", body).await;
        assert_eq!(done, Redriven { matched, redriven: 0, dry_run: true }, "{filter}");
    }
    assert!(store.records.lock().iter().all(|record| record.state == crate::envelope::State::Dead));
}

#[tokio::test]
async fn a_redrive_queues_what_matches_and_nothing_else() {
    let store = Scripted::new();
    store.bury("admin", "order-upload", DeadReason::Refused, 2_100);
    store.bury("app", "marks", DeadReason::Expired, 2);
    let state = state_of(&store, None);
    let (_, done): (_, Redriven) = post(&state, "/api/v1/dead/redrive", json!({"reason": "refused"})).await;
    assert_eq!(done, Redriven { matched: 2_100, redriven: 2_100, dry_run: false });
    let dead = |record: &&store::Record| record.state == crate::envelope::State::Dead;
    assert_eq!(store.records.lock().iter().filter(dead).count(), 2);
}

#[tokio::test]
async fn a_redrive_that_fails_halfway_says_how_far_it_came() {
    let store = Scripted::new();
    store.bury("admin", "order-upload", DeadReason::Refused, 2_100);
    *store.redrives_left.lock() = 1;
    let (status, problem): (_, Problem) = post(&state_of(&store, None), "/api/v1/dead/redrive", json!({})).await;
    assert_eq!(status, 503);
    assert!(problem.detail.contains("no space left on device") && problem.detail.contains("1000 of 2100"), "{}", problem.detail);
}

#[tokio::test]
async fn a_history_has_the_hours_that_were_asked_for_the_one_under_way_included() {
    let store = Scripted::new();
    let hour = |number: u64, accepted| store::HourCounts {
        hour: Timestamp::from_millis(number * 3_600_000),
        backend: "admin".into(),
        route: "order-upload".into(),
        moves: store::Moves { accepted, ..store::Moves::default() },
    };
    store.history.lock().hours = vec![hour(8, 5), hour(9, 4), hour(10, 3)];
    let clock = Clock::from_fn(|| Timestamp::from_millis(10 * 3_600_000 + 1));
    let state =
        AdminState::new(Arc::clone(&store) as Arc<dyn store::Store>, Arc::new(Metrics::new()), clock, view(None), mpsc::channel(1).0);
    let (_, history): (_, Value) = get(&state, "/api/v1/history?hours=2").await;
    let counts = json!({
        "hour": "1970-01-01T09:00:00.000Z", "backend": "admin", "route": "order-upload",
        "accepted": 4, "delivered": 0, "dead": 0, "cancelled": 0, "discarded": 0,
    });
    assert_eq!((&history["from"], &history["hours"][0]), (&json!("1970-01-01T09:00:00.000Z"), &counts));
    assert_eq!(history["hours"].as_array().unwrap().len(), 2);
    let (_, history): (_, History) = get(&state, "/api/v1/history").await;
    assert_eq!(history.hours.len(), 3);
    for wrong in ["hours=0", "hours=2162", "hours=x", "days=1"] {
        let (status, _): (_, Problem) = get(&state, &format!("/api/v1/history?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
