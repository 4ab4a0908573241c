//! Whatever is wrong with a configuration is shown, all at once, at its place, with what to do.

use std::fs;

use forebay::config::{Config, ConfigError, Report};

const BASE: &str = r#"
[backends.app]
servers = ["http://127.0.0.1:9002"]
[[routes]]
name = "all"
path = "/"
backend = "app"
"#;

fn report(text: &str) -> Report {
    match Config::parse("config.toml", text) {
        Err(ConfigError::Invalid(report)) => *report,
        other => panic!("no report but {other:?} of {text}"),
    }
}

fn lines(text: &str) -> Vec<String> {
    report(text).lines().collect()
}

#[test]
fn a_file_with_ten_faults_shows_all_ten_in_one_run() {
    let text = r#"# ten faults
worker = 4

[[listeners]]
address = "localhost:8080"

[clients]
max_body = "10MB"

[admin]
address = "0.0.0.0:8081"

[backends.admin]
servers = ["127.0.0.1:9001"]
concurrency = "many"

[[routes]]
name = "orders"
path = "/admin/orders/"
backend = "adnim"
[routes.spill]
methods = ["POST", "put"]
order_by = ["client-ip", "header:authorization"]

[[routes]]
name = "orders"
path = "/"
backend = "admin"
"#;
    let report = report(text);
    assert_eq!(report.count(), 10);
    insta::assert_snapshot!(report.render(false));
}

/// What operators get wrong, each alone in an otherwise right file, and the lines of the report.
const IMPOSSIBLE: &[(&str, &str)] = &[
    (
        "[[listeners]]\naddress = \"127.0.0.1:80\"\n[[listeners]]\naddress = \"0.0.0.0:80\"",
        "config.toml:4:11: two listeners take the address 0.0.0.0:80: taken already",
    ),
    (
        "[[listeners]]\naddress = \"unix:a\"\n[[listeners]]\naddress = \"unix:a\"",
        "config.toml:4:11: two listeners take the address unix:a: taken already",
    ),
    (
        "[admin]\naddress = \"127.0.0.1:8080\"",
        "config.toml:2:11: `admin.address` 127.0.0.1:8080 is the address of a listener too: admin and clients need an address each",
    ),
    (
        "[admin]\naddress = \"[::]:9\"",
        "config.toml:2:11: `admin.address` is not loopback, and there is no `admin.token_file`: anybody who reaches it could steer forebay",
    ),
    (
        "[[listeners]]\naddress = \"0.0.0.0:9002\"",
        "config.toml:4:12: the server http://127.0.0.1:9002 is forebay itself: requests would go round and round",
    ),
    (
        "[admin]\naddress = \"127.0.0.1:9002\"",
        "config.toml:4:12: the server http://127.0.0.1:9002 is forebay's own admin listener: `admin.address` is here",
    ),
    (
        "[backends.x]\nservers = [\"http://a\", \"http://A:80\"]",
        "config.toml:2:24: `backends.x.servers` has http://a:80 twice: it is one server all the same",
    ),
    (
        "[backends.x]\nservers = [\"http://a\"]\nconcurrency = \"adaptiv\"",
        "config.toml:3:15: `backends.x.concurrency` is not a number of requests: did you mean \"adaptive\"?",
    ),
    (
        "[[routes]]\nname = \"b\"\npath = \"/b\"\nbackend = \"app\"\nmax_share = 1.5",
        "config.toml:5:13: `routes.max_share` is too large: the most is 1.0",
    ),
    (
        "[[routes]]\nname = \"b\"\npath = \"/b\"\nbackend = \"app\"\nmax_share = \"50%\"",
        "config.toml:5:13: `routes.max_share` is not a part of a whole: this is a string",
    ),
    (
        "[backends.x]\nservers = [\"http://a\"]\nconcurrency = 2\nreplay = { concurrency = 3 }",
        "config.toml:4:26: `backends.x.replay.concurrency` is more than the backend's own concurrency: at most 2 requests are at this backend at once",
    ),
    (
        "[backends.x]\nservers = [\"http://a\"]\nhealth = { path = \"/\", timeout = \"3s\" }",
        "config.toml:3:34: `backends.x.health.timeout` is longer than its interval: a check would still be under way when the next is due",
    ),
    (
        "[backends.x]\nservers = [\"http://a\"]\nhealth = { path = \"http://a/\" }",
        "config.toml:3:19: `backends.x.health.path` is not a path: it begins with `/` and is written as in a request",
    ),
    (
        "[backends.x]\nservers = [\"http://a\"]\nconcurrency = 2\n[[routes]]\nname = \"b\"\npath = \"/b\"\nbackend = \"x\"\nconcurrency = 3",
        "config.toml:8:15: the route's concurrency is more than that of its backend `x`: at most 2 requests are at this backend at once",
    ),
    (
        "[[routes]]\nname = \"b\"\npath = \"/b\"\nbackend = \"apps\"",
        "config.toml:4:11: no backend has the name `apps`: did you mean `app`?",
    ),
    (
        "[[routes]]\nname = \"all\"\npath = \"/b\"\nbackend = \"app\"",
        "config.toml:8:8: two routes have the name `all`: counts and logs could not tell them apart",
    ),
    (
        "[[routes]]\nname = \"b\"\npath = \"/\"\nbackend = \"app\"",
        "config.toml:9:8: two routes take the same requests: no request would come here",
    ),
];

