//! Clients over TLS: certificates by name, protocols by ALPN, and files that change while we run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    backend::Backend,
    client::{self, Client},
    h2::{Http2, get},
    program::Program,
    secure::Certificate,
    site::Site,
    within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The program with one listener that has these certificates, each in files of its name.
async fn start(backend: &Backend, clients: &str, certificates: &[(&str, &Certificate)]) -> Program {
    let tls = certificates.iter().map(|(stem, _)| format!("{{ cert_file = \"{stem}.crt\", key_file = \"{stem}.key\" }}"));
    let tls = format!("tls = [{}]", tls.collect::<Vec<_>>().join(", "));
    let site = Site::passing(backend.url()).listening(&tls).clients(clients);
    let mut program = Program::prepare(&site.to_string(), &["run", "-c", "config.toml"]);
    certificates.iter().for_each(|(stem, certificate)| certificate.write(program.directory(), stem));
    program.run().await;
    program
}

#[tokio::test]
async fn a_client_is_served_under_the_name_and_in_the_protocol_that_it_asks_for() {
    let backend = Backend::start().await;
    let (one, two) = (Certificate::of(&["one.test"]), Certificate::of(&["two.test"]));
    let program = start(&backend, "", &[("one", &one), ("two", &two)]).await;

    let mut stream = one.connect(program.proxy(), "one.test", &["http/1.1"]).await.unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");

    let stream = two.connect(program.proxy(), "two.test", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = Http2::over(stream).await.exchange(http::Request::get("https://two.test/b"), "").await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));

    let told = backend.requests().iter().map(|request| request.field("x-forwarded-proto").unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(told, ["https", "https"]);
    assert!(two.connect(program.proxy(), "one.test", &[]).await.is_err(), "one name, one certificate");
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over_and_a_bad_one_leaves_the_old_in_force() {
    let backend = Backend::start().await;
    let (old, new) = (Certificate::of(&["a.test"]), Certificate::of(&["a.test"]));
    let program = start(&backend, "", &[("a", &old)]).await;
    let mut before = Http2::over(old.connect(program.proxy(), "a.test", &["h2"]).await.unwrap()).await;
    let metric = async |name: &str| {
        let mut admin = Client::connect(program.admin()).await;
        let metrics = admin.exchange("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let line = metrics.text().lines().find(|line| line.starts_with(&format!("{name}{{certificate=\"a.crt\"}}"))).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(metric("forebay_tls_certificate_last_reload_successful").await, 1);
    assert!(metric("forebay_tls_certificate_expiry_seconds").await > 1_700_000_000);

    std::fs::write(program.path("a.key"), &new.key).unwrap();
    let said = program.logged("the fault", |line| line["level"] == "ERROR").await;
    assert!(said["message"].as_str().unwrap().contains("a.key is not the key of the certificate in a.crt"), "{said}");
    assert_eq!(metric("forebay_tls_certificate_last_reload_successful").await, 0);
    old.connect(program.proxy(), "a.test", &[]).await.unwrap();

    std::fs::write(program.path("a.crt"), &new.pem).unwrap();
    program.logged("the new certificate", |line| line["message"] == "a new certificate is in force").await;
    new.connect(program.proxy(), "a.test", &[]).await.unwrap();
    assert!(old.connect(program.proxy(), "a.test", &[]).await.is_err());
    assert_eq!(metric("forebay_tls_certificate_last_reload_successful").await, 1);
    assert_eq!(before.exchange(get("/"), "").await.unwrap().status, 200, "who was connected stays so");
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_is_told_so() {
    let backend = Backend::start().await;
    let program = start(&backend, "", &[("a", &Certificate::of(&["a.test"]))]).await;
    let mut client = Client::connect(program.proxy()).await;
    let told = client.exchange(client::get("/")).await;
    assert_eq!(told.status, 400);
    assert!(told.text().contains("https://"), "{}", told.text());
    client.ended().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_its_connection() {
    let backend = Backend::start().await;
    let program = start(&backend, "header_timeout = \"100ms\"", &[("a", &Certificate::of(&["a.test"]))]).await;
    Client::connect(program.proxy()).await.ended().await;
    client::given_up(program.proxy(), [22, 3, 1]).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_a_fault_at_its_place() {
    let certificate = Certificate::of(&["a.test"]);
    let site = Site::passing("http://127.0.0.1:1".into()).listening("tls = { cert_file = \"a.crt\", key_file = \"b.key\" }").to_string();
    let mut program = Program::prepare(&site, &["check", "-c", "config.toml"]);
    certificate.write(program.directory(), "a");
    Certificate::of(&["a.test"]).write(program.directory(), "b");
    program.launch().await;
    assert_eq!(program.ended().await.code(), Some(78));
    let said = program.stderr();
    assert!(said.contains("`tls.key_file` cannot be used") && said.contains("b.key is not the key of the certificate in a.crt"), "{said}");
}
