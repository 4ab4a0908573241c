//! A socket that is given up when its other side takes nothing for too long: who does not read an answer must not hold what belongs to it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::stream::Stream;
use crate::http1::{Pipe, Socket};

/// See the module.
#[derive(Debug)]
pub(super) struct Sending<S> {
    pub(super) socket: S,
    /// How long may pass without a byte being taken; none for ever.
    patience: Option<Duration>,
    /// Made for the first wait: most connections have none.
    waiting: Option<Box<Waiting>>,
}

/// The waits of a socket.
#[derive(Debug)]
struct Waiting {
    /// Since when nothing could be written.
    since: Option<Instant>,
    /// Wakes when that is too long. Set again only when it has woken in vain.
    alarm: Pin<Box<Sleep>>,
}

impl<S> Sending<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, patience: None, waiting: None }
    }

    /// Passes on what a write has come to, or an error when it waits for too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(patience) = self.patience.filter(|_| polled.is_pending()) else {
            if let Some(waiting) = &mut self.waiting {
                waiting.since = None;
            }
            return polled;
        };
        let waiting = self.waiting.get_or_insert_with(|| {
            let alarm = Box::pin(tokio::time::sleep(patience));
            Box::new(Waiting { since: None, alarm })
        });
        let end = *waiting.since.get_or_insert_with(Instant::now) + patience;
        while waiting.alarm.as_mut().poll(cx).is_ready() {
            if end <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")));
            }
            waiting.alarm.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl Stream {
    /// From now on it is given up when its client takes nothing for so long.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        match self {
            Self::Tcp(socket) => socket.patience = Some(patience),
            Self::Unix(socket) => socket.patience = Some(patience),
            Self::Tls(stream) => stream.get_mut().0.set_patience(patience),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sending<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sending<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.judge(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl<S: Socket> Socket for Sending<S> {
    fn poll_fill(&mut self, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
        self.socket.poll_fill(most, cx)
    }

    fn takes_pipes(&self) -> bool {
        self.socket.takes_pipes()
    }

    fn poll_drain(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.socket.poll_drain(pipe, cx);
        self.judge(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_takes_a_little_now_and_then_is_not() {
        let (mut client, ours) = tokio::io::duplex(4);
        let mut ours = Sending::new(ours);
        ours.patience = Some(Duration::from_secs(60));
        ours.write_all(b"full").await.unwrap();
        for _ in 0..5 {
            let mut write = Box::pin(ours.write_all(b"x"));
            assert!((&mut write).now_or_never().is_none());
            tokio::time::advance(Duration::from_secs(59)).await;
            assert!((&mut write).now_or_never().is_none());
            client.read_u8().await.unwrap();
            write.await.unwrap();
        }
        let given_up = ours.write_all(b"y").await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
    }
}
