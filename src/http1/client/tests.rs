use http::Request;
use http_body_util::Empty;
use tokio::io::{AsyncWriteExt, duplex};

use super::*;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Whether a connection can be used again on which this came in answer to a request, and its answer was read to its end.
async fn is_left(came: &str) -> bool {
    let (near, mut far) = duplex(4096);
    far.write_all(came.as_bytes()).await.unwrap();
    let mut connection = Connection::new(near);
    let mut exchange = connection.begin(&Request::get("/").body(()).unwrap().into_parts().0.into(), Empty::<Bytes>::new());
    let (_, ending) = poll_fn(|cx| connection.poll_answer(&mut exchange, &mut |_| {}, cx)).await.unwrap();
    let mut answer = Answer::new(connection, exchange, ending);
    while let Some(frame) = poll_fn(|cx| answer.poll_frame(cx)).await {
        frame.unwrap();
    }
    matches!(answer.left(), Left::Connection(_))
}

#[tokio::test]
async fn a_connection_on_which_more_came_than_its_answer_is_not_used_again() {
    for answer in [HI, CHUNKS, NONE] {
        assert!(is_left(answer).await, "{answer:?}");
        for surplus in ["x", "\r\n", HI] {
            assert!(!is_left(&format!("{answer}{surplus}")).await, "{answer:?} and {surplus:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_fit_while_it_is_open_and_silent() {
    let (near, mut far) = duplex(4096);
    let mut connection = Connection::new(near);
    assert!(connection.is_fit() && connection.is_fit());
    far.write_all(HI.as_bytes()).await.unwrap();
    assert!(!connection.is_fit(), "it speaks unasked");
    assert!(!connection.is_fit(), "and has spoken");
    let (near, far) = duplex(4096);
    let mut connection = Connection::new(near);
    drop(far);
    assert!(!connection.is_fit(), "it is closed");
}
