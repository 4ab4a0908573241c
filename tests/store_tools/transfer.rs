//! `store export` and `store import`: what goes out comes in, whole, once, and in order.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    common::{backend::Backend, client, program::Program, site::Site},
    files, fixture, stderr, stdout, store,
};

fn export(folder: &Path, arguments: &[&str]) -> String {
    let output = store(folder, &[&["export"], arguments].concat(), b"");
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn requests(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|line: &Value| line["line"] == "request").collect()
}

fn whole(folder: &Path) -> bool {
    let output = store(folder, &["verify"], b"");
    assert!(output.status.success(), "{}", stdout(&output));
    true
}

#[test]
fn what_is_exported_of_every_format_and_imported_elsewhere_is_exported_as_the_same() {
    for format in [1, 2] {
        let from = fixture(format);
        let before = files(from.path());
        let lines = export(from.path(), &[]);
        assert_eq!(files(from.path()), before, "an export changes nothing");
        let states: Vec<_> = requests(&lines).iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect();
        let expected = "delivered delivered cancelled queued dead queued queued delivering delivering queued queued";
        assert_eq!(states.join(" "), expected);

        let to = tempfile::tempdir().unwrap();
        let imported = store(to.path(), &["import"], lines.as_bytes());
        assert_eq!(stdout(&imported), "imported 11 requests\n", "{}", stderr(&imported));
        assert_eq!(export(to.path(), &[]), lines);
        assert!(whole(to.path()));

        let again = store(to.path(), &["import"], lines.as_bytes());
        assert_eq!(stdout(&again), "imported 0 requests; skipped 11 requests that were there already\n");
        // What was at the backend when the store was left is put right by an opening, as after any crash.
        let after = requests(&export(to.path(), &[]));
        assert_eq!(
            (after.len(), after[7]["state"].as_str(), after[8]["dead_reason"].as_str()),
            (11, Some("queued"), Some("outcome-unknown"))
        );
        assert!(whole(to.path()));
    }
}

#[test]
fn bytes_that_are_no_text_and_those_that_are_come_back_as_they_were() {
    let folder = fixture(2);
    let lines = requests(&export(folder.path(), &[]));
    assert_eq!(lines[7]["body"]["text"].as_str().unwrap().chars().take(6).collect::<String>(), "Straße");
    assert_eq!(lines[9]["body"]["base64"], "AP8gYmluYXJ5");
    assert_eq!(lines[0]["headers"][0], serde_json::json!(["X-ID", { "base64": "6Q==" }]));
    assert_eq!(lines[0]["answer"]["body"]["text"], "taken");
    assert_eq!(export(folder.path(), &["--state", "dead"]), format!("{}\n", export(folder.path(), &[]).lines().nth(4).unwrap()));
    assert_eq!(requests(&export(folder.path(), &["--route", "rest"])).len(), 1);
    assert_eq!(requests(&export(folder.path(), &["--backend", "admin", "--state", "queued"])).len(), 0);
}

#[test]
fn a_wrong_line_is_named_by_its_number_and_costs_nothing_else() {
    let from = fixture(2);
    let good: Vec<String> = export(from.path(), &[]).lines().map(str::to_owned).collect();
    let changed = |number: usize, change: &dyn Fn(&mut Value)| {
        let mut line: Value = serde_json::from_str(&good[number]).unwrap();
        line["id"] = "018bcfe5-687b-7000-8000-0000000000ff".into();
        change(&mut line);
        line.to_string()
    };
    let bad = [
        "not json".to_owned(),
        "{\"line\":\"piece\",\"of\":\"x\",\"part\":\"body\",\"data\":{\"text\":\"x\"}}".to_owned(),
        changed(3, &|line| line["state"] = "lost".into()),
        changed(3, &|line| line["body"] = Value::Null),
        changed(3, &|line| line["body_bytes"] = 99.into()),
        changed(3, &|line| line["version"] = 2.into()),
        changed(3, &|line| line["unknown"] = 2.into()),
        changed(3, &|line| line["accepted_at"] = "noon".into()),
        changed(3, &|line| line["dead_reason"] = "refused".into()),
        changed(3, &|line| line["headers"] = serde_json::json!([["a b", "x"]])),
        changed(3, &|line| line["body"] = serde_json::json!({ "base64": "?" })),
    ];
    let mut lines: Vec<&str> = Vec::new();
    for (number, bad) in bad.iter().enumerate() {
        lines.extend([&*good[number], bad]);
    }
    let to = tempfile::tempdir().unwrap();
    let output = store(to.path(), &["import"], lines.join("\n").as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    for number in 1..=bad.len() {
        assert_eq!(told.matches(&format!("line {}: ", number * 2)).count(), 1, "line {}\n{told}", number * 2);
    }
    assert!(told.contains("imported 11 requests; left out 11 wrong lines"), "{told}");
    assert_eq!(export(to.path(), &[]), export(from.path(), &[]));
}

/// `forebay store …` of the store of a program that does not run.
fn cli(program: &Program, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["store"]).args(arguments).args(["-c", "config.toml"]).current_dir(program.directory()).output().unwrap()
}

