//! A socket that sends small messages in one plain write.
//!
//! The head and the body of a message, or the frames of HTTP/2, come to the socket as separate slices. For a large body that saves copying it; for the small
//! messages that most are, `writev` costs the kernel more than copying a few hundred bytes costs us.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Slices of up to so many bytes together are copied into one.
const SMALL: usize = 2048;

/// See the module.
#[derive(Debug)]
pub struct Gather<T>(pub T);

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.0);
        if let [only] = slices {
            return socket.poll_write(cx, only);
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total > SMALL {
            return socket.poll_write_vectored(cx, slices);
        }
        let mut gathered = [0; SMALL];
        let mut length = 0;
        for slice in slices {
            gathered[length..length + slice.len()].copy_from_slice(slice);
            length += slice.len();
        }
        socket.poll_write(cx, &gathered[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn slices_arrive_in_order_whatever_their_size() {
        for sizes in [vec![3, 0, 5], vec![SMALL, 1], vec![10], vec![]] {
            let parts: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(index, &size)| vec![index as u8; size]).collect();
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let mut near = Gather(near);
            let whole = parts.concat();
            let mut sent = 0;
            while sent < whole.len() {
                let mut skip = sent;
                let slices: Vec<IoSlice<'_>> = parts
                    .iter()
                    .filter_map(|part| {
                        let from = skip.min(part.len());
                        skip -= from;
                        (from < part.len()).then(|| IoSlice::new(&part[from..]))
                    })
                    .collect();
                sent += near.write_vectored(&slices).await.unwrap();
            }
            near.shutdown().await.unwrap();
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, whole, "{sizes:?}");
        }
    }
}
