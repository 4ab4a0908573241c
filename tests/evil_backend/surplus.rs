//! What a backend sends beyond its answer belongs to no other request.

use super::{
    Stage,
    common::client::{self, Client},
};

const SECOND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nstolen!";

#[tokio::test]
async fn what_follows_an_answer_is_not_taken_for_the_answer_to_another_request() {
    let stage = Stage::set().await;
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000));
    for first in [
        &long,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
    ] {
        let what = &first[..40.min(first.len())];
        let response = stage.get(super::bytes(format!("{first}{SECOND}"))).await.unwrap();
        assert!(!response.text().contains("stolen"), "{what:?}");
        let response = stage.get(super::bytes(format!("{first}garbage"))).await.unwrap();
        assert!(!response.text().contains("garbage"), "{what:?}");
    }
}

#[tokio::test]
async fn where_there_is_never_a_body_none_is_passed_on() {
    let stage = Stage::set().await;
    let no_content = stage.get(super::bytes("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\nstolen!")).await.unwrap();
    assert_eq!((no_content.status, no_content.field("content-length"), no_content.field("transfer-encoding")), (204, None, None));
    let not_modified = stage.get(super::bytes("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\nstolen!")).await.unwrap();
    assert_eq!((not_modified.status, not_modified.field("transfer-encoding")), (304, None));
    let chunked =
        stage.get(super::bytes("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nstolen!\r\n0\r\n\r\n")).await.unwrap();
    assert_eq!((chunked.status, chunked.field("transfer-encoding")), (204, None));
}

#[tokio::test]
async fn a_head_request_gets_no_body_whatever_comes() {
    let stage = Stage::set().await;
    for answer in
        [SECOND, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nstolen!\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nstolen!"]
    {
        stage.backend.next(super::bytes(answer));
        let mut client = Client::connect(stage.program.proxy()).await;
        client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(client.response_to_head().await.status, 200, "{answer:?}");
        for _ in 0..2 {
            assert_eq!(client.exchange(client::get("/next")).await.text(), "ok", "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_before_any_request_is_no_answer() {
    let stage = Stage::set().await;
    use super::{Step, common::backend::Trigger};
    let trigger = Trigger::default();
    // It answers, and answers once more when the connection is idle.
    let mut act = super::bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    act.extend([Step::Wait(trigger.clone()), Step::Write(SECOND.into()), Step::Close]);
    stage.backend.next(act);
    let mut client = Client::connect(stage.program.proxy()).await;
    assert_eq!(client.exchange(client::get("/")).await.text(), "hi");
    trigger.pull(1);
    stage.backend.disconnected().await;
    assert_eq!(client.exchange(client::get("/next")).await.text(), "ok");
}
