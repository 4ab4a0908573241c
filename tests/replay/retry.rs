//! Attempts: how many, after what, and what ends them.

use crate::{
    CHECKED, at,
    common::{
        backend::{Backend, answer, reset_after_reading},
        client,
        program::Program,
        site,
    },
    configuration, died, drained, kept_answer, outcome, post_later, queue, take_down, targets, writes,
};

#[tokio::test]
async fn a_request_that_keeps_failing_is_tried_as_often_as_its_route_says_and_then_kept_with_its_last_answer() {
    let backend = Backend::start().await;
    backend.otherwise(|request| answer(500, &["X-Why: disk"], format!("attempt {} failed", request.field("forebay-attempt").unwrap())));
    let program = Program::start(&configuration(&backend, "", &writes("when = \"always\"\nmax_attempts = 3"))).await;
    let id = queue(&program, client::request("POST", "/w/1", &[], "x")).await;
    died(&program, 1).await;
    let sent = at(&backend);
    let attempts: Vec<_> = sent.iter().map(|request| request.field("forebay-attempt").unwrap()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert!(sent.iter().all(|request| request.field("idempotency-key") == sent[0].field("idempotency-key")));
    let seen = outcome(&program, &id).await;
    assert_eq!((&seen["state"], &seen["reason"], &seen["attempts"]), (&"dead".into(), &"attempts-exhausted".into(), &3.into()));
    let kept = kept_answer(&program, &id).await;
    assert_eq!((kept.status, kept.text(), kept.field("x-why")), (500, "attempt 3 failed", Some("disk")));
}

#[tokio::test]
async fn a_refusal_ends_the_trying_at_once() {
    let backend = Backend::start().await;
    let program = Program::start(&configuration(&backend, "", &writes("when = \"always\"\norder_by = \"none\""))).await;
    let cases: [(u16, &[&str], &str); 5] = [
        (422, &[], "refused"),
        (404, &[], "refused"),
        (401, &["WWW-Authenticate: Basic"], "auth-expired"),
        (403, &[], "auth-expired"),
        (302, &["Location: /login?next=/w/"], "auth-expired"),
    ];
    for (count, (status, fields, reason)) in (1..).zip(cases) {
        backend.next(answer(status, fields, "no"));
        let id = queue(&program, client::request("POST", "/w/1", &[], "x")).await;
        died(&program, count).await;
        let seen = outcome(&program, &id).await;
        assert_eq!((&seen["state"], &seen["reason"], &seen["attempts"]), (&"dead".into(), &reason.into(), &1.into()), "{status}");
        let kept = kept_answer(&program, &id).await;
        assert_eq!((kept.status, kept.text()), (status, "no"));
    }
    assert_eq!(at(&backend).len(), cases.len());
}

#[tokio::test]
async fn what_may_have_been_executed_is_never_sent_again_on_an_at_most_once_route() {
    let backend = Backend::start().await;
    let spill = "when = \"always\"\ndelivery = \"at-most-once\"\norder_by = \"none\"";
    let program = Program::start(&configuration(&backend, "", &writes(spill))).await;
    for (count, act) in (1..).zip([reset_after_reading(), answer(500, &[], ""), answer(504, &[], "")]) {
        backend.next(act);
        let id = queue(&program, client::request("POST", "/w/once", &[], "x")).await;
        died(&program, count).await;
        assert_eq!(outcome(&program, &id).await["reason"], "outcome-unknown");
    }
    // PUT is idempotent by RFC 9110 section 9.2.2, and a 503 says that nothing was done.
    for (method, act) in [("PUT", reset_after_reading()), ("POST", answer(503, &["Retry-After: 0"], ""))] {
        backend.next(act);
        let id = queue(&program, client::request(method, &format!("/w/{method}"), &[], "x")).await;
        drained(&program).await;
        assert_eq!(outcome(&program, &id).await["state"], "delivered", "{method}");
    }
    assert_eq!(targets(&backend), ["/w/once", "/w/once", "/w/once", "/w/PUT", "/w/PUT", "/w/POST", "/w/POST"]);
}

#[tokio::test]
async fn retry_after_pauses_the_replay_of_the_whole_backend_and_nothing_else() {
    let backend = Backend::start().await;
    let program = Program::start(&configuration(&backend, "", &writes("order_by = \"none\""))).await;
    // Only with a delivery of late is there an estimate, in which the pause can be seen.
    queue(&program, post_later("/w/before", "X: 1")).await;
    drained(&program).await;
    backend.next(answer(503, &["Retry-After: 1800"], "come back"));
    let asked = queue(&program, post_later("/w/asked", "X: 1")).await;
    program
        .logged("that it is tried again later", |line| line["message"] == "request will be tried again" && line["id"] == asked.as_str())
        .await;
    let waiting = queue(&program, post_later("/w/waiting", "X: 1")).await;
    let status = program.status().await;
    assert!(status["backends"][0]["queue"]["drained_in_seconds"].as_f64().unwrap() > 1000.0, "{status}");
    let live = client::fetch(program.proxy(), client::request("POST", "/w/live", &[], "x")).await;
    assert_eq!((live.status, status["backends"][0]["state"].as_str()), (200, Some("passing")), "live traffic goes on");
    assert_eq!(outcome(&program, &waiting).await["state"], "queued");
    assert_eq!(targets(&backend), ["/w/before", "/w/asked", "/w/live"]);
    assert_eq!(status["totals"]["queued"], 2);
}

#[tokio::test]
async fn a_request_past_its_age_is_given_up_unsent() {
    let mut backend = Backend::start().await;
    let patient = site::route("patient", "/w/2", "[routes.spill]\norder_by = \"none\"");
    let routes = writes("max_age = \"1s\"\norder_by = \"none\"") + &patient;
    let program = Program::start(&configuration(&backend, CHECKED, &routes)).await;
    take_down(&mut backend, &program).await;
    let id = queue(&program, client::request("POST", "/w/1", &[], "x")).await;
    died(&program, 1).await;
    let seen = outcome(&program, &id).await;
    assert_eq!((&seen["reason"], &seen["attempts"]), (&"expired".into(), &0.into()));
    backend.start_again().await;
    program.logged("that the backend is back", |line| line["state"] == "probing").await;
    queue(&program, post_later("/w/2", "X: 1")).await;
    drained(&program).await;
    assert_eq!(targets(&backend), ["/w/2"]);
}

#[tokio::test]
async fn an_outage_uses_up_no_attempts() {
    let mut backend = Backend::start().await;
    let spill = "max_attempts = 1\ndelivery = \"at-most-once\"\norder_by = \"none\"";
    let program = Program::start(&configuration(&backend, CHECKED, &writes(spill))).await;
    backend.stop().await;
    // Nobody has noticed yet: it is rescued, and tried until the breaker trips.
    let id = queue(&program, client::request("POST", "/w/1", &[], "x")).await;
    let again = |line: &serde_json::Value| line["message"] == "request will be tried again" && line["id"] == id.as_str();
    program.logged("a vain attempt", again).await;
    take_down_rest(&program).await;
    backend.start_again().await;
    assert_eq!(drained(&program).await["delivered"], 1);
    assert!(outcome(&program, &id).await["attempts"].as_u64().unwrap() > 1);
    assert_eq!(targets(&backend), ["/w/1"]);
}

async fn take_down_rest(program: &Program) {
    for _ in 0..5 {
        assert_eq!(client::fetch(program.proxy(), client::get("/anything")).await.status / 100, 5);
    }
    program.logged("that the backend sheds", |line| line["state"] == "shedding").await;
}
