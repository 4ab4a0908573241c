//! A client's socket, whatever its kind.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{sending::Sending, watch::Watch};
use crate::{
    backend::gather::Gather,
    http1::{Pipe, Socket, any_socket},
};

/// A client's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(Sending<tokio::net::TcpStream>),
    Unix(Sending<tokio::net::UnixStream>),
    /// One of these, within TLS.
    Tls(Box<tokio_rustls::server::TlsStream<Stream>>),
}

/// How long what a client still sends is read and thrown away after an answer that refused it.
const LINGER: Duration = Duration::from_secs(5);

/// A client's socket that notes when bytes arrive.
pub(super) struct Watched {
    stream: Gather<Stream>,
    watch: Arc<Watch>,
    /// Bytes that were read and given back, to be read again. Nearly never any, and so in a box.
    returned: Option<Box<BytesMut>>,
    /// Runs once our side is closed and the client's is waited for.
    linger: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self { stream: Gather(stream), watch, returned: None, linger: None }
    }

    /// These were read, and are read once more.
    pub(super) fn give_back(&mut self, bytes: BytesMut) {
        self.returned = Some(Box::new(bytes));
    }

    /// Whether all that is left to be done is to drop it: the system closes our side with it, where nothing is to be said before and nothing to be waited for.
    pub(super) fn ends_when_dropped(&self) -> bool {
        !matches!(self.stream.0, Stream::Tls(_)) && !self.watch.was_refused()
    }

    /// Sees that the client finds the connection broken when it is dropped, and not ended in peace.
    pub(super) fn break_off(&mut self) {
        match &mut self.stream.0 {
            Stream::Tcp(stream) => {
                if let Err(error) = stream.socket.set_zero_linger() {
                    tracing::debug!(%error, "a connection could not be reset");
                }
            }
            // The end of TLS is missing, which is enough (RFC 8446 section 6.1). A unix socket has no such thing.
            Stream::Tls(_) | Stream::Unix(_) => {}
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(returned) = this.returned.as_mut().filter(|returned| !returned.is_empty()) {
            let length = returned.len().min(buffer.remaining());
            buffer.put_slice(&returned.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            this.watch.received();
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
                if !this.watch.was_refused() {
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

impl Socket for Watched {
    fn poll_fill(&mut self, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
        if self.returned.as_ref().is_some_and(|returned| !returned.is_empty()) {
            return Poll::Ready(Ok(None));
        }
        let polled = self.stream.0.poll_fill(most, cx);
        if polled.is_ready() {
            self.watch.received();
        }
        polled
    }

    fn takes_pipes(&self) -> bool {
        self.stream.0.takes_pipes()
    }

    fn poll_drain(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stream.0.poll_drain(pipe, cx)
    }
}

impl Stream {
    /// What TLS has agreed on to speak.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

any_socket!(Stream);
