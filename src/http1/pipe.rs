//! Bodies that go from one socket to another within the kernel (`splice(2)`): pages change hands there, and their bytes are neither copied nor come to us.
//!
//! A pipe is what holds them on their way. It is taken when something has come, and free again when all of it has gone out, so that who waits has none. Where
//! none is to be had, and where something has to be done to the bytes, as TLS does, they are read and written.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body;
use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice},
    process::{Resource, getrlimit},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpStream, UnixStream},
};

/// Bytes that a pipe holds: with fewer, waking the client costs more than is saved, and with more there is nothing left to save.
const ROOM: usize = 256 * 1024;
/// One with less room costs more calls than it saves. It is what the system gives a user who has many (pipe(7), `pipe-user-pages-soft`).
const LEAST_ROOM: usize = 64 * 1024;
/// Bytes of a body that have to be missing to be worth one.
pub(super) const LONG: u64 = 64 * 1024;
/// Pipes of all threads, and with them what clients that take nothing may hold of the kernel's memory: 64 MiB, as much as a user may have of it by default.
const MOST: usize = 256;
/// They have at most one in so many of the descriptors that the process may open, two each: connections need the others.
const PART: u64 = 8;
/// Empty ones that a thread keeps for the next body.
const MOST_SPARE: usize = 16;

/// How many there may be.
static ALLOWED: LazyLock<usize> = LazyLock::new(|| {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / PART / 2).map_or(MOST, |pipes| pipes.min(MOST))
});

/// How many there are.
static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local!(static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) });

/// A part of a body that the kernel holds. Dropped with something in it, that is gone.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
    _counted: Counted,
}

