use std::future::ready;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body::Frame;
use http_body_util::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::http1::{
    fuzz::{Said, placed},
    pipe::tests::tcp,
};

const GET: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection whose client has said this, comes with it in pieces of `piece` bytes, and is gone then.
fn said(bytes: impl AsRef<[u8]>, piece: usize, most: usize) -> Connection<Said> {
    Connection::new(Said::new(bytes.as_ref().to_vec(), piece), most)
}

/// A connection whose client has said this and waits.
async fn saying(bytes: impl AsRef<[u8]>) -> (DuplexStream, Connection<DuplexStream>) {
    let (mut client, socket) = duplex(64 * 1024);
    client.write_all(bytes.as_ref()).await.unwrap();
    (client, Connection::new(socket, 8192))
}

async fn request<S: Socket + Send + 'static>(connection: &mut Connection<S>) -> RequestOf<Incoming> {
    match connection.next(|| false).await.unwrap() {
        Next::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn nothing() -> std::future::Ready<ResponseOf<Empty<Bytes>>> {
    ready(Response::new(Empty::new()).into())
}

/// The head of the answer that a client has got.
async fn heard(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_head_has_as_many_bytes_as_are_allowed_and_not_one_more() {
    let head = |length: usize| {
        let begin = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 4))
    };
    // Less and more than is read at once.
    for most in [100, 9000] {
        for piece in [1, 7, usize::MAX] {
            for follows in ["", GET] {
                let just = said(head(most) + follows, piece, most).next(|| false).await;
                assert!(matches!(just, Ok(Next::Request(_))), "{most} bytes in pieces of {piece}: {just:?}");
            }
            for unended in [0, 4] {
                let head = &head(most + 1 + unended)[..most + 1];
                let more = said(head, piece, most).next(|| false).await;
                assert!(matches!(more, Err(Error::Fault(Fault::HeadTooLarge))), "{most} bytes and one in pieces of {piece}: {more:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_is_one_of_http_2_from_its_first_byte_or_never() {
    for piece in [1, 5, usize::MAX] {
        assert!(matches!(said(PREFACE, piece, 8192).next(|| false).await, Ok(Next::Http2)), "in pieces of {piece}");
        let mut connection = said([GET.as_bytes(), PREFACE].concat(), piece, 8192);
        drop(request(&mut connection).await);
        assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Request);
        let next = connection.next(|| false).await;
        assert!(matches!(next, Err(Error::Fault(Fault::Syntax(httparse::Error::Version)))), "in pieces of {piece}: {next:?}");
    }
}

#[tokio::test]
async fn what_comes_of_a_body_that_nobody_reads_is_never_taken_for_a_request() {
    const HALF: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    const CHUNKS: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [format!("{HALF}{GET}"), HALF.to_owned(), format!("{CHUNKS}400\r\n{GET}"), CHUNKS.to_owned(), format!("{CHUNKS}0\r\nX")] {
        let (mut client, mut connection) = saying(&body).await;
        drop(request(&mut connection).await);
        assert_eq!(connection.answer(nothing()).await.unwrap(), Then::End { unread: true }, "{body:?}");
        assert!(heard(&mut client).await.contains("\r\nConnection: close\r\n"), "{body:?}");
        let next = connection.next(|| false).now_or_never();
        assert!(matches!(next, Some(Ok(Next::End { unread: true }))), "{body:?}: {next:?}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_and_that_has_come_whole_costs_no_connection() {
    for body in ["Content-Length: 4\r\n\r\nGET ", "Transfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\nX: 1\r\n\r\n"] {
        let (mut client, mut connection) = saying(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}{GET}")).await;
        drop(request(&mut connection).await);
        assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Request, "{body:?}");
        assert!(!heard(&mut client).await.contains("Connection"), "{body:?}");
        assert_eq!(request(&mut connection).await.head.uri, "/next", "{body:?}");
    }
}

/// RFC 9110 section 10.1.1: told no, it may send its body or leave it, so that what comes next could be either.
#[tokio::test]
async fn who_waits_for_the_word_to_go_on_and_does_not_get_it_is_not_listened_to_any_more() {
    let waits = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let (mut client, mut connection) = saying(format!("{waits}{GET}")).await;
    drop(request(&mut connection).await);
    assert_eq!(connection.answer(nothing()).await.unwrap(), Then::End { unread: true });
    assert!(heard(&mut client).await.contains("\r\nConnection: close\r\n"));
}

/// An answer that holds the body of its request until it ends, without reading it.
struct Holding(Option<Incoming>);

impl Body for Holding {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|_| Ok(Frame::data(Bytes::from_static(b"ok")))))
    }
}

impl Piped for Holding {}

#[tokio::test]
async fn a_body_that_is_let_go_while_its_answer_is_given_ends_the_connection_with_it() {
    let (_client, mut connection) = saying(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{GET}")).await;
    let held = Holding(Some(request(&mut connection).await.body));
    assert_eq!(connection.answer(ready(Response::new(held).into())).await.unwrap(), Then::End { unread: true });
    let next = connection.next(|| false).now_or_never();
    assert!(matches!(next, Some(Ok(Next::End { unread: true }))), "{next:?}");
}

#[tokio::test]
async fn an_interim_answer_that_comes_after_the_answer_does_not_get_into_it() {
    let (mut client, mut connection) = saying(GET).await;
    let head = request(&mut connection).await.head;
    let mut early = Response::builder().status(103).body(()).unwrap().into_parts().0.into();
    let mut tell = || head.origin.as_ref().unwrap().tell(&mut early);
    tell();
    assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Request);
    tell();
    assert!(heard(&mut client).await.starts_with("HTTP/1.1 103 "));
    assert!(heard(&mut client).await.starts_with("HTTP/1.1 200 "));
    poll_fn(|cx| connection.with_wire(|wire| wire.poll_flush(cx)).unwrap()).await.unwrap();
    drop(connection);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// The rest of a body and the next request may come together, after the head of the first one.
#[tokio::test]
async fn a_request_that_comes_with_the_end_of_the_body_before_it_is_heard() {
    for (framing, body) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        for late in [false, true] {
            let (mut client, mut connection) = saying(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await;
            let mut incoming = request(&mut connection).await.body;
            if late {
                // The upload goes on after its answer.
                assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Rest);
                assert!(connection.rest().now_or_never().is_none());
            }
            client.write_all(format!("{body}{GET}").as_bytes()).await.unwrap();
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
                frame.unwrap();
            }
            drop(incoming);
            if late {
                connection.rest().await;
            } else {
                assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Request);
            }
            let next = connection.next(|| false).now_or_never();
            assert!(matches!(&next, Some(Ok(Next::Request(next))) if next.head.uri == "/next"), "{framing}, late: {late}: {next:?}");
        }
    }
}

