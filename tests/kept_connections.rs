//! A connection to a backend that died idle costs no request, and what may have been executed is not sent again unless that does no harm.

mod common;

use common::{
    backend::{self, Act, Backend, Step},
    client::{self, Response},
    program::Program,
    site::Site,
};

/// A program with one connection to its backend that has been used and lies idle.
async fn with_kept_connection(site: fn(String) -> Site) -> (Backend, Program) {
    let backend = Backend::start().await;
    let program = Program::start(&site(backend.url()).to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    (backend, program)
}

fn passing(url: String) -> Site {
    Site::passing(url)
}

fn once(url: String) -> Site {
    Site::spilling(url, "delivery = \"at-most-once\"")
}

async fn send(program: &Program, method: &str, body: &str) -> Response {
    client::fetch(program.proxy(), client::request(method, "/again?x=%20", &["X-LETTERS: kept"], body)).await
}

/// How a connection dies under a request that has been written to it.
fn deaths() -> [Act; 2] {
    [backend::reset_after_reading(), vec![Step::Read, Step::Close]]
}

#[tokio::test]
async fn what_may_be_executed_twice_is_sent_once_more_when_its_kept_connection_dies_under_it() {
    for death in deaths() {
        for (site, method, body) in [
            (passing as fn(String) -> Site, "GET", ""),
            (passing, "DELETE", ""),
            (passing, "OPTIONS", ""),
            (once, "PUT", "whole"),
            (once, "DELETE", ""),
        ] {
            let (backend, program) = with_kept_connection(site).await;
            backend.next(death.clone());
            assert_eq!(send(&program, method, body).await.status, 200, "{method} after {death:?}");
            let requests = backend.received(3).await;
            let [first, again] = [&requests[1], &requests[2]];
            assert_eq!((first.connection, again.connection), (0, 1), "{method}");
            assert_eq!(String::from_utf8_lossy(&first.head), String::from_utf8_lossy(&again.head), "letter by letter");
            assert_eq!((&first.body.content, &again.body.content), (&body.as_bytes().to_vec(), &body.as_bytes().to_vec()));
        }
    }
}

#[tokio::test]
async fn what_may_not_be_executed_twice_is_not_sent_again() {
    for death in deaths() {
        for (site, method) in [(passing as fn(String) -> Site, "POST"), (passing, "PATCH"), (once, "POST"), (once, "PATCH")] {
            let (backend, program) = with_kept_connection(site).await;
            backend.next(death.clone());
            assert_eq!(send(&program, method, "order").await.status, 502, "{method} after {death:?}");
            assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
            let methods: Vec<_> = backend.requests().iter().map(|request| request.method.clone()).collect();
            assert_eq!(methods, ["GET", method, "GET"]);
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_once_more_and_no_oftener_and_not_from_a_new_connection() {
    let (backend, program) = with_kept_connection(passing).await;
    backend.next(backend::reset_after_reading()).next(backend::reset_after_reading());
    let response = send(&program, "DELETE", "").await;
    assert_eq!((response.status, backend.requests().len()), (502, 3), "the second connection was new: that it breaks is no accident");
    backend.next(backend::reset_after_reading());
    assert_eq!(send(&program, "DELETE", "").await.status, 502);
    assert_eq!(backend.requests().len(), 4);
}

#[tokio::test]
async fn a_request_that_may_have_been_executed_is_not_taken_for_unsent_when_its_second_connection_is_refused() {
    let (mut backend, program) = with_kept_connection(passing).await;
    let read = backend::Trigger::default();
    backend.next(vec![Step::Read, Step::Wait(read)]);
    let mut client = client::Client::connect(program.proxy()).await;
    client.send(client::request("DELETE", "/", &[], "")).await;
    backend.received(2).await;
    backend.stop().await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("proxy-status")), (502, Some("forebay; error=connection_refused")));
}