/// One of so many.
#[derive(Debug)]
struct Counted(&'static AtomicUsize);

/// What HTTP is spoken on.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// What has come, but at most `most` bytes of it, in a pipe. None: it is to be read, and so is its end.
    fn poll_fill(&mut self, _most: u64, _cx: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
        Poll::Ready(Ok(None))
    }

    /// Whether what a pipe holds can be written to it.
    fn takes_pipes(&self) -> bool {
        false
    }

    /// Writes what a pipe holds, or a part of it, and gives how much. To be asked where [pipes are taken](Self::takes_pipes).
    fn poll_drain(&mut self, _pipe: &mut Pipe, _cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// A body that may come in pipes.
pub trait Piped: Body<Data = Bytes> + Unpin {
    /// Its next part in a pipe. None: it is to be asked for as a frame.
    fn poll_pipe(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, Self::Error>>> {
        Poll::Ready(None)
    }
}

impl Pipe {
    /// An empty one, if there is one.
    fn take() -> Option<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        spare.ok().flatten().or_else(Self::open)
    }

    fn open() -> Option<Self> {
        let counted = Counted::one(&OPEN, *ALLOWED)?;
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let room = fcntl_setpipe_size(&into, ROOM).or_else(|_| fcntl_getpipe_size(&into)).ok()?;
        (room >= LEAST_ROOM).then_some(Self { out, into, held: 0, _counted: counted })
    }

    /// Keeps one that is empty for whoever needs one next.
    pub(super) fn give_back(self) {
        let _at_the_end_of_a_thread = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if self.held == 0 && spare.len() < MOST_SPARE {
                spare.push(self);
            }
        });
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    fn fill(&mut self, from: &impl AsFd, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(ROOM);
        let moved = splice(from, None, &self.into, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?;
        self.held += moved;
        Ok(moved)
    }

    fn drain(&mut self, into: &impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.out, None, into, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?;
        self.held -= moved;
        Ok(moved)
    }
}

impl Counted {
    /// None where there are as many as there may be.
    fn one(of: &'static AtomicUsize, most: usize) -> Option<Self> {
        let before = of.fetch_add(1, Relaxed);
        Some(Self(of)).filter(|_| before < most)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whether a system does not do this at all, or not for us.
fn is_never(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::PERM))
}

/// A socket whose bytes are those of HTTP.
trait Plain: AsFd {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Notes that it has to be waited for, where `work` says so.
    fn attempt(&self, interest: Interest, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

impl<S: Plain + AsyncRead + AsyncWrite + Unpin> Socket for S {
    fn poll_fill(&mut self, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pipe>>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let Some(mut pipe) = Pipe::take() else { return Poll::Ready(Ok(None)) };
            match self.attempt(Interest::READABLE, || pipe.fill(self, most)) {
                Ok(1..) => return Poll::Ready(Ok(Some(pipe))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => pipe.give_back(),
                Err(error) if !is_never(&error) => return Poll::Ready(Err(error)),
                Ok(0) | Err(_) => {
                    pipe.give_back();
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    fn takes_pipes(&self) -> bool {
        true
    }

    fn poll_drain(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_writable(cx))?;
            match self.attempt(Interest::WRITABLE, || pipe.drain(self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                drained => return Poll::Ready(drained),
            }
        }
    }
}

impl Plain for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn attempt(&self, interest: Interest, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(interest, work)
    }
}

impl Plain for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn attempt(&self, interest: Interest, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(interest, work)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::future::poll_fn;

    use http::Request;
    use http_body_util::Empty;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        net::TcpListener,
    };

    use super::*;
    use crate::http1::{
        AnswerHead,
        client::{Answer, Connection, Left},
    };

    impl Socket for DuplexStream {}
    impl Piped for Empty<Bytes> {}
    impl Piped for http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error> {}

    const LONG: usize = 1_000_000;

    /// The two ends of a connection.
    pub(in crate::http1) async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn noise() -> Vec<u8> {
        (0..LONG).map(|at| (at * at / 7) as u8).collect()
    }

    async fn cross<S: Socket>((mut server, mut from): (S, S), (mut to, mut client): (S, S)) {
        let body = noise();
        let sent = async {
            server.write_all(&body).await.unwrap();
            drop(server);
        };
        let moved = async {
            while let Some(mut pipe) = poll_fn(|cx| from.poll_fill(LONG as u64, cx)).await.unwrap() {
                while !pipe.is_empty() {
                    poll_fn(|cx| to.poll_drain(&mut pipe, cx)).await.unwrap();
                }
                pipe.give_back();
            }
            drop(to);
        };
        let mut got = Vec::new();
        let (_, _, read) = tokio::join!(sent, moved, client.read_to_end(&mut got));
        read.unwrap();
        assert!(got == body);
    }

    #[tokio::test]
    async fn what_goes_through_pipes_arrives_as_it_was_sent_on_sockets_of_every_kind() {
        cross(tcp().await, tcp().await).await;
        cross(UnixStream::pair().unwrap(), UnixStream::pair().unwrap()).await;
    }

    #[tokio::test]
    async fn a_pipe_takes_no_more_than_was_asked_for() {
        let (mut server, mut from) = tcp().await;
        server.write_all(b"bodyHTTP/1.1").await.unwrap();
        let pipe = poll_fn(|cx| from.poll_fill(4, cx)).await.unwrap().unwrap();
        assert_eq!(pipe.len(), 4);
        let mut rest = [0; 8];
        from.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"HTTP/1.1");
    }

    #[tokio::test]
    async fn what_is_left_in_a_pipe_reaches_nobody_else() {
        let (mut server, mut from) = tcp().await;
        server.write_all(b"secret").await.unwrap();
        poll_fn(|cx| from.poll_fill(6, cx)).await.unwrap().unwrap().give_back();
        server.write_all(b"public").await.unwrap();
        let mut pipe = poll_fn(|cx| from.poll_fill(6, cx)).await.unwrap().unwrap();
        let (mut to, mut client) = tcp().await;
        assert_eq!(poll_fn(|cx| to.poll_drain(&mut pipe, cx)).await.unwrap(), 6);
        let mut got = [0; 6];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"public");
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        static OPEN: AtomicUsize = AtomicUsize::new(0);
        let mut all: Vec<_> = std::iter::from_fn(|| Counted::one(&OPEN, 7)).collect();
        assert_eq!(all.len(), 7);
        all.pop();
        assert!(Counted::one(&OPEN, 7).is_some_and(|one| {
            all.push(one);
            Counted::one(&OPEN, 7).is_none()
        }));
        all.clear();
        assert_eq!(OPEN.load(Relaxed), 0);
    }

    /// What of an answer comes in pipes and what in frames, and whether its connection can be used again.
    async fn answered(head: &str, body: &[u8], close: bool) -> (usize, usize, bool) {
        let (mut server, near) = tcp().await;
        let answer = [head.as_bytes(), body].concat();
        let serving = async move {
            assert!(server.read(&mut [0; 1000]).await.unwrap() > 0);
            server.write_all(&answer).await.unwrap();
            if close { None } else { Some(server) }
        };
        let asking = async {
            let mut connection = Connection::new(near);
            let mut exchange = connection.begin(&Request::get("/").body(()).unwrap().into_parts().0.into(), Empty::<Bytes>::new());
            let mut heard = |_: &mut AnswerHead| {};
            let (_, ending) = poll_fn(|cx| connection.poll_answer(&mut exchange, &mut heard, cx)).await.unwrap();
            let mut answer = Answer::new(connection, exchange, ending);
            let (mut piped, mut framed) = (0, 0);
            while piped + framed <= LONG {
                if let Some(pipe) = poll_fn(|cx| answer.poll_pipe(cx)).await {
                    piped += pipe.unwrap().len();
                } else if let Some(frame) = poll_fn(|cx| answer.poll_frame(cx)).await {
                    framed += frame.unwrap().into_data().unwrap().len();
                } else {
                    break;
                }
            }
            (piped, framed, matches!(answer.left(), Left::Connection(_)))
        };
        let (figures, _open) = tokio::join!(asking, serving);
        figures
    }

    #[tokio::test]
    async fn of_a_long_body_only_what_comes_with_its_head_is_copied() {
        let body = noise();
        let (piped, framed, again) = answered(&format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"), &body, false).await;
        assert!(framed <= 8192 && again, "{piped} and {framed}, {again}");
        assert_eq!(piped + framed, LONG);
        // What ends with its connection shows only by how it comes that it is long.
        let (piped, framed, again) = answered("HTTP/1.1 200 OK\r\n\r\n", &body, true).await;
        assert!(piped + framed == LONG && !again);
        let short = &body[..60_000];
        assert_eq!(answered("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", short, false).await, (0, 60_000, true));
        let chunked = [b"ea60\r\n", short, b"\r\n0\r\n\r\n"].concat();
        assert_eq!(answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked, false).await, (0, 60_000, true));
    }
}
