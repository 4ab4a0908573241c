//! `forebay import-nginx`: real configurations of nginx become configurations that pass the check, each directive that did not carry over stands at its
//! place with its reason, and nothing that is fed to it makes it panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod any;
mod cautions;
mod locations;
mod servers;
mod values;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

struct Run {
    code: i32,
    out: String,
    err: String,
}

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import_nginx/conf")
}

fn forebay(folder: &Path, args: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(args).current_dir(folder).env_remove("FOREBAY_CONFIG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Imports a text as `nginx.conf` and gives what was written, which passes the check.
fn imported(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let run = forebay(folder.path(), &["import-nginx", "nginx.conf", "-o", "config.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let check = forebay(folder.path(), &["check"]);
    assert_eq!(check.code, 0, "{}", check.err);
    fs::read_to_string(folder.path().join("config.toml")).unwrap()
}

/// The lines of the route with this path.
fn route<'a>(config: &'a str, path: &str) -> &'a str {
    let at = config.find(&format!("path = \"{path}\"\n")).unwrap_or_else(|| panic!("no {path} in {config}"));
    config[at..].split("\n\n").next().unwrap()
}

#[test]
fn a_whole_configuration_with_includes_becomes_one_that_passes_the_check() {
    let run = forebay(&conf(), &["import-nginx", "nginx.conf"]);
    assert_eq!(run.code, 0, "{}", run.err);
    insta::assert_snapshot!("nginx.conf", run.out);
    insta::assert_snapshot!("nginx.conf-summary", run.err);
}

#[test]
fn the_list_as_json_has_every_note_with_its_place() {
    let run = forebay(&conf(), &["import-nginx", "nginx.conf", "--output", "json"]);
    let list: Value = serde_json::from_str(&run.out).unwrap();
    let notes = list["notes"].as_array().unwrap();
    let comments = list["config"]
        .as_str()
        .unwrap()
        .lines()
        .filter(|line| line.contains("` not carried over: ") || line.contains("` changed: "))
        .count();
    assert_eq!(notes.len(), comments, "each note is a comment");
    let auth = notes.iter().find(|note| note["directive"] == "auth_basic Office").unwrap();
    assert_eq!((auth["file"].as_str(), auth["line"].as_u64(), auth["column"].as_u64()), (Some("sites/a-shop.conf"), Some(28), Some(9)));
    assert_eq!(auth["kind"], "not-carried-over");
}

#[test]
fn a_uri_of_proxy_pass_takes_the_place_of_what_the_location_matched() {
    let config = imported(
        "server { location / { proxy_pass http://10.0.0.1; }
         location /name/ { proxy_pass http://10.0.0.1/remote/; }
         location /root/ { proxy_pass http://10.0.0.1/; }
         location /glued/ { proxy_pass http://10.0.0.1/x; }
         location = /one { proxy_pass http://10.0.0.1/two; }
         location /same/ { proxy_pass http://10.0.0.1/same/; }
         location /whole/ { proxy_pass http://10.0.0.1$request_uri; }
         location /socket/ { proxy_pass http://unix:/run/a.sock:/in/; } }",
    );
    let has = |path: &str, lines: &[&str]| {
        let route = route(&config, path);
        let found: Vec<_> = route.lines().filter(|line| line.contains("_prefix")).collect();
        assert_eq!(found, lines, "{route}");
    };
    has("/", &[]);
    has("/name/", &["strip_prefix = \"/name/\"", "add_prefix = \"/remote/\""]);
    has("/root/", &["strip_prefix = \"/root/\""]);
    has("/glued/", &["strip_prefix = \"/glued/\"", "add_prefix = \"/x\""]);
    has("= /one", &["strip_prefix = \"/one\"", "add_prefix = \"/two\""]);
    has("/same/", &[]);
    has("/whole/", &[]);
    has("/socket/", &["strip_prefix = \"/socket/\"", "add_prefix = \"/in/\""]);
    assert!(config.contains("servers = [\"unix:/run/a.sock\"]"), "{config}");
    assert!(route(&config, "= /name").contains("redirect = { status = 301, to = \"/name/$is_args$args\" }"));
}

#[test]
fn what_is_inherited_holds_and_what_is_hidden_does_not() {
    let config = imported(
        "http { proxy_set_header Host $host; proxy_set_header X-A 1; client_max_body_size 5m; proxy_read_timeout 20s;
         server { server_name a; client_max_body_size 0;
           location / { proxy_pass http://10.0.0.1; }
           location /own/ { proxy_set_header X-B \"2 $server_name\"; proxy_pass http://10.0.0.1:81; client_max_body_size 5m; }
           location /own/deeper/ { proxy_set_header Host fixed.example; proxy_read_timeout 500ms; proxy_pass http://10.0.0.1:81; } } }",
    );
    assert!(config.contains("max_body = \"5MiB\""));
    let all = route(&config, "/");
    assert!(all.contains("set = { X-A = \"1\" }") && !all.contains("host_header") && all.contains("max_body = \"16TiB\""), "{all}");
    assert!(all.contains("response_timeout = \"20s\""), "{all}");
    let own = route(&config, "/own/");
    assert!(own.contains("set = { X-B = \"2 a\" }") && own.contains("host_header = \"10.0.0.1:81\"") && !own.contains("max_body"), "{own}");
    let deeper = route(&config, "/own/deeper/");
    assert!(deeper.contains("host_header = \"fixed.example\"") && deeper.contains("response_timeout = \"500ms\""), "{deeper}");
}

#[test]
fn certificates_schemes_and_certbots_redirects_carry_over() {
    let folder = tempfile::tempdir().unwrap();
    for (stem, names) in [("a", ["example.com", "www.example.com"]), ("b", ["shop.example.com", "shop.example.org"])] {
        let pair = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
        fs::write(folder.path().join(format!("{stem}.crt")), pair.cert.pem()).unwrap();
        fs::write(folder.path().join(format!("{stem}.key")), pair.signing_key.serialize_pem()).unwrap();
    }
    let text = fs::read_to_string(conf().join("tls.conf")).unwrap().replace("CERTS/", "");
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let run = forebay(folder.path(), &["import-nginx", "nginx.conf", "-o", "config.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(forebay(folder.path(), &["check"]).code, 0);
    let config = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    for line in [
        "tls = [{ cert_file = \"a.crt\", key_file = \"a.key\" }, { cert_file = \"b.crt\", key_file = \"b.key\" }]",
        "path = \"/\"\nhost = \"www.example.com\"\nscheme = \"http\"\nredirect = { status = 301, to = \"https://$host$request_uri\" }",
        "path = \"/\"\nscheme = \"http\"\nrespond = { status = 404 }",
        "path = \"/\"\nscheme = \"https\"\nbackend = \"10-0-0-9-8443\"",
        "path = \"/ws/\"\nscheme = \"https\"\nbackend = \"local-8081\"",
        "path = \"/loop/\"\nscheme = \"https\"\nrespond = { status = 502 }",
        "path = \"/\"\nhost = \"shop.example.com\"\nscheme = \"https\"\nbackend = \"local-3000\"",
        "address = \"127.0.0.1:9081\"",
    ] {
        assert!(config.contains(line), "{line} is not in\n{config}");
    }
    for dropped in ["ssl_verify_client on", "proxy_pass https://10.0.0.9:8443", "if ($http_user_agent"] {
        assert!(config.lines().any(|line| line.starts_with("# nginx.conf:") && line.contains(dropped)), "{dropped} is not in\n{config}");
    }
}

#[test]
fn what_is_no_configuration_of_nginx_is_an_error_at_its_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.conf");
    fs::write(folder.path().join("round.conf"), "include round.conf;").unwrap();
    for (text, expected) in [
        ("http {\n  server {\n    listen 80\n  }\n}\n", "nginx.conf:4:3: unexpected `}`: `;` is missing after `listen` in line 3"),
        ("http {\n", "nginx.conf:2:1: the file ends within the block that begins in line 1: `}` is missing"),
        ("user 'www;\n", "nginx.conf:1:6: the quote ' is not closed"),
        ("include round.conf;", "round.conf:1:1: includes go round: more than 16 files within one another"),
        (
            "events {}\n",
            "nginx.conf: there is no `server` in it, and in no file that it includes; name the file that has one, or all of nginx.conf",
        ),
        ("", "nginx.conf: there is no `server` in it, and in no file that it includes; name the file that has one, or all of nginx.conf"),
    ] {
        fs::write(&path, text).unwrap();
        let run = forebay(folder.path(), &["import-nginx", "nginx.conf"]);
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (1, "", format!("forebay: {expected}\n").as_str()));
    }
    let run = forebay(folder.path(), &["import-nginx", "none.conf"]);
    assert_eq!((run.code, run.err.as_str()), (1, "forebay: none.conf: No such file or directory (os error 2)\n"));
}

#[test]
fn a_file_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nginx.conf"), "server { return 204; }").unwrap();
    fs::write(folder.path().join("config.toml"), "mine").unwrap();
    let run = forebay(folder.path(), &["import-nginx", "nginx.conf", "-o", "config.toml"]);
    assert_eq!((run.code, run.err.as_str()), (1, "forebay: config.toml: File exists (os error 17)\n"));
    assert_eq!(fs::read_to_string(folder.path().join("config.toml")).unwrap(), "mine");
}

#[test]
fn limits_of_clients_hold_where_they_held() {
    let config = imported(
        "limit_req_zone $binary_remote_addr zone=all:10m rate=20r/s;
         limit_req_zone $binary_remote_addr zone=login:10m rate=6r/m;
         limit_req_zone $server_name zone=server:10m rate=1000r/s;
         limit_conn_zone $binary_remote_addr zone=addr:10m;
         limit_req zone=all burst=40 nodelay;
         server { limit_conn addr 10;
           location / { proxy_pass http://10.0.0.1; limit_conn addr 1; }
           location /login { proxy_pass http://10.0.0.1; limit_req zone=login; }
           location /server { proxy_pass http://10.0.0.1; limit_req zone=server; } }",
    );
    let clients = config[config.find("[clients]").unwrap()..].split("\n\n").next().unwrap();
    for line in ["rate = \"20/s\"", "burst = 41", "max_connections_per_client = 10"] {
        assert!(clients.lines().any(|written| written == line), "{line}: {config}");
    }
    assert!(route(&config, "/login").ends_with("rate = \"6/min\"\nburst = 1"), "{config}");
    assert!(!route(&config, "/").contains("rate"), "{config}");
    assert!(
        config.contains("`limit_req zone=server` not carried over") && config.contains("`limit_conn addr 1` not carried over"),
        "{config}"
    );
}

#[test]
fn who_names_clients_before_us_is_carried_over() {
    let config = imported(
        "set_real_ip_from 10.0.0.0/8; real_ip_header proxy_protocol;
         server { listen 8080 proxy_protocol; location / { proxy_pass http://10.0.0.1; } }",
    );
    assert!(config.contains("proxy_protocol = { from = [\"10.0.0.0/8\"] }") && !config.contains("trusted_proxies ="), "{config}");
    let unnamed = imported("server { listen 8080 proxy_protocol; location / { proxy_pass http://10.0.0.1; } }");
    assert!(unnamed.contains("CAUTION: only who is named in `proxy_protocol.from`") && unnamed.contains("\"192.168.0.0/16\""), "{unnamed}");
}

#[test]
fn what_a_server_behind_tls_is_checked_against_is_carried_over_where_it_can_be_read() {
    let config = imported(
        "server { location / { proxy_pass https://10.0.0.1:8443; proxy_ssl_verify on; proxy_ssl_name shop.internal; }
         location /b { proxy_pass https://10.0.0.2; proxy_ssl_trusted_certificate /nowhere/ca.pem; } }",
    );
    assert!(config.contains("servers = [\"https://10.0.0.1:8443\"]\ntls = { server_name = \"shop.internal\" }"), "{config}");
    assert!(config.contains("`proxy_ssl_trusted_certificate /nowhere/ca.pem` not carried over"), "{config}");
}

#[test]
fn both_kinds_of_addresses_are_listened_on_as_nginx_has_it() {
    let config = imported(
        "server { listen 80; listen [::]:80 ipv6only=on; return 204; } server { server_name a; listen [::]:81 ipv6only=off; return 204; }",
    );
    let listeners: Vec<_> = config.lines().filter(|line| line.starts_with("address = ")).collect();
    assert_eq!(listeners, ["0.0.0.0:80", "[::]:80", "[::]:81", "0.0.0.0:81"].map(|address| format!("address = \"{address}\"")));
    assert!(!config.contains("options of the socket"), "{config}");
}

/// What is printed of an import, and what was written.
fn told(text: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let run = forebay(folder.path(), &["import-nginx", "nginx.conf"]);
    assert_eq!(run.code, 0, "{}", run.err);
    (run.err, run.out)
}

#[test]
fn nothing_opens_without_a_word_of_caution() {
    let proxy = "proxy_pass http://10.0.0.1;";
    for (text, cautions) in [
        (format!("server {{ allow 10.0.0.0/8; deny all; location / {{ {proxy} }} location /b {{ {proxy} }} }}"), 2),
        (format!("server {{ location /a/ {{ auth_basic x; location /a/b/ {{ {proxy} }} }} }}"), 1),
        (format!("server {{ location /a/ {{ allow 10.0.0.0/8; deny all; return 204; location /a/b/ {{ {proxy} }} }} }}"), 2),
        (
            format!(
                "server {{ location / {{ try_files $uri @app; }} location @app {{ auth_basic x; allow 10.0.0.1; deny all; {proxy} }} }}"
            ),
            3,
        ),
        (format!("server {{ if ($http_x_key != secret) {{ return 403; }} location / {{ {proxy} }} }}"), 1),
        (format!("server {{ location / {{ if ($arg_token = \"\") {{ return 401; }} {proxy} }} }}"), 1),
        (format!("server {{ include allowed.conf; location / {{ {proxy} }} }}"), 1),
        (format!("server {{ location / {{ proxy_set_header X-User $remote_user; {proxy} }} }}"), 1),
        (format!("server {{ location / {{ proxy_pass_request_headers off; {proxy} }} }}"), 1),
        (
            format!(
                "server {{ listen 127.0.0.1:81; location / {{ {proxy} }} }} server {{ listen 80; server_name a; location / {{ {proxy} }} }}"
            ),
            2,
        ),
        (
            format!(
                "server {{ listen 80; listen [::]:80; location / {{ {proxy} }} }} server {{ listen 80; server_name a; location / {{ {proxy} }} }}"
            ),
            0,
        ),
    ] {
        let (printed, config) = told(&text);
        assert_eq!(printed.matches("CAUTION").count(), cautions, "{text}\n{printed}");
        assert!(!text.contains("X-User") || config.contains("remove = [\"X-User\"]"), "the client's own does not pass for it: {config}");
    }
}

#[test]
fn what_nginx_closes_stays_closed() {
    let proxy = "proxy_pass http://10.0.0.1;";
    let config = imported(&format!(
        "server {{ location /i {{ internal; return 200 secret; location /i/x {{ {proxy} }} }}
         location /w {{ return 302 login.html; }} location /l {{ limit_except GET {{ deny all; }} return 200 ok; }}
         location / {{ try_files $uri @app; }} location @app {{ deny all; {proxy} }} }}"
    ));
    for (path, status) in [("/i", 404), ("/i/x", 404), ("/w", 404), ("/", 403)] {
        assert!(route(&config, path).contains(&format!("respond = {{ status = {status} }}")), "{path}: {config}");
    }
    let limited: Vec<_> = config.split("[[routes]]").filter(|route| route.contains("path = \"/l\"")).collect();
    assert!(limited.len() == 2 && limited[0].contains("methods = [\"GET\"]") && limited[1].contains("status = 403"), "{config}");
}

#[test]
fn a_default_server_keeps_its_own_hosts_and_answers_for_unnamed_ones_where_it_is_the_default() {
    let own =
        |config: &str, host: &str| config.split("[[routes]]").filter(|route| route.contains(host)).map(str::to_owned).collect::<Vec<_>>();
    let config = imported("server { server_name a.test www.a.test; return 204; } server { server_name *.a.test; return 205; }");
    assert!(own(&config, "www.a.test")[0].contains("204"), "{config}");
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    fs::write(folder.path().join("c.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.path().join("k.pem"), pair.signing_key.serialize_pem()).unwrap();
    let guard = "ssl_certificate c.pem; ssl_certificate_key k.pem; server { listen 80 default_server; server_name _; return 403; }
                 server { listen 80; listen 443 ssl; server_name a.test; return 204; }";
    fs::write(folder.path().join("nginx.conf"), guard).unwrap();
    let config = forebay(folder.path(), &["import-nginx", "nginx.conf"]).out;
    let routes: Vec<_> = config.split("[[routes]]").skip(1).collect();
    assert!(routes.len() == 3 && routes[0].contains("scheme = \"http\"") && routes[0].contains("403"), "{config}");
    assert!(routes[1].contains("host = \"a.test\"") && !routes[1].contains("scheme"), "{config}");
    assert!(!routes[2].contains("host") && routes[2].contains("scheme = \"https\""), "{config}");
}

#[test]
fn a_location_within_another_gets_what_nginx_gives_it_and_a_server_is_shown_what_its_location_says() {
    let config = imported(
        "server { location /app/ { location /app/x/pub/ { proxy_pass http://10.0.0.1; } location /app/y/ { proxy_pass http://10.0.0.1; } }
         location /app/x/ { deny all; } location /d/ { proxy_pass http://10.0.0.1/x$request_uri; }
         location /s/ { proxy_ssl_name one; proxy_pass https://10.0.0.2; } location /t/ { proxy_pass https://10.0.0.2; } }",
    );
    assert!(!config.contains("path = \"/app/x/pub/\"") && config.contains("path = \"/app/y/\""), "{config}");
    assert!(route(&config, "/d/").contains("respond = { status = 502 }"), "{config}");
    let backend = |path: &str| route(&config, path).lines().find(|line| line.starts_with("backend = ")).map(str::to_owned);
    assert_ne!(backend("/s/"), backend("/t/"), "{config}");
    assert_eq!(config.matches("server_name = \"one\"").count(), 1, "{config}");
}
