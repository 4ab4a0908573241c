//! A connection to a server, whatever its kind.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use crate::http1::any_socket;

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed, since it is far larger than the others.
    Tls(Box<TlsStream<TcpStream>>),
}

any_socket!(Socket);

/// However a connection comes to its end, its server hears of it where TLS has a word for that (RFC 9112 section 9.8): as far as the socket takes it at once, for there
/// is nobody who would wait. TCP says it by itself.
impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            let _as_far_as_it_goes = tokio::task::unconstrained(poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx))).now_or_never();
        }
    }
}

/// A server's connection, once it speaks another protocol.
#[derive(Debug)]
pub struct Switched {
    socket: Socket,
    /// What came right behind the 101.
    ahead: Bytes,
}

impl Switched {
    pub(super) fn new((socket, ahead): (Socket, Bytes)) -> Self {
        Self { socket, ahead }
    }
}

impl AsyncRead for Switched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
