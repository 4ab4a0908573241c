//! Servers: what nginx answers to a host at none of its addresses is not answered here either.

use std::fs;

use super::{forebay, imported, route, told};

const PROXY: &str = "proxy_pass http://10.0.0.1;";

/// The routes that name a host, or none with "".
fn routes_of<'a>(config: &'a str, host: &str) -> Vec<&'a str> {
    let routes = config.split("[[routes]]").skip(1).map(|route| route.split("\n#").next().unwrap());
    let named = |route: &str| route.lines().find(|line| line.starts_with("host = ")).map(str::to_owned);
    routes.filter(|route| named(route).map_or(host.is_empty(), |line| !host.is_empty() && line.contains(&format!("\"{host}\"")))).collect()
}

/// Imports a text with a certificate `c.pem` and its key `k.pem` beside it.
fn with_certificate(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    fs::write(folder.path().join("c.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.path().join("k.pem"), pair.signing_key.serialize_pem()).unwrap();
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let run = forebay(folder.path(), &["import-nginx", "nginx.conf", "-o", "config.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(forebay(folder.path(), &["check"]).code, 0);
    fs::read_to_string(folder.path().join("config.toml")).unwrap()
}

#[test]
fn of_two_servers_with_one_name_the_first_has_its_requests() {
    let (printed, config) = told(&format!(
        "server {{ listen 8080; server_name a.test; location / {{ return 403; }} }}
         server {{ listen 8080; server_name a.test www.a.test; location / {{ {PROXY} }} location /debug {{ {PROXY} }} }}
         server {{ listen 127.0.0.1:8090; server_name a.test; location /more {{ {PROXY} }} }}"
    ));
    assert!(routes_of(&config, "a.test").is_empty() && routes_of(&config, "").len() == 1, "{config}");
    assert_eq!(routes_of(&config, "www.a.test").len(), 2, "{config}");
    assert!(!config.contains("path = \"/more\"") && !config.contains("address = \"127.0.0.1:8090\""), "{config}");
    assert!(printed.contains("the server of line 1 has the requests for a.test"), "{printed}");
}

#[test]
fn a_name_is_shared_by_http_and_https_but_not_taken_from_the_first() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let config = with_certificate(&format!(
        "{pair} server {{ listen 8080 default_server; return 404; }}
         server {{ listen 8080; server_name a.test; location / {{ return 403; }} }}
         server {{ listen 8080; listen 8443 ssl; server_name a.test; location / {{ {PROXY} }} location /x {{ {PROXY} }} }}"
    ));
    let routes = routes_of(&config, "a.test");
    assert!(routes.len() == 3 && routes[0].contains("scheme = \"http\"") && routes[0].contains("403"), "{config}");
    assert!(routes[1..].iter().all(|route| route.contains("scheme = \"https\"")), "{config}");
}

#[test]
fn a_host_that_an_if_answers_has_no_other_path() {
    let config = imported(&format!(
        "server {{ listen 8080; return 404; }}
         server {{ listen 8080; server_name d.test e.test; if ($host = e.test) {{ return 403; }}
           location /admin/ {{ {PROXY} }} location / {{ {PROXY} }} }}
         server {{ listen 8080; server_name f.test; if ($host = f.test) {{ return 403; }} location /admin/ {{ {PROXY} }} }}"
    ));
    for host in ["e.test", "f.test"] {
        let routes = routes_of(&config, host);
        assert!(routes.len() == 1 && routes[0].contains("path = \"/\"") && routes[0].contains("403"), "{host}: {config}");
    }
    assert_eq!(routes_of(&config, "d.test").len(), 3, "{config}");
    assert!(!config.contains("only requests that no longer path"), "{config}");
}

#[test]
fn an_if_that_answers_all_of_http_leaves_no_path_open() {
    let config = imported(&format!(
        "server {{ listen 8080; if ($scheme = http) {{ return 403; }} location /admin {{ {PROXY} }} }}
         server {{ listen 8080; server_name a.test; if ($scheme != https) {{ return 403; }} location /admin {{ {PROXY} }} }}"
    ));
    assert_eq!(config.matches("status = 403").count(), 2, "{config}");
    assert!(!config.contains("/admin"), "{config}");
}

#[test]
fn a_server_whose_address_did_not_carry_over_is_told_with_caution_and_keeps_to_https() {
    let config = with_certificate(&format!(
        "server {{ listen 8080; server_name a.test; location / {{ return 200 a; }} }}
         server {{ listen internal.lan:8081; server_name admin.test; location / {{ {PROXY} }} }}
         server {{ listen 8443 ssl; server_name c.test; ssl_certificate c.pem; ssl_certificate_key k.pem; location / {{ {PROXY} }} }}
         server {{ listen 8443 ssl; server_name b.test; ssl_certificate /x/$ssl_server_name.crt; ssl_certificate_key /x/$ssl_server_name.key;
           location / {{ {PROXY} }} }}"
    ));
    let caution =
        |listen: &str| config.lines().any(|line| line.contains(listen) && line.contains("CAUTION: routes do not look at the address"));
    assert!(caution("listen internal.lan:8081") && config.contains("`listen 8443 ssl` changed: there is no certificate"), "{config}");
    assert!(routes_of(&config, "b.test").iter().all(|route| route.contains("scheme = \"https\"")), "{config}");
}

#[test]
fn a_handshake_that_nginx_ends_leads_to_no_application() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let config = with_certificate(&format!(
        "server {{ listen 8443 ssl default_server; server_name _; ssl_reject_handshake on; }}
         server {{ listen 8080 default_server; server_name _; return 444; }}
         server {{ listen 8443 ssl; server_name a.test; {pair} location / {{ {PROXY} }} }}"
    ));
    let unnamed = routes_of(&config, "");
    assert_eq!(unnamed.len(), 2, "{config}");
    assert!(unnamed.iter().all(|route| route.contains("respond = { status = 400 }")), "{config}");
    assert!(unnamed.iter().any(|route| route.contains("scheme = \"https\"")), "{config}");
    assert!(routes_of(&config, "a.test")[0].contains("backend"), "{config}");
    assert_eq!(config.matches("cert_file").count(), 1, "{config}");
    // One server for both kinds, as it is most often written.
    let both = with_certificate(&format!(
        "server {{ listen 8080 default_server; listen 8443 ssl default_server; ssl_reject_handshake on; return 301 https://a.test/; }}
         server {{ listen 8443 ssl; server_name a.test; {pair} location / {{ {PROXY} }} }}"
    ));
    let unnamed = routes_of(&both, "");
    assert!(unnamed.len() == 2 && unnamed[0].contains("https\"\nrespond") && unnamed[1].contains("http\"\nredirect"), "{both}");
}

#[test]
fn no_address_is_opened_that_leads_to_another_server_than_its_own() {
    let (printed, config) = told(&format!(
        "server {{ listen 127.0.0.1:8090; location / {{ {PROXY} }} }} server {{ listen 8080; location / {{ return 200 public; }} }}"
    ));
    let listeners: Vec<_> = config.lines().filter(|line| line.starts_with("address = ")).collect();
    assert_eq!(listeners, ["address = \"127.0.0.1:8090\""], "{config}");
    assert!(printed.contains("CAUTION: no request comes here") && printed.contains("nor is its address listened on"), "{printed}");
}

#[test]
fn a_file_whose_name_has_a_line_end_writes_no_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let name = "x\n[[routes]]\nname = \"evil\"\n#.conf";
    fs::write(folder.path().join(name), "server { listen 8080; location / { return 204; } location /x { auth_basic x; return 204; } }")
        .unwrap();
    let run = forebay(folder.path(), &["import-nginx", name]);
    assert!(run.err.contains("CAUTION") && !run.err.lines().any(|line| line.starts_with("name = ")), "{}", run.err);
    let config = run.out;
    assert!(config.contains("evil") && !config.lines().any(|line| line.starts_with("name = \"evil\"")), "{config}");
    let site = folder.path().join("sites");
    fs::create_dir(&site).unwrap();
    fs::rename(folder.path().join(name), site.join(name)).unwrap();
    fs::write(folder.path().join("nginx.conf"), "include sites/*;").unwrap();
    let config = forebay(folder.path(), &["import-nginx", "nginx.conf"]).out;
    assert!(!config.lines().any(|line| line.starts_with("name = \"evil\"")), "{config}");
    assert!(route(&config, "/").contains("204"), "{config}");
}

#[test]
fn an_if_for_a_host_of_another_server_takes_nothing_from_that() {
    let config = imported(&format!(
        "server {{ listen 8080; if ($host = b.test) {{ return 403; }} if ($host = nobody.test) {{ return 410; }} location / {{ {PROXY} }} }}
         server {{ listen 8080; server_name b.test; if ($host = other.test) {{ return 403; }} location / {{ {PROXY} }} }}"
    ));
    assert!(routes_of(&config, "b.test").len() == 1 && routes_of(&config, "b.test")[0].contains("backend"), "{config}");
    assert!(routes_of(&config, "nobody.test")[0].contains("410") && routes_of(&config, "other.test").is_empty(), "{config}");
}

#[test]
fn a_default_server_for_http_alone_answers_nobody_by_https() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    for other in ["return 403;", "ssl_reject_handshake on;"] {
        let config = with_certificate(&format!(
            "server {{ listen 8080; listen 8443 ssl; server_name a.test; {pair} if ($scheme = http) {{ return 301 https://$host$request_uri; }}
               location / {{ {PROXY} }} location /x {{ {PROXY} }} }}
             server {{ listen 8443 ssl default_server; server_name _; {pair} {other} }}"
        ));
        let unnamed = routes_of(&config, "");
        assert!(unnamed.len() == 2 && unnamed.iter().all(|route| !route.contains("backend")), "{config}");
        assert_eq!(routes_of(&config, "a.test").len(), 3, "{config}");
    }
}

