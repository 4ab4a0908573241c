//! Servers that speak TLS: whose certificate is believed, and what is said when it is not.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::{
    backend::{self, Backend, Step},
    client::{self, Client},
    program::Program,
    site::Site,
    tls::{Authority, Door, Identity},
};
use forebay::{backend::Fingerprint, config::Config};
use rustix::process::Signal;

/// A backend behind a door that shows `identity`, and the program before it, with these lines about TLS.
async fn started(identity: &Identity, authority: &Authority, tls: &str) -> (Backend, Door, Program) {
    let backend = Backend::start().await;
    let door = Door::open(identity, &[("http/1.1", backend.address())]).await;
    let program = before(&door, authority, tls).await;
    (backend, door, program)
}

async fn before(door: &Door, authority: &Authority, tls: &str) -> Program {
    let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
    authority.write(&program.path("ca.pem"));
    program.configure(
        &Site::spilling(door.url(), "delivery = \"at-most-once\"").top("workers = 1\nlog.level = \"debug\"").backend(tls).to_string(),
    );
    program.run().await;
    program
}

async fn get(program: &Program) -> client::Response {
    client::fetch(program.proxy(), client::get("/a")).await
}

/// What the program complains of.
async fn complaint(program: &Program) -> String {
    let is_one =
        |line: &serde_json::Value| line["message"].as_str().is_some_and(|message| message.starts_with("there is no TLS with a server"));
    program.logged("a complaint about TLS", is_one).await["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_and_its_name() {
    let authority = Authority::new();
    let (backend, _door, program) = started(&authority.sign(&["localhost"]), &authority, "tls = { ca_file = \"ca.pem\" }").await;
    for _ in 0..3 {
        assert_eq!(get(&program).await.status, 200);
    }
    assert_eq!((backend.requests().len(), backend.connections()), (3, 1), "its connections are kept");
}

#[tokio::test]
async fn a_server_is_not_believed_whose_authority_is_not_known_or_whose_name_is_another() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (identity, tls, word) in [
        (other.sign(&["localhost"]), "tls = { ca_file = \"ca.pem\" }", "tls.ca_file"),
        (authority.sign(&["localhost"]), "", "tls.ca_file"),
        (authority.sign(&["elsewhere.example"]), "tls = { ca_file = \"ca.pem\" }", "tls.server_name"),
    ] {
        let (backend, _door, program) = started(&identity, &authority, tls).await;
        let response = get(&program).await;
        assert_eq!((response.status, response.field("proxy-status")), (503, Some("forebay; error=tls_certificate_error")));
        assert!(complaint(&program).await.contains(word));
        let write = client::fetch(program.proxy(), client::request("POST", "/", &[], "order")).await;
        assert_eq!(write.status, 202, "nothing of it was sent");
        assert!(backend.requests().is_empty());
    }
}

#[tokio::test]
async fn the_name_of_a_certificate_may_be_another_than_that_of_the_address() {
    let authority = Authority::new();
    let tls = "tls = { ca_file = \"ca.pem\", server_name = \"orders.internal\" }";
    let (_backend, _door, program) = started(&authority.sign(&["orders.internal"]), &authority, tls).await;
    assert_eq!(get(&program).await.status, 200);
}

#[tokio::test]
async fn a_pinned_server_needs_no_authority_and_another_one_gets_nothing() {
    let (authority, identity) = (Authority::new(), Identity::self_signed(&["whatever.example"]));
    let certificate = Fingerprint::of(identity.certificate.der()).to_string();
    let (backend, door, mut program) = started(&identity, &authority, &format!("tls = {{ pin = [\"{}\"] }}", "00".repeat(32))).await;
    assert_eq!(get(&program).await.field("proxy-status"), Some("forebay; error=tls_certificate_error"));
    assert!(complaint(&program).await.contains(&certificate), "what to write is in the log");
    assert!(backend.requests().is_empty());
    program.signal(Signal::KILL);
    program.ended().await;
    let program = before(&door, &authority, &format!("tls = {{ pin = [\"{certificate}\"] }}")).await;
    assert_eq!(get(&program).await.status, 200);
    // Both are asked for where both are configured.
    let program = before(&door, &authority, &format!("tls = {{ ca_file = \"ca.pem\", pin = [\"{certificate}\"] }}")).await;
    assert_eq!(get(&program).await.status, 503);
}

