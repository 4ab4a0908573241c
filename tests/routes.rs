//! Routes as in nginx: what a route matches, changes and answers is the same for a request that passes and for one that is replayed.

mod common;

use common::{
    backend::{self, Backend, Recorded},
    client::{self, Response},
    program::Program,
    site::Site,
};

const CHANGES: &str = r#"
strip_prefix = "/shop/"
add_prefix = "/v2/"
host_header = "app.internal"
request_headers = { set = { X-Real-IP = "$remote_addr", X-Was = "$scheme://$host$request_uri" }, add = { X-Tag = "b" }, remove = ["X-Secret"] }
response_headers = { set = { X-Frame-Options = "DENY" }, add = { X-Seen = "$http_x_tour" }, remove = ["Server"] }
"#;

async fn post(program: &Program, target: &str) -> Response {
    let fields =
        ["X-Secret: s3", "X-Real-IP: 6.6.6.6", "X-Tag: a", "X-Tour: 7", "Authorization: Bearer 1", "X_Real_IP: 9.9.9.9", "X_Secret: s"];
    let head: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client::fetch(program.proxy(), format!("POST {target} HTTP/1.1\r\nHost: WWW.example.com:80\r\n{head}Content-Length: 2\r\n\r\nhi")).await
}

fn has_the_changes(request: &Recorded) {
    assert_eq!((request.field("host"), request.field("x-forwarded-host")), (Some("app.internal"), Some("WWW.example.com:80")));
    assert_eq!((request.field("x-real-ip"), request.field("x-secret")), (Some("127.0.0.1"), None));
    assert_eq!((request.field("x_real_ip"), request.field("x_secret")), (None, None), "nor what reads like them");
    assert_eq!(request.field("x-was"), Some("http://www.example.com/shop/order%20s/7?a=%2F"));
    assert_eq!((request.target.as_str(), &request.body.content[..]), ("/v2/order%20s/7?a=%2F", &b"hi"[..]));
    let tags: Vec<_> = request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-tag")).map(|(_, value)| &value[..]).collect();
    assert_eq!(tags, [b"a", b"b"]);
}

#[tokio::test]
async fn a_backend_sees_the_changed_request_live_and_replayed() {
    let backend = Backend::start().await;
    let answer = || backend::answer(201, &["Server: old", "Location: /v2/orders/7"], "made");
    let site =
        |spill: &str| Site::of(&[backend.url()]).route("shop", "/shop/", &format!("{CHANGES}[routes.spill]\norder_by = \"none\"\n{spill}"));
    let program = Program::start(&site("").to_string()).await;
    backend.next(answer());
    let response = post(&program, "/shop/order%20s/7?a=%2F").await;
    assert_eq!((response.status, response.text(), response.field("location")), (201, "made", Some("/shop/orders/7")));
    let added = |response: &Response| {
        assert_eq!(
            (response.field("x-frame-options"), response.field("x-seen"), response.field("server")),
            (Some("DENY"), Some("7"), None)
        );
    };
    added(&response);
    has_the_changes(&backend.received(1).await[0]);

    program.reload(&site("when = \"always\"").to_string()).await;
    backend.next(answer());
    let queued = post(&program, "/shop/order%20s/7?a=%2F").await;
    assert_eq!(queued.status, 202);
    added(&queued);
    let id = queued.id();
    assert_eq!(queued.field("location"), Some(format!("/.forebay/requests/{id}").as_str()), "our own location is not changed");
    program.becomes(&id, "delivered").await;
    has_the_changes(&backend.received(2).await[1]);
    let kept = client::fetch(program.proxy(), client::get(&format!("/.forebay/requests/{id}/response"))).await;
    assert_eq!((kept.status, kept.text(), kept.field("location"), kept.field("server")), (201, "made", Some("/shop/orders/7"), None));
}

