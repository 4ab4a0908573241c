//! Rooms import only what lies below them. This is what keeps store, backend and health ignorant of one another, and lets a room be
//! read, tested and replaced by itself.
//!
//! ```text
//! main ─► cli ─► app ─► config ─► admin ─┬► proxy ──┬─► store ─────────────────────┬─► envelope
//!                                        └► replay ─┼─► backend ─► http2 ─► http1 ─┤
//!                                                   └─► health ────────────────────┘      everybody but these two ─► telemetry ─► envelope
//! ```
//!
//! `shutdown` is for those who run something until it is time to stop.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Each room, from the bottom up, and what it may import beside itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("envelope", &[]),
    ("telemetry", &["envelope"]),
    ("shutdown", &["telemetry"]),
    ("store", &["envelope", "telemetry"]),
    ("http1", &["envelope"]),
    ("http2", &["envelope", "http1"]),
    ("backend", &["envelope", "telemetry", "http1", "http2"]),
    ("health", &["envelope", "telemetry"]),
    ("proxy", &["envelope", "telemetry", "shutdown", "store", "http1", "http2", "backend", "health"]),
    ("replay", &["envelope", "telemetry", "shutdown", "store", "http1", "backend", "health"]),
    ("admin", &["envelope", "telemetry", "shutdown", "store", "backend", "health", "proxy", "replay"]),
    ("config", &["envelope", "telemetry", "store", "backend", "health", "proxy", "replay", "admin"]),
    ("app", &["envelope", "telemetry", "shutdown", "store", "backend", "health", "proxy", "replay", "admin", "config"]),
    ("cli", &["envelope", "telemetry", "shutdown", "store", "backend", "health", "proxy", "replay", "admin", "config", "app"]),
];

/// An import and where it stands.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    room: String,
}

struct Offence {
    file: PathBuf,
    line: usize,
    text: String,
    from: String,
    to: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, from, to } = self;
        write!(f, "{}:{line}: {from} may not import {to}: {text}", file.display())
    }
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut offences = Vec::new();
    for file in sources(&root) {
        let relative = file.strip_prefix(&root).unwrap();
        let modules = modules(relative);
        let Some(room) = modules.first() else { continue };
        let source = std::fs::read_to_string(&file).unwrap();
        offences.extend(imports(&source, modules.len()).into_iter().filter(|import| !may(room, &import.room)).map(|import| Offence {
            file: Path::new("src").join(relative),
            line: import.line,
            text: source.lines().nth(import.line - 1).unwrap_or_default().trim().to_owned(),
            from: room.clone(),
            to: import.room,
        }));
    }
    assert!(offences.is_empty(), "\n{}\n", offences.iter().map(Offence::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_room_has_a_rule_and_every_rule_a_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms: Vec<String> =
        sources(&root).iter().filter_map(|file| modules(file.strip_prefix(&root).unwrap()).into_iter().next()).collect();
    rooms.sort();
    rooms.dedup();
    let mut ruled: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    ruled.sort_unstable();
    assert_eq!(rooms, ruled);
}

#[test]
fn the_program_itself_knows_only_its_command_line() {
    let source = include_str!("../src/main.rs");
    let used: Vec<_> = names_after(&without_comments(source), "forebay::").into_iter().map(|import| import.room).collect();
    assert!(used.iter().all(|room| room == "cli"), "src/main.rs imports {used:?}");
}

#[test]
fn rules_only_point_down() {
    for (position, (room, below)) in ROOMS.iter().enumerate() {
        for lower in *below {
            assert!(ROOMS[..position].iter().any(|(name, _)| name == lower), "{room} may import {lower}, which is not below it");
        }
    }
    for (one, other) in [("store", "backend"), ("backend", "health"), ("health", "store"), ("proxy", "replay")] {
        assert!(!may(one, other) && !may(other, one), "{one} and {other} are strangers");
    }
}

#[test]
fn every_way_to_write_an_import_is_found() {
    let source = "\
//! See [`crate::proxy`].
use crate::envelope::Name;
use crate::{
    store::{Store, self},
    backend,
};
fn f() { crate::health::f(); let url = \"http://x\"; } // crate::admin
mod tests { use super::super::replay::Settings; use super::super::super::cli; use super::config; }
fn g() { other_crate::app::g() }
";
    let found: Vec<_> = imports(source, 2).into_iter().map(|import| (import.line, import.room)).collect();
    let expected = [(2, "envelope"), (3, "store"), (3, "backend"), (7, "health"), (8, "replay"), (8, "cli")];
    assert_eq!(found, expected.map(|(line, room)| (line, room.to_owned())));
}

fn may(room: &str, import: &str) -> bool {
    let known = ROOMS.iter().any(|(name, _)| *name == import);
    room == import || !known || ROOMS.iter().any(|(name, below)| *name == room && below.contains(&import))
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module path of a file, without the crate: its first part is the room; empty for lib.rs and main.rs.
fn modules(relative: &Path) -> Vec<String> {
    let path = relative.with_extension("");
    let mut parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod")) || matches!(&parts[..], [only] if only == "lib" || only == "main") {
        parts.pop();
    }
    parts
}

/// What a file at this depth of modules takes from the root of the crate, by `crate::` or by enough `super::`.
fn imports(source: &str, depth: usize) -> Vec<Import> {
    let source = without_comments(source);
    let mut found = names_after(&source, "crate::");
    found.extend(names_after(&source, &"super::".repeat(depth)));
    found.sort_by_key(|import| import.line);
    found
}

/// The source with comments blanked out, lines kept.
fn without_comments(source: &str) -> String {
    let code = |line: &str| {
        let comment = line.match_indices("//").map(|(at, _)| at).find(|&at| line[..at].chars().next_back().is_none_or(char::is_whitespace));
        line[..comment.unwrap_or(line.len())].to_owned()
    };
    source.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// The names that directly follow `prefix` (each of them, where a `{…}` follows), and further `super::`s skipped.
fn names_after(source: &str, prefix: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices(prefix) {
        if source[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | ':')) {
            continue;
        }
        let line = source[..at].matches('\n').count() + 1;
        let mut rest = &source[at + prefix.len()..];
        while let Some(further) = rest.strip_prefix("super::") {
            rest = further;
        }
        let names = if let Some(group) = rest.strip_prefix('{') { group_names(group) } else { vec![first_name(rest)] };
        found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|room| Import { line, room }));
    }
    found
}

/// The first name of each member of a `{…}`, whose opening brace is taken off.
fn group_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(first_name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(first_name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> String {
    path.trim_start().chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}
