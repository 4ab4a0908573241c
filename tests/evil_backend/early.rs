//! Answers that come before the request is whole.

use super::{
    Stage,
    common::{
        backend::{Backend, Step, response},
        client::{self, Client},
        program::Program,
        site::Site,
        within,
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
        assert_eq!((response.status, response.text(), response.field("connection")), (413, "too much", Some("close")));
        drop(client);
        assert_eq!(client::fetch(stage.program.proxy(), client::get("/next")).await.text(), "ok");
    }
}

#[tokio::test]
async fn an_upload_goes_on_after_its_answer_for_as_long_as_it_takes() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients("header_timeout = \"100ms\"").to_string()).await;
    backend.next(vec![Step::ReadHead, Step::Write(response(200, &[], "begun")), Step::Read]);
    let beginning = "POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nx";
    let (mut client, answer) = client::answered(program.proxy(), beginning).await;
    assert_eq!(answer.text(), "begun");
    for _ in 0..2 {
        client.send("x").await;
        // More than the time of a head has passed when who says nothing has been sent away.
        Client::connect(program.proxy()).await.closed().await;
    }
    client.send([b"xxx".as_slice(), &client::get("/next")].concat()).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(backend.requests()[0].body.content, b"xxxxxx");
}

#[tokio::test]
async fn an_upload_that_stops_after_its_answer_is_given_up() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients("idle_timeout = \"200ms\"").to_string()).await;
    // An upload that is given up before its answer has come is another matter, and tried again.
    let begins = async {
        loop {
            backend.next(vec![Step::ReadHead, Step::Write(response(200, &[], "begun")), Step::Read]);
            let mut client = Client::connect(program.proxy()).await;
            client.send(HEAD).await;
            let answer = client.response().await;
            if answer.status != 408 {
                assert_eq!(answer.text(), "begun");
                return client;
            }
        }
    };
    within("an answer to an upload that has begun", begins).await.closed().await;
    backend.disconnected().await;
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
