//! The PROXY protocol, versions 1 and 2: what a load balancer says, before the client's first byte, about whose connection it passes on
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Not a byte past the head is read, so that TLS or HTTP begins where it ends. Who may say such a thing is decided by the address of the peer, before
//! anything is read: whether a head is there is never guessed.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use proxy_header::{ParseConfig, ProxyHeader};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, Interest};

use super::{
    settings::{ProxyProtocol, Strangers},
    stream::Stream,
};

/// How a head of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// How a head of version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// The signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;
/// Longest head of version 1, with its line end (section 2.1).
const LONGEST_LINE: usize = 107;
/// Longest head of version 2 that is read. Section 2.2 asks for 536 bytes at least; what clouds add to their addresses takes some hundred.
const LONGEST: usize = 4096;
/// The bytes of addresses and ports in version 2, by the family: none, IPv4, IPv6, unix.
const ADDRESSES: [usize; 4] = [0, 12, 36, 216];
/// Types of what follows the addresses: a checksum of the head, and what the client's TLS was.
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// In the first byte of [`SSL`]: the client came by TLS.
const CLIENT_SSL: u8 = 0x01;

/// What a peer has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Whose connection it passes on. None: its own (a health check), or one without an address.
    pub(super) client: Option<SocketAddr>,
    /// Whether the client came to it by TLS.
    pub(super) secure: bool,
}

/// Why a connection cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Another protocol, or none.
    #[error("it does not begin with a head of the PROXY protocol")]
    Missing,
    #[error("the head of the PROXY protocol is malformed")]
    Malformed,
    #[error("the head of the PROXY protocol is too long")]
    TooLong,
    #[error("the checksum of the head of the PROXY protocol is wrong")]
    Checksum,
    #[error("the head of the PROXY protocol ended early: {0}")]
    Broken(#[from] io::Error),
}

/// What is expected of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stance {
    /// It begins with a head, and is believed.
    Believe,
    /// It speaks for itself.
    Plain,
    /// It may not come in.
    Refuse,
}

impl ProxyProtocol {
    /// What is expected of a peer; one without an address comes over a unix socket, whose file says who may.
    pub(super) fn stance(&self, peer: Option<SocketAddr>) -> Stance {
        let known = peer.is_none_or(|peer| {
            let ip: IpAddr = peer.ip().to_canonical();
            self.from.iter().any(|net| net.contains(&ip))
        });
        match self.others {
            _ if known => Stance::Believe,
            Strangers::Refuse => Stance::Refuse,
            Strangers::Plain => Stance::Plain,
        }
    }
}

/// Reads a head, and nothing behind it.
pub(super) async fn read(stream: &mut Stream) -> Result<Said, Fault> {
    let mut head = Vec::with_capacity(LONGEST_LINE);
    loop {
        let more = match next(&head)? {
            Next::Nothing => return parse(&head),
            Next::Bytes(count) => count,
            Next::Line(longest) => {
                let mut seen = [0; LONGEST_LINE];
                let seen = &mut seen[..longest];
                let there = stream.peek(seen).await?;
                // None: read_exact says that it has ended.
                memchr::memchr(b'\n', &seen[..there]).map_or(there.max(1), |end| end + 1)
            }
        };
        let begun = head.len();
        head.resize(begun + more, 0);
        stream.read_exact(&mut head[begun..]).await?;
    }
}

/// What has to be read next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: the head is whole.
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// The rest of a line of at most so many bytes.
    Line(usize),
}

