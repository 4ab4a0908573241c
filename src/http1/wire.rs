//! A socket with what was read and not yet used, and what is to be written.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::spare;

/// Bytes that are read at once while nothing is known of what comes: a head, with a small body perhaps. They are read onto the stack, so that who waits for them
/// needs no buffer.
const HEAD: usize = 8 * 1024;
/// Bytes of a body that are read at once when it comes fast: the room for it grows with what comes, so that a slow one does not fill much of it with little.
const BODY: usize = 128 * 1024;
/// Data of up to so many bytes is copied behind what is to be written anyway: for the small messages that most are, two slices cost the kernel more than the
/// copy costs us.
const SMALL: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Wire<S> {
    pub(super) socket: S,
    pub(super) buffer: BytesMut,
    pub(super) out: Out,
    /// Bytes of a body that are read next.
    room: usize,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// First this, from `written` on,
    pub(super) text: Vec<u8>,
    written: usize,
    /// then this,
    data: Bytes,
    /// then this.
    after: &'static [u8],
    /// Bytes that have been written so far.
    pub(super) total: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, buffer: BytesMut::new(), out: Out::default(), room: HEAD }
    }

    /// These bytes of what was read have been used.
    pub(super) fn advance(&mut self, length: usize) {
        self.buffer.advance(length);
        self.release();
    }

    /// Who waits for the next message has no buffer.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads what has come. 0 at the end of the connection.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::<u8>::uninit() }; HEAD];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Reads what has come of a body of which `left` bytes are missing; none where that is not known.
    pub(super) fn poll_read_body(&mut self, left: Option<u64>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = usize::try_from(left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let room = self.room.min(most);
        let read = if room <= HEAD {
            ready!(self.poll_read(cx))?
        } else {
            // What is left of the room may do; more of it is that of what has been passed on, once that is gone.
            if self.buffer.capacity() - self.buffer.len() < room / 4 {
                self.buffer.reserve(room);
            }
            ready!(pin!(self.socket.read_buf(&mut self.buffer)).poll(cx))?
        };
        if read >= room {
            self.room = (self.room * 4).min(BODY);
        } else if read < self.room / 4 {
            self.room = (self.room / 4).max(HEAD);
        }
        Poll::Ready(Ok(read))
    }

    /// Writes what is to be written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            let written = if self.out.data.is_empty() && self.out.after.is_empty() {
                ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out.text[self.out.written..]))?
            } else {
                let slices = [&self.out.text[self.out.written..], &self.out.data[..], self.out.after].map(IoSlice::new);
                let begin = usize::from(slices[0].is_empty());
                ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[begin..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl Out {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.text.len() && self.data.is_empty() && self.after.is_empty()
    }

    /// Whether more may be put in before this is written.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.after.is_empty() && self.text.len() < SMALL
    }

    /// Puts in data, with `after` behind it. To be asked only while there is room.
    pub(super) fn push(&mut self, data: Bytes, after: &'static [u8]) {
        if data.len() <= SMALL {
            self.text.extend_from_slice(&data);
            self.text.extend_from_slice(after);
        } else {
            (self.data, self.after) = (data, after);
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.total += written as u64;
        let of_text = written.min(self.text.len() - self.written);
        self.written += of_text;
        written -= of_text;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        self.after = &self.after[written - of_data..];
        if self.written == self.text.len() {
            // The next message may be far off.
            spare::give_text(std::mem::take(&mut self.text));
            self.written = 0;
        }
        if self.data.is_empty() {
            self.data = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn what_is_put_in_is_written_in_order_whatever_its_size() {
        for sizes in [vec![3, 0, 5], vec![SMALL, 1], vec![SMALL + 1, 7, SMALL + 9], vec![200_000], vec![]] {
            let (near, mut far) = duplex(1000);
            let mut wire = Wire::new(near);
            let parts: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(index, &size)| vec![index as u8 + b'a'; size]).collect();
            let expected: Vec<u8> = parts.iter().flat_map(|part| [&b"<"[..], part, b"\r\n"].concat()).collect();
            let sending = async {
                for part in parts {
                    std::future::poll_fn(|cx| if wire.out.has_room() { Poll::Ready(Ok(())) } else { wire.poll_flush(cx) }).await.unwrap();
                    wire.out.text.push(b'<');
                    wire.out.push(part.into(), b"\r\n");
                }
                std::future::poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
                assert_eq!(wire.out.total, expected.len() as u64);
                drop(wire);
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(far.read_to_end(&mut got), sending);
            read.unwrap();
            assert!(got == expected, "{sizes:?}");
        }
    }
}