#[tokio::test]
async fn what_was_imported_is_replayed_in_order_and_once_also_where_an_import_was_cut_short() {
    let mut backend = Backend::start().await;
    let site = Site::of(&[backend.url()]).route("all", "/", "[routes.spill]\norder_by = [\"path\"]\n").to_string();
    backend.stop().await;
    let mut program = Program::start(&site).await;
    let bodies: Vec<Vec<u8>> = (0..6).map(|number| vec![b'0' + number; if number == 3 { 900_000 } else { 10 }]).collect();
    let mut ids = Vec::new();
    for body in &bodies {
        ids.push(client::fetch(program.proxy(), client::request("POST", "/a", &[], body)).await.id());
    }
    program.kill().await;
    let lines = stdout(&cli(&program, &["export"]));

    let mut other = Program::prepare(&site, &["run", "-c", "config.toml"]);
    // It ends in the middle of the long body.
    std::fs::write(other.path("lines"), &lines[..lines.len() / 2]).unwrap();
    assert_eq!(cli(&other, &["import", "lines"]).status.code(), Some(1));
    std::fs::write(other.path("lines"), &lines).unwrap();
    let imported = cli(&other, &["import", "lines"]);
    assert_eq!(stdout(&imported), "imported 3 requests; skipped 3 requests that were there already\n", "{}", stderr(&imported));
    backend.start_again().await;
    other.run().await;
    for id in &ids {
        other.becomes(id, "delivered").await;
    }
    let arrived = backend.requests();
    assert!(arrived.iter().map(|request| &request.body.content).eq(&bodies), "in order, whole, and once");
    assert!(arrived.iter().map(|request| request.field("forebay-id")).eq(ids.iter().map(|id| Some(id.as_str()))));
    assert_eq!(other.status().await["totals"]["accepted"], 6);
}

/// `forebay store import` into the store in a folder, killed when it has been given these lines and waits for more.
fn import_killed(folder: &Path, lines: &[u8]) {
    let mut import = Command::new(env!("CARGO_BIN_EXE_forebay"));
    import.args(["store", "import", "--data"]).arg(folder).env_remove("FOREBAY_CONFIG").stdin(Stdio::piped()).stderr(Stdio::null());
    let mut import = import.spawn().unwrap();
    import.stdin.as_mut().unwrap().write_all(lines).unwrap();
    import.kill().unwrap();
    import.wait().unwrap();
}