#[test]
fn a_redirect_to_another_path_opens_nothing_by_https_and_one_of_https_takes_nothing_of_http() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let config = with_certificate(&format!(
        "server {{ listen 8443 ssl; server_name a.test; {pair} location / {{ {PROXY} }} location = /app {{ return 301 https://$host$uri/; }}
           location /adm {{ return 302 https://$host$request_uri.html; }} location /same {{ return 301 https://$host$request_uri; }} }}
         server {{ listen 8080; server_name a.test; return 403; }}
         server {{ listen 8080; listen 8443 ssl; server_name old.test; {pair} location / {{ return 301 https://$host$uri/; }}
           location /b {{ return 301 https://$host$uri$is_args$args; }} }}"
    ));
    for path in ["= /app", "/adm"] {
        // The checker takes it for one that leads to itself.
        assert!(route(&config, path).contains("scheme = \"https\"\nrespond = { status = 404 }"), "{path}: {config}");
    }
    let of_path = |host: &str, path: &str| {
        let line = format!("path = \"{path}\"\n");
        routes_of(&config, host).into_iter().filter(|route| route.contains(&line)).collect::<String>()
    };
    assert!(!of_path("", "/same").contains("http\"") && !of_path("old.test", "/").contains("scheme"), "{config}");
    assert!(of_path("old.test", "/b").contains("scheme = \"http\""), "{config}");
    let config = imported("server { listen 8080; return 301 https://$host$uri/; }");
    assert!(route(&config, "/").contains("to = \"https://$host$uri/\""), "{config}");
}

#[test]
fn an_if_for_a_host_that_another_server_has_for_https_alone_holds_for_http() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    for listens in ["listen 8080 default_server;", "listen 8080 default_server; listen 8443 ssl default_server;"] {
        let config = with_certificate(&format!(
            "{pair} server {{ {listens} server_name a.test; if ($host = b.test) {{ return 403; }} location / {{ {PROXY} }} }}
             server {{ listen 8443 ssl; server_name b.test; location / {{ {PROXY} }} }}"
        ));
        let routes = routes_of(&config, "b.test");
        assert!(routes[0].contains("scheme = \"http\"") && routes[0].contains("403"), "{config}");
        assert!(routes[1..].iter().all(|route| route.contains("scheme = \"https\"") && route.contains("backend")), "{config}");
    }
}

#[test]
fn a_server_without_a_certificate_keeps_its_hosts_where_another_one_has_it() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let config = with_certificate(&format!(
        "server {{ listen 8443 ssl; server_name a.test; {pair} location / {{ {PROXY} }} }}
         server {{ listen 8080 default_server; listen 8443 ssl; server_name c.test; return 403; }}
         server {{ listen 9443 ssl; server_name d.test; return 403; }}"
    ));
    let routes = routes_of(&config, "c.test");
    assert!(routes.len() == 1 && routes[0].contains("403") && !routes[0].contains("scheme"), "{config}");
    assert!(config.contains("`listen 9443 ssl` not carried over: CAUTION: there is no certificate"), "{config}");
}

#[test]
fn a_name_that_an_earlier_server_has_for_http_is_kept_for_https() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let (default, location) = ("default_server", format!("location / {{ {PROXY} }}"));
    for default in ["", default] {
        let config = with_certificate(&format!(
            "{pair} server {{ listen 8080; server_name b.test; return 301 https://$host$request_uri; }}
             server {{ listen 8443 ssl {}; server_name x.test; {location} }}
             server {{ listen 8080; listen 8443 ssl {default}; server_name a.test b.test x.test; deny all; {location} }}",
            if default.is_empty() { "default_server" } else { "" }
        ));
        let routes = routes_of(&config, "b.test");
        let closed = routes.iter().find(|route| route.contains("scheme = \"https\"")).unwrap();
        assert!(closed.contains("403"), "{config}");
        assert!(routes_of(&config, "a.test")[0].contains("403") && !config.contains("CAUTION"), "{config}");
        assert!(routes_of(&config, "x.test").iter().any(|route| route.contains("scheme = \"http\"") && route.contains("403")), "{config}");
    }
}

#[test]
fn where_nothing_comes_by_https_there_is_no_route_for_it() {
    let dropped = "listen 8080; listen internal.lan:8443 ssl;";
    for text in [
        format!(
            "server {{ {dropped} server_name a.test; if ($host = b.test) {{ return 403; }} location / {{ {PROXY} }} }}
             server {{ listen 8080; server_name b.test; location / {{ {PROXY} }} }}"
        ),
        format!(
            "server {{ listen 8080; server_name b.test; location / {{ {PROXY} }} }} server {{ {dropped} server_name a.test b.test; deny all; }}"
        ),
        format!(
            "server {{ listen 8080; server_name b.test; location / {{ {PROXY} }} }} server {{ {dropped} server_name b.test; deny all; }}"
        ),
    ] {
        assert!(!imported(&text).contains("scheme = "), "{text}");
    }
}
