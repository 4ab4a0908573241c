//! How much at once, and how fast: counted at the backend.

use std::{collections::HashSet, sync::Arc, sync::Mutex};

use crate::{
    at,
    common::{
        backend::{Backend, Trigger, answer_when},
        client,
        program::Program,
    },
    configuration, drained, post_later, queue, send_live, writes,
};

#[tokio::test]
async fn never_more_than_the_configured_number_is_replayed_at_once() {
    // The window is open from the beginning, or begins with one and opens by and by while all of it is in use.
    for (profile, first) in [("fixed", 3), ("gentle", 1)] {
        let backend = Backend::start().await;
        let trigger = Trigger::default();
        let held = trigger.clone();
        backend.otherwise(move |_| answer_when(&held, 200, &[], ""));
        let replay = format!("replay = {{ concurrency = 3, profile = \"{profile}\" }}");
        let program = Program::start(&configuration(&backend, &replay, &writes("order_by = \"none\""))).await;
        for number in 0..30 {
            queue(&program, post_later(&format!("/w/{number}"), "X: 1")).await;
        }
        for done in 0..30 {
            backend.received(30.min(done + 3.min(done + first))).await;
            trigger.pull(1);
        }
        assert_eq!(drained(&program).await["delivered"], 30);
        assert_eq!(backend.busiest(), 3, "{profile}");
    }
}

#[tokio::test]
async fn a_routes_own_limit_holds_for_live_and_replayed_requests_together() {
    let backend = Backend::start().await;
    let trigger = Trigger::default();
    let held = trigger.clone();
    backend.otherwise(move |_| answer_when(&held, 200, &[], ""));
    let route = writes("order_by = \"none\"").replace("[routes.spill]", "concurrency = 1\n[routes.spill]");
    let program = Program::start(&configuration(&backend, "", &route)).await;
    let mut live = send_live(&program, client::request("POST", "/w/live", &[], "")).await;
    backend.received(1).await;
    let overloaded = client::fetch(program.proxy(), client::request("POST", "/w/1", &[], "")).await;
    assert_eq!((overloaded.status, &overloaded.json()["reason"]), (202, &"overload".into()));
    queue(&program, client::request("POST", "/w/2", &[], "")).await;
    trigger.pull(1);
    assert_eq!(live.response().await.status, 200);
    backend.received(2).await;
    queue(&program, client::request("POST", "/w/3", &[], "")).await;
    trigger.pull(1);
    backend.received(3).await;
    trigger.release();
    assert_eq!(drained(&program).await["delivered"], 3);
    assert_eq!(backend.busiest(), 1);
}

#[tokio::test]
async fn the_ceiling_on_the_rate_holds_until_it_is_raised() {
    let backend = Backend::start().await;
    let configure = |rate: &str| configuration(&backend, &format!("replay = {{ rate = \"{rate}\" }}"), &writes("order_by = \"none\""));
    let program = Program::start(&configure("1/h")).await;
    for number in 0..5 {
        queue(&program, post_later(&format!("/w/{number}"), "X: 1")).await;
    }
    program.logged("one delivery", |line| line["message"] == "request delivered").await;
    assert_eq!(client::fetch(program.proxy(), client::request("POST", "/w/live", &[], "")).await.status, 200, "live traffic is not held");
    assert_eq!(at(&backend).len(), 2);
    assert_eq!(program.status().await["totals"]["queued"], 4);
    program.reload(&configure("1000/s")).await;
    assert_eq!(drained(&program).await["delivered"], 5);
}

#[tokio::test]
async fn a_queue_of_many_drains_whole_and_each_request_once() {
    let backend = Backend::start().await;
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let ids = Arc::clone(&seen);
    backend.otherwise(move |request| {
        assert!(ids.lock().unwrap().insert(request.field("forebay-id").unwrap().to_owned()), "once");
        vec![crate::common::backend::Step::Write(crate::common::backend::response(200, &[], ""))]
    });
    let program = Program::start(&configuration(&backend, "", &writes("order_by = \"none\""))).await;
    let mut client = client::Client::connect(program.proxy()).await;
    for number in 0..300 {
        assert_eq!(client.exchange(post_later(&format!("/w/{number}"), "X: 1")).await.status, 202);
    }
    assert_eq!(drained(&program).await["delivered"], 300);
    assert_eq!((seen.lock().unwrap().len(), at(&backend).len()), (300, 300));
}
