//! The schema and the checker are one description: what the one takes, the other takes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeSet, fs, path::Path};

use forebay::config::{self, Config, ConfigError};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

fn validator() -> Validator {
    jsonschema::draft202012::new(&config::schema()).unwrap()
}

fn to_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// A value that the schema of a key allows: what the key's meaning needs, its default, an example, or the least.
fn sample(name: &str, schema: &Value) -> Value {
    match name {
        "name" | "NAME" => return json!("app"),
        "backend" => return json!("app"),
        "path" if schema.get("pattern").is_none() => return json!("/healthz"),
        "token_file" => return json!("TOKEN_FILE"),
        "ca_file" | "cert_file" => return json!("CERT_FILE"),
        "key_file" => return json!("KEY_FILE"),
        "host" | "rate" | "servers" | "trusted_proxies" => {}
        _ if schema.get("default").is_some() => return schema["default"].clone(),
        _ => {}
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        return properties.iter().map(|(name, schema)| (name.clone(), sample(name, schema))).collect::<Map<_, _>>().into();
    }
    if let Some(table) = schema["anyOf"].get(0).filter(|form| form.get("properties").is_some()) {
        return sample("", table);
    }
    if let Some(items) = schema.get("items") {
        return json!([sample("", items)]);
    }
    if let Some(named) = schema.get("additionalProperties").filter(|named| named.is_object()) {
        return json!({ "app": sample("", named) });
    }
    if let Some(words) = schema.get("enum") {
        return words[0].clone();
    }
    schema.get("examples").map_or_else(|| schema.get("minimum").cloned().unwrap_or_else(|| json!("x")), |examples| examples[0].clone())
}

/// A document with every key that the schema has. Its one route leads to three places at once, which the checker does not take.
fn everything_at_once() -> Value {
    sample("", &config::schema())
}

/// The same with a route for each place.
fn everything() -> Value {
    let mut document = everything_at_once();
    document["backends"]["app"]["servers"] = json!(["https://127.0.0.1:9001"]);
    let routes = document["routes"].as_array_mut().unwrap();
    let of_route = routes[0].as_object_mut().unwrap();
    let places = ["redirect", "respond"].map(|place| (place, of_route.remove(place).unwrap()));
    routes.extend(places.map(|(place, value)| json!({ "name": place, "path": format!("/{place}"), place: value })));
    document
}

