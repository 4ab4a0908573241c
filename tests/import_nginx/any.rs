//! Configurations by chance: whatever nginx directives are put together, what is written passes the check.

use std::fs;

use proptest::prelude::*;

use super::forebay;

fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "80",
        "8081",
        "443 ssl",
        "[::1]:80",
        "unix:/run/x.sock",
        "127.0.0.1:8081",
        "localhost",
        "default_server",
        "a.example",
        "*.a.example",
        ".b.example",
        "~^x",
        "_",
        "/",
        "/a/",
        "/a",
        "= /a",
        "^~ /b//c",
        "~ \\.php$",
        "@name",
        "/.forebay/x",
        "\"/sp ace/\"",
        "301 https://$host$request_uri",
        "200 \"o\\\"k\"",
        "444",
        "999",
        "http://10.0.0.1",
        "http://10.0.0.1:8080/x/",
        "https://h.example/",
        "http://up",
        "http://up/y",
        "http://unix:/s:/u/",
        "http://$x",
        "http://127.0.0.1:80",
        "http://[::1]:80",
        "Host $host",
        "Host \"\"",
        "X-A $remote_addr",
        "X-A \"$nope\"",
        "Connection upgrade",
        "Content-Length 1",
        "\"bad name\" x",
        "X-B \"v\u{e9}\"",
        "off",
        "0",
        "10m",
        "5s",
        "1h30m",
        "-1",
        "99999999999999999999",
        "all",
        "GET",
        "\u{1F600}",
        "''",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => "[!-~&&[^;{}\"'\\\\#$]]{1,12}"]
}

fn directive() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "listen",
        "server_name",
        "return",
        "proxy_pass",
        "proxy_set_header",
        "proxy_hide_header",
        "add_header",
        "client_max_body_size",
        "proxy_read_timeout",
        "proxy_connect_timeout",
        "keepalive_timeout",
        "client_header_timeout",
        "deny",
        "allow",
        "internal",
        "try_files /x",
        "rewrite ^/a/(.*)$ /$1 break; proxy_pass",
        "proxy_redirect",
        "access_log",
        "error_log",
        "set_real_ip_from",
        "real_ip_header",
        "large_client_header_buffers 4",
        "ssl_certificate",
        "default_type",
        "expires",
        "worker_processes",
        "limit_req_zone",
        "ssl_reject_handshake on; listen",
        "listen 443 ssl; ssl_reject_handshake on; server_name",
        "limit_except GET { deny all; } proxy_pass",
        "if ($request_method = GET) { return 204; } proxy_pass",
        "if ($scheme = http) { return 301 https://$host$request_uri; } server_name",
        "if ($host = b.example) { return 403; } server_name",
        "set $x http://10.0.0.1; proxy_pass $x; add_header",
        "content_by_lua_block { ngx.say(\"}\") } add_header",
    ]);
    (name, word(), prop::option::of(word())).prop_map(|(name, first, second)| format!("{name} {first} {};", second.unwrap_or_default()))
}

fn location() -> impl Strategy<Value = String> {
    let leaf =
        (word(), prop::collection::vec(directive(), 0..5)).prop_map(|(path, lines)| format!("location {path} {{ {} }}", lines.join(" ")));
    leaf.prop_recursive(2, 6, 2, |inner| {
        (word(), prop::collection::vec(prop_oneof![directive(), inner], 0..4))
            .prop_map(|(path, lines)| format!("location {path} {{ {} }}", lines.join(" ")))
    })
}

fn server() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![3 => directive(), 3 => location(), 1 => directive().prop_map(|line| format!("if ($host = a.example) {{ {line} }}"))],
        0..8,
    )
    .prop_map(|lines| format!("server {{ {} }}", lines.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_imported_passes_the_check(outer in prop::collection::vec(directive(), 0..5), servers in prop::collection::vec(server(), 1..4), upstream in word()) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{}\nupstream up {{ server {upstream}; server 10.0.0.2; }}\n{}\n", outer.join("\n"), servers.join("\n"));
        fs::write(folder.path().join("nginx.conf"), &text).unwrap();
        let run = forebay(folder.path(), &["import-nginx", "nginx.conf", "-o", "config.toml"]);
        prop_assert!(!run.err.contains("panicked"), "{}\n{}", text, run.err);
        if run.err.contains("nginx.conf:") && !run.err.contains("route") {
            return Ok(());
        }
        let written = fs::read_to_string(folder.path().join("config.toml")).unwrap_or_default();
        prop_assert_eq!(run.code, 0, "{}\n{}\n{}", text, run.err, written);
    }
}
