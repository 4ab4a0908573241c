//! What a configuration says in numbers, names and types is what nginx does with it, or it is told.

use super::{forebay, imported, route, told};

const PROXY: &str = "proxy_pass http://10.0.0.1;";

#[test]
fn a_short_keepalive_cuts_off_no_body() {
    for (text, expected, notes) in [
        ("keepalive_timeout 5;", "idle_timeout = \"1m\"", 1),
        ("keepalive_timeout 75s;", "idle_timeout = \"75s\"", 0),
        ("client_body_timeout 10s;", "idle_timeout = \"10s\"", 0),
        ("keepalive_timeout 5; client_body_timeout 10s;", "idle_timeout = \"10s\"", 1),
        ("keepalive_timeout 20; client_body_timeout 10s;", "idle_timeout = \"20s\"", 1),
    ] {
        let config = imported(&format!("server {{ {text} location / {{ {PROXY} }} }}"));
        assert!(config.lines().any(|line| line == expected), "{text}: {config}");
        assert_eq!(config.matches("the longer of both times").count(), notes, "{text}: {config}");
    }
}

#[test]
fn a_certificate_by_a_relative_name_is_looked_for_where_includes_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    let text = format!("ssl_certificate c.pem; ssl_certificate_key /k.pem; server {{ listen 8443 ssl; location / {{ {PROXY} }} }}");
    std::fs::write(folder.path().join("etc/nginx.conf"), text).unwrap();
    let config = forebay(folder.path(), &["import-nginx", "etc/nginx.conf"]).out;
    assert!(config.contains("tls = { cert_file = \"etc/c.pem\", key_file = \"/k.pem\" }"), "{config}");
}

#[test]
fn a_text_has_the_type_that_nginx_gives_it() {
    let config = imported(
        "default_type application/octet-stream; server {
         location = /health { add_header Content-Type text/plain; add_header X-A b; return 200 ok; }
         location = /robots.txt { return 200 x; } location = /a.json { return 200 x; } location = /a.html { return 200 x; }
         location = /a.xml { return 200 x; } location = /other { return 200 x; } location = /own { default_type text/css; return 200 x; } }",
    );
    for (path, kind) in [
        ("/health", "text/plain"),
        ("/robots.txt", "text/plain"),
        ("/a.json", "application/json"),
        ("/a.html", "text/html"),
        ("/a.xml", "text/xml"),
        ("/other", "application/octet-stream"),
        ("/own", "text/css"),
    ] {
        assert!(route(&config, &format!("= {path}")).contains(&format!("content_type = \"{kind}\"")), "{path}: {config}");
    }
    assert!(route(&config, "= /health").contains("add = { X-A = \"b\" }"), "{config}");
}

#[test]
fn a_time_that_is_longer_than_forebay_has_it_is_told() {
    let (_, config) = told(&format!(
        "server {{ location / {{ {PROXY} proxy_read_timeout 7d; proxy_connect_timeout 300; }} location /a {{ {PROXY} proxy_read_timeout 1h; }} }}"
    ));
    assert_eq!(config.matches("is a day at most").count(), 1, "{config}");
    assert_eq!(config.matches("is a minute at most").count(), 1, "{config}");
}

#[test]
fn what_a_rewrite_makes_of_the_path_without_its_last_slash_is_told() {
    let (_, config) = told(&format!("server {{ location /api {{ rewrite ^/api/(.*)$ /$1 break; {PROXY} }} }}"));
    assert!(config.contains("`/api` itself goes out as `/`"), "{config}");
}

#[test]
fn a_variable_that_is_a_fixed_text_names_a_backend() {
    let config = imported(
        "server { set $one app; location /a { set $up http://10.0.0.1:8080; proxy_pass $up; } location / { proxy_pass http://$one:3000; }
         location /own { set $one other; proxy_pass http://${one}:3000$request_uri; }
         location /if { set $up http://10.0.0.1; if ($arg_x) { set $up http://10.0.0.2; } proxy_pass $up; }
         location /longer { set $up http://10.0.0.1; proxy_pass $upper; }
         location /path { set $up http://10.0.0.1/x; proxy_pass $up; } }",
    );
    for (path, line) in [
        ("/a", "backend = \"10-0-0-1-8080\""),
        ("/", "backend = \"app-3000\""),
        ("/own", "backend = \"other-3000\""),
        ("/if", "status = 502"),
        ("/longer", "status = 502"),
        ("/path", "status = 502"),
    ] {
        assert!(route(&config, path).contains(line), "{path}: {config}");
    }
}

#[test]
fn the_port_of_a_server_is_known_where_it_has_one() {
    let config = imported(&format!(
        "server {{ listen 8080; listen [::]:8080; location / {{ proxy_set_header X-Forwarded-Port $server_port; {PROXY} }} }}
         server {{ listen 8081; listen 8080; server_name a.test; location /two {{ proxy_set_header X-Forwarded-Port $server_port; {PROXY} }} }}"
    ));
    assert!(route(&config, "/").contains("set = { X-Forwarded-Port = \"8080\" }"), "{config}");
    assert!(route(&config, "/two").contains("remove = [\"X-Forwarded-Port\"]"), "{config}");
}

#[test]
fn a_server_of_grpc_is_asked_by_http2() {
    let config = imported(&format!(
        "upstream calls {{ server 10.0.0.1:50051; }} server {{ grpc_set_header X-A 1; proxy_set_header X-B 2;
         location /a.A/ {{ grpc_pass grpc://calls; grpc_read_timeout 5m; }} location /b.B/ {{ grpc_pass calls; }}
         location /s.S/ {{ grpc_pass grpcs://calls; }} location / {{ {PROXY} }} }}"
    ));
    assert!(config.contains("[backends.calls]\nservers = [\"http://10.0.0.1:50051\"]\nprotocol = \"h2c\""), "{config}");
    assert_eq!(config.matches("h2c").count(), 1, "{config}");
    let grpc = route(&config, "/a.A/");
    assert!(grpc.contains("backend = \"calls\"") && grpc.contains("set = { X-A = \"1\" }") && grpc.contains("= \"5m\""), "{config}");
    assert!(route(&config, "/b.B/").contains("backend = \"calls\"") && route(&config, "/s.S/").contains("status = 502"), "{config}");
    assert!(route(&config, "/").contains("set = { X-B = \"2\" }"), "{config}");
}
