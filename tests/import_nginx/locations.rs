//! Locations: what limits one in nginx limits its route, and what is closed there has no second way in.

use super::{imported, route, told};

const PROXY: &str = "proxy_pass http://10.0.0.1;";

/// The routes with a path.
fn routes_at<'a>(config: &'a str, path: &str) -> Vec<&'a str> {
    config.split("[[routes]]").filter(|route| route.contains(&format!("path = \"{path}\"\n"))).collect()
}

#[test]
fn a_location_that_tries_files_limits_what_it_leads_to() {
    let config = imported(&format!(
        "limit_req_zone $binary_remote_addr zone=x:1m rate=1r/s; limit_req_zone $binary_remote_addr zone=y:1m rate=9r/s;
         server {{ location /admin {{ limit_except GET {{ deny all; }} limit_req zone=x; client_max_body_size 1k; try_files $uri @app; }}
           location /both {{ limit_except GET PUT {{ deny all; }} try_files $uri @less; }}
           location /large {{ client_max_body_size 10m; try_files $uri @app; }}
           location / {{ try_files $uri @app; }}
           location @less {{ limit_except PUT POST {{ deny all; }} client_max_body_size 2k; {PROXY} }}
           location @app {{ limit_req zone=y; {PROXY} }} }}"
    ));
    let admin = routes_at(&config, "/admin");
    assert!(admin.len() == 2 && admin[1].contains("status = 403"), "{config}");
    for line in ["methods = [\"GET\"]", "rate = \"1/s\"", "max_body = \"1KiB\""] {
        assert!(admin[0].contains(line), "{line}: {config}");
    }
    let both = routes_at(&config, "/both");
    assert!(both.len() == 2 && both[0].contains("methods = [\"PUT\"]") && both[0].contains("max_body = \"2KiB\""), "{config}");
    assert!(route(&config, "/large").contains("max_body = \"10MiB\""), "{config}");
    assert!(route(&config, "/").contains("rate = \"9/s\"") && !route(&config, "/").contains("methods"), "{config}");
}

#[test]
fn a_closed_location_is_not_open_without_its_last_slash() {
    let config = imported(&format!(
        "server {{ location /admin/ {{ deny all; {PROXY} }} location /int/ {{ internal; {PROXY} }} location /php/ {{ fastcgi_pass 10.0.0.1:9000; }}
           location /try/ {{ try_files $uri @app; }} location @app {{ {PROXY} }} location / {{ {PROXY} }} }}"
    ));
    for path in ["/admin", "/php"] {
        let moved = format!("redirect = {{ status = 301, to = \"{path}/$is_args$args\" }}");
        assert!(route(&config, &format!("= {path}")).contains(&moved), "{path}: {config}");
    }
    assert!(route(&config, "= /int").contains("status = 404"), "{config}");
    assert!(!config.contains("path = \"= /try\""), "nginx asks the location without the slash for a file: {config}");
}

#[test]
fn of_two_rates_in_one_place_the_slower_one_holds() {
    let (printed, config) = told(&format!(
        "limit_req_zone $binary_remote_addr zone=fast:1m rate=100r/s; limit_req_zone $binary_remote_addr zone=slow:1m rate=60r/m;
         limit_req_zone $server_name zone=all:1m rate=5r/s;
         server {{ location / {{ limit_req zone=fast burst=50; limit_req zone=slow burst=2; {PROXY} }}
           location /none {{ limit_req zone=fast; limit_req zone=slow burst=2; {PROXY} }}
           location /all {{ limit_req zone=all; limit_conn addr 1; {PROXY} }} }}"
    ));
    assert!(route(&config, "/").contains("rate = \"60/min\"\nburst = 3"), "{config}");
    assert!(route(&config, "/none").contains("rate = \"60/min\"\nburst = 3"), "with its own burst: {config}");
    for limit in ["limit_req zone=fast", "limit_req_zone $server_name", "limit_req zone=all", "limit_conn addr 1"] {
        assert!(printed.lines().any(|line| line.contains(limit) && line.contains("CAUTION")), "{limit}: {printed}");
    }
}

