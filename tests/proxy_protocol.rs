//! Load balancers that say whose connection they pass on: the PROXY protocol, before HTTP and before TLS.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::{
    backend::Backend,
    client::{self, Client},
    h2::Http2,
    program::Program,
    secure::Certificate,
    site::Site,
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

const BALANCER: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }";
const LINE: &str = "PROXY TCP4 203.0.113.9 192.0.2.2 56324 443\r\n";

/// A head of version 2 for a client of IPv6, whose connection to the balancer was a secure one.
fn binary() -> Vec<u8> {
    let addresses = [[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat();
    let secure = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let rest = [&addresses[..], &[0xd9, 0x00, 0x01, 0xbb], &secure].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0", &[u8::try_from(rest.len()).unwrap()][..], &rest].concat()
}

async fn start(site: Site) -> Program {
    Program::start(&site.to_string()).await
}

#[tokio::test]
async fn the_client_that_a_trusted_balancer_names_is_the_client_everywhere() {
    let backend = Backend::start().await;
    let site = Site::passing(backend.url()).listening(BALANCER).top("workers = 1\nlog = { access = \"stdout\" }");
    let program = start(site).await;
    let forged = "GET /a HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    for head in [LINE.as_bytes(), &binary(), b"PROXY UNKNOWN\r\n"] {
        let mut client = Client::connect(program.proxy()).await;
        // One byte at a time at first, and the request right behind.
        client.send(&head[..1]).await;
        assert_eq!(client.exchange([&head[1..], forged.as_bytes()].concat()).await.status, 200);
        assert_eq!(client.exchange(forged).await.status, 200, "one head for all requests of a connection");
    }
    let told: Vec<_> = backend
        .requests()
        .iter()
        .map(|request| [request.field("x-forwarded-for").unwrap().to_owned(), request.field("x-forwarded-proto").unwrap().to_owned()])
        .collect();
    let expected = [["203.0.113.9", "http"], ["2001:db8::7", "https"], ["127.0.0.1", "http"]].map(|pair| [pair, pair]).concat();
    assert_eq!(told, expected);
    program.printed(5, "the last of six lines").await;
    let logged = |client: &str| program.stdout().matches(&format!("\"client\":\"{client}\"")).count();
    assert_eq!((logged("203.0.113.9"), logged("2001:db8::7"), logged("127.0.0.1")), (2, 2, 2), "{}", program.stdout());
}

#[tokio::test]
async fn who_may_not_name_a_client_is_refused_or_speaks_for_itself() {
    let backend = Backend::start().await;
    let strict = "proxy_protocol = { from = [\"192.0.2.0/24\"] }";
    let lenient = "proxy_protocol = { from = [\"192.0.2.0/24\"], others = \"plain\" }";
    let site = Site::passing(backend.url()).listening(strict).listener("127.0.0.2:0").listening(lenient);
    let mut program = start(site).await;
    let address = within(
        "the second listener",
        program.logged("both listeners", |line| line["address"].as_str().unwrap_or("").starts_with("127.0.0.2")),
    )
    .await;
    let lenient = address["address"].as_str().unwrap().parse().unwrap();

    for bytes in [LINE.as_bytes().to_vec(), client::get("/")] {
        let mut client = Client::connect(program.proxy()).await;
        client.try_send(bytes).await.ok();
        client.closed().await;
    }
    let line = program.logged("a refusal", |line| line["reason"] == "proxy_protocol").await;
    assert!(line["message"].as_str().unwrap().contains("may not speak the PROXY protocol"), "{line}");
    assert_eq!(client::fetch(lenient, client::get("/")).await.status, 200);
    assert_eq!(client::fetch(lenient, [LINE.as_bytes(), &client::get("/")].concat()).await.status, 400, "a head from it is no HTTP");
    assert_eq!(backend.requests().iter().map(|request| request.field("x-forwarded-for").unwrap()).collect::<Vec<_>>(), ["127.0.0.1"]);
    program.terminate().await;
}

#[tokio::test]
async fn a_head_that_is_wrong_or_does_not_come_ends_its_connection_and_is_counted() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).listening(BALANCER).clients("header_timeout = \"100ms\"")).await;
    let long = "PROXY UNKNOWN ".to_owned() + &"x".repeat(200);
    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 1.2.3 4\r\n", &long, "", "PROXY TC", &LINE[..30]] {
        let mut client = Client::connect(program.proxy()).await;
        client.send(bytes).await;
        client.closed().await;
    }
    let metrics = client::fetch(program.admin(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let refused = "forebay_connections_refused_total{reason=\"proxy_protocol\"} 6";
    assert!(metrics.text().lines().any(|line| line == refused), "{}", metrics.text());
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn the_head_comes_before_tls_and_before_http_2() {
    let backend = Backend::start().await;
    let certificate = Certificate::of(&["a.test"]);
    let tls = format!("{BALANCER}\ntls = {{ cert_file = \"a.crt\", key_file = \"a.key\" }}");
    let mut program = Program::prepare(&Site::passing(backend.url()).listening(&tls).to_string(), &["run", "-c", "config.toml"]);
    certificate.write(program.directory(), "a");
    program.run().await;
    let mut stream = TcpStream::connect(program.proxy()).await.unwrap();
    stream.write_all(LINE.as_bytes()).await.unwrap();
    let stream = certificate.over(stream, "a.test", &["h2"]).await.unwrap();
    assert_eq!(Http2::over(stream).await.exchange(http::Request::get("https://a.test/b"), "").await.unwrap().status, 200);
    let request = &backend.received(1).await[0];
    assert_eq!((request.field("x-forwarded-for"), request.field("x-forwarded-proto")), (Some("203.0.113.9"), Some("https")));
}

#[tokio::test]
async fn who_may_connect_to_a_unix_socket_may_name_the_client() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).listener("unix:forebay.sock").listening("proxy_protocol = true")).await;
    let mut stream = UnixStream::connect(program.path("forebay.sock")).await.unwrap();
    stream.write_all(&[&binary()[..], b"GET /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"].concat()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(backend.received(1).await[0].field("x-forwarded-for"), Some("2001:db8::7"));
}
