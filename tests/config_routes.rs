//! Routes that cannot be meant are refused at their place: those that take one another's requests or none, that lead nowhere or round and round, and
//! those that change what is not theirs.

use forebay::config::{Config, ConfigError};

const HEAD: &str = "[backends.app]\nservers = [\"http://127.0.0.1:9002\"]\n";

/// The faults of a file with these routes, each given as its lines after `name` and `path`.
fn faults(clients: &str, routes: &[(&str, &str)]) -> Vec<String> {
    let mut text = format!("{clients}{HEAD}");
    for (index, (path, lines)) in routes.iter().enumerate() {
        text.push_str(&format!("[[routes]]\nname = \"r{index}\"\npath = \"{path}\"\n{lines}\n"));
    }
    match Config::parse("config.toml", &text) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid(report)) => report.lines().collect(),
        Err(other) => panic!("{other}"),
    }
}

/// The fault of one route to the backend.
fn fault(path: &str, lines: &str) -> String {
    faults("", &[(path, &format!("backend = \"app\"\n{lines}"))]).join(" & ")
}

#[test]
fn routes_that_take_one_anothers_requests_are_refused() {
    let app = "backend = \"app\"";
    let with = |more: &str| format!("{app}\n{}", if more.is_empty() { "# no more" } else { more });
    for (first, second, expected) in [
        (with(""), with(""), Some("no request would come here")),
        (with("host = \"a\""), with("host = \"A\""), Some("no request would come here")),
        (with("host = [\"a\", \"b\"]"), with("host = [\"b\", \"c\"]"), Some("b would not come here")),
        (with("methods = [\"GET\", \"POST\"]"), with("methods = [\"POST\", \"PUT\"]"), Some("POST would not come here")),
        (with("methods = [\"GET\", \"POST\"]"), with("methods = [\"POST\"]"), Some("no request would come here")),
        (with("methods = [\"GET\"]"), with("methods = [\"POST\"]"), None),
        (with("methods = [\"GET\"]"), with(""), None),
        (with("host = \"a\""), with(""), None),
        (with("host = \"*.a\""), with("host = \"a\""), None),
        (with("scheme = \"http\""), with(""), None),
    ] {
        let found = faults("", &[("/x", &first), ("/x", &second)]);
        let expected: Vec<_> =
            expected.map(|why| format!("config.toml:10:8: two routes take the same requests: {why}")).into_iter().collect();
        assert_eq!(found, expected, "{first} / {second}");
    }
    let routes = [("= /du%70", with("")), ("= /%64up", with(""))];
    let found = faults("", &routes.each_ref().map(|(path, lines)| (*path, &**lines)));
    assert_eq!(found.len(), 1, "they are the same, however they are written: {found:?}");
}

#[test]
fn a_route_that_no_request_can_take_is_refused() {
    for path in ["/a//b", "/a/../b/", "= /a/."] {
        assert!(fault(path, "").contains("no request has such a path"), "{path}: {}", fault(path, ""));
    }
    assert_eq!(fault("/", "scheme = \"https\""), "config.toml:7:10: no request comes by https: no request would come here");
    let behind_a_proxy = faults("[clients]\ntrusted_proxies = [\"10.0.0.0/8\"]\n", &[("/", "backend = \"app\"\nscheme = \"https\"")]);
    assert_eq!(behind_a_proxy, [""; 0]);
}

#[test]
fn a_route_leads_to_one_place() {
    let found = |lines| faults("", &[("/", lines)]).join(" & ");
    assert_eq!(found(""), "config.toml:3:1: `[routes]` has no `backend`: `backend` is missing");
    let two = found("backend = \"app\"\nrespond = { status = 404 }");
    assert_eq!(two, "config.toml:7:11: a route has `backend` and `respond`: it leads to one place");
    let idle = found("respond = {}\nmax_share = 0.5\nstrip_prefix = \"/\"");
    assert!(
        idle.contains("7:13: `routes.max_share` in a route without a backend") && idle.contains("8:16: `routes.strip_prefix`"),
        "{idle}"
    );
    assert!(found("respond = { status = 204, body = \"x\" }").contains("`routes.respond` has a body, and an answer 204 has none"));
}

