//! Interim answers (1xx).

use super::{
    Stage, bytes,
    common::{
        backend::{Step, Trigger},
        client,
    },
};

#[tokio::test]
async fn interim_answers_do_not_hide_the_final_one() {
    let stage = Stage::set().await;
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n".to_owned(),
        "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n".to_owned(),
        "HTTP/1.1 199 Unheard Of\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(20_000),
    ] {
        let answer = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        let response = stage.get(bytes(answer)).await.unwrap();
        assert_eq!((response.status, response.text()), (200, "hi"), "{:?}", &interim[..26]);
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_waited_out_like_silence() {
    let stage = Stage::set().await;
    let trigger = Trigger::default();
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(50_000);
    stage.backend.next(vec![Step::Read, Step::Write(flood.into_bytes()), Step::Wait(trigger.clone())]);
    let response = client::fetch(stage.program.proxy(), client::get("/")).await;
    assert_eq!((response.status, response.field("proxy-status")), (504, Some("forebay; error=http_response_timeout")));
    trigger.release();
    assert_eq!(client::fetch(stage.program.proxy(), client::get("/")).await.text(), "ok");
}
