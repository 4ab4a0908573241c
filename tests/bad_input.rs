//! What is wrong, too large or cut off gets a clear answer, reaches no backend, and the program stays up. What is ambiguous: see `smuggling`.

mod common;

use common::{
    backend::{self, Backend},
    client::{self, Client, Response},
    program::Program,
    site::Site,
};

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: test\r\n";

async fn start(site: Site) -> Program {
    Program::start(&site.to_string()).await
}

/// The answer to a request after which the connection has to close, and no more comes.
async fn last_words(program: &Program, request: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect(program.proxy()).await;
    client.send(request).await;
    let response = client.response().await;
    client.ended().await;
    response
}

#[tokio::test]
async fn what_is_malformed_gets_400_and_the_connection_closes() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    for malformed in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "garbage\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n",
    ] {
        let response = last_words(&program, malformed).await;
        assert_eq!(response.status, 400, "{malformed:?}");
    }
    assert_eq!(backend.requests(), []);
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200, "it stays up");
}

#[tokio::test]
async fn a_head_of_ten_megabytes_gets_431() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let mut client = Client::connect(program.proxy()).await;
    let huge = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Huge: {}\r\n\r\n", "x".repeat(10 << 20));
    // We do not listen to the end of it.
    let _cut_short = client.try_send(huge).await;
    assert_eq!(client.response().await.status, 431);
    client.ended().await;
    let target = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(100_000));
    let mut client = Client::connect(program.proxy()).await;
    let _cut_short = client.try_send(target).await;
    assert_eq!(client.response().await.status, 414);
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_413_declared_or_not() {
    let backend = Backend::start().await;
    let passing = |url| Site::passing(url).clients("max_body = \"64KiB\"");
    let spilling = |url| Site::spilling(url, "max_body = \"64KiB\"");
    for site in [passing as fn(String) -> Site, spilling] {
        let program = start(site(backend.url())).await;
        let mut client = Client::connect(program.proxy()).await;
        client.send(format!("{HEAD}Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, &response.interim[..]), (413, &[][..]), "nobody is asked for a body that is not wanted");
        assert_eq!(response.field("content-type"), Some("application/problem+json"));
        assert!(response.field("proxy-status").unwrap().starts_with("forebay; error=http_request_error"));
        client.ended().await;

        // More than the sockets between us hold, so that the client is still sending when the answer comes. No reset may overtake it.
        let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
        for upload in [
            format!("{HEAD}Content-Length: {}\r\n\r\n{}", 8 << 20, "x".repeat(8 << 20)),
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(8)),
        ] {
            let mut client = Client::connect(program.proxy()).await;
            let _cut_short = client.try_send(upload).await;
            assert_eq!(client.response().await.status, 413);
            client.ended().await;
        }
        let just_so = client::request("POST", "/", &[], "x".repeat(65536));
        assert_eq!(client::fetch(program.proxy(), just_so).await.status, 200);
    }
    assert!(backend.requests().iter().all(|request| request.body.content.len() <= 65536));
}

/// A reset would overtake the answer at clients that are not as patient as this one (RFC 9112 section 9.6).
#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_is_not_cut_off() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients("max_body = \"64KiB\"")).await;
    let rest = "x".repeat(4 << 20);
    let declared = format!("{HEAD}Content-Length: {}\r\n\r\n", rest.len());
    let huge_head = format!("{HEAD}X-Huge: {}", "x".repeat(64 << 10));
    for (beginning, status) in [(declared, 413), (huge_head, 431)] {
        let mut client = Client::connect(program.proxy()).await;
        client.send(beginning).await;
        assert_eq!(client.response().await.status, status);
        client.send(&rest).await;
        client.half_close().await;
        client.ended().await;
    }
    let program = start(Site::passing(backend.url()).clients("max_connections = 2")).await;
    let mut inside = [Client::connect(program.proxy()).await, Client::connect(program.proxy()).await];
    for client in &mut inside {
        assert_eq!(client.exchange(client::get("/")).await.status, 200);
    }
    // It is listened to for a second only, so that it speaks before it hears its answer.
    let mut outside = Client::connect(program.proxy()).await;
    outside.send(client::get("/")).await;
    outside.half_close().await;
    assert_eq!(outside.response().await.status, 503);
    outside.ended().await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_neither_sent_nor_queued() {
    let backend = Backend::start().await;
    let program = start(Site::spilling(backend.url(), "")).await;
    for cut in [format!("{HEAD}Content-Length: 10\r\n\r\nhalf"), format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")] {
        let mut client = Client::connect(program.proxy()).await;
        client.send(cut).await;
        client.half_close().await;
        assert_eq!(client.response().await.status, 400);
        client.ended().await;
    }
    let response = last_words(&program, format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n")).await;
    assert_eq!(response.status, 400, "chunks that are none");
    assert_eq!(backend.requests(), []);
    assert_eq!(program.status().await["totals"]["accepted"], 0);
}

#[tokio::test]
async fn a_body_that_ends_early_on_its_way_through_is_not_taken_for_whole() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    let mut client = Client::connect(program.proxy()).await;
    client.send(format!("{HEAD}Content-Length: 10\r\n\r\nhalf")).await;
    client.half_close().await;
    assert_eq!(client.response().await.status, 400);
    assert!(backend.received(1).await.iter().all(|request| !request.body.complete));
}

#[tokio::test]
async fn a_path_without_a_route_gets_404_marked_as_ours() {
    let backend = Backend::start().await;
    let program = start(Site::of(&[backend.url()]).route("one", "/one", "")).await;
    let response = client::fetch(program.proxy(), client::get("/two")).await;
    assert_eq!((response.status, response.field("proxy-status")), (404, Some("forebay; error=destination_not_found")));
    let problem = response.json();
    assert_eq!((&problem["type"], &problem["status"], &problem["title"]), (&"about:blank".into(), &404.into(), &"Not Found".into()));
    backend.next(backend::answer(404, &[], "theirs"));
    let response = client::fetch(program.proxy(), client::get("/one")).await;
    assert_eq!((response.status, response.field("proxy-status"), response.text()), (404, None, "theirs"));
}

#[tokio::test]
async fn a_browser_reads_a_page_and_a_program_problem_details() {
    let backend = Backend::start().await;
    let program = start(Site::of(&[backend.url()]).route("one", "/one", "")).await;
    let page = client::fetch(program.proxy(), client::request("GET", "/two", &["Accept: text/html,*/*;q=0.8"], "")).await;
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().starts_with("<!doctype html>"));
}

#[tokio::test]
async fn an_answer_that_is_no_http_gets_502_and_one_that_breaks_off_too_but_a_read_is_told_when_to_come_again() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url())).await;
    backend.next(backend::bytes("garbage\r\n\r\n"));
    let response = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((response.status, response.field("proxy-status")), (502, Some("forebay; error=http_protocol_error")));
    for (method, status) in [("GET", 503), ("POST", 502)] {
        backend.next(backend::reset_after_reading());
        let response = client::fetch(program.proxy(), client::request(method, "/", &[], "")).await;
        assert_eq!((response.status, response.field("proxy-status")), (status, Some("forebay; error=connection_terminated")), "{method}");
        assert_eq!(response.field("retry-after").is_some(), status == 503, "{method}");
    }
}
