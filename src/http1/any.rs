//! Sockets of any kind, as one.

/// Makes one socket of an enumeration of three kinds: `Tcp`, `Unix`, and one of these within `Tls`, whose bytes do not go through pipes.
macro_rules! any_socket {
    ($any:ident) => {
        const _: () = {
            use std::{
                io::{self, IoSlice},
                pin::Pin,
                task::{Context, Poll},
            };

            use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

            use $crate::http1::{self, Pipe};

            impl AsyncRead for $any {
                fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                    match self.get_mut() {
                        Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
                        Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
                        Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
                    }
                }
            }

            impl AsyncWrite for $any {
                fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                    match self.get_mut() {
                        Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
                        Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
                        Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
                    }
                }

                fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
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

                fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    match self.get_mut() {
                        Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
                        Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
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
            }

            impl http1::Socket for $any {
                fn poll_fill(&mut self, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
                    match self {
                        Self::Tcp(stream) => stream.poll_fill(most, cx),
                        Self::Unix(stream) => stream.poll_fill(most, cx),
                        Self::Tls(_) => Poll::Ready(Ok(None)),
                    }
                }

                fn takes_pipes(&self) -> bool {
                    matches!(self, Self::Tcp(_) | Self::Unix(_))
                }

                fn poll_drain(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
                    match self {
                        Self::Tcp(stream) => stream.poll_drain(pipe, cx),
                        Self::Unix(stream) => stream.poll_drain(pipe, cx),
                        Self::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
                    }
                }
            }
        };
    };
}

pub(crate) use any_socket;
