//! Listening sockets, one for every worker.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::backend::unpace;

use super::{sending::Sending, settings::ListenAddress, stream::Stream};

/// Connections that the kernel holds for us before we take them.
const BACKLOG: i32 = 4096;

/// An address that we cannot listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: ListenAddress,
    /// The system's word.
    pub source: io::Error,
}

/// Who else has a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Nobody,
    /// The other workers.
    Workers,
    /// Who passed it to us, and goes on with it when we stop.
    Passer,
}

/// The sockets of one listener, one for each worker.
#[derive(Debug)]
pub struct Sockets {
    /// Where it listens; with the port that the system chose, where it was asked to.
    pub address: ListenAddress,
    sockets: Vec<socket2::Socket>,
    others: Others,
}

impl Sockets {
    /// Listens on an address with so many workers: on the socket that was `passed` for it, already listening, or else on new ones. `shared`: we may be listening
    /// on its port already.
    pub fn open(address: &ListenAddress, passed: Option<socket2::Socket>, workers: usize, shared: bool) -> Result<Self, BindError> {
        let bound = match (passed, address) {
            (Some(socket), _) => share(address, &socket, workers, Others::Passer),
            (None, ListenAddress::Tcp(address)) => bind_tcp(*address, workers, shared),
            (None, ListenAddress::Unix(path)) => bind_unix(path, workers),
        };
        bound.map_err(|source| BindError { address: address.clone(), source })
    }

    /// The socket of one worker. Each may be taken once.
    pub fn take(&mut self) -> Option<Socket> {
        Some(Socket { socket: self.sockets.pop()?, is_tcp: matches!(self.address, ListenAddress::Tcp(_)), others: self.others })
    }
}

/// One worker's socket, on its way there.
#[derive(Debug)]
pub struct Socket {
    socket: socket2::Socket,
    is_tcp: bool,
    others: Others,
}

impl Socket {
    /// Listens within the runtime that this is called in.
    pub(super) fn listen(self) -> io::Result<Listener> {
        let others = self.others;
        if self.is_tcp {
            // What is accepted has these from the socket that listens: less calls for each.
            self.socket.set_tcp_nodelay(true)?;
            if let Some(address) = self.socket.local_addr()?.as_socket() {
                unpace(&self.socket, address.ip());
            }
            TcpListener::from_std(self.socket.into()).map(|listener| Listener::Tcp { listener, others })
        } else {
            UnixListener::from_std(self.socket.into()).map(|listener| Listener::Unix { listener, others })
        }
    }
}

/// One socket for all workers: whichever is awake takes the next connection.
fn share(address: &ListenAddress, socket: &socket2::Socket, workers: usize, others: Others) -> io::Result<Sockets> {
    let sockets = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
    Ok(Sockets { address: address.clone(), sockets, others })
}

/// The kernel lets sockets share a port when all of them say so (`SO_REUSEPORT`), also those of another process. Unless the port is to be `shared`, the first one says it
/// only once it is bound: then nobody else listens there, such as another forebay with another store, which would get a part of our connections. Said it is in any
/// case: a reload may move the listener to an address that overlaps with its own, and binds the new one before it leaves the old one.
fn bind_tcp(address: SocketAddr, workers: usize, shared: bool) -> io::Result<Sockets> {
    let mut bound = address;
    let mut sockets = Vec::with_capacity(workers);
    for number in 0..workers {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // As nginx has it, so that `[::]:80` stands beside `0.0.0.0:80`, and says what it takes whatever the system's default is.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared || number > 0)?;
        socket.set_nonblocking(true)?;
        socket.bind(&bound.into())?;
        socket.set_reuse_port(true)?;
        socket.listen(BACKLOG)?;
        // Port 0 lets the system choose once, for all workers.
        bound = socket.local_addr()?.as_socket().unwrap_or(bound);
        sockets.push(socket);
    }
    Ok(Sockets { address: ListenAddress::Tcp(bound), sockets, others: Others::Nobody })
}

fn bind_unix(path: &std::path::Path, workers: usize) -> io::Result<Sockets> {
    // A socket file outlives its process. One that nobody answers on is a leftover; one that somebody does is somebody's.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    share(&ListenAddress::Unix(path.to_owned()), &socket, workers, Others::Workers)
}

/// One worker's listener.
#[derive(Debug)]
pub(super) enum Listener {
    /// TCP.
    Tcp { listener: TcpListener, others: Others },
    /// A unix socket.
    Unix { listener: UnixListener, others: Others },
}

impl Listener {
    /// Whether who passed it to us goes on with it, and with those who wait in it.
    pub(super) fn is_passed(&self) -> bool {
        matches!(self, Self::Tcp { others: Others::Passer, .. } | Self::Unix { others: Others::Passer, .. })
    }

    /// Answers nobody any more who begins to connect, so that it tries again, a second later, and finds who listens then; were it connected and the listener closed,
    /// it would be reset. Who has begun gets to the end of it. False where others have the socket too: what they have is not ours to close.
    pub(super) fn turn_deaf(&self) -> bool {
        let Self::Tcp { listener, others: Others::Nobody } = self else { return false };
        // A classic filter, which sees a segment from its TCP header on and says how much of it is let through (socket(7), SO_ATTACH_FILTER; RFC 9293 section 3.1):
        // load byte 13, the flags; is SYN among them? Then nothing, else all.
        let (load_byte, is_any_set, give) = (0x30, 0x45, 0x06);
        let (flags, syn) = (13, 0x02);
        let deaf = [(load_byte, 0, 0, flags), (is_any_set, 0, 1, syn), (give, 0, 0, 0), (give, 0, 0, u32::MAX)];
        let deaf = deaf.map(|(code, if_so, if_not, operand)| SockFilter::new(code, if_so, if_not, operand));
        SockRef::from(listener)
            .attach_filter(&deaf)
            .inspect_err(|error| tracing::debug!(%error, "a listener is closed while it still hears"))
            .is_ok()
    }

    /// The next connection.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match self {
            Self::Tcp { listener, .. } => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Stream::Tcp(Sending::new(stream)), Some(peer))))
            }
            Self::Unix { listener, .. } => Poll::Ready(Ok((Stream::Unix(Sending::new(ready!(listener.poll_accept(cx))?.0)), None))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_ipv6_are_no_addresses_of_ipv4() {
        let any = |ip: std::net::IpAddr, port| Sockets::open(&ListenAddress::Tcp((ip, port).into()), None, 2, false);
        // Some systems have no IPv6.
        let Ok(six) = any(std::net::Ipv6Addr::UNSPECIFIED.into(), 0) else { return };
        let ListenAddress::Tcp(address) = &six.address else { panic!("it is not TCP") };
        assert!(any(std::net::Ipv4Addr::UNSPECIFIED.into(), address.port()).is_ok());
    }

    #[tokio::test]
    async fn what_is_accepted_sends_without_delay_and_without_pauses() {
        let mut sockets = Sockets::open(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into()), None, 1, false).unwrap();
        let ListenAddress::Tcp(address) = sockets.address else { panic!("it is not TCP") };
        let listener = sockets.take().unwrap().listen().unwrap();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let Stream::Tcp(stream) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().0 else { panic!("it is not TCP") };
        assert!(stream.socket.nodelay().unwrap());
        assert!(
            !SockRef::from(&stream.socket).tcp_congestion().unwrap_or_default().starts_with(b"bbr"),
            "nor in pauses, within this machine"
        );
    }
}
