//! What an operator says of a backend's replay, over the admin API and over a kill -9.

mod common;

use common::{
    backend::Backend,
    client::{fetch, request},
    program::Program,
    site::Site,
};
use serde_json::Value;

async fn put(program: &Program, target: &str, body: &str) -> (u16, Value) {
    let answer = program.tell("PUT", target, body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_paused_replay_stays_paused_over_kill_9_and_goes_on_when_it_is_resumed() {
    let backend = Backend::start().await;
    let mut program = Program::start(&format!("{}\n[log]\nlevel = \"debug\"\n", Site::spilling(backend.url(), ""))).await;
    let say = async |program: &Program, word: &str| program.tell("POST", &format!("/api/v1/backends/app/{word}"), "{}").await.status;
    assert_eq!(say(&program, "pause").await, 200);
    program.keeps_what_was_said().await;
    program.crash_and_restart().await;
    let queued = fetch(program.proxy(), request("POST", "/marks", &["Prefer: respond-async"], "1")).await;
    assert_eq!(queued.status, 202);
    assert_eq!(program.status().await["backends"][0]["queue"]["paused"], true);
    let passed = fetch(program.proxy(), request("POST", "/marks", &[], "2")).await;
    assert_eq!((passed.status, backend.requests().len()), (200, 1), "live writes go on, and the queued one waits");
    assert_eq!(say(&program, "resume").await, 200);
    program.becomes(&queued.id(), "delivered").await;
}

#[tokio::test]
async fn a_replay_is_changed_while_it_runs_and_what_makes_no_sense_is_refused() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "").to_string()).await;
    let (status, replay) = put(&program, "/api/v1/backends/app/replay", r#"{"profile":"fast","rate":"5/s"}"#).await;
    assert_eq!((status, replay["profile"].as_str(), replay["rate"].as_str()), (200, Some("fast"), Some("5/s")));
    assert_eq!(program.status().await["backends"][0]["queue"]["replay"]["profile"], "fast");
    for (target, body, expected, word) in [
        ("app", r#"{"rate":"quickly"}"#, 400, "50/s"),
        ("app", r#"{"speed":"5/s"}"#, 422, "speed"),
        ("app", r#"{"profile":"fixed","concurrency":0}"#, 400, "concurrency"),
        ("apps", r#"{"rate":"5/s"}"#, 404, "app"),
    ] {
        let (status, problem) = put(&program, &format!("/api/v1/backends/{target}/replay"), body).await;
        assert!(status == expected && problem["detail"].as_str().unwrap().contains(word), "{target} {body}: {status} {problem}");
    }
}
