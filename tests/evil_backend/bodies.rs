//! Bodies of answers: one that is not whole is never taken for whole.

use super::{
    Stage,
    common::{
        backend::{Trigger, drip},
        client::Client,
    },
    then_close, then_reset,
};

#[tokio::test]
async fn a_body_that_is_cut_off_is_seen_to_be_cut_off() {
    let stage = Stage::set().await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (answer, came) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_owned(), ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned(), "half"),
        (chunked.to_owned(), ""),
        (format!("{chunked}4"), ""),
        (format!("{chunked}4\r\nha"), "ha"),
        (format!("{chunked}4\r\nhalf"), "half"),
        (format!("{chunked}4\r\nhalf\r\n"), "half"),
        (format!("{chunked}4\r\nhalf\r\n0"), "half"),
        (format!("{chunked}4\r\nhalf\r\n0\r\n"), "half"),
        (format!("{chunked}4\r\nhalf\r\n0\r\nX: 1\r\n"), "half"),
    ] {
        for act in [then_close(&answer), then_reset(&answer)] {
            match stage.get(act).await {
                Ok(response) if response.status == 200 => {
                    assert!(!response.complete && came.starts_with(response.text()), "{answer:?}: {response:?}");
                }
                // What came may never have been read from a connection that was reset.
                Ok(response) => assert_eq!(response.status, 503, "{answer:?}"),
                // The head and the end have come as one.
                Err(_) => {}
            }
        }
    }
}

/// No length and no chunks tell it where the body ends: only a reset says that this was not the end.
#[tokio::test]
async fn a_body_that_is_cut_off_is_seen_to_be_cut_off_by_an_old_client_too() {
    let stage = Stage::set().await;
    for cut in ["4\r\nhalf\r\n", "4\r\nhalf\r\nx\r\n"] {
        let trigger = Trigger::default();
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let last = [super::Step::Wait(trigger.clone()), super::Step::Write(cut.into()), super::Step::Close];
        stage.backend.next([vec![super::Step::Read, super::Step::Write(head)], last.into()].concat());
        let mut client = Client::connect(stage.program.proxy()).await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200, "{cut:?}");
        trigger.release();
        assert!(!client.ends_in_peace().await, "{cut:?}");
    }
}

/// Nearly all of a long body goes by without our having it in our hands.
#[tokio::test]
async fn a_long_body_that_is_cut_off_is_seen_to_be_cut_off() {
    let stage = Stage::set().await;
    let body = "0123456789".repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    for cut in [70_000, 300_000, body.len() - 1] {
        let answer = format!("{head}{}", &body[..cut]);
        let response = stage.get(then_close(&answer)).await.unwrap();
        assert!(response.text() == &body[..cut] && !response.complete, "{cut}: {}", response.body.len());
        match stage.get(then_reset(&answer)).await {
            Ok(response) if response.status == 200 => assert!(body.starts_with(response.text()) && !response.complete, "{cut}"),
            Ok(response) => assert_eq!(response.status, 503, "{cut}"),
            Err(_) => {}
        }
    }
}

#[tokio::test]
async fn a_long_body_that_ends_with_the_connection_is_whole_only_if_that_ends_in_peace() {
    let stage = Stage::set().await;
    let body = "0123456789".repeat(100_000);
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
    let response = stage.get(then_close(&answer)).await.unwrap();
    assert!(response.text() == body && response.complete, "{}", response.body.len());
    // The reset comes when all of it has been passed on.
    let trigger = Trigger::default();
    let reset = [super::Step::Wait(trigger.clone()), super::Step::Reset];
    stage.backend.next([super::bytes(&answer), reset.into()].concat());
    let mut client = Client::connect(stage.program.proxy()).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert!(client.bytes(body.len()).await == body.as_bytes());
    trigger.release();
    assert!(!client.ends_in_peace().await);
}

#[tokio::test]
async fn a_body_that_goes_wrong_is_seen_to_break_off() {
    let stage = Stage::set().await;
    for body in [
        "4\r\nhalf\r\nx\r\n",
        "4\r\nhalfx\r\n0\r\n\r\n",
        "4\r\nhalf\r\n-1\r\n",
        "4\r\nhalf\r\nfffffffffffffffff\r\n",
        "4\r\nhalf\r\n0\r\nX Y\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        // Where the head and the end have come as one, there is no answer at all.
        if let Ok(response) = stage.get(super::bytes(&answer)).await {
            assert_eq!((response.status, response.complete), (200, false), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole_only_if_that_ends_in_peace() {
    let stage = Stage::set().await;
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n"] {
        let response = stage.get(then_close(format!("{head}all"))).await.unwrap();
        assert_eq!((response.status, response.text(), response.complete), (200, "all", true), "{head:?}");
        if let Ok(response) = stage.get(then_reset(format!("{head}all"))).await {
            assert!(response.status == 503 || !response.complete, "{head:?}: {response:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_drips_in_single_bytes_is_whole() {
    let stage = Stage::set().await;
    let trigger = Trigger::default();
    trigger.release();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nhalf\r\n6\r\n whole\r\n0\r\nX-Sum: 1\r\n\r\n";
    let response = stage.get(drip(&trigger, answer)).await.unwrap();
    assert_eq!((response.status, response.text(), response.complete), (200, "half whole", true));
}

#[tokio::test]
async fn an_answer_that_never_ends_its_head_is_waited_for_so_long_and_no_longer() {
    let stage = Stage::set().await;
    let trigger = Trigger::default();
    let act = vec![super::Step::Read, super::Step::Write(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), super::Step::Wait(trigger.clone())];
    let response = stage.get(act).await.unwrap();
    assert_eq!((response.status, response.field("proxy-status")), (504, Some("forebay; error=http_response_timeout")));
    trigger.release();
}
