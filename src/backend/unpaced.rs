//! TCP between two ends on this machine.

use std::{net::IpAddr, os::fd::AsFd};

use socket2::SockRef;

/// How the names of congestion controls begin that send with pauses, by a timer: BBR, in each of its versions.
const PACED: &[u8] = b"bbr";
/// What takes its place, whichever of them the system allows; all of them have the last.
const UNPACED: [&[u8]; 2] = [b"cubic", b"reno"];

/// Has a connection to `peer`, or those that a socket listening on that address takes, send without pauses where it does not leave this machine. They spare the
/// queues of a network, of which there are none here, and cost a timer for about every 64 KiB of a long body. Where the system does not let it be, they stay.
pub fn unpace(socket: &impl AsFd, peer: IpAddr) {
    if !peer.to_canonical().is_loopback() {
        return;
    }
    let socket = SockRef::from(socket);
    let is_paced = socket.tcp_congestion().is_ok_and(|control| control.starts_with(PACED));
    if is_paced && !UNPACED.iter().any(|control| socket.set_tcp_congestion(control).is_ok()) {
        tracing::debug!("a connection within this machine keeps the congestion control of the system");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Where the system knows BBR, it is what both have before.
    #[test]
    fn what_stays_on_this_machine_is_sent_without_pauses_and_what_leaves_it_as_the_system_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let control = || SockRef::from(&socket).tcp_congestion().unwrap_or_default();
        let _where_it_is_known = SockRef::from(&socket).set_tcp_congestion(PACED);
        let before = control();
        unpace(&socket, [192, 0, 2, 1].into());
        assert_eq!(control(), before);
        unpace(&socket, "::ffff:127.0.0.1".parse().unwrap());
        assert!(!control().starts_with(PACED));
    }
}
