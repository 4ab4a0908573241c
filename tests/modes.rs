//! What an operator says over a backend's health: the modes, and holding its replay.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{backend::Backend, client, program::Program};
use serde_json::Value;

fn configuration(backend: &Backend) -> String {
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n[store]\nmin_free_disk = \"0\"\n[backends.legacy]\nservers = [\"{}\"]\n[[routes]]\nname = \"all\"\npath = \"/\"\nbackend = \"legacy\"\n[routes.spill]\norder_by = \"none\"\n",
        backend.url()
    )
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

    program.keeps_what_was_said().await;
    program.crash_and_restart().await;
    let status = program.status_when("the mode that was set", |status| status["backends"][0]["mode"] == "spill").await;
    assert_eq!(status["totals"]["queued"], 1, "{status}");
    assert_eq!(told(&program, "PUT", "legacy/mode", r#"{"mode":"auto"}"#).await["mode"], "auto");
    program.status_when("the delivery", |status| status["totals"]["delivered"] == 1).await;
}

#[tokio::test]
async fn a_paused_replay_delivers_nothing_until_it_is_resumed() {
    let backend = Backend::start().await;
    let program = Program::start(&configuration(&backend)).await;
    assert_eq!(told(&program, "POST", "legacy/pause", "{}").await["paused"], true);
    let queued = client::fetch(program.proxy(), client::request("POST", "/mark", &["Prefer: respond-async"], "body")).await;
    assert_eq!(queued.status, 202);
    assert_eq!(client::fetch(program.proxy(), post()).await.status, 200, "live traffic goes on");
    let status = program.status_when("the pause", |status| status["backends"][0]["queue"]["paused"] == true).await;
    assert_eq!(status["totals"]["queued"], 1);
    assert_eq!(told(&program, "POST", "legacy/resume", "{}").await["paused"], false);
    program.becomes(&queued.id(), "delivered").await;
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