#[test]
fn an_import_that_is_killed_anywhere_can_be_done_again() {
    let from = fixture(2);
    let some: Vec<Value> = requests(&export(from.path(), &["--state", "queued"]));
    // Many times what a pipe holds, so that much of it has been read by the time all has been written.
    let lines: Vec<String> = (0..400u32)
        .map(|number| {
            let mut line = some[0].clone();
            let body = format!("{number} ").repeat(600);
            line["id"] = format!("018bcfe5-687b-7000-8000-{number:012x}").into();
            line["order_key"] = if number % 4 == 0 { Value::Null } else { format!("{:016x}", number % 40).into() };
            (line["body_bytes"], line["body"]) = (body.len().into(), serde_json::json!({ "text": body }));
            line.to_string() + "\n"
        })
        .collect();
    let mut begun = 0;
    for end in (20..=400).step_by(76) {
        let to = tempfile::tempdir().unwrap();
        import_killed(to.path(), lines[..end].concat().as_bytes());
        let before = if to.path().join(crate::DATABASE).exists() { requests(&export(to.path(), &[])).len() } else { 0 };
        begun += usize::from(before > 0);
        let imported = store(to.path(), &["import"], lines.concat().as_bytes());
        let skipped = if before > 0 {
            format!("; skipped {before} request{} that were there already", if before == 1 { "" } else { "s" })
        } else {
            String::new()
        };
        assert_eq!(stdout(&imported), format!("imported {} requests{skipped}\n", lines.len() - before), "{}", stderr(&imported));
        assert!(whole(to.path()));
        let (mut there, mut given) = (requests(&export(to.path(), &[])), requests(&lines.concat()));
        // Of each key they are in order; others may have overtaken one another.
        let by_key = |line: &Value| line["order_key"].to_string();
        there.sort_by_key(by_key);
        given.sort_by_key(by_key);
        let keyed = |lines: &[Value]| lines.iter().filter(|line| !line["order_key"].is_null()).cloned().collect::<Vec<_>>();
        assert!(keyed(&there) == keyed(&given), "killed after {end} lines");
        let by_id = |line: &Value| line["id"].to_string();
        there.sort_by_key(by_id);
        given.sort_by_key(by_id);
        assert!(there == given, "killed after {end} lines");
    }
    assert!(begun > 0, "each was killed before it had begun");
}

#[tokio::test]
async fn long_bodies_follow_in_lines_of_their_own_and_one_that_is_not_whole_is_left_out() {
    let mut backend = Backend::start().await;
    let site = Site::spilling(backend.url(), "").to_string();
    backend.stop().await;
    let mut program = Program::start(&site).await;
    let text = "Straße 3 € 🦫 ".repeat(90_000).into_bytes();
    let binary: Vec<u8> = (0..3_000_000u32).map(|i| (i * 31 + i / 251) as u8).collect();
    let bodies = [b"short".to_vec(), text, binary];
    for body in &bodies {
        let head = format!("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = client::fetch(program.proxy(), [head.into_bytes(), body.clone()].concat()).await;
        assert_eq!(answer.status, 202);
    }
    program.kill().await;
    let exported = cli(&program, &["export"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    let lines = stdout(&exported);
    assert!(lines.lines().all(|line| line.len() < 300_000) && lines.lines().count() > 50);

    let other = Program::prepare(&site, &["run", "-c", "config.toml"]);
    std::fs::write(other.path("lines"), &lines).unwrap();
    let imported = cli(&other, &["import", "lines"]);
    assert_eq!(stdout(&imported), "imported 3 requests\n", "{}", stderr(&imported));
    assert_eq!(stdout(&cli(&other, &["export"])), lines);

    // One piece is missing: that request is left out, by the number of the line in which it shows.
    let third = Program::prepare(&site, &["run", "-c", "config.toml"]);
    let mut cut: Vec<&str> = lines.lines().collect();
    cut.remove(3);
    std::fs::write(third.path("lines"), cut.join("\n")).unwrap();
    let imported = cli(&third, &["import", "lines"]);
    assert_eq!(imported.status.code(), Some(1));
    assert!(stderr(&imported).contains("imported 2 requests; left out 1 wrong line"), "{}", stderr(&imported));
    assert!(cli(&third, &["verify"]).status.success());
}

#[test]
fn a_damaged_request_is_left_out_and_named_and_the_others_are_exported() {
    let folder = fixture(2);
    let path = folder.path().join(crate::PAYLOADS).join("018bcfe5-687b-7000-8000-00000000000a.body");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let output = store(folder.path(), &["export"], b"");
    assert_eq!((output.status.code(), requests(&stdout(&output)).len()), (Some(1), 10));
    assert!(stderr(&output).contains("the body of request 018bcfe5-687b-7000-8000-00000000000a"), "{}", stderr(&output));
}
