//! A socket with what was read and not yet used, and what is to be written.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, ReadBuf};

use super::{
    encode::TURN,
    pipe::{Pipe, Socket},
    spare,
};

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
    /// The socket may still hold what it has taken, as TLS does when what is below it is full.
    unflushed: bool,
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
    data: Piece,
    /// then this.
    after: &'static [u8],
    /// Bytes that have been written so far.
    pub(super) total: u64,
}

/// Data on its way out.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    Pipe(Pipe),
}

impl<S> Wire<S> {
    /// Whether all that was to be written has left us.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.unflushed
    }
}

impl<S: Socket> Wire<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, buffer: BytesMut::new(), out: Out::default(), unflushed: false, room: HEAD }
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
        match self.buffer.capacity() {
            // No memory that could grow: a copy of the right size.
            0 => self.buffer = BytesMut::from(read.filled() as &[u8]),
            _ => self.buffer.extend_from_slice(read.filled()),
        }
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
        self.heed(read, room);
        Poll::Ready(Ok(read))
    }

    /// Reads what has come of a body of which `left` bytes are missing, and puts it at the end of `place`, which has room for them. 0 at the end of the connection.
    pub(super) fn poll_place(&mut self, left: u64, place: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if !self.buffer.is_empty() {
            let come = left.min(self.buffer.len());
            place.extend_from_slice(&self.buffer[..come]);
            self.advance(come);
            return Poll::Ready(Ok(come));
        }
        let mut place = place.limit(left.min(TURN));
        pin!(self.socket.read_buf(&mut place)).poll(cx)
    }

    /// So many bytes came where there was room for so many.
    fn heed(&mut self, came: usize, room: usize) {
        if came >= room {
            self.room = (self.room * 4).min(BODY);
        } else if came < self.room / 4 {
            self.room = (self.room / 4).max(HEAD);
        }
    }

    /// Whether the body comes as fast as it is read.
    pub(super) fn is_fast(&self) -> bool {
        self.room == BODY
    }

    /// What has come of a body of which at least `most` bytes are missing, in a pipe; none where it has to be read.
    pub(super) fn poll_pipe(&mut self, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
        if !self.buffer.is_empty() {
            return Poll::Ready(Ok(None));
        }
        let pipe = ready!(self.socket.poll_fill(most, cx))?;
        if let Some(pipe) = &pipe {
            self.heed(pipe.len(), self.room);
        }
        Poll::Ready(Ok(pipe))
    }

    /// Writes what is to be written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            let Self { socket, out, .. } = &mut *self;
            let text = &out.text[out.written..];
            let written = match &mut out.data {
                Piece::Pipe(pipe) if text.is_empty() => ready!(socket.poll_drain(pipe, cx))?,
                Piece::Bytes(data) if !data.is_empty() || !out.after.is_empty() => {
                    let slices = [text, &data[..], out.after].map(IoSlice::new);
                    let begin = usize::from(text.is_empty());
                    ready!(Pin::new(socket).poll_write_vectored(cx, &slices[begin..]))?
                }
                _ => ready!(Pin::new(socket).poll_write(cx, text))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.out.advance(written);
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
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
    pub(super) fn push(&mut self, data: Piece, after: &'static [u8]) {
        match data {
            Piece::Bytes(data) if data.len() <= SMALL => {
                self.text.extend_from_slice(&data);
                self.text.extend_from_slice(after);
            }
            data => (self.data, self.after) = (data, after),
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.total += written as u64;
        let of_text = written.min(self.text.len() - self.written);
        self.written += of_text;
        written -= of_text;
        if let Piece::Bytes(data) = &mut self.data {
            let of_data = written.min(data.len());
            data.advance(of_data);
            self.after = &self.after[written - of_data..];
        }
        if self.written == self.text.len() {
            // The next message may be far off.
            spare::give_text(std::mem::take(&mut self.text));
            self.written = 0;
        }
        if self.data.is_empty()
            && let Piece::Pipe(pipe) = std::mem::take(&mut self.data)
        {
            pipe.give_back();
        }
    }
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(data) => data.len(),
            Self::Pipe(pipe) => pipe.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Piece {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
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
                    wire.out.push(Piece::Bytes(part.into()), b"\r\n");
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

    #[tokio::test]
    async fn what_a_socket_still_holds_is_flushed_until_it_has_left() {
        // As TLS does, it takes everything at once and holds what does not go on.
        let (near, mut far) = duplex(4);
        let mut wire = Wire::new(tokio::io::BufWriter::with_capacity(100, near));
        wire.out.push(Piece::Bytes(Bytes::from_static(b"0123456789")), b"");
        let flush = |wire: &mut Wire<_>| wire.poll_flush(&mut Context::from_waker(std::task::Waker::noop()));
        for _ in 0..2 {
            assert!(flush(&mut wire).is_pending() && !wire.is_flushed());
        }
        let mut got = [0; 10];
        let (read, ()) = tokio::join!(far.read_exact(&mut got), async { std::future::poll_fn(|cx| wire.poll_flush(cx)).await.unwrap() });
        read.unwrap();
        assert!(&got == b"0123456789" && wire.is_flushed());
    }

    impl Socket for tokio::io::BufWriter<tokio::io::DuplexStream> {}
}
