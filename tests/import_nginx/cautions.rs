//! Whatever keeps somebody out in nginx, or makes an answer safer, and does not here is printed with CAUTION.

use super::{route, told};

/// A location with this in it and a `proxy_pass`, as it was told of and written.
fn location(text: &str) -> (String, String) {
    told(&format!("server {{ listen 8080; server_name a.test; location / {{ {text} proxy_pass http://10.0.0.1; }} }}"))
}

#[test]
fn whatever_may_keep_somebody_out_is_told_with_caution() {
    for text in [
        "access_by_lua_block { ngx.exit(403) }",
        "access_by_lua_file x.lua;",
        "rewrite_by_lua_block { ngx.exit(403) }",
        "server_rewrite_by_lua_file x.lua;",
        "auth_pam x;",
        "auth_ldap x;",
        "auth_digest x;",
        "auth_gss on;",
        "auth_oidc x;",
        "modsecurity on;",
        "SecRulesEnabled;",
        "DeniedUrl /x;",
        "CheckRule x;",
        "no_such_module on;",
        "if ($http_cookie !~ \"s=1\") { return 302 /login; }",
        "if ($http_x_key != k) { return 503; }",
        "if ($http_x_key != k) { return $code; }",
        "if ($http_x_key != k) { return https://login.test; }",
        "if ($http_x_key != k) { rewrite ^ /denied last; }",
        "if ($request_method != PUT) { return 204; }",
        "if ($http_x = bad) { return 200 no; }",
        "if ($http_x) { proxy_pass http://10.0.0.2; }",
        "if ($http_x) { fastcgi_pass 10.0.0.2:9000; }",
        "if ($http_x) { content_by_lua_block { x } }",
        "if ($http_x) { echo no; }",
        "if ($request_method = $http_z) { return 403; }",
        "if ($request_method = 'FOO BAR') { return 403; }",
        "ssl_client_hello_by_lua_block { x }",
        "ssl_certificate_by_lua_block { x }",
        "header_filter_by_lua_block { x }",
        "more_clear_input_headers X-A;",
        "more_set_input_headers 'X-A: b';",
        "more_set_headers 'X-Frame-Options: DENY';",
        "proxy_method GET;",
        "proxy_set_body x;",
        "rewrite ^/a/(.*)$ https://b.test/$1 permanent;",
        "limit_conn x 1;",
        "proxy_cookie_flags ~ secure httponly;",
        "proxy_cookie_path / \"/; Secure\";",
        "add_header Content-Security-Policy \"script-src $request_id_of_mine\";",
        "add_header Set-Cookie a=1; add_header Set-Cookie b=2;",
    ] {
        let (printed, _) = location(text);
        assert_eq!(printed.matches("CAUTION").count(), 1, "{text}\n{printed}");
    }
    for text in [
        "if ($http_x_key) { set $x 1; }",
        "if ($http_x_key) { limit_rate 1k; }",
        "auth_basic off;",
        "auth_request off;",
        "allow all;",
        "allow all; deny 10.0.0.1;",
        "satisfy all;",
        "modsecurity off;",
        "proxy_cookie_path / /x/;",
        "add_header X-Debug $no_such_variable;",
        "gzip on;",
        "http2_push_preload on;",
    ] {
        let (printed, _) = location(text);
        assert_eq!(printed.matches("CAUTION").count(), 0, "{text}\n{printed}");
    }
}

#[test]
fn a_field_that_cannot_be_set_is_taken_from_the_client_all_the_same() {
    let (printed, config) = location("proxy_set_header X-Role \"B\u{fc}ro\";");
    assert!(route(&config, "/").contains("remove = [\"X-Role\"]"), "{config}");
    assert!(printed.contains("CAUTION") && printed.contains("the backend gets no such field"), "{printed}");
}

#[test]
fn who_would_be_let_in_by_a_password_alone_is_told_to_be_kept_out() {
    let (printed, config) = location("satisfy any; deny all; auth_basic x;");
    assert!(route(&config, "/").contains("status = 403") && printed.contains("everybody gets 403"), "{printed}\n{config}");
}

#[test]
fn reasons_are_true_where_they_stand() {
    for (text, part) in [
        ("proxy_bind 10.0.0.9;", "the address that a backend is asked from"),
        ("expires 30d;", "`Cache-Control`"),
        ("charset utf-8;", "as they are"),
    ] {
        let (_, config) = location(text);
        assert!(config.lines().any(|line| line.starts_with('#') && line.contains(part)), "{text}\n{config}");
    }
    let (_, config) = told("server { ssl_early_data on; location = /status { stub_status; } location /.forebay/x { return 204; } }");
    assert!(config.contains("see /metrics and `forebay status`") && !config.contains("HTTP/3"), "{config}");
    assert!(!config.contains("`server { … }` not carried over") && config.contains("/.forebay"), "{config}");
}

#[test]
fn who_is_believed_about_more_than_in_nginx_is_told_with_caution() {
    let app = "location / { proxy_pass http://10.0.0.1; }";
    let from = "set_real_ip_from 10.0.0.0/8;";
    let by = "real_ip_header X-Forwarded-For;";
    for (text, part) in [
        (format!("{from} server {{ listen 8080; {app} }}"), "nginx takes X-Real-IP"),
        (format!("{by} server {{ listen 8080; {from} {app} }}"), "it holds for all servers"),
        (format!("{by} set_real_ip_from 0.0.0.0/0; server {{ listen 8080; {app} }}"), "whoever comes is believed"),
        (
            format!("{by} {from} server {{ listen 8080; if ($scheme = http) {{ return 301 https://$host$request_uri; }} {app} }}"),
            "about the scheme too",
        ),
        (
            format!("{from} server {{ listen 8080; {by} {app} }} server {{ listen 8080; server_name b.test; real_ip_header X-B; {app} }}"),
            "`real_ip_header X-B`: CAUTION",
        ),
        (format!("{by} {from} server {{ listen 8080; {app} }}"), ""),
    ] {
        let (printed, config) = told(&text);
        assert_eq!(printed.matches("CAUTION").count(), usize::from(!part.is_empty()), "{text}\n{printed}");
        assert!(printed.contains(part) && config.contains("trusted_proxies = ["), "{text}\n{printed}\n{config}");
    }
}

#[test]
fn a_trusted_proxy_is_believed_about_the_address_alone_where_nginx_says_the_rest_itself() {
    let fields = "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme;";
    let app = format!("server {{ listen 8080; location / {{ {fields} proxy_pass http://10.0.0.1; }} }}");
    let (_, config) = told(&format!("set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For; {app}"));
    let set = "set = { X-Forwarded-For = \"$remote_addr\", X-Forwarded-Host = \"$host\" }";
    assert!(route(&config, "/").contains(set), "{config}");
    let (_, config) = told(&app);
    assert!(!config.contains("X-Forwarded"), "{config}");
}
