//! Listening sockets that a service manager opened before it started us: systemd's socket activation, as sd_listen_fds(3) describes it.
//!
//! The manager keeps such a socket over a restart, and the kernel holds the connections that come meanwhile: no client is refused. Which listener a
//! socket is for is told by its address alone, so that `[[listeners]]` says the same with and without a manager.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use listenfd::ListenFd;
use socket2::Socket;

use crate::proxy::ListenAddress;

use super::StartError;

/// What was passed.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    address: ListenAddress,
    socket: Socket,
    /// The listener that it is for, by its configuration.
    claimed: Option<ListenAddress>,
}

impl Inherited {
    /// What the environment says was passed (`LISTEN_FDS`, `LISTEN_PID`). To be called before there is a second thread, since it clears them.
    pub(super) fn from_environment() -> Result<Self, StartError> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::with_capacity(passed.len());
        for number in 0..passed.len() {
            let (address, socket) = socket(&mut passed, number).map_err(StartError::NoListener)?;
            sockets.push(Passed { address, socket, claimed: None });
        }
        Ok(Self(sockets))
    }

    /// Finds for each of these listeners the socket that was passed for it; one at its very address goes before one that serves others too. Fails when a socket
    /// is left: clients would connect to it, and nobody would answer.
    pub(super) fn claim(&mut self, wanted: &[&ListenAddress]) -> Result<(), StartError> {
        for fits in [same_address, serves] {
            for &wanted in wanted {
                if !self.0.iter().any(|passed| passed.claimed.as_ref() == Some(wanted))
                    && let Some(passed) = self.0.iter_mut().find(|passed| passed.claimed.is_none() && fits(&passed.address, wanted))
                {
                    passed.claimed = Some(wanted.clone());
                }
            }
        }
        match self.0.iter().find(|passed| passed.claimed.is_none()) {
            None => Ok(()),
            Some(passed) => Err(StartError::Unclaimed(passed.address.clone())),
        }
    }

    /// The socket of that listener, where one was passed for it: also once more, when a reload brings it back.
    pub(super) fn of(&self, listener: &ListenAddress) -> io::Result<Option<Socket>> {
        let passed = self.0.iter().find(|passed| passed.claimed.as_ref() == Some(listener));
        passed.map(|passed| passed.socket.try_clone()).transpose()
    }
}

fn socket(passed: &mut ListenFd, number: usize) -> io::Result<(ListenAddress, Socket)> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "there is no such descriptor");
    // The wrong kind is left where it is, for the next to try.
    let socket: Socket = match passed.take_tcp_listener(number) {
        Ok(tcp) => tcp.ok_or_else(gone)?.into(),
        Err(_) => passed.take_unix_listener(number)?.ok_or_else(gone)?.into(),
    };
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket was passed that does not listen; use `Accept=no`"));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let address = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => ListenAddress::Tcp(address),
        (None, Some(path)) => ListenAddress::Unix(path.to_owned()),
        (None, None) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a unix socket was passed that has no path")),
    };
    Ok((address, socket))
}

/// Whether a socket is where a listener is to be.
fn same_address(passed: &ListenAddress, wanted: &ListenAddress) -> bool {
    match (passed, wanted) {
        (ListenAddress::Tcp(passed), ListenAddress::Tcp(wanted)) => same(*passed, *wanted),
        _ => passed == wanted,
    }
}

/// Whether a socket at `passed` is what a listener at `wanted` asks for. systemd opens `ListenStream=8080` as `[::]:8080`, which takes IPv4 as well.
fn serves(passed: &ListenAddress, wanted: &ListenAddress) -> bool {
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match (passed, wanted) {
        (ListenAddress::Tcp(passed), ListenAddress::Tcp(wanted)) if passed.ip() == both && wanted.ip().is_unspecified() => {
            passed.port() == wanted.port()
        }
        _ => same_address(passed, wanted),
    }
}

/// Addresses are the same whatever flow label or scope the system adds.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> ListenAddress {
        ListenAddress::Tcp(address.parse().unwrap())
    }

    #[test]
    fn a_socket_is_for_the_listener_of_its_address_and_a_dual_one_for_every_interface() {
        for (passed, wanted, fits) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
        ] {
            assert_eq!(serves(&tcp(passed), &tcp(wanted)), fits, "{passed} for {wanted}");
        }
        assert!(serves(&ListenAddress::Unix("/run/a".into()), &ListenAddress::Unix("/run/a".into())));
        assert!(!serves(&ListenAddress::Unix("/run/a".into()), &tcp("127.0.0.1:80")));
    }

    fn passed(addresses: &[&str]) -> Inherited {
        let socket = || Socket::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        Inherited(addresses.iter().map(|address| Passed { address: tcp(address), socket: socket(), claimed: None }).collect())
    }

    #[test]
    fn a_socket_that_no_listener_takes_is_an_error_that_names_it() {
        let error = passed(&["127.0.0.1:80", "127.0.0.1:81"]).claim(&[&tcp("127.0.0.1:80"), &tcp("127.0.0.1:82")]).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:81") && error.contains("[[listeners]]"), "{error}");
        passed(&["127.0.0.1:80"]).claim(&[&tcp("127.0.0.1:80"), &tcp("127.0.0.1:82")]).unwrap();
    }

    #[test]
    fn a_listener_has_the_socket_at_its_very_address_and_has_it_again_when_it_comes_back() {
        let mut inherited = passed(&["[::]:80", "0.0.0.0:80"]);
        let (both, four) = (tcp("[::]:80"), tcp("0.0.0.0:80"));
        inherited.claim(&[&four, &both]).unwrap();
        for _ in 0..2 {
            for (listener, place) in [(&both, 0), (&four, 1)] {
                let given = inherited.of(listener).unwrap().unwrap();
                assert_eq!(given.local_addr().unwrap(), inherited.0[place].socket.local_addr().unwrap());
            }
        }
        assert!(inherited.of(&tcp("127.0.0.1:80")).unwrap().is_none());
        let mut dual = passed(&["[::]:80"]);
        dual.claim(&[&four]).unwrap();
        assert!(dual.of(&four).unwrap().is_some());
    }
}
