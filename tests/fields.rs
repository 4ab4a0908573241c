//! Which fields cross, which do not, and what is said about the way that a message took.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::{
    backend::{self, Backend, Recorded},
    client::{self, Client},
    program::Program,
    site::Site,
    wire::values,
};

/// What a backend of one route that never spills gets from a client that sends these lines.
async fn seen(clients: &str, fields: &[&str]) -> Recorded {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients(clients).to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::request("POST", "/", fields, "x")).await.status, 200);
    backend.received(1).await.remove(0)
}

fn all<'a>(request: &'a Recorded, name: &str) -> Vec<&'a str> {
    values(&request.fields, name).map(|value| std::str::from_utf8(value).unwrap()).collect()
}

#[tokio::test]
async fn fields_of_one_connection_do_not_cross() {
    let request = seen(
        "",
        &[
            "Connection: keep-alive, X-Private",
            "Keep-Alive: timeout=5",
            "X-Private: 1",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eA==",
            "Upgrade: websocket",
            "TE: gzip",
            "X-Public: 2",
        ],
    )
    .await;
    for name in ["connection", "keep-alive", "x-private", "proxy-connection", "proxy-authorization", "upgrade", "te"] {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("x-public"), Some("2"));
}

#[tokio::test]
async fn fields_of_the_backends_connection_do_not_reach_the_client() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    backend.next(backend::answer(
        200,
        &["Connection: close, X-Private", "X-Private: 1", "Keep-Alive: timeout=5", "TE: trailers", "X-Public: 2"],
        "x",
    ));
    let mut client = Client::connect(program.proxy()).await;
    let response = client.exchange(client::get("/")).await;
    for name in ["connection", "keep-alive", "te", "x-private"] {
        assert_eq!(response.field(name), None, "{name}");
    }
    assert_eq!(response.field("x-public"), Some("2"));
    assert_eq!(client.exchange(client::get("/")).await.status, 200, "that the backend closes is no reason for us to");
    let requests = backend.received(2).await;
    assert_ne!(requests[0].connection, requests[1].connection, "where it says that it closes, nothing more is sent");
}

#[tokio::test]
async fn the_backend_is_told_who_asks_and_how() {
    let request = seen("", &[]).await;
    assert_eq!(all(&request, "host"), ["test"]);
    assert_eq!(all(&request, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all(&request, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&request, "x-forwarded-host"), ["test"]);
    assert_eq!(all(&request, "via"), ["1.1 forebay"]);
}

#[tokio::test]
async fn a_client_cannot_say_who_it_is() {
    let forged = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: bank.example",
        "Forwarded: for=192.0.2.1;proto=https",
        "Forebay-Id: 1",
        "Forebay-Attempt: 7",
    ];
    let request = seen("", &forged).await;
    assert_eq!(all(&request, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all(&request, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&request, "x-forwarded-host"), ["test"]);
    for name in ["forwarded", "forebay-id", "forebay-attempt"] {
        assert_eq!(request.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let told = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example", "Forwarded: for=192.0.2.1"];
    let request = seen("trusted_proxies = [\"127.0.0.0/8\"]", &told).await;
    assert_eq!(all(&request, "x-forwarded-for").join(", "), "192.0.2.1, 127.0.0.1");
    assert_eq!(all(&request, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&request, "x-forwarded-host"), ["shop.example"]);
    assert_eq!(all(&request, "forwarded"), ["for=192.0.2.1"]);
}

#[tokio::test]
async fn the_way_through_us_is_added_to_the_way_so_far() {
    let request = seen("", &["Via: 1.0 fred, 1.1 p.example"]).await;
    assert_eq!(all(&request, "via"), ["1.0 fred, 1.1 p.example", "1.1 forebay"]);

    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    backend.next(backend::answer(200, &["Via: 1.1 inner"], ""));
    let response = client::fetch(program.proxy(), client::get("/")).await;
    let via: Vec<_> = values(&response.fields, "via").collect();
    assert_eq!(via, [&b"1.1 inner"[..], b"1.1 forebay"]);
    let ours =
        response.fields.iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("forebay") || name.eq_ignore_ascii_case("server"));
    assert_eq!(ours.count(), 0, "nothing of ours but Via");
}

#[tokio::test]
async fn names_keep_their_letters_and_values_their_bytes_in_both_directions() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    backend.next(backend::answer(
        200,
        &["eTAG: \"x\"", "WWW-authenticate: Basic", "X-aBC:   v  w ", "x-Latin: caf\u{e9}", "Set-Cookie: a=1", "Set-Cookie: b=2"],
        "",
    ));
    let sent = ["SOAPAction: \"urn:x\"", "x-lower: 1", "X-UPPER: 2", "x-Latin: caf\u{e9}", "X-Twice: 1", "X-Twice: 2"];
    let response = client::fetch(program.proxy(), client::request("POST", "/", &sent, "x")).await;
    let request = &backend.received(1).await[0];
    for name in ["SOAPAction", "x-lower", "X-UPPER", "Content-Length"] {
        assert!(request.has_letters(name), "{name}");
    }
    assert_eq!(all(request, "x-twice"), ["1", "2"]);
    assert_eq!(request.field("x-latin"), Some("caf\u{e9}"));
    let letters: Vec<_> = response.fields.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["eTAG", "WWW-authenticate", "X-aBC", "Set-Cookie"] {
        assert!(letters.contains(&name), "{name} in {letters:?}");
    }
    assert_eq!((response.field("x-abc"), response.field("x-latin")), (Some("v  w"), Some("caf\u{e9}")));
    let cookies: Vec<_> = values(&response.fields, "set-cookie").collect();
    assert_eq!(cookies, [&b"a=1"[..], b"b=2"]);
}