#[tokio::test]
async fn a_server_may_be_trusted_by_its_own_certificate_and_then_it_alone_for_its_names() {
    let (ours, elsewhere) = (Identity::self_signed_by_openssl(&["localhost"]), Identity::self_signed_by_openssl(&["elsewhere.example"]));
    let (plain, other) = (Identity::self_signed(&["localhost"]), Identity::self_signed_by_openssl(&["localhost"]));
    for (shown, known, status) in
        [(&ours, &ours, 200), (&plain, &plain, 200), (&plain, &ours, 503), (&other, &ours, 503), (&elsewhere, &elsewhere, 503)]
    {
        let backend = Backend::start().await;
        let door = Door::open(shown, &[("http/1.1", backend.address())]).await;
        let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
        known.write(&program.path("ca.pem"), &program.path("unused.key"));
        program.configure(&Site::passing(door.url()).backend("tls = { ca_file = \"ca.pem\" }").to_string());
        program.run().await;
        assert_eq!(get(&program).await.status, status);
    }
}

#[tokio::test]
async fn an_answer_without_a_length_is_whole_only_if_its_tls_is_ended() {
    let authority = Authority::new();
    let (backend, _door, program) = started(&authority.sign(&["localhost"]), &authority, "tls = { ca_file = \"ca.pem\" }").await;
    for (last, is_whole) in [(Step::Close, true), (Step::Reset, false)] {
        backend.next(vec![Step::Read, Step::Write(b"HTTP/1.1 200 OK\r\n\r\nall".to_vec()), last]);
        let mut client = Client::connect(program.proxy()).await;
        client.send(client::get("/")).await;
        let response = client.try_response().await;
        assert_eq!(response.is_ok_and(|response| response.complete && response.text() == "all"), is_whole);
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let door = Door::asking(&authority.sign(&["localhost"]), &[("http/1.1", backend.address())], Some(&authority)).await;
    let program = before(&door, &authority, "tls = { ca_file = \"ca.pem\" }").await;
    assert_ne!(get(&program).await.status, 200);
    let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
    authority.write(&program.path("ca.pem"));
    authority.sign(&["forebay"]).write(&program.path("our.crt"), &program.path("our.key"));
    let tls = "tls = { ca_file = \"ca.pem\", cert_file = \"our.crt\", key_file = \"our.key\" }";
    program.configure(&Site::passing(door.url()).backend(tls).to_string());
    program.run().await;
    assert_eq!(get(&program).await.status, 200);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_said_to() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    backend.otherwise(|_| backend::bytes("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let plain = backend.url().replace("http://", "https://");
    let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
    authority.write(&program.path("ca.pem"));
    program.configure(&Site::passing(plain).backend("connect_timeout = \"5s\"\ntls = { ca_file = \"ca.pem\" }").to_string());
    program.run().await;
    backend.next(vec![Step::Write(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Step::Close]);
    assert_eq!(get(&program).await.field("proxy-status"), Some("forebay; error=tls_protocol_error"));
    assert!(complaint(&program).await.contains("does not speak TLS"));
}

#[tokio::test]
async fn a_websocket_passes_through_tls() {
    let authority = Authority::new();
    let (backend, _door, program) = started(&authority.sign(&["localhost"]), &authority, "tls = { ca_file = \"ca.pem\" }").await;
    let agreed = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec();
    backend.next(vec![Step::Read, Step::Write(agreed), Step::Hear(b"ping".to_vec()), Step::Write(b"pong".to_vec())]);
    let mut client = Client::connect(program.proxy()).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(client.head().await.status, 101);
    client.send("ping").await;
    assert_eq!(client.bytes(4).await, b"pong");
}

#[test]
fn what_cannot_be_is_told_before_the_start() {
    let check = |server: &str, lines: &str| {
        let route = "[[routes]]\nname = \"all\"\npath = \"/\"\nbackend = \"app\"";
        Config::parse("config.toml", &format!("[backends.app]\nservers = [\"{server}\"]\n{lines}\n{route}"))
            .map_err(|error| error.to_string())
    };
    for (server, lines, word) in [
        ("http://a", "tls = { server_name = \"b\" }", "write `https://` in `servers`"),
        ("http://a", "protocol = \"h2\"", "protocol = \"h2c\""),
        ("https://a", "protocol = \"h2c\"", "protocol = \"h2\""),
        ("https://a", "tls = { ca_file = \"/nowhere.pem\" }", "/nowhere.pem"),
        ("https://a", "tls = { ca_file = \"Cargo.toml\" }", "no certificate is in it"),
        ("https://a", "tls = { pin = [\"abc\"] }", "64 hexadecimal digits"),
        ("https://a", "tls = { pin = [] }", "is empty"),
        ("https://a", "tls = { cert_file = \"a.crt\" }", "`key_file`"),
        ("https://a", "tls = { server_name = \"no name\" }", "neither a host name nor an IP address"),
    ] {
        let said = check(server, lines).expect_err(lines);
        assert!(said.contains(word), "{lines}: {said}");
    }
}