fn check(document: &Value, folder: &Path) -> Result<Config, ConfigError> {
    let token = folder.join("token");
    fs::write(&token, "secret\n").unwrap();
    let pair = rcgen::generate_simple_self_signed(["app".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("app.crt"), folder.join("app.key"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let mut text = toml::to_string(document).unwrap();
    for (placeholder, file) in [("TOKEN_FILE", &token), ("CERT_FILE", &certificate), ("KEY_FILE", &key)] {
        text = text.replace(placeholder, file.to_str().unwrap());
    }
    Config::parse("everything.toml", &text)
}

/// Every table of the document as a JSON pointer, the document itself first.
fn tables(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            found.push(pointer.to_owned());
            entries.iter().for_each(|(name, value)| tables(value, &format!("{pointer}/{name}"), found));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| tables(value, &format!("{pointer}/{index}"), found)),
        _ => {}
    }
}

#[test]
fn the_schema_is_a_schema_and_the_example_keeps_it() {
    jsonschema::draft202012::meta::validate(&config::schema()).unwrap();
    let example = to_json(&fs::read_to_string("config.toml").unwrap());
    if let Err(error) = validator().validate(&example) {
        panic!("{error} at {}", error.instance_path());
    }
}

#[test]
fn the_checker_takes_every_key_of_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let document = everything();
    validator().validate(&document).unwrap();
    check(&document, folder.path()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_schema_has_every_key_that_the_checker_takes_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut pointers = Vec::new();
    tables(&everything_at_once(), "", &mut pointers);
    assert_eq!(pointers.len(), 23, "{pointers:?}");
    // Tables whose keys are names that the operator chooses.
    let is_named = |pointer: &str| pointer == "/backends" || pointer.ends_with("_headers/set") || pointer.ends_with("_headers/add");
    for pointer in pointers.iter().filter(|pointer| !is_named(pointer)) {
        let mut document = everything_at_once();
        let table = document.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        let of_schema: BTreeSet<_> = table.keys().cloned().collect();
        table.insert("qqqqqqqq".into(), json!(1));
        assert!(!validator().is_valid(&document), "the schema takes an unknown key in {pointer}");
        let report = check(&document, folder.path()).unwrap_err().to_string();
        let (_, known) = report.split_once("keys here: ").unwrap_or_else(|| panic!("{report}"));
        let of_checker: BTreeSet<_> = known.lines().next().unwrap().split(", ").map(str::to_owned).collect();
        assert_eq!(of_checker, of_schema, "{pointer}");
    }
}

#[test]
fn both_refuse_a_value_of_another_type() {
    let folder = tempfile::tempdir().unwrap();
    let mut pointers = Vec::new();
    tables(&everything(), "", &mut pointers);
    for pointer in pointers {
        let names: Vec<_> = everything().pointer(&pointer).unwrap().as_object().unwrap().keys().cloned().collect();
        for name in names {
            let mut document = everything();
            // What can be switched on takes `true`.
            let (other, what) =
                if name == "proxy_protocol" { (json!(1), "this is an integer") } else { (json!(true), "this is a boolean") };
            document.pointer_mut(&pointer).unwrap()[&name] = other.clone();
            assert!(!validator().is_valid(&document), "the schema takes {other} for {pointer}/{name}");
            let report = check(&document, folder.path()).unwrap_err().to_string();
            assert!(report.contains(what), "{pointer}/{name}: {report}");
        }
    }
}

/// Values that look right, and values that do not, with what both must say of them.
fn values() -> Vec<(&'static str, Value, bool)> {
    vec![
        ("/drain_timeout", json!("1_000ms"), true),
        ("/drain_timeout", json!("10"), false),
        ("/drain_timeout", json!("1.5s"), false),
        ("/clients/max_body", json!("10m"), true),
        ("/clients/max_body", json!(100_000_000), true),
        ("/clients/max_body", json!("10MB"), false),
        ("/clients/max_connections", json!(0), false),
        ("/workers", json!(1), true),
        ("/workers", json!(-1), false),
        ("/listeners/0/address", json!("unix:/run/x.sock"), true),
        ("/listeners/0/address", json!("8080"), false),
        ("/listeners", json!([]), false),
        ("/listeners/0/tls", json!([{ "cert_file": "CERT_FILE", "key_file": "KEY_FILE" }]), true),
        ("/listeners/0/tls", json!([]), false),
        ("/listeners/0/tls", json!({ "cert_file": "CERT_FILE" }), false),
        ("/clients/trusted_proxies", json!(["fd00::/8", "10.0.0.1"]), true),
        ("/store/engine", json!("postgres"), false),
        ("/store/path", json!("data/"), false),
        ("/log/access", json!("stderr"), false),
        ("/log/access", json!("./access.log"), true),
        ("/backends", json!({}), false),
        ("/backends/app/servers", json!([]), false),
        ("/backends/app/servers", json!(["https://a"]), true),
        ("/backends/app/servers", json!(["https://a/"]), true),
        ("/backends/app/servers", json!(["http://a/b"]), false),
        ("/backends/app/concurrency", json!("adaptive"), true),
        ("/backends/app/concurrency", json!(16), true),
        ("/backends/app/concurrency", json!(0), false),
        ("/backends/app/concurrency", json!("many"), false),
        ("/backends/app/replay/rate", json!("10/h"), true),
        ("/backends/app/replay/rate", json!("10"), false),
        ("/backends/app/replay/profile", json!("fast"), true),
        ("/backends/app/replay/profile", json!("slow"), false),
    ]
}

/// The same of routes.
fn values_of_routes() -> Vec<(&'static str, Value, bool)> {
    vec![
        ("/routes/0/max_share", json!(1), true),
        ("/routes/0/max_share", json!(0), false),
        ("/routes", json!([]), false),
        ("/routes/0/name", json!("a b"), false),
        ("/routes/0/path", json!("= /login"), true),
        ("/routes/0/path", json!("login"), false),
        ("/routes/0/path", json!("/.forebay/x"), false),
        ("/routes/0/path", json!("/.forebayed"), true),
        ("/routes/0/host", json!("a.example:80"), false),
        ("/routes/0/host", json!("*.a.example"), true),
        ("/routes/0/host", json!(["a.example", "[::1]"]), true),
        ("/routes/0/host", json!([]), false),
        ("/routes/0/host", json!("a.*"), false),
        ("/routes/0/host", json!(".a.example"), false),
        ("/routes/0/methods", json!(["GET", "OPTIONS"]), true),
        ("/routes/0/methods", json!(["CONNECT"]), false),
        ("/routes/0/methods", json!([]), false),
        ("/routes/0/scheme", json!("https"), true),
        ("/routes/0/scheme", json!("ws"), false),
        ("/routes/0/add_prefix", json!("v2"), false),
        ("/routes/0/add_prefix", json!("/v2?x"), false),
        ("/routes/0/host_header", json!("app.internal:81"), true),
        ("/routes/0/locations", json!("drop"), false),
        ("/routes/0/request_headers/remove", json!(["X-A", "x-b"]), true),
        ("/routes/0/request_headers/remove", json!(["X A"]), false),
        ("/routes/0/request_headers/set", json!({ "X-A": "" }), false),
        ("/routes/0/request_headers/set", json!({ "X:A": "1" }), false),
        ("/routes/1/redirect/status", json!(200), false),
        ("/routes/2/respond/status", json!(404), true),
        ("/routes/2/respond/status", json!(101), false),
        ("/routes/0/spill/methods", json!(["post"]), false),
        ("/routes/0/spill/methods", json!(["HEAD"]), false),
        ("/routes/0/spill/methods", json!(["REPORT"]), true),
        ("/routes/0/spill/order_by", json!("none"), true),
        ("/routes/0/spill/order_by", json!([]), false),
        ("/routes/0/spill/order_by", json!(["json:/id"]), false),
        ("/routes/0/spill/order_by", json!(["query:id", "cookie:sid", "path"]), true),
        ("/routes/0/spill/accepted/status", json!(404), false),
    ]
}

#[test]
fn both_judge_values_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (pointer, value, right) in values().into_iter().chain(values_of_routes()) {
        let mut document = everything();
        *document.pointer_mut(pointer).unwrap() = value.clone();
        assert_eq!(validator().is_valid(&document), right, "schema: {pointer} = {value}");
        let checked = check(&document, folder.path());
        assert_eq!(checked.is_ok(), right, "checker: {pointer} = {value}: {checked:?}");
    }
}
