//! Dead letters: seen and sent round again, by the command line and by the API.

use std::{process::Output, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    common::{
        backend::{Backend, Step, response},
        client,
        program::Program,
        within,
    },
    configuration, died, drained, queue, targets, writes,
};

async fn forebay(program: &Program, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).args(["--admin", &format!("http://{}", program.admin())]).current_dir(program.directory());
    within("the command to end", command.stdin(Stdio::null()).output()).await.unwrap()
}

async fn json_of(program: &Program, arguments: &[&str]) -> Value {
    let output = forebay(program, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn redrive(program: &Program, body: &Value) -> Value {
    let (body, admin) = (body.to_string(), program.admin());
    let head = format!(
        "POST /api/v1/dead/redrive HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let response = client::fetch(admin, head + &body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// A program with three dead letters, two refused and one whose credentials had expired; its backend would take them now.
async fn with_three_dead(backend: &Backend) -> Program {
    backend.otherwise(|request| {
        let status = if request.target == "/w/auth" { 401 } else { 400 };
        vec![Step::Write(response(status, &[], "no"))]
    });
    let program = Program::start(&configuration(backend, "", &writes("when = \"always\"\norder_by = \"none\""))).await;
    for target in ["/w/1", "/w/2", "/w/auth"] {
        queue(&program, client::request("POST", target, &["Authorization: Bearer s3cret"], target)).await;
    }
    died(&program, 3).await;
    backend.otherwise(|_| vec![Step::Write(response(200, &[], "yes"))]);
    program
}

#[tokio::test]
async fn the_command_line_lists_dead_letters_and_sends_them_round_again() {
    let backend = Backend::start().await;
    let program = with_three_dead(&backend).await;
    let table = forebay(&program, &["dead", "list"]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    for expected in ["/w/1", "/w/auth", "auth-expired", "refused", "401 Unauthorized"] {
        assert!(table.contains(expected), "{expected} is missing:\n{table}");
    }
    let listed = json_of(&program, &["dead", "list", "--reason", "refused", "--output", "json"]).await;
    let found: Vec<_> = listed["requests"].as_array().unwrap().iter().map(|request| request["target"].as_str().unwrap()).collect();
    assert_eq!(found, ["/w/1", "/w/2"]);

    let would = json_of(&program, &["dead", "redrive", "--reason", "refused", "--dry-run", "--output", "json"]).await;
    assert_eq!((&would["matched"], &would["redriven"]), (&2.into(), &0.into()));
    let done = json_of(&program, &["dead", "redrive", "--reason", "refused", "--output", "json"]).await;
    assert_eq!(done["redriven"], 2);
    let totals = drained(&program).await;
    assert_eq!((&totals["delivered"], &totals["dead"], &totals["accepted"]), (&2.into(), &1.into(), &3.into()));
    let mut again = targets(&backend).split_off(3);
    again.sort();
    assert_eq!(again, ["/w/1", "/w/2"]);
}

#[tokio::test]
async fn the_api_sends_a_dead_letter_round_again_whole_and_with_all_its_attempts() {
    let backend = Backend::start().await;
    let program = with_three_dead(&backend).await;
    let admin = program.admin();
    let dead = client::ask(admin, "/api/v1/requests?state=dead&reason=auth-expired").await;
    let id = dead["requests"][0]["id"].as_str().unwrap();
    let shown = client::ask(admin, &format!("/api/v1/requests/{id}")).await;
    assert_eq!((&shown["state"], &shown["response_status"]), (&"dead".into(), &401.into()));
    assert!(!shown.to_string().contains("s3cret"), "credentials are not shown");

    assert_eq!(redrive(&program, &json!({"reason": "auth-expired", "dry_run": true})).await["matched"], 1);
    assert_eq!(redrive(&program, &json!({"reason": "auth-expired", "backend": "legacy", "route": "writes"})).await["redriven"], 1);
    assert_eq!(drained(&program).await["delivered"], 1);
    let again = backend.requests().pop().unwrap();
    assert_eq!((again.target.as_str(), again.field("forebay-id"), &again.body.content[..]), ("/w/auth", Some(id), &b"/w/auth"[..]));
    assert_eq!(again.field("authorization"), Some("Bearer s3cret"), "it is sent as it came");
    assert_eq!(redrive(&program, &json!({"backend": "another"})).await["matched"], 0);
    assert_eq!(program.status().await["totals"]["dead"], 2);
}
