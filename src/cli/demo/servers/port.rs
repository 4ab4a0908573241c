//! A port of 127.0.0.1 that stays ours while nobody listens on it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A port that is bound but not listened on: a connection to it is refused, as to a machine whose server has died.
///
/// Without it the system could give the port of a crashed server to an outgoing connection of anybody, and the server could not come back.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    _reserved: Socket,
}

impl Port {
    /// Any free port.
    pub(super) fn reserve() -> io::Result<Self> {
        let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the port has no address"))?;
        Ok(Self { address, _reserved: socket })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it, until the listener is dropped.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.address)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket.into())
    }
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // The reservation and the listener share the port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
