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
    assert!(caution("listen internal.lan:8081") && caution("listen 8443 ssl"), "{config}");
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
    fs::write(folder.path().join(name), "server { listen 8080; location / { return 204; } }").unwrap();
    let config = forebay(folder.path(), &["import-nginx", name]).out;
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
fn a_redirect_of_the_default_server_for_http_takes_nothing_from_that_for_https() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let config = with_certificate(&format!(
        "{pair} server {{ listen 8080; listen 8443 ssl; server_name a.test;
           if ($scheme = http) {{ return 301 https://$host$request_uri; }} location / {{ {PROXY} }} }}
         server {{ listen 8443 ssl default_server; server_name _; return 403; }}"
    ));
    let open: Vec<_> = routes_of(&config, "").into_iter().filter(|route| route.contains("backend = ")).collect();
    assert!(open.is_empty(), "{config}");
    assert!(routes_of(&config, "").iter().any(|route| route.contains("scheme = \"https\"") && route.contains("403")), "{config}");
    assert!(routes_of(&config, "a.test").iter().any(|route| route.contains("backend = ")), "{config}");
}

#[test]
fn a_redirect_that_leads_elsewhere_is_for_https_too() {
    let pair = "ssl_certificate c.pem; ssl_certificate_key k.pem;";
    let config = with_certificate(&format!(
        "{pair} server {{ listen 8080; return 404; }}
         server {{ listen 8443 ssl; server_name a.test; location = /app {{ return 301 https://$host$uri/; }}
           location /adm {{ return 302 https://$host$request_uri.html; }} location / {{ {PROXY} }} }}"
    ));
    assert!(!config.contains("scheme = \"http\"\nredirect"), "{config}");
}
