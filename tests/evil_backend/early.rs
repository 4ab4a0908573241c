//! Answers that come before the request is whole.

use super::{
    Stage,
    common::{
        backend::{Backend, Step, response},
        client::{self, Client},
        program::Program,
        site::Site,
    },
};

const HEAD: &str = "POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_reaches_the_client() {
    let stage = Stage::set().await;
    for last in [Step::Close, Step::Read] {
        let refusal = response(413, &["Connection: close"], "too much");
        stage.backend.next(vec![Step::ReadHead, Step::Write(refusal), last]);
        let mut client = Client::connect(stage.program.proxy()).await;
        client.send(HEAD).await;
        client.send("x".repeat(1000)).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (413, "too much"));
        drop(client);
        assert_eq!(client::fetch(stage.program.proxy(), client::get("/next")).await.text(), "ok");
    }
}

#[tokio::test]
async fn an_upload_that_the_backend_resets_is_answered_and_closed() {
    let stage = Stage::set().await;
    stage.backend.next(vec![Step::ReadHead, Step::Reset]);
    let mut client = Client::connect(stage.program.proxy()).await;
    client.send(HEAD).await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("proxy-status")), (502, Some("forebay; error=connection_terminated")));
    drop(client);
    assert_eq!(client::fetch(stage.program.proxy(), client::get("/next")).await.text(), "ok");
}

#[tokio::test]
async fn a_write_that_got_nonsense_is_told_that_nobody_knows_or_sent_again_if_its_route_allows() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "delivery = \"at-most-once\"").to_string()).await;
    backend.next(super::bytes("nonsense\r\n\r\n"));
    let response = client::fetch(program.proxy(), client::request("POST", "/", &[], "x")).await;
    assert_eq!((response.status, backend.requests().len()), (502, 1));

    let backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "delivery = \"at-least-once\"").to_string()).await;
    backend.next(super::bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"));
    let response = client::fetch(program.proxy(), client::request("POST", "/", &[], "x")).await;
    assert_eq!((response.status, response.field("forebay-id").is_some()), (202, true));
    assert_eq!(backend.received(2).await[1].field("forebay-attempt"), Some("1"));
}
