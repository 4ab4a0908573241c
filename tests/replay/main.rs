//! What is queued while a backend is down arrives when it is back: exactly as it was sent, in order, at a governed pace, and what cannot be delivered
//! is kept with its reason.
//!
//! Everything is seen from outside: a client, a backend that a test scripts, the admin API, and the program's own log for "it has been settled".

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod dead;
mod exact;
mod order;
mod pace;
mod retry;

use common::{
    backend::{Backend, Recorded},
    client::{self, Client, Response},
    program::Program,
    site,
};
use serde_json::Value;

/// A configuration with one backend, `legacy`, and these routes; what no other route takes goes to `rest`, which never spills. `backend_keys` are lines of the
/// backend's table.
fn configuration(backend: &Backend, backend_keys: &str, routes: &str) -> String {
    [site::legacy(&backend.url(), "", ""), format!("{backend_keys}\n"), site::route("rest", "/", ""), routes.to_owned()].concat()
}

/// The route `writes` at `/w/`, with these lines in its table `spill`.
fn writes(spill: &str) -> String {
    site::route("writes", "/w/", &format!("[routes.spill]\n{spill}"))
}

/// For a backend that goes down in a test and is to be found back soon. It takes many failed checks to take it out: no slow machine does that.
const CHECKED: &str = r#"health = { path = "/healthz", interval = "200ms", timeout = "200ms", fall = 100, rise = 1 }"#;

/// The backend stops, and the program has noticed.
async fn take_down(backend: &mut Backend, program: &Program) {
    backend.stop().await;
    for _ in 0..5 {
        assert_eq!(client::fetch(program.proxy(), client::get("/anything")).await.status / 100, 5);
    }
    program.logged("that the backend sheds", |line| line["state"] == "shedding").await;
}

/// Sends a request that is to be queued; gives its identity.
async fn queue(program: &Program, request: impl AsRef<[u8]>) -> String {
    let response = client::fetch(program.proxy(), request).await;
    assert_eq!(response.status, 202, "{}", response.text());
    response.field("Forebay-Id").unwrap().to_owned()
}

/// A POST that asks to be queued, with one field more.
fn post_later(target: &str, field: &str) -> Vec<u8> {
    client::request("POST", target, &["Prefer: respond-async", field], target)
}

/// What the backend was sent but for checks of its health and what [`take_down`] sends.
fn at(backend: &Backend) -> Vec<Recorded> {
    backend.requests().into_iter().filter(|request| request.target.starts_with("/w/")).collect()
}

fn targets(backend: &Backend) -> Vec<String> {
    at(backend).into_iter().map(|request| request.target).collect()
}

/// The totals once nothing is queued or under way.
async fn drained(program: &Program) -> Value {
    let empty = |status: &Value| status["totals"]["queued"] == 0 && status["totals"]["delivering"] == 0;
    program.status_when("an empty queue", empty).await["totals"].clone()
}

/// The totals once so many are dead.
async fn died(program: &Program, count: u64) -> Value {
    program.status_when("a dead letter", |status| status["totals"]["dead"] == count).await["totals"].clone()
}

/// What the client sees of a request.
async fn outcome(program: &Program, id: &str) -> Value {
    client::fetch(program.proxy(), client::get(&format!("/.forebay/requests/{id}"))).await.json()
}

/// The backend's answer that was kept.
async fn kept_answer(program: &Program, id: &str) -> Response {
    client::fetch(program.proxy(), client::get(&format!("/.forebay/requests/{id}/response"))).await
}

/// A live request under way, on a connection of its own.
async fn send_live(program: &Program, request: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect(program.proxy()).await;
    client.send(request).await;
    client
}
