//! The commands around the configuration, as a shell sees them: exit codes, stdout, stderr.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fs, path::Path, process::Command};

struct Run {
    code: i32,
    out: String,
    err: String,
}

fn forebay(folder: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    let output = command.args(args).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_right_configuration_is_one_line_and_0() {
    let run = forebay(repository(), &["check"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let line = "config.toml: OK: 2 backends, 2 servers, 3 routes (2 spilling); listens on 127.0.0.1:8080, admin on 127.0.0.1:8081\n";
    assert_eq!(run.out, line);
}

#[test]
fn a_wrong_configuration_is_its_faults_on_stderr_and_78() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.toml"), "worker = 1\n").unwrap();
    for args in [["check", "-c", "x.toml"], ["run", "-c", "x.toml"]] {
        let run = forebay(folder.path(), &args);
        assert_eq!((run.code, run.out.as_str()), (78, ""));
        assert!(run.err.contains("x.toml:1:1") && run.err.contains("x.toml: 3 faults"), "{}", run.err);
        assert!(!run.err.contains('\u{1b}'), "no colours where there is no terminal");
    }
}

#[test]
fn no_configuration_at_all_is_78_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = forebay(folder.path(), &["check", "-c", "absent.toml"]);
    assert_eq!(run.code, 78);
    assert!(run.err.contains("absent.toml: No such file"), "{}", run.err);
}

#[test]
fn wrong_usage_is_2() {
    for args in [&["chek"][..], &["run", "-c", "a", "--backend", "http://b"], &["dead", "list", "--reason", "bored"], &["man", "nothing"]] {
        assert_eq!(forebay(repository(), args).code, 2, "{args:?}");
    }
}

#[test]
fn the_schema_is_json() {
    let run = forebay(repository(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, schema), (0, forebay::config::schema()));
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(forebay(repository(), &["completions", shell]).out.contains("redrive"), "{shell}");
    }
    assert!(forebay(repository(), &["man"]).out.contains(".SH SUBCOMMANDS"));
    assert!(forebay(repository(), &["man", "dead", "redrive"]).out.contains("dry"));
}
