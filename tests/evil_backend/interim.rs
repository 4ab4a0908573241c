//! Interim answers (1xx).

use super::{
    Stage, bytes,
    common::{
        backend::{Backend, Step, Trigger},
        client::{self, Client},
        program::Program,
        site::Site,
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
        // Whoever waited for a 100 has got ours.
        let passed: Vec<u16> = interim[9..12].parse().into_iter().filter(|status| *status != 100).collect();
        assert_eq!(response.interim, passed, "{:?}", &interim[..26]);
    }
}

#[tokio::test]
async fn an_interim_answer_reaches_its_client_before_the_final_one_is_there() {
    let hints =
        "HTTP/1.1 103 Very Early\r\nlinK: </a.css>; rel=preload\r\nX-Private: 1\r\nConnection: X-Private\r\nKeep-Alive: timeout=5\r\n\r\n";
    for site in [|url| Site::passing(url), |url| Site::spilling(url, "")] {
        let backend = Backend::start().await;
        let program = Program::start(&site(backend.url()).to_string()).await;
        let trigger = Trigger::default();
        let wait = || Step::Wait(trigger.clone());
        let last = Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec());
        backend.next(vec![Step::Read, Step::Write(hints.into()), wait(), Step::Write(hints.into()), wait(), last]);
        let mut client = Client::connect(program.proxy()).await;
        client.send(client::request("POST", "/", &[], "x")).await;
        for _ in 0..2 {
            let early = client.head().await;
            assert_eq!((early.status, early.reason.as_str()), (103, "Very Early"));
            assert_eq!(early.fields, [("linK".to_owned(), b"</a.css>; rel=preload".to_vec())], "and nothing of the backend's connection");
            trigger.pull(1);
        }
        assert_eq!(client.response().await.text(), "hi");
    }
}

#[tokio::test]
async fn an_old_client_gets_no_interim_answer() {
    let stage = Stage::set().await;
    stage.backend.next(bytes("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
    let response = client::fetch(stage.program.proxy(), "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((response.status, response.interim, response.body.as_slice()), (200, vec![], &b"hi"[..]));
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_waited_out_like_silence() {
    let stage = Stage::set().await;
    let trigger = Trigger::default();
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(50_000);
    stage.backend.next(vec![Step::Read, Step::Write(flood.into_bytes()), Step::Wait(trigger.clone())]);
    let response = client::fetch(stage.program.proxy(), client::get("/")).await;
    assert_eq!((response.status, response.field("proxy-status")), (504, Some("forebay; error=http_response_timeout")));
    assert!((1..5_000).contains(&response.interim.len()), "some are passed on, but not as many as may come: {}", response.interim.len());
    trigger.release();
    assert_eq!(client::fetch(stage.program.proxy(), client::get("/")).await.text(), "ok");
}
