use std::{future::poll_fn, time::Duration};

use http_body_util::Full;
use tokio::{io::DuplexStream, sync::oneshot, time::timeout};

use super::*;

const LIMITS: Limits = Limits { streams: 10, header_bytes: 8192, stream_window: 65_535, connection_window: 65_535, send_buffer: 65_535 };

/// A body that ends never, or with an error.
struct Endless(Option<h2::Reason>);

impl Body for Endless {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, h2::Error>>> {
        match self.0 {
            Some(reason) => Poll::Ready(Some(Err(reason.into()))),
            None => Poll::Pending,
        }
    }
}

type Answered = Pin<Box<dyn Future<Output = ResponseOf<Endless>> + Send>>;

async fn client(socket: DuplexStream) -> h2::client::SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get() -> Request<()> {
    Request::get("http://test/").body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_request_holds_is_let_go_when_its_connection_ends_whatever_it_waits_for() {
    let (near, far) = tokio::io::duplex(65_536);
    let (held, let_go) = oneshot::channel::<()>();
    let mut held = Some(held);
    let (begun, has_begun) = oneshot::channel();
    let mut begun = Some(begun);
    let serving = tokio::spawn(async move {
        let mut connection = Connection::new(far, LIMITS, |_| -> Answered {
            let (held, begun) = (held.take(), begun.take());
            Box::pin(async move {
                let _held = held;
                let _told = begun.map(|begun| begun.send(()));
                std::future::pending().await
            })
        });
        poll_fn(|cx| connection.poll(cx)).await
    });
    let mut sender = client(near).await;
    let _waiting = sender.send_request(get(), true).unwrap();
    has_begun.await.unwrap();
    serving.abort();
    let let_go = timeout(Duration::from_secs(10), let_go).await;
    assert!(let_go.is_ok_and(|let_go| let_go.is_err()), "dropped");
}

#[tokio::test(start_paused = true)]
async fn a_client_hears_why_an_answer_broke_off() {
    for said in [h2::Reason::CANCEL, h2::Reason::ENHANCE_YOUR_CALM] {
        let (near, far) = tokio::io::duplex(65_536);
        tokio::spawn(async move {
            let mut connection =
                Connection::new(far, LIMITS, |_| -> Answered { Box::pin(async move { Response::new(Endless(Some(said))).into() }) });
            poll_fn(|cx| connection.poll(cx)).await
        });
        let (answer, _stream) = client(near).await.send_request(get(), true).unwrap();
        // A reset may overtake the head that it follows.
        let heard = match timeout(Duration::from_secs(10), answer).await.unwrap() {
            Ok(answer) => timeout(Duration::from_secs(10), answer.into_body().data()).await.unwrap().unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(heard.reason(), Some(said));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_has_no_fields_of_a_connection_but_that_it_takes_trailers() {
    let (near, far) = tokio::io::duplex(65_536);
    let (heard, mut hears) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut connection = Connection::new(far, LIMITS, |request: RequestOf<_>| -> Answered {
            let mut names: Vec<_> = request.head.headers.keys().map(ToString::to_string).collect();
            names.sort_unstable();
            heard.try_send(names).unwrap();
            Box::pin(std::future::pending())
        });
        poll_fn(|cx| connection.poll(cx)).await
    });
    let limits = crate::http2::client::Limits {
        stream_window: 65_535,
        connection_window: 65_535,
        send_buffer: 65_535,
        header_bytes: 8192,
        ping_after: Duration::from_secs(20),
        ping_timeout: Duration::from_secs(10),
    };
    let (mut sender, connection) = crate::http2::client::begin(near, limits).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://test/")
        .header("transfer-encoding", "chunked")
        .header("connection", "te")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .body(Full::new(Bytes::from_static(b"hi")))
        .unwrap();
    tokio::spawn(async move { sender.send(request, |_| {}).await.map(drop).map_err(drop) });
    let heard = timeout(Duration::from_secs(10), hears.recv()).await.unwrap().unwrap();
    assert_eq!(heard, ["content-length", "te", "trailer"]);
}

#[test]
fn an_answer_has_no_fields_of_a_connection_and_says_how_long_it_is() {
    let mut headers: HeaderMap = ["connection", "keep-alive", "te", "transfer-encoding", "x-own"]
        .map(|name| (name.parse().unwrap(), "a".parse().unwrap()))
        .into_iter()
        .collect();
    complete(&mut headers, &Full::new(Bytes::from_static(b"hi")));
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "x-own"]);
    assert_eq!(headers["content-length"], "2");
    let mut headers = HeaderMap::new();
    complete(&mut headers, &Endless(None));
    assert_eq!(headers.keys().collect::<Vec<_>>(), [DATE]);
}
