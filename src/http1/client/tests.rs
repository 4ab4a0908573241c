use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Wake,
};

use http::Request;
use http_body_util::Empty;
use tokio::io::{AsyncWriteExt, DuplexStream, Join, Sink, duplex, join, sink};

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

/// A body that has come already, however much is asked for.
struct Endless(usize);

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0 += 1;
        Poll::Ready((self.0 < 1000).then(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024])))))
    }
}

impl Piped for Endless {}
impl Socket for Join<DuplexStream, Sink> {}

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn an_upload_that_comes_and_goes_as_fast_as_can_be_leaves_others_their_turn() {
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    // Nothing comes to be read, and whatever is written is taken.
    let (near, _far) = duplex(1);
    let mut connection = Connection::new(join(near, sink()));
    let mut exchange = connection.begin(&Request::post("/").body(()).unwrap().into_parts().0.into(), Endless(0));
    for turn in 1..4 {
        assert!(connection.poll_answer(&mut exchange, &mut |_| {}, &mut Context::from_waker(&waker)).is_pending());
        assert_eq!(woken.0.load(Relaxed), turn, "it goes on by itself");
        let sent = usize::try_from(connection.0.out.total).unwrap();
        assert!((turn * TURN..2 * turn * TURN).contains(&sent), "{sent} bytes after {turn} turns");
    }
}