#[test]
fn each_impossible_combination_is_named() {
    for (extra, line) in IMPOSSIBLE {
        let text = format!("{extra}{BASE}");
        assert_eq!(lines(&text), [*line], "{text}");
    }
}

#[test]
fn spilling_that_cannot_work_is_named() {
    let cases = [
        ("max_body = \"2GiB\"", "`routes.spill.max_body` is more than `clients.max_body`: no larger body comes in than 1GiB"),
        ("methods = []", "`routes.spill.methods` is empty: at least one is needed"),
        ("methods = [\"PUT\", \"PUT\"]", "`routes.spill.methods` has PUT twice: once is enough"),
        ("max_attempts = 0", "`routes.spill.max_attempts` is too small: the least is 1"),
        ("max_age = \"0s\"", "`routes.spill.max_age` is too small: the least is 1s"),
        ("delivery = \"exactly-once\"", "`routes.spill.delivery` is not a promise of delivery: nobody can promise that"),
        ("when = \"alway\"", "`routes.spill.when` is not a moment to queue: did you mean \"always\"?"),
        ("order_by = \"client-ip\"", "`routes.spill.order_by` is not an array: this is a string"),
        ("order_by = [\"path\", \"path\"]", "`routes.spill.order_by` has path twice: once is enough"),
        ("order_by = [\"path\", \"query:id\"]", "`routes.spill.order_by` never comes to query:id: `path` is always present"),
        (
            "order_by = \"none\"\non_dead_letter = \"hold\"",
            "`on_dead_letter = \"hold\"` with `order_by = \"none\"`: without an ordering key there is nothing to hold",
        ),
        (
            "accepted = { status = 204, body = \"x\" }",
            "`routes.spill.accepted` has a body, and an answer 204 has none: it could not be sent",
        ),
        ("accepted = { status = 500 }", "`routes.spill.accepted.status` is too large: the most is 399"),
    ];
    for (extra, line) in cases {
        let lines = lines(&format!("{BASE}[routes.spill]\n{extra}\n"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(&format!(": {line}")), "{lines:?}");
    }
}

#[test]
fn whose_word_about_clients_counts_has_to_be_said() {
    let with = |clients: &str, said: &str| format!("{clients}[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = {said}\n{BASE}");
    for right in ["false", "{ from = [\"10.0.0.0/8\"], others = \"plain\" }"] {
        Config::parse("config.toml", &with("", right)).unwrap();
    }
    Config::parse("config.toml", &with("clients.trusted_proxies = [\"10.0.0.0/8\"]\n", "true")).unwrap();
    for (said, line) in [
        ("true", "`proxy_protocol` is on, and nobody may speak it: whose heads are to be believed?"),
        ("{ from = [] }", "`listeners.proxy_protocol.from` is empty: at least one is needed"),
        (
            "{ from = [\"10.0.0.0/8\"], others = \"drop\" }",
            "`listeners.proxy_protocol.others` is not what becomes of others: not one of the words that are known here",
        ),
        ("\"on\"", "`listeners.proxy_protocol` is not `true`, `false` or a table: this is a string"),
        ("{ trusted = 1, from = [\"10.0.0.0/8\"] }", "unknown key `trusted` in `[listeners.proxy_protocol]`: not a key of this table"),
    ] {
        let lines = lines(&with("", said));
        assert!(lines[0].ends_with(&format!(": {line}")), "{lines:?}");
    }
}

#[test]
fn a_rate_of_clients_says_what_it_means() {
    for (clients, line) in [
        ("rate = \"100/s\"\nburst = 200\nrate_by = [\"header:authorization\", \"client-ip\"]", None),
        ("burst = 200", Some("`clients.burst` without `clients.rate`: it says how a rate is meant, and there is none")),
        ("rate_by = [\"path\"]", Some("`clients.rate_by` without `clients.rate`: it says how a rate is meant, and there is none")),
        ("rate = 100", Some("`clients.rate` is not a rate: the time is missing")),
        ("rate = \"1/s\"\nburst = 0", Some("`clients.burst` is too small: the least is 1")),
        ("rate = \"1/s\"\nrate_by = []", Some("`clients.rate_by` is empty: at least one is needed")),
        (
            "rate = \"1/s\"\nrate_by = [\"client-ip\", \"path\"]",
            Some("`clients.rate_by` never comes to path: `client-ip` is always present"),
        ),
    ] {
        let text = format!("[clients]\n{clients}\n{BASE}");
        match line {
            None => drop(Config::parse("config.toml", &text).unwrap()),
            Some(line) => assert!(lines(&text)[0].ends_with(&format!(": {line}")), "{:?}", lines(&text)),
        }
    }
    let of_route = lines(&format!("{BASE}burst = 3\n"));
    assert!(
        of_route[0].ends_with(": `routes.burst` without `routes.rate`: it says how a rate is meant, and there is none"),
        "{of_route:?}"
    );
}

#[test]
fn what_is_not_built_is_refused_as_not_supported_yet_and_never_as_unknown() {
    let route = |extra: &str| format!("{BASE}{extra}\n");
    let cases = [
        format!("[store]\nengine = \"postgres\"\n{BASE}"),
        route("[routes.spill]\nwait = \"2s\""),
        route("[routes.spill]\ncallback = \"https://a/\""),
        route("[routes.spill]\norder_by = [\"json:/order/id\"]"),
    ];
    for text in cases {
        let lines = lines(&text);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("not supported yet") && !lines[0].contains("unknown"), "{lines:?}");
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_or_with_where_it_belongs() {
    let text = format!("spil = 1\n[clients]\nmax-body = 1\nkeep_dead = \"1h\"\n{BASE}");
    let shown = report(&text).render(false);
    for part in [
        "unknown key `spil` at the top level",
        "did you mean `max_body`?",
        "unknown key `keep_dead` in `[clients]`",
        "`keep_dead` is a key of `[store]`",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn columns_count_characters_whatever_the_line_ending_and_the_script() {
    let text = format!(
        "\u{feff}# Z\u{fc}ge\r\n\"gr\u{fc}\u{df}e\" = 1\r\nclients = {{ \"\u{65e5}\u{672c}\" = 1, max_bdy = 2 }}\r\n{}",
        BASE.replace('\n', "\r\n")
    );
    let report = report(&text);
    let places: Vec<_> = report.lines().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places, ["config.toml:2:1", "config.toml:3:13", "config.toml:3:23"]);
    insta::assert_snapshot!(report.render(false));
}

#[test]
fn a_byte_order_mark_is_no_column_of_the_first_line() {
    let report = report(&format!("\u{feff}worker = 1\n{BASE}"));
    assert!(report.lines().all(|line| line.starts_with("config.toml:1:1: unknown key `worker`")), "{report}");
    assert!(report.render(false).contains("config.toml:1:1\n"), "{report}");
}

#[test]
fn several_errors_of_syntax_are_shown_at_once_and_nothing_is_missed_because_of_them() {
    let text = "drain_timeout = 30s\n[store\npath = 'x'\n[clients]\nidle_timeout = 5\n";
    let lines = lines(text);
    assert_eq!(
        lines,
        [
            "config.toml:1:17: this is not TOML: string values must be quoted, expected literal string",
            "config.toml:2:7: this is not TOML: unclosed table, expected `]`",
            "config.toml:5:16: `clients.idle_timeout` is not a duration: the unit is missing",
        ],
        "the backends and routes that are missing may be behind an error"
    );
}

#[test]
fn a_key_that_stands_twice_is_shown_at_its_second_place() {
    let lines = lines(&format!("workers = 1\nworkers = 2\n{BASE}"));
    assert_eq!(lines, ["config.toml:2:1: this is not TOML: duplicate key"]);
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let missing = Config::load(&path).unwrap_err().to_string();
    assert!(missing.starts_with(path.to_str().unwrap()) && missing.contains("No such file"), "{missing}");
    fs::write(&path, b"# \xc3\xbc\nname = \"\xff\"\n").unwrap();
    let Err(ConfigError::Invalid(report)) = Config::load(&path) else { panic!("no report") };
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines, [format!("{}:2:9: the file is not UTF-8: byte 0xff cannot stand here", path.display())]);
}

#[test]
fn an_empty_file_lacks_backends_and_routes() {
    let lines = lines("");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("no `backends`") && lines[1].contains("no `routes`"), "{lines:?}");
}

#[test]
fn a_token_file_must_hold_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let text = format!("[admin]\ntoken_file = \"{}\"\naddress = \"0.0.0.0:8081\"\n{BASE}", path.display());
    assert!(lines(&text)[0].contains("cannot be read"));
    for (content, problem) in
        [("\n \n", "the file is empty"), ("two words\n", "one word of visible ASCII"), ("schl\u{fc}ssel", "one word of visible ASCII")]
    {
        fs::write(&path, content).unwrap();
        assert!(lines(&text)[0].contains(problem), "{content}");
    }
    fs::write(&path, "  s3cret\r\n").unwrap();
    assert_eq!(Config::parse("config.toml", &text).unwrap().admin.token.as_deref(), Some("s3cret"));
}

