//! The JSON Schema of `config.toml`, for editors: the shape of [`file`](super::file), described.

use serde_json::{Value as Json, json};

use super::{file::File, read::Value};

/// The schema (draft 2020-12): every key that the checker takes, and no other.
///
/// It holds what one value can show: types, patterns, ranges of numbers, unknown and missing keys. Ranges of durations and sizes, and what
/// cannot be together, only the checker knows.
pub fn schema() -> Json {
    let mut schema = File::schema();
    if let Some(entries) = schema.as_object_mut() {
        entries.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        entries.insert("title".into(), json!("forebay configuration"));
    }
    schema
}

/// The tables that have a key of that name, as they are written; at most a few.
pub(super) fn tables_with(key: &str) -> Vec<String> {
    let mut found = Vec::new();
    visit(&File::schema(), "", &mut |path, table| {
        if table.contains_key(key) {
            found.push(if path.is_empty() { "the top of the file".into() } else { format!("`[{path}]`") });
        }
    });
    found
}

/// Calls `see` with the path and keys of every table of a schema.
fn visit(schema: &Json, path: &str, see: &mut impl FnMut(&str, &serde_json::Map<String, Json>)) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(table) = schema.get("properties").and_then(Json::as_object) {
        see(path, table);
        for (name, schema) in table {
            visit(schema, &join(name), see);
        }
    }
    for form in schema.get("anyOf").and_then(Json::as_array).into_iter().flatten().take(1) {
        visit(form, path, see);
    }
    if let Some(items) = schema.get("items") {
        visit(items, path, see);
    }
    if let Some(named) = schema.get("additionalProperties").filter(|named| named.is_object()) {
        visit(named, &join("NAME"), see);
    }
}