#[test]
fn a_redirect_leads_somewhere_else() {
    let found = |lines| faults("", &[("/", lines)]).join(" & ");
    let round = "the redirect leads to itself: the client would go round and round";
    for (lines, expected) in [
        ("redirect = { to = \"https://$host$request_uri\" }", round),
        ("scheme = \"http\"\nredirect = { to = \"http://${host}$request_uri\" }", round),
        ("scheme = \"http\"\nredirect = { to = \"https://$host$request_uri\" }", ""),
        ("redirect = { to = \"https://$host/new\" }", ""),
        ("redirect = { to = \"/new\", status = 304 }", "304 is no redirect"),
        ("redirect = { to = \"new\" }", "`routes.redirect.to` is not a URL"),
        ("redirect = { to = \"https://$hots/\" }", "there is no variable `$hots`; did you mean `$host`?"),
        ("redirect = { to = \"/$\" }", "a `$` begins the name of a variable"),
    ] {
        let found = found(lines);
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{lines}: {found}");
    }
}

#[test]
fn a_prefix_that_is_taken_off_is_there() {
    let found = fault("/api/", "strip_prefix = \"/app\"");
    let expected =
        "config.toml:7:16: `routes.strip_prefix` /app is not the beginning of the route's path: there would be nothing to take off";
    assert_eq!(found, expected);
    for (path, lines) in [("/api/", "strip_prefix = \"/api\""), ("= /api", "strip_prefix = \"/api\""), ("/", "add_prefix = \"/v2\"")] {
        assert_eq!(fault(path, lines), "", "{path} {lines}");
    }
    assert!(fault("/", "add_prefix = \"/a/../b\"").contains("`//`, `.` and `..` are no segments"));
    assert!(fault("/", "host_header = \"http://a\"").contains("`routes.host_header` is not a host"));
    assert!(fault("/", "locations = \"keep\"").contains("there is nothing to put back"));
}

#[test]
fn fields_that_hold_a_message_together_cannot_be_changed() {
    for name in [
        "Connection",
        "Transfer-Encoding",
        "content-length",
        "TE",
        "Upgrade",
        "Keep-Alive",
        "Trailer",
        "Via",
        "Forebay-Id",
        "Content_Length",
    ] {
        for side in ["request", "response"] {
            for change in [format!("set = {{ {name} = \"x\" }}"), format!("add = {{ {name} = \"x\" }}"), format!("remove = [\"{name}\"]")] {
                let found = fault("/", &format!("{side}_headers = {{ {change} }}"));
                assert!(found.contains(&format!("the field `{}` cannot be changed", name.to_lowercase())), "{side} {change}: {found}");
            }
        }
    }
    assert!(fault("/", "request_headers = { set = { Host = \"a\" } }").contains("it has a key of its own"));
    assert!(
        fault("/", "request_headers = { set = { Idempotency-Key = \"a\" } }")
            .contains("the backend would take every write for the same one")
    );
    assert_eq!(fault("/", "request_headers = { set = { Idempotency-Key = \"$http_x_order\" } }"), "");
    assert!(fault("/", "request_headers = { set = { X-A = \"1\" }, remove = [\"x-a\"] }").contains("the field `x-a` is changed twice"));
    assert!(fault("/", "request_headers = { remove = [\"X-A:\"] }").contains("not the name of a header field"));
}

#[test]
fn what_spills_of_a_route_is_bounded_by_its_own_limit() {
    assert_eq!(fault("/", "max_body = \"2GiB\"\n[routes.spill]\nmax_body = \"2GiB\""), "");
    let found = fault("/", "max_body = \"1MiB\"\n[routes.spill]\nmax_body = \"2MiB\"");
    assert_eq!(found, "config.toml:9:12: `routes.spill.max_body` is more than `routes.max_body`: no larger body comes in than 1MiB");
}