#[test]
fn an_if_that_answers_a_method_is_a_route_of_that_method() {
    let config = imported(&format!(
        "server {{ location / {{ if ($request_method = OPTIONS) {{ add_header X-A b; return 204; }} limit_except GET {{ deny all; }} {PROXY} }} }}"
    ));
    let routes = routes_at(&config, "/");
    assert!(routes.len() == 3 && routes[0].contains("methods = [\"OPTIONS\"]\nrespond = { status = 204 }"), "{config}");
    assert!(routes[0].contains("add = { X-A = \"b\" }") && routes[1].contains("methods = [\"GET\"]"), "{config}");
    assert!(routes[2].contains("status = 403") && !config.contains("`if "), "{config}");
}

#[test]
fn a_named_location_that_answers_by_itself_leads_to_no_backend() {
    let config = imported(&format!(
        "server {{ location /m {{ try_files /nope @m; }} location @m {{ return 503; {PROXY} }}
           location /d {{ try_files /nope @d; }} location @d {{ deny all; {PROXY} }}
           location /c {{ deny all; try_files /nope @m; }} location /g {{ try_files /n @g; }} location @g {{ grpc_pass 10.0.0.1:50051; }}
           location / {{ {PROXY} }} }}"
    ));
    for (path, part) in [("/m", "status = 503"), ("/d", "status = 403"), ("/c", "status = 403"), ("/g", "backend = \"10-0-0-1-50051\"")] {
        assert!(route(&config, path).contains(part), "{path}: {config}");
    }
}

#[test]
fn what_rewrites_a_path_before_its_files_are_tried_is_kept_or_told() {
    let (printed, config) = told(&format!(
        "server {{ location /x/ {{ rewrite ^/x/(.*)$ /$1 break; try_files /nope @y; }}
           location /m {{ rewrite ^/m/admin /denied last; try_files /nope @y; }}
           location /r/ {{ rewrite ^/r/(.*)$ /$1 break; proxy_pass http://10.0.0.1$request_uri; }} location @y {{ {PROXY} }} }}"
    ));
    assert!(route(&config, "/x/").contains("strip_prefix = \"/x/\""), "{config}");
    assert!(printed.contains("`rewrite ^/m/admin /denied last`: CAUTION") && printed.matches("CAUTION").count() == 1, "{printed}");
    assert!(!route(&config, "/r/").contains("strip_prefix"), "{config}");
}

#[test]
fn a_location_that_a_longer_one_of_any_level_hides_has_no_route() {
    let config = imported(&format!(
        "server {{ location / {{ location /p {{ location /p/q/c {{ {PROXY} }} location /p/r {{ {PROXY} }} {PROXY} }}
             location /p/q {{ deny all; }} location = /e {{ {PROXY} }} {PROXY} }}
           location = /e {{ deny all; }} location /w {{ location /w/v/u {{ {PROXY} }} {PROXY} }} location /w/v {{ deny all; }} }}"
    ));
    assert!(!config.contains("path = \"/p/q/c\"") && !config.contains("path = \"/w/v/u\""), "{config}");
    assert!(route(&config, "/p/r").contains("backend") && route(&config, "= /e").contains("status = 403"), "{config}");
}

#[test]
fn a_method_that_an_if_answers_shuts_no_other() {
    let config = imported(&format!(
        "server {{ listen 8080; return 404; }} server {{ listen 8080; server_name a.test b.test; location /api {{
           if ($request_method = OPTIONS) {{ return 204; }} limit_except GET POST OPTIONS {{ deny all; }} {PROXY} }} location / {{ {PROXY} }}
           location /o {{ if ($request_method = OPTIONS) {{ return 204; }} limit_except OPTIONS {{ deny all; }} {PROXY} }} }}"
    ));
    let api = routes_at(&config, "/api");
    assert!(api.len() == 3 && api[0].contains("[\"OPTIONS\"]") && api[1].contains("[\"GET\", \"POST\"]"), "{config}");
    assert!(api[1].contains("backend") && api[2].contains("status = 403"), "{config}");
    let own = routes_at(&config, "/o");
    assert!(own.len() == 2 && own[1].contains("status = 403"), "{config}");
}