#[test]
fn a_store_that_is_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines(&format!("[store]\npath = \"{}\"\n{BASE}", folder.path().display()));
    assert_eq!(lines, ["config.toml:2:8: `store.path` is a folder: name a file in it"]);
}

#[test]
fn every_example_of_a_wrong_address_is_answered_with_a_right_one() {
    let cases = [
        ("listen", ":8080", "write \"0.0.0.0:8080\""),
        ("listen", "*:80", "write \"0.0.0.0:80\""),
        ("listen", "8080", "write \"127.0.0.1:8080\""),
        ("listen", "localhost:80", "write \"127.0.0.1:80\""),
        ("listen", "::1:80", "an IPv6 address stands in brackets"),
        ("listen", "[::1]", "write \"[::1]:8080\""),
        ("listen", "10.0.0.1", "write \"10.0.0.1:8080\""),
        ("listen", "http://10.0.0.1:80", "write \"10.0.0.1:80\""),
        ("listen", "10.0.0.1:99999", "a number from 0 to 65535"),
        ("listen", "unix:", "the path of the socket is missing"),
        ("listen", "unix:///run/a", "write \"unix:/run/a\""),
        ("server", "10.0.0.1:80", "write \"http://10.0.0.1:80\""),
        ("server", "http://a/b", "write \"http://a\""),
        ("server", "http://a:0", "port 0 is no port of a server"),
        ("server", "http://a:99999", "port must be a number"),
        ("server", "http://a:", "port must be a number"),
        ("server", "http://", "not a URL"),
        ("server", "http://u:p@a", "no user or password"),
        ("server", "http://10.0.0.300", "neither an IP address nor a host name"),
        ("server", "http://unix:/run/a", "write \"unix:/PATH\""),
        ("server", "ftp://a", "the scheme must be `http://` or `https://`"),
        ("proxy", "10.0.0.1/8", "write \"10.0.0.0/8\""),
        ("proxy", "example.com", "not an IP address or network"),
    ];
    for (place, value, advice) in cases {
        let text = match place {
            "listen" => format!("[[listeners]]\naddress = \"{value}\"\n{BASE}"),
            "server" => format!("[backends.x]\nservers = [\"{value}\"]\n{BASE}"),
            _ => format!("[clients]\ntrusted_proxies = [\"{value}\"]\n{BASE}"),
        };
        let report = report(&text);
        assert_eq!(report.count(), 1, "{report}");
        assert!(report.render(false).contains(advice), "{value}: {report}");
    }
}
