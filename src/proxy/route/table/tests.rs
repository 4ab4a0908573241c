use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::*;
use crate::{
    proxy::{Accepted, Own, Target},
    telemetry::Metrics,
};

/// A route in a line: `name host,host METHOD,METHOD scheme path`, with `-` for what it does not say.
fn way(line: &str) -> Way {
    let [name, hosts, methods, scheme, path] = line.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
    let list = |text: &str| if text == "-" { vec![] } else { text.split(',').map(str::to_owned).collect() };
    let host = |host: String| match host.strip_prefix("*.") {
        Some(under) => HostMatch::Under(under.into()),
        None => HostMatch::Exact(host),
    };
    let settings = RouteSettings {
        name: name.into(),
        path: path.strip_prefix("= ").map_or_else(|| PathMatch::Prefix(path.into()), |path| PathMatch::Exact(path.into())),
        hosts: list(hosts).into_iter().map(host).collect(),
        methods: list(methods).iter().map(|method| method.parse().unwrap()).collect(),
        scheme: match scheme {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        },
        target: Target::Respond(Accepted { status: StatusCode::OK, content_type: HeaderValue::from_static("a/b"), body: Bytes::new() }),
        rewrite: None,
        response_timeout: None,
        max_body: None,
        concurrency: None,
        max_share: None,
        rate: None,
        spill: None,
    };
    Way::Own(Arc::new(Own::new(settings, Metrics::new().answers(name))))
}

fn found(routes: &[&str], method: &str, url: &str) -> String {
    let table = Table::new(routes.iter().map(|line| way(line)));
    let url: Uri = url.parse().unwrap();
    let host = url.authority().unwrap().as_str();
    let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
    let target: Uri = url.path_and_query().unwrap().as_str().parse().unwrap();
    match table.find(&target, &headers, &method.parse().unwrap(), || url.scheme_str() == Some("https")) {
        Found::Way(way) => way.settings().name.to_string(),
        Found::Nothing => "404".into(),
        Found::OtherMethods(methods) => format!("405 {}", methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",")),
        Found::NoPath => "400".into(),
    }
}

#[test]
fn an_exact_path_goes_first_and_then_the_longest_prefix() {
    let routes = ["all - - - /", "api - - - /api/", "v2 - - - /api/v2", "login - - - = /api/v2/login", "root - - - = /"];
    for (path, expected) in [
        ("/", "root"),
        ("/x", "all"),
        ("/api", "all"),
        ("/api/", "api"),
        ("/api/v1", "api"),
        ("/api/v2", "v2"),
        ("/api/v22", "v2"),
        ("/api/v2/login", "login"),
        ("/api/v2/login?next=/", "login"),
        ("/api/v2/login/", "v2"),
        ("/API/", "all"),
    ] {
        assert_eq!(found(&routes, "GET", &format!("http://a.example{path}")), expected, "{path}");
    }
}

#[test]
fn a_route_is_not_got_round_by_another_spelling_of_its_path() {
    let routes = ["closed - - - /admin/", "all - - - /", "space - - - /a%20b"];
    for (path, expected) in [
        ("//admin/", "closed"),
        ("/x/../admin/", "closed"),
        ("/%61dmin/", "closed"),
        ("/admin%2Fusers", "closed"),
        ("/./admin//x", "closed"),
        ("/admin/../x", "all"),
        ("/../admin/", "400"),
        ("/a%20b", "space"),
        ("/%61%20b/c", "space"),
    ] {
        assert_eq!(found(&routes, "GET", &format!("http://a.example{path}")), expected, "{path}");
    }
}

#[test]
fn a_host_goes_before_its_wildcards_and_these_before_any() {
    let routes = [
        "any - - - /",
        "under *.example.com - - /",
        "deep *.shop.example.com - - /",
        "exact www.example.com,example.com - - /",
        "only_api api.example.com - - /api/",
        "v6 [::1] - - /",
    ];
    for (url, expected) in [
        ("http://www.example.com/", "exact"),
        ("http://WWW.Example.COM:8080/", "exact"),
        ("http://www.example.com./", "exact"),
        ("http://example.com/", "exact"),
        ("http://a.example.com/", "under"),
        ("http://a.b.example.com/", "under"),
        ("http://a.shop.example.com/", "deep"),
        ("http://shop.example.com/", "under"),
        ("http://badexample.com/", "any"),
        ("http://example.com.evil.net/", "any"),
        ("http://api.example.com/api/x", "only_api"),
        ("http://api.example.com/x", "under"),
        ("http://[::1]:80/", "v6"),
    ] {
        assert_eq!(found(&routes, "GET", url), expected, "{url}");
    }
}

#[test]
fn methods_and_schemes_choose_among_the_routes_of_a_path() {
    let routes = [
        "read - GET - /orders/",
        "write - POST,PUT - /orders/",
        "plain - - http /secure/",
        "safe - - - /secure/",
        "x - DELETE - = /orders/7",
    ];
    for (method, url, expected) in [
        ("GET", "http://a/orders/1", "read"),
        ("HEAD", "http://a/orders/1", "read"),
        ("POST", "http://a/orders/1", "write"),
        ("DELETE", "http://a/orders/1", "405 GET,POST,PUT"),
        ("DELETE", "http://a/orders/7", "x"),
        ("GET", "http://a/orders/7", "read"),
        ("GET", "http://a/secure/", "plain"),
        ("GET", "https://a/secure/", "safe"),
        ("GET", "http://a/elsewhere", "404"),
    ] {
        assert_eq!(found(&routes, method, url), expected, "{method} {url}");
    }
}

#[test]
fn the_methods_of_a_path_are_those_of_all_its_routes_unless_one_takes_any() {
    let allowed = |routes: &[&str], url: &str| {
        let table = Table::new(routes.iter().map(|line| way(line)));
        let url: Uri = url.parse().unwrap();
        let headers = HeaderMap::from_iter([(HOST, url.authority().unwrap().as_str().parse().unwrap())]);
        let target: Uri = url.path().parse().unwrap();
        let methods = table.methods(&target, &headers, || url.scheme_str() == Some("https"));
        methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",")
    };
    let routes =
        ["read - GET,OPTIONS - /a/b", "write - POST,GET - /a/", "secure - PUT https /a/", "all - - - /free", "shop b.test PATCH - /a/"];
    for (url, expected) in [
        ("http://a.test/a/b", "GET,OPTIONS,POST"),
        ("http://a.test/a/c", "POST,GET"),
        ("https://a.test/a/c", "PUT,POST,GET"),
        ("http://b.test/a/c", "PATCH,POST,GET"),
        ("http://a.test/free", ""),
        ("http://a.test/nowhere", ""),
        ("http://a.test/../..", ""),
    ] {
        assert_eq!(allowed(&routes, url), expected, "{url}");
    }
}
