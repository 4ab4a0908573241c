//! How often a client may ask.

mod common;

use common::{
    backend::Backend,
    client::{self, Client, request},
    h2::{Http2, get},
    program::Program,
    site::Site,
};
use serde_json::json;
use tokio::net::TcpStream;

/// So seldom that no test lives to see a second one.
const SELDOM: &str = "rate = \"1/h\"\nburst = 2";

async fn start(site: Site) -> Program {
    Program::start(&site.to_string()).await
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_others_are_served() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients(&format!("{SELDOM}\ntrusted_proxies = [\"127.0.0.1\"]"))).await;
    let ask = |client: &str| format!("GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {client}\r\n\r\n");
    let mut kept = Client::connect(program.proxy()).await;
    for _ in 0..2 {
        assert_eq!(kept.exchange(ask("192.0.2.1")).await.status, 200);
    }
    let refused = kept.exchange(ask("192.0.2.1")).await;
    assert_eq!((refused.status, refused.field("content-type")), (429, Some("application/problem+json")));
    assert_eq!(refused.field("proxy-status"), Some("forebay; error=http_request_denied; details=\"rate\""));
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    // The connection goes on, and so does everybody else: of IPv6, each /64 is one client.
    assert_eq!(kept.exchange(ask("192.0.2.2")).await.status, 200);
    for (address, status) in [("2001:db8::1", 200), ("2001:db8::2", 200), ("2001:db8::3", 429), ("2001:db8:0:1::3", 200)] {
        assert_eq!(kept.exchange(ask(address)).await.status, status, "{address}");
    }
    assert_eq!(backend.requests().len(), 6);
    assert_eq!(program.status().await["clients"]["rate_limited"], 2);
    let metrics = client::fetch(program.admin(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(metrics.text().contains("forebay_rate_limited_total{route=\"\"} 2\n"), "{}", metrics.text());
}

#[tokio::test]
async fn a_write_past_the_rate_is_refused_before_its_body_and_never_queued() {
    let backend = Backend::start().await;
    let program = start(Site::spilling(backend.url(), "when = \"always\"").clients(SELDOM)).await;
    for _ in 0..2 {
        assert_eq!(client::fetch(program.proxy(), request("POST", "/", &[], "ok")).await.status, 202);
    }
    let mut client = Client::connect(program.proxy()).await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nonly this").await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.field("connection")), (429, Some("close")));
    assert!(refused.field("retry-after").is_some());
    client.closed().await;
    assert_eq!(program.status().await["totals"]["accepted"], 2);
}

#[tokio::test]
async fn over_http_2_each_request_counts_and_the_connection_goes_on() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients(SELDOM)).await;
    let mut client = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.exchange(get("/a"), "").await.unwrap().status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[tokio::test]
async fn a_route_may_have_a_rate_of_its_own_by_what_its_requests_say() {
    let backend = Backend::start().await;
    let login = format!("{SELDOM}\nrate_by = [\"header:x-account\"]");
    let program = start(Site::passing(backend.url()).route("login", "/login", &login)).await;
    let ask = async |path: &str, account: &str| {
        client::fetch(program.proxy(), format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-Account: {account}\r\n\r\n")).await.status
    };
    for (path, account, status) in
        [("/login", "a", 200), ("/login", "a", 200), ("/login", "a", 429), ("/login", "b", 200), ("/other", "a", 200), ("/other", "a", 200)]
    {
        assert_eq!(ask(path, account).await, status, "{path} {account}");
    }
    let metrics = client::fetch(program.admin(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(metrics.text().contains("forebay_rate_limited_total{route=\"login\"} 1\n"), "{}", metrics.text());
}

#[tokio::test]
async fn a_reload_forgets_nobody_unless_the_rate_has_changed() {
    let backend = Backend::start().await;
    let site = |clients: &str| Site::passing(backend.url()).clients(clients).to_string();
    let program = start(Site::passing(backend.url()).clients(SELDOM)).await;
    let ask = async || client::fetch(program.proxy(), client::get("/")).await.status;
    assert_eq!([ask().await, ask().await, ask().await], [200, 200, 429]);
    program.reload(&site(&format!("{SELDOM}\nidle_timeout = \"9s\""))).await;
    assert_eq!(ask().await, 429);
    program.reload(&site("rate = \"1/h\"\nburst = 1")).await;
    assert_eq!([ask().await, ask().await], [200, 429]);
    program.reload(&site("")).await;
    assert_eq!([ask().await, ask().await], [200, 200]);
    assert_eq!(program.status().await["clients"]["refused"], json!({ "full": 0, "client": 0, "proxy_protocol": 0 }));
}