fn next(head: &[u8]) -> Result<Next, Fault> {
    // The shortest head of either version is longer than the signature.
    if head.len() < SIGNATURE.len() {
        return Ok(Next::Bytes(SIGNATURE.len() - head.len()));
    }
    if head.starts_with(WORD) {
        return match head.len() {
            _ if head.ends_with(b"\n") => Ok(Next::Nothing),
            LONGEST_LINE.. => Err(Fault::TooLong),
            length => Ok(Next::Line(LONGEST_LINE - length)),
        };
    }
    if !head.starts_with(SIGNATURE) {
        return Err(Fault::Missing);
    }
    let whole = match head {
        [.., high, low] if head.len() == FIXED => FIXED + usize::from(u16::from_be_bytes([*high, *low])),
        _ if head.len() < FIXED => FIXED,
        _ => head.len(),
    };
    match whole {
        _ if whole > LONGEST => Err(Fault::TooLong),
        _ if whole == head.len() => Ok(Next::Nothing),
        _ => Ok(Next::Bytes(whole - head.len())),
    }
}

/// What a whole head says.
fn parse(head: &[u8]) -> Result<Said, Fault> {
    let mut said = Said::default();
    if head.starts_with(SIGNATURE) {
        const LOCAL: u8 = 0x20;
        let [command, family, ..] = head[SIGNATURE.len()..] else { return Err(Fault::Malformed) };
        // Of a connection of the peer's own nothing else counts, not even a family that nobody knows.
        let Some(addresses) = ADDRESSES.get(usize::from(family >> 4)).copied().or((command == LOCAL).then_some(0)) else {
            return Err(Fault::Malformed);
        };
        for part in parts(head, FIXED + addresses) {
            match part {
                Ok((CRC32C, place)) => check(head, place)?,
                Ok((SSL, place)) => said.secure = head[place].first().is_some_and(|flags| flags & CLIENT_SSL != 0),
                Ok(_) => {}
                Err(_) if command == LOCAL => break,
                Err(fault) => return Err(fault),
            }
        }
        if command == LOCAL {
            return Ok(Said::default());
        }
    } else if !head.ends_with(b"\r\n") || head.contains(&b'+') {
        // The library takes a sign before a port.
        return Err(Fault::Malformed);
    }
    let (header, length) = ProxyHeader::parse(head, ParseConfig::default()).map_err(|_| Fault::Malformed)?;
    if length != head.len() {
        return Err(Fault::Malformed);
    }
    said.client = header.proxied_address().map(|addresses| addresses.source);
    Ok(said)
}

/// What follows the addresses in version 2: the type of each part, and where its value lies (section 2.2.1).
fn parts(head: &[u8], begin: usize) -> impl Iterator<Item = Result<(u8, Range<usize>), Fault>> {
    let mut at = begin;
    std::iter::from_fn(move || {
        let rest = head.get(at..).unwrap_or_default();
        let part = match *rest {
            [] => return None,
            [kind, high, low, ref values @ ..] => {
                let (begin, length) = (at + 3, usize::from(u16::from_be_bytes([high, low])));
                at = begin + length;
                (length <= values.len()).then_some((kind, begin..begin + length))
            }
            _ => None,
        };
        if part.is_none() {
            at = head.len();
        }
        Some(part.ok_or(Fault::Malformed))
    })
}

/// The checksum is that of the head with zeroes in its own place.
fn check(head: &[u8], place: Range<usize>) -> Result<(), Fault> {
    let said = <[u8; 4]>::try_from(&head[place.clone()]).map_err(|_| Fault::Malformed)?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head[..place.start]), &[0; 4]);
    let sum = crc32c::crc32c_append(sum, &head[place.end..]);
    if sum == u32::from_be_bytes(said) { Ok(()) } else { Err(Fault::Checksum) }
}

impl Stream {
    /// What has come, left where it is; none at the end. For sockets before TLS.
    pub(super) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let peeked = match self {
                Self::Tcp(stream) => {
                    stream.socket.readable().await?;
                    stream.socket.try_io(Interest::READABLE, || Ok(recv(&stream.socket, &mut *buffer, RecvFlags::PEEK)?.0))
                }
                Self::Unix(stream) => {
                    stream.socket.readable().await?;
                    stream.socket.try_io(Interest::READABLE, || Ok(recv(&stream.socket, &mut *buffer, RecvFlags::PEEK)?.0))
                }
                Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            match peeked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return peeked,
            }
        }
    }
}

#[cfg(test)]
mod tests;