fn upload(length: usize, fields: &str) -> (Vec<u8>, Vec<u8>) {
    let body: Vec<u8> = (0..length).map(|at| (at * at / 7) as u8).collect();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n");
    (head.into_bytes(), body)
}

#[tokio::test]
async fn a_body_that_is_read_into_its_place_ends_where_the_next_request_begins() {
    for length in [1, 100, 20_000, 600_000] {
        for piece in [1, 7, 8192, usize::MAX] {
            for fields in ["", "Expect: 100-continue\r\n"] {
                let (head, body) = upload(length, fields);
                let mut connection = said([&head, &body, GET.as_bytes()].concat(), piece, 8192);
                let mut incoming = request(&mut connection).await.body;
                assert!(placed(&mut incoming).await.unwrap() == body, "{length} bytes in pieces of {piece}");
                drop(incoming);
                assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Request);
                assert_eq!(request(&mut connection).await.head.uri, "/next", "{length} bytes in pieces of {piece}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_read_into_its_place_and_breaks_off_is_an_error() {
    let (head, body) = upload(100_000, "");
    for come in [0, 1, 50_000, 99_999] {
        let mut connection = said([&head, &body[..come]].concat(), usize::MAX, 8192);
        let read = placed(&mut request(&mut connection).await.body).await;
        assert!(matches!(read, Err(Error::Ended)), "after {come} bytes: {read:?}");
    }
}

#[tokio::test]
async fn who_waits_for_the_word_to_go_on_gets_it_however_the_body_is_read() {
    let (head, body) = upload(100_000, "Expect: 100-continue\r\n");
    for pipes in [false, true] {
        let (mut client, socket) = tcp().await;
        let mut connection = Connection::new(socket, 8192);
        client.write_all(&head).await.unwrap();
        let mut incoming = request(&mut connection).await.body;
        let reading = async {
            match pipes {
                true => piped(&mut incoming).await.1,
                false => placed(&mut incoming).await.unwrap(),
            }
        };
        let mut reading = Box::pin(reading);
        let served = poll_fn(|cx| {
            let read = reading.as_mut().poll(cx);
            // Who serves the connection writes the word.
            assert!(connection.poll_meanwhile(cx).is_pending());
            read
        });
        let (got, ()) = tokio::join!(served, async {
            let mut word = [0; 25];
            client.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
            client.write_all(&body).await.unwrap();
        });
        assert!(got == body, "pipes: {pipes}");
    }
}

/// What of a body comes in pipes, and all of it.
async fn piped(body: &mut Incoming) -> (usize, Vec<u8>) {
    let (mut to, mut from) = tcp().await;
    let (mut in_pipes, mut all) = (0, Vec::new());
    loop {
        let mut piece = Vec::new();
        if let Some(pipe) = poll_fn(|cx| body.poll_pipe(cx)).await {
            let mut pipe = pipe.unwrap();
            in_pipes += pipe.len();
            piece.resize(pipe.len(), 0);
            let drained = async {
                while !pipe.is_empty() {
                    poll_fn(|cx| to.poll_drain(&mut pipe, cx)).await.unwrap();
                }
            };
            let (_, read) = tokio::join!(drained, from.read_exact(&mut piece));
            read.unwrap();
        } else if let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            piece.extend_from_slice(&frame.unwrap().into_data().unwrap());
        } else {
            return (in_pipes, all);
        }
        all.extend_from_slice(&piece);
    }
}

#[tokio::test]
async fn a_long_body_is_taken_in_pipes_and_ends_where_the_next_request_begins() {
    for (length, is_long) in [(1_000_000, true), (60_000, false)] {
        let (head, body) = upload(length, "");
        let (mut client, socket) = tcp().await;
        let mut connection = Connection::new(socket, 8192);
        let all = [&head, &body, GET.as_bytes()].concat();
        let sent = tokio::spawn(async move {
            client.write_all(&all).await.unwrap();
            client
        });
        let mut incoming = request(&mut connection).await.body;
        let (in_pipes, got) = piped(&mut incoming).await;
        assert!(got == body, "{length} bytes");
        assert_eq!(in_pipes > length / 2, is_long, "{in_pipes} of {length} bytes");
        drop(incoming);
        assert_eq!(connection.answer(nothing()).await.unwrap(), Then::Request);
        assert_eq!(request(&mut connection).await.head.uri, "/next");
        drop(sent.await.unwrap());
    }
}
