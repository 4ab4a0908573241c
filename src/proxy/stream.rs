//! A client's socket, whatever its kind.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{strict::Strict, watch::Watch};
use crate::backend::gather::Gather;

/// A client's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
    /// One of these, within TLS.
    Tls(Box<tokio_rustls::server::TlsStream<Stream>>),
}

/// How long what a client still sends is read and thrown away after an answer that refused it.
const LINGER: Duration = Duration::from_secs(5);

/// How every connection of HTTP/2 begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What has been heard of a client.
#[derive(Debug)]
enum Heard {
    /// Nothing.
    Nothing,
    /// What may become the preface of HTTP/2. It is held back: a reader of HTTP/1 would find fault with the half of it.
    Half(Bytes),
    /// Bytes that were read and given back, to be read again.
    Returned(Bytes),
    /// Something, perhaps its end.
    Something,
}

/// A client's socket that notes when bytes arrive, and sees that they are in order.
pub(super) struct Watched {
    stream: Gather<Stream>,
    watch: Arc<Watch>,
    strict: Strict,
    heard: Heard,
    /// Runs once our side is closed and the client's is waited for.
    linger: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self { stream: Gather(stream), watch, strict: Strict::default(), heard: Heard::Nothing, linger: None }
    }

    /// These were read, and are read once more.
    pub(super) fn give_back(&mut self, bytes: Bytes) {
        self.heard = Heard::Returned(bytes);
    }

    /// The first bytes, and those that were given back.
    #[cold]
    fn begin(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Heard::Returned(bytes) = &mut self.heard {
            let now = bytes.split_to(bytes.len().min(buffer.remaining()));
            buffer.put_slice(&now);
            if bytes.is_empty() {
                self.heard = Heard::Something;
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            buffer.clear();
            if let Heard::Half(bytes) = &self.heard {
                buffer.put_slice(bytes);
            }
            let half = buffer.filled().len();
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) else {
                buffer.clear();
                return Poll::Pending;
            };
            self.watch.received();
            let all = buffer.filled();
            if read.is_ok() && all.len() > half && all.len() < PREFACE.len() && PREFACE.starts_with(all) {
                self.heard = Heard::Half(Bytes::copy_from_slice(all));
                continue;
            }
            self.heard = Heard::Something;
            if all.starts_with(PREFACE) || self.watch.was_handed_over() {
                self.strict.give_up();
            }
            self.strict.look(buffer, 0);
            return Poll::Ready(read);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.heard, Heard::Something) {
            return this.begin(cx, buffer);
        }
        if this.strict.spoil(buffer) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            this.watch.received();
            if this.watch.was_handed_over() {
                this.strict.give_up();
            }
            this.strict.look(buffer, before);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes our side. A client that was refused may still be sending: were its bytes left unread, the system would answer them with a reset, which may
    /// overtake our answer. So they are read for a while (RFC 9112 section 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let linger = match &mut this.linger {
            Some(linger) => linger,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                if !(matches!(this.heard, Heard::Something) && this.watch.was_refused()) {
                    return Poll::Ready(Ok(()));
                }
                this.linger.insert(Box::pin(tokio::time::sleep(LINGER)))
            }
        };
        let mut unwanted = [0; 4096];
        while linger.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut unwanted);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