#[tokio::test]
async fn what_is_queued_is_ordered_by_what_the_client_sent() {
    let mut backend = Backend::start().await;
    let lines = "strip_prefix = \"/shop\"\nrequest_headers = { remove = [\"Authorization\"] }\n[routes.spill]\norder_by = [\"header:authorization\"]";
    let program = Program::start(&Site::of(&[backend.url()]).route("shop", "/shop", lines).to_string()).await;
    backend.stop().await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(post(&program, &format!("/shop/{number}")).await.id());
    }
    backend.start_again().await;
    for id in &ids {
        program.becomes(id, "delivered").await;
    }
    let requests = backend.requests();
    let sent: Vec<_> = requests.iter().filter(|request| request.method == "POST").map(|request| request.target.as_str()).collect();
    assert_eq!(sent, ["/0", "/1", "/2", "/3"], "in order, although the backend does not see what orders them");
    assert_eq!(backend.busiest(), 1);
}

#[tokio::test]
async fn a_route_without_a_backend_answers_by_itself() {
    let backend = Backend::start().await;
    let own = r#"
[[routes]]
name = "to-https"
path = "/"
host = ["example.com", "*.example.com"]
scheme = "http"
redirect = { to = "https://$host$request_uri" }
[[routes]]
name = "moved"
path = "= /moved"
redirect = { to = "https://$host/new" }
[[routes]]
name = "teapot"
path = "= /teapot"
methods = ["GET"]
respond = { status = 418, body = "short and stout\n" }
response_headers = { set = { X-Pot = "$request_method" } }
"#;
    let site = Site::of(&[backend.url()]).clients("trusted_proxies = [\"127.0.0.1\"]").route("rest", "/", "methods = [\"GET\"]");
    let program = Program::start(&format!("{site}{own}")).await;
    let ask = |method: &str, host: &str, target: &str, field: &str| {
        client::fetch(program.proxy(), format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{field}Content-Length: 0\r\n\r\n"))
    };
    let moved = ask("POST", "Shop.Example.com:8080", "/a?b", "").await;
    assert_eq!((moved.status, moved.field("location"), moved.text()), (308, Some("https://shop.example.com/a?b"), ""));
    assert_eq!(ask("GET", "shop.example.com", "/a", "X-Forwarded-Proto: https\r\n").await.text(), "ok", "it came by https");
    let nowhere = client::fetch(program.proxy(), "POST /moved HTTP/1.0\r\n\r\n").await;
    assert_eq!((nowhere.status, nowhere.field("location")), (400, None), "an old client that names no host");
    let pot = ask("GET", "a", "/teapot", "").await;
    assert_eq!((pot.status, pot.text(), pot.field("x-pot")), (418, "short and stout\n", Some("GET")));
    let other = ask("POST", "a", "/teapot", "").await;
    assert_eq!((other.status, other.field("allow")), (405, Some("GET")));
    assert_eq!(ask("GET", "a", "/../teapot", "").await.status, 400);
    assert_eq!(ask("GET", "a", "/teapot%00", "").await.status, 400);
    assert_eq!(ask("GET", "a", "//x/../teapot", "").await.status, 418, "not to be got round");
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_route_has_limits_of_its_own() {
    let backend = Backend::start().await;
    let site = Site::of(&[backend.url()])
        .clients("max_body = \"10B\"")
        .backend("response_timeout = \"1m\"")
        .route("large", "/large", "max_body = \"20B\"")
        .route("small", "/small", "max_body = \"5B\"\n[routes.spill]")
        .route("hasty", "/hasty", "response_timeout = \"50ms\"")
        .route("rest", "/", "");
    let program = Program::start(&site.to_string()).await;
    let post = |target: &str, length: usize| client::fetch(program.proxy(), client::request("POST", target, &[], vec![b'x'; length]));
    for (target, length, status) in
        [("/large", 20, 200), ("/large", 21, 413), ("/small", 5, 200), ("/small", 6, 413), ("/", 10, 200), ("/", 11, 413)]
    {
        assert_eq!(post(target, length).await.status, status, "{target} {length}");
    }
    let never = backend::Trigger::default();
    backend.next(backend::answer_when(&never, 200, &[], "late"));
    assert_eq!(post("/hasty", 1).await.status, 504);
}
