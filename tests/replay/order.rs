//! Order by key, across what is live and what is queued.

use crate::{
    common::{
        backend::{Backend, Step, Trigger, answer_when, response},
        client,
        program::Program,
    },
    configuration, died, drained, outcome, post_later, queue, send_live, targets, writes,
};

const BY_FIELD: &str = "order_by = [\"header:x-key\"]";

#[tokio::test]
async fn a_rescued_write_stands_before_those_that_came_after_it() {
    let backend = Backend::start().await;
    let (breaks, ends) = (Trigger::default(), Trigger::default());
    backend.next(vec![Step::Read, Step::Wait(breaks.clone()), Step::Reset]).next(answer_when(&ends, 200, &[], ""));
    let program = Program::start(&configuration(&backend, "", &writes(BY_FIELD))).await;

    let mut first = send_live(&program, client::request("POST", "/w/1", &["X-Key: k"], "1")).await;
    backend.received(1).await;
    let second = queue(&program, post_later("/w/2", "X-Key: k")).await;
    assert_eq!(outcome(&program, &second).await["state"], "queued", "it waits for the live one");
    breaks.pull(1);
    let rescued = first.response().await;
    assert_eq!((rescued.status, &rescued.json()["reason"]), (202, &"rescued".into()));

    // The backend is healthy, and has the first one again.
    assert_eq!(backend.received(2).await[1].target, "/w/1");
    let third = client::fetch(program.proxy(), client::request("POST", "/w/3", &["X-Key: k"], "3")).await;
    assert_eq!((third.status, &third.json()["reason"]), (202, &"order".into()));
    let other = client::fetch(program.proxy(), client::request("POST", "/w/other", &["X-Key: other"], "")).await;
    assert_eq!(other.status, 200, "another key passes");
    ends.pull(1);
    assert_eq!(drained(&program).await["delivered"], 3);
    assert_eq!(targets(&backend), ["/w/1", "/w/1", "/w/other", "/w/2", "/w/3"]);
    let fourth = client::fetch(program.proxy(), client::request("POST", "/w/4", &["X-Key: k"], "")).await;
    assert_eq!(fourth.status, 200, "with nothing pending its key passes again");
}

#[tokio::test]
async fn writes_of_one_key_arrive_in_order_and_one_at_a_time_although_some_fail() {
    let backend = Backend::start().await;
    let failed = std::sync::atomic::AtomicBool::new(false);
    backend.otherwise(move |request| {
        let fails = request.target == "/w/b1" && !failed.swap(true, std::sync::atomic::Ordering::SeqCst);
        vec![Step::Write(response(if fails { 500 } else { 200 }, &[], ""))]
    });
    let program = Program::start(&configuration(&backend, "", &writes(&format!("when = \"always\"\n{BY_FIELD}")))).await;
    for number in 0..4 {
        for key in ["a", "b", "c"] {
            let field = format!("X-Key: {key}");
            queue(&program, client::request("POST", &format!("/w/{key}{number}"), &[&field], "")).await;
        }
    }
    assert_eq!(drained(&program).await["delivered"], 12);
    let all = targets(&backend);
    let of = |key: &str| all.iter().filter(|target| target.starts_with(&format!("/w/{key}"))).cloned().collect::<Vec<_>>();
    assert_eq!(of("a"), ["/w/a0", "/w/a1", "/w/a2", "/w/a3"]);
    assert_eq!(of("b"), ["/w/b0", "/w/b1", "/w/b1", "/w/b2", "/w/b3"]);
    assert_eq!(of("c"), ["/w/c0", "/w/c1", "/w/c2", "/w/c3"]);
}

#[tokio::test]
async fn a_key_whose_write_died_waits_for_an_operator_where_its_route_says_so() {
    let backend = Backend::start().await;
    backend.otherwise(|request| vec![Step::Write(response(if request.target == "/w/bad" { 422 } else { 200 }, &[], ""))]);
    let spill = format!("when = \"always\"\non_dead_letter = \"hold\"\n{BY_FIELD}");
    let program = Program::start(&configuration(&backend, "", &writes(&spill))).await;
    queue(&program, client::request("POST", "/w/bad", &["X-Key: k"], "")).await;
    let held = queue(&program, client::request("POST", "/w/after", &["X-Key: k"], "")).await;
    died(&program, 1).await;
    let other = queue(&program, client::request("POST", "/w/other", &["X-Key: other"], "")).await;
    program.logged("that another key goes on", |line| line["message"] == "request delivered" && line["id"] == other.as_str()).await;
    assert_eq!(outcome(&program, &held).await["state"], "queued");
    assert_eq!(targets(&backend), ["/w/bad", "/w/other"]);

    backend.otherwise(|_| vec![Step::Write(response(200, &[], ""))]);
    let redrive = format!(
        "POST /api/v1/dead/redrive HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        program.admin()
    );
    assert_eq!(client::fetch(program.admin(), redrive).await.json()["redriven"], 1);
    assert_eq!(drained(&program).await["delivered"], 3);
    assert_eq!(targets(&backend), ["/w/bad", "/w/other", "/w/bad", "/w/after"]);
}
