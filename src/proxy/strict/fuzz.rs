//! What follows the bytes and what parses them agree: no request is served that was not seen here, at the place where it was seen.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{super::inspect::inspect, At, Strict};
use crate::fuzz;

const SEEDS: &[&[u8]] = &[
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2?x HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n\r\nGET /no\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nG\r\n\n\r\n10\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nPOST /1 HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nxPUT http://a/2 HTTP/1.1\r\nHost: a\r\n\r\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"content-length:18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff",
    b";a=b",
    b"#",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"HTTP/1.0",
];

/// The connection of a client that has said all that it will, read in pieces, with what is followed noted down.
struct Said {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
    strict: Strict,
}

impl AsyncRead for Said {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.strict.spoil(buffer) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let end = (this.at + this.piece.min(buffer.remaining())).min(this.bytes.len());
        buffer.put_slice(&this.bytes[this.at..end]);
        this.at = end;
        this.strict.look(buffer, before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The request lines that are followed in `bytes`, as far as they are in order.
fn followed(bytes: &[u8]) -> Vec<String> {
    let (mut strict, mut lines, mut begun) = (Strict::default(), Vec::new(), 0);
    for (index, byte) in bytes.iter().enumerate() {
        let before = strict.at;
        if strict.follow(&[*byte]).is_err() {
            break;
        }
        if before == At::Request && *byte == b'\n' {
            let line = String::from_utf8_lossy(&bytes[begun..=index]).trim_end().to_owned();
            lines.push(line);
        }
        if before != At::Request || *byte == b'\n' {
            begun = index + 1;
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The requests that are served of these bytes, whole ones only.
#[expect(clippy::disallowed_methods, reason = "the body is a part of the input")]
fn served(bytes: &[u8], piece: usize) -> Vec<String> {
    let served = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let served = Rc::clone(&served);
        async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
            let refused = inspect(&request).is_err();
            if refused || request.into_body().collect().await.is_err() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            } else {
                served.borrow_mut().push(line);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let said = Said { bytes: bytes.to_vec(), at: 0, piece, strict: Strict::default() };
    let connection = http1::Builder::new().max_buf_size(32 * 1024).header_read_timeout(None).serve_connection(TokioIo::new(said), service);
    // The clock stands still until nobody has anything to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), connection).await });
    assert!(ended.is_ok(), "the connection hangs");
    served.take()
}

fn same(line: &str, served: &str) -> bool {
    let parts = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (line, served) = (parts(line), parts(served));
    // An absolute target without a path is shown with one.
    line == served || (line[1].contains("://") && line.len() == 3 && (&line[0], &line[2]) == (&served[0], &served[2]))
}

#[test]
fn fuzz_no_request_is_served_that_was_not_seen_where_it_begins() {
    fuzz::run(SEEDS, WORDS, |bytes| {
        let followed = followed(bytes);
        let whole = served(bytes, usize::MAX);
        for piece in [1, 7] {
            assert_eq!(served(bytes, piece), whole, "in pieces of {piece}");
        }
        for (index, served) in whole.iter().enumerate() {
            assert!(followed.get(index).is_some_and(|line| same(line, served)), "{served:?} is served, and {followed:?} was followed");
        }
        !whole.is_empty()
    });
}
