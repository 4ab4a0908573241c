//! The reference in `docs/configuration.md` is that of the schema, word for word.
//!
//! `UPDATE_DOCS=1 cargo test --test config_docs` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{env, fmt::Write, fs};

use serde_json::Value;

const DOCUMENT: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- reference: begin -->\n";
const END: &str = "<!-- reference: end -->\n";

/// A heading and a row for each key of a table, then its inner tables.
fn reference(heading: &str, path: &str, schema: &Value, text: &mut String) {
    let properties = schema["properties"].as_object().unwrap();
    writeln!(text, "\n### {heading}\n\n{}\n\n| key | default | meaning |\n| --- | --- | --- |", schema["description"].as_str().unwrap())
        .unwrap();
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut inner = Vec::new();
    for (name, key) in properties {
        let default = match &key["default"] {
            Value::Null if required.contains(&name.as_str()) => "**required**".into(),
            Value::Null => "".into(),
            default => format!("`{default}`"),
        };
        let (about, range) = (key["description"].as_str().unwrap(), (&key["minimum"], &key["maximum"]));
        let range = if range.0.is_null() { String::new() } else { format!(" From {} to {}.", range.0, range.1) };
        let words = key["enum"].as_array().map(|words| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "));
        let words = words.map_or_else(String::new, |words| format!(" One of {words}."));
        writeln!(text, "| `{name}` | {default} | {about}{range}{words} |").unwrap();
        let joined = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if key.get("properties").is_some() {
            inner.push((format!("`[{joined}]`"), joined, key));
        } else if key["items"].get("properties").is_some() {
            inner.push((format!("`[[{joined}]]`"), joined, &key["items"]));
        } else if key["additionalProperties"].get("properties").is_some() {
            inner.push((format!("`[{joined}.NAME]`"), format!("{joined}.NAME"), &key["additionalProperties"]));
        }
    }
    inner.into_iter().for_each(|(heading, path, schema)| reference(&heading, &path, schema, text));
}

#[test]
fn the_documented_keys_and_defaults_are_those_of_the_program() {
    let mut text = String::new();
    reference("Top level", "", &forebay::config::schema(), &mut text);
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, format!("{before}{BEGIN}{text}\n{END}{after}")).unwrap();
    } else {
        assert_eq!(written.trim(), text.trim(), "run this test with UPDATE_DOCS=1");
    }
}

#[test]
fn every_example_of_the_document_is_a_right_configuration() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let examples: Vec<_> = document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3, "examples: {}", examples.len());
    for example in examples {
        forebay::config::Config::parse(DOCUMENT, example).unwrap_or_else(|error| panic!("{error}"));
    }
}
