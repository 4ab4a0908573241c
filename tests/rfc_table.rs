//! `docs/rfc.md` tells the truth: every row names a test that exists, a gap, or why it is not ours; and its figures are those of its rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

struct Row {
    line: usize,
    rfc: String,
    cells: Vec<String>,
}

fn page() -> String {
    fs::read_to_string("docs/rfc.md").unwrap()
}

fn rows(page: &str) -> Vec<Row> {
    let (mut rfc, mut rows) = (String::new(), Vec::new());
    for (index, line) in page.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## RFC ") {
            rfc = title.split(':').next().unwrap().to_owned();
        }
        let Some(inner) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<_> = inner.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        if !rfc.is_empty() && cells[0] != "§" && !cells[0].starts_with("---") {
            rows.push(Row { line: index + 1, rfc: rfc.clone(), cells });
        }
    }
    rows
}

fn is_gap(row: &Row) -> bool {
    row.cells[3].starts_with("**Gap**")
}

fn is_not_ours(row: &Row) -> bool {
    row.cells[3].starts_with("Not ours")
}

/// All code of a test target or of a module, by its name.
fn code(place: &str) -> Option<String> {
    let path = place.replace("::", "/");
    let candidates = [format!("tests/{path}"), format!("src/{path}")];
    let mut text = String::new();
    for candidate in candidates {
        text.push_str(&fs::read_to_string(format!("{candidate}.rs")).unwrap_or_default());
        collect(Path::new(&candidate), &mut text);
    }
    (!text.is_empty()).then_some(text)
}

fn collect(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), text);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn exists(test: &str) -> bool {
    let Some((place, name)) = test.rsplit_once("::") else { return false };
    code(place).is_some_and(|code| is_run(&code, name))
}

/// Whether a function of this name is a test that is run: one of its attributes, the lines right above it, says so, and none that it is left out.
fn is_run(code: &str, name: &str) -> bool {
    let lines: Vec<_> = code.lines().map(str::trim).collect();
    let heads = [format!("fn {name}("), format!("async fn {name}(")];
    let at = lines.iter().position(|line| heads.iter().any(|head| line.starts_with(head)));
    let attributes = || lines[..at.unwrap_or(0)].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let is = |wanted: &[&str]| attributes().any(|line| wanted.iter().any(|attribute| line.starts_with(attribute)));
    is(&["#[test]", "#[tokio::test]", "#[tokio::test("]) && !is(&["#[ignore"])
}

#[test]
fn a_test_counts_only_where_it_is_run() {
    for (code, counts) in [
        ("#[test]\nfn a() {", true),
        ("    #[test]\n    fn a() {", true),
        ("#[tokio::test]\nasync fn a() {", true),
        ("#[tokio::test(start_paused = true)]\n#[cfg(unix)]\nasync fn a() {", true),
        ("fn a() {", false),
        ("#[test]\nfn b() {}\n\nfn a() {", false),
        ("#[test]\n#[ignore = \"slow\"]\nfn a() {", false),
        ("// #[test]\nfn a() {", false),
        ("#[test]\nfn ab() {", false),
    ] {
        assert_eq!(is_run(code, "a"), counts, "{code}");
    }
}

#[test]
fn every_row_names_a_test_that_exists_or_says_that_there_is_none() {
    let page = page();
    let mut wrong = Vec::new();
    for row in rows(&page) {
        let [_, level, _, _, tests] = &row.cells[..] else {
            wrong.push(format!("line {}: {} cells", row.line, row.cells.len()));
            continue;
        };
        if !["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"].contains(&level.as_str()) {
            wrong.push(format!("line {}: level {level:?}", row.line));
        }
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        if named.is_empty() && !is_gap(&row) && !is_not_ours(&row) {
            wrong.push(format!("line {}: no test, and neither a gap nor not ours", row.line));
        }
        wrong.extend(named.iter().filter(|test| !exists(test)).map(|test| format!("line {}: there is no test {test}", row.line)));
    }
    assert!(wrong.is_empty(), "docs/rfc.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_figures_of_the_page_are_those_of_its_rows() {
    let page = page();
    let rows = rows(&page);
    let gaps = rows.iter().filter(|row| is_gap(row)).count();
    let not_ours = rows.iter().filter(|row| is_not_ours(row)).count();
    let figures =
        format!("{} requirements: {} held by a test, {gaps} gaps, {not_ours} not ours.", rows.len(), rows.len() - gaps - not_ours);
    assert!(page.contains(&figures), "docs/rfc.md should say: {figures}");
    let listed = page.split("\n## Gaps\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for row in rows.iter().filter(|row| is_gap(row)) {
        let reference = format!("RFC {} §{}", row.rfc, row.cells[0]);
        assert!(listed.contains(&reference), "the list of gaps lacks {reference} (line {})", row.line);
    }
}
