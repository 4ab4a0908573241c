//! The queue on disk is open to its owner: `forebay store` looks at it, and takes its requests out and in, while no forebay runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod transfer;
mod verify;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Name of the store's file where a folder is all that is named.
const DATABASE: &str = "forebay.redb";
const PAYLOADS: &str = "forebay.redb.payloads";

/// A copy of the stored file of a format, with requests in every state.
fn fixture(format: u32) -> tempfile::TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_suite/formats").join(format.to_string());
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join(PAYLOADS)).unwrap();
    std::fs::copy(from.join("queue.redb"), to.path().join(DATABASE)).unwrap();
    for entry in std::fs::read_dir(from.join("queue.redb.payloads")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(PAYLOADS).join(entry.file_name())).unwrap();
    }
    to
}

/// `forebay store …` of the store in a folder.
fn store(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("store")
        .args(arguments)
        .arg("--data")
        .arg(folder)
        .env_remove("FOREBAY_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A program that does not read its input is no failure here.
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap_or_default());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every file under a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}
