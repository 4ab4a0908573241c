//! What an operator says over a backend's health and its replay, by the admin API and the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{
    backend::Backend,
    client,
    program::Program,
    site::{self, Site},
};
use serde_json::Value;

fn configuration(backend: &Backend) -> String {
    site::legacy(&backend.url(), "", "") + &site::route("all", "/", "[routes.spill]\norder_by = \"none\"")
}

async fn told(program: &Program, method: &str, path: &str, body: &str) -> Value {
    let response = program.tell(method, &format!("/api/v1/backends/{path}"), body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn post() -> Vec<u8> {
    client::request("POST", "/mark", &[], "body")
}

#[tokio::test]
async fn in_mode_spill_every_write_is_queued_with_that_reason_and_replayed_when_health_decides_again() {
    let backend = Backend::start().await;
    let mut program = Program::start(&configuration(&backend)).await;
    assert_eq!(told(&program, "PUT", "legacy/mode", r#"{"mode":"spill"}"#).await["mode"], "spill");
    let queued = client::fetch(program.proxy(), post()).await;
    assert_eq!((queued.status, &queued.json()["reason"]), (202, &"mode".into()));
    assert_eq!(client::fetch(program.proxy(), client::get("/read")).await.status, 200, "reads go by the backend's health");

    program.crash_and_restart().await;
    let status = program.status_when("the mode that was set", |status| status["backends"][0]["mode"] == "spill").await;
    assert_eq!(status["totals"]["queued"], 1, "{status}");
    assert_eq!(told(&program, "PUT", "legacy/mode", r#"{"mode":"auto"}"#).await["mode"], "auto");
    program.status_when("the delivery", |status| status["totals"]["delivered"] == 1).await;
}

#[tokio::test]
async fn a_backend_or_a_mode_that_does_not_exist_is_an_error_that_names_those_that_do() {
    let backend = Backend::start().await;
    let program = Program::start(&configuration(&backend)).await;
    let unknown = program.tell("POST", "/api/v1/backends/legcay/pause", "{}").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("legacy"), "{}", unknown.text());
    let wrong = program.tell("PUT", "/api/v1/backends/legacy/mode", r#"{"mode":"shed"}"#).await;
    assert_eq!(wrong.status, 422);
    assert!(["auto", "spill", "pass"].iter().all(|mode| wrong.text().contains(mode)), "{}", wrong.text());
}

#[tokio::test]
async fn the_command_line_tells_a_backend_the_same() {
    let backend = Backend::start().await;
    let program = Program::start(&configuration(&backend)).await;
    let admin = format!("http://{}", program.admin());
    for (verb, expected) in [
        ("spill", "backend legacy: mode spill (every write that may be queued is, and none is replayed); passing"),
        ("pause", "backend legacy: mode spill (every write that may be queued is, and none is replayed); passing; replay is paused"),
        ("auto", "backend legacy: mode auto (its health decides); passing; replay is paused"),
        ("resume", "backend legacy: mode auto (its health decides); passing"),
    ] {
        let mut command = Program::prepare("", &["backend", verb, "legacy", "--admin", &admin]);
        command.launch().await;
        assert!(command.ended().await.success(), "{}", command.stderr());
        assert_eq!(command.stdout(), expected);
    }
    let mut command = Program::prepare("", &["backend", "pause", "nobody", "--admin", &admin]);
    command.launch().await;
    assert_eq!(command.ended().await.code(), Some(1));
    assert!(command.stderr().contains("there are: legacy"), "{}", command.stderr());
}

async fn put(program: &Program, target: &str, body: &str) -> (u16, Value) {
    let answer = program.tell("PUT", target, body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_paused_replay_stays_paused_over_kill_9_and_goes_on_when_it_is_resumed() {
    let backend = Backend::start().await;
    let mut program = Program::start(&configuration(&backend)).await;
    let say = async |program: &Program, word: &str| program.tell("POST", &format!("/api/v1/backends/legacy/{word}"), "{}").await.status;
    assert_eq!(say(&program, "pause").await, 200);
    program.crash_and_restart().await;
    let queued = client::fetch(program.proxy(), client::request("POST", "/marks", &["Prefer: respond-async"], "1")).await;
    assert_eq!(queued.status, 202);
    assert_eq!(program.status().await["backends"][0]["queue"]["paused"], true);
    let passed = client::fetch(program.proxy(), client::request("POST", "/marks", &[], "2")).await;
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
