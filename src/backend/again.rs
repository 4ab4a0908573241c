//! Sending a request once more whose kept connection turns out to have died.
//!
//! A server may close an idle connection in the moment in which we send on it (RFC 9112 section 9.3.1). What hyper had not begun to write comes back and is
//! simply sent elsewhere. What had been written may have been executed, so that only an idempotent request (RFC 9110 section 9.2.2) is sent again, once.
//! hyper keeps no copy of a head that it has written, and making one for every request would cost more than all else that we do with it; so the bytes
//! are remembered as they pass to the socket, and read again by hyper's own parser in the rare case.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{RequestBody, letters};

/// Bytes of a head that are remembered; one that is longer is not sent again.
const MOST: usize = 64 * 1024;

/// What was written on a connection since it was last asked to remember.
#[derive(Debug, Default)]
pub(super) struct Written {
    on: AtomicBool,
    bytes: Mutex<Vec<u8>>,
}

impl Written {
    /// Begins to remember.
    fn begin(&self) {
        self.bytes.lock().clear();
        self.on.store(true, Relaxed);
    }

    fn note(&self, slices: &[IoSlice<'_>], length: usize) {
        let mut bytes = self.bytes.lock();
        let mut left = length.min(MOST.saturating_sub(bytes.len()));
        for slice in slices {
            let part = left.min(slice.len());
            bytes.extend_from_slice(&slice[..part]);
            left -= part;
        }
    }
}

/// What is needed to send a request once more.
pub(super) enum Spare {
    /// Its head is on its connection's record.
    Written { body: Bytes, written: Arc<Written> },
    /// All of it: HTTP/2 keeps no such record, and a server may say of any request that it has not processed it.
    Copy(Box<Request<RequestBody>>),
}

impl Spare {
    /// Readies a request that is about to be sent on a kept connection; none for one that may not be sent twice, or whose body is gone once it is sent.
    pub(super) fn of(request: &Request<RequestBody>, written: &Arc<Written>) -> Option<Self> {
        let body = request.body().in_memory().filter(|_| request.method().is_idempotent())?;
        written.begin();
        Some(Self::Written { body, written: written.clone() })
    }

    /// Copies a request that is about to be sent on a stream; none for one whose body is gone once it is sent.
    pub(super) fn copy(request: &Request<RequestBody>) -> Option<Self> {
        let mut copy = Request::new(RequestBody::full(request.body().in_memory()?));
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(Self::Copy(Box::new(copy)))
    }

    /// The request as it was; none when its head never left us whole.
    pub(super) fn take(self) -> Option<Request<RequestBody>> {
        match self {
            Self::Written { body, written } => {
                let head = letters::head(std::mem::take(&mut *written.bytes.lock()))?;
                Some(head.map(|()| RequestBody::full(body)))
            }
            Self::Copy(request) => Some(*request),
        }
    }
}

/// A socket that remembers what is written to it, while it is asked to.
#[derive(Debug)]
pub(super) struct Remembering<T> {
    stream: T,
    written: Arc<Written>,
}

impl<T> Remembering<T> {
    pub(super) fn new(stream: T, written: Arc<Written>) -> Self {
        Self { stream, written }
    }

    fn noted(&self, polled: Poll<io::Result<usize>>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = &polled
            && self.written.on.load(Relaxed)
        {
            self.written.note(slices, *length);
        }
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Remembering<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Remembering<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(polled, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.noted(polled, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn request(method: Method, body: &'static str) -> Request<RequestBody> {
        Request::builder().method(method).uri("/").body(RequestBody::full(Bytes::from(body))).unwrap()
    }

    #[test]
    fn only_what_may_be_executed_twice_is_ever_sent_twice() {
        let written = Arc::new(Written::default());
        for (method, spare) in
            [("GET", true), ("HEAD", true), ("PUT", true), ("DELETE", true), ("OPTIONS", true), ("POST", false), ("PATCH", false)]
        {
            assert_eq!(Spare::of(&request(method.parse().unwrap(), "x"), &written).is_some(), spare, "{method}");
        }
        let body = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
        let streamed = Request::put("/").body(RequestBody::boxed(body)).unwrap();
        assert!(Spare::of(&streamed, &written).is_none(), "its body is gone once it is sent");
    }

    #[tokio::test]
    async fn a_request_comes_back_as_it_was_from_what_was_written() {
        let written = Arc::new(Written::default());
        let (near, _far) = tokio::io::duplex(4096);
        let mut socket = Remembering::new(near, written.clone());
        socket.write_all(b"GET /old HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let spare = Spare::of(&request(Method::PUT, "body"), &written).unwrap();
        socket.write_all(b"PUT /a?b HTTP/1.1\r\nHost: h\r\nX-ABC: 1\r\nConte").await.unwrap();
        socket.write_all(b"nt-Length: 4\r\n\r\nbody").await.unwrap();
        let again = spare.take().unwrap();
        assert_eq!((again.method(), again.uri().to_string().as_str()), (&Method::PUT, "/a?b"));
        assert_eq!(again.headers().len(), 3);
        assert!(letters::names(again.headers(), again.extensions()).contains(&"X-ABC".into()));
        assert_eq!(again.body().in_memory().as_deref(), Some(&b"body"[..]));
        assert!(Spare::of(&request(Method::GET, ""), &written).unwrap().take().is_none(), "nothing of this one was written");
    }
}
