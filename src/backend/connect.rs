//! Opening a connection to a server.

use std::{error::Error, fmt::Write, io, time::Duration};

use tokio::net::{TcpStream, UnixStream};

use super::{ErrorKind, Place, Protocol, Settings, pool::Http1, slots::Server, socket::Socket, tls::Offer, unpaced::unpace};
use crate::http2::client::{self, Limits};

/// Bytes of one answer that a server may send before its client has taken them, and of all answers on a connection: as many as its streams may, so that no
/// slow client holds up the others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;
/// Bytes of one request that are kept for a server that does not take them.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of the fields of an answer, as HTTP/2 counts them.
const FIELDS: u32 = 64 * 1024;
/// While requests are under way: silence after which a server is asked whether it is there, and time to say so.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A new connection.
pub(super) enum Opened {
    Http1(Http1),
    Http2(client::Sender),
}

/// Connects to a server; a connection of HTTP/2 is driven in a task of its own until it closes. `whole`: it is to be one of HTTP/1.1.
pub(super) async fn open(server: &Server, settings: &Settings, whole: bool) -> Result<Opened, (ErrorKind, String)> {
    let timeout = settings.connect_timeout;
    match tokio::time::timeout(timeout, dial(server, settings, whole)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err((kind, detail))) => Err((kind, format!("{server}: {detail}"))),
        Err(_) => Err((ErrorKind::ConnectTimeout, format!("{server}: no connection within {timeout:?}"))),
    }
}

async fn dial(server: &Server, settings: &Settings, whole: bool) -> Result<Opened, (ErrorKind, String)> {
    let refused = |error: io::Error| (ErrorKind::Connect, error.to_string());
    let address = &server.address;
    let stream = match (&address.place, server.at) {
        (_, Some(at)) => TcpStream::connect(at).await.map_err(refused)?,
        (Place::Tcp(address), None) => TcpStream::connect(address).await.map_err(refused)?,
        (Place::Name(host, port), None) => TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?,
        (Place::Unix(path), None) => {
            let stream = UnixStream::connect(path).await.map_err(refused)?;
            return start(Socket::Unix(stream), settings, settings.protocol == Protocol::H2c && !whole).await;
        }
    };
    stream.set_nodelay(true).map_err(refused)?;
    if let Ok(peer) = stream.peer_addr() {
        unpace(&stream, peer.ip());
    }
    match &settings.tls {
        Some(tls) if address.tls => {
            let offer = match settings.protocol {
                _ if whole => Offer::Http1,
                Protocol::Auto => Offer::Any,
                Protocol::H2 => Offer::H2,
                Protocol::Http1 | Protocol::H2c => Offer::Http1,
            };
            let (stream, h2) = tls.connect(address, offer, stream).await?;
            start(Socket::Tls(Box::new(stream)), settings, h2).await
        }
        _ => start(Socket::Tcp(stream), settings, settings.protocol == Protocol::H2c && !whole).await,
    }
}

async fn start(socket: Socket, settings: &Settings, h2: bool) -> Result<Opened, (ErrorKind, String)> {
    if h2 {
        multiplexed(socket).await.map_err(|error| (ErrorKind::Connect, chain(&error)))
    } else {
        Ok(Opened::Http1(Http1::new(socket, settings.idle_timeout)))
    }
}

async fn multiplexed(socket: Socket) -> Result<Opened, h2::Error> {
    let limits = Limits {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        send_buffer: SEND_BUFFER,
        header_bytes: FIELDS,
        ping_after: PING_AFTER,
        ping_timeout: PING_TIMEOUT,
    };
    let (sender, connection) = client::begin(socket, limits).await?;
    tokio::spawn(async move {
        let ended = connection.await;
        tracing::debug!(error = ended.err().as_ref().map(tracing::field::display), "a connection to a backend has ended");
    });
    Ok(Opened::Http2(sender))
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _infallible = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
