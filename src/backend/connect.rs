//! Opening a connection to a server.

use std::{error::Error, fmt::Write, io, sync::Arc};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::{
    ErrorKind, ServerAddress, Settings,
    again::{Remembering, Written},
    gather::Gather,
    pool::Connection,
};

/// Connects to `address` and drives the connection in a task of its own until it closes. It may lie idle for `idle_timeout`.
pub(super) async fn open(address: &ServerAddress, settings: &Settings) -> Result<Connection, (ErrorKind, String)> {
    let timeout = settings.connect_timeout;
    let dialled = async {
        match address {
            ServerAddress::Tcp(address) => tcp(TcpStream::connect(address).await, settings).await,
            ServerAddress::Name(host, port) => tcp(TcpStream::connect((host.as_str(), *port)).await, settings).await,
            ServerAddress::Unix(path) => start(UnixStream::connect(path).await?, settings).await.map_err(io::Error::other),
        }
    };
    match tokio::time::timeout(timeout, dialled).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err((ErrorKind::Connect, format!("{address}: {error}"))),
        Err(_) => Err((ErrorKind::ConnectTimeout, format!("{address}: no connection within {timeout:?}"))),
    }
}

async fn tcp(stream: io::Result<TcpStream>, settings: &Settings) -> io::Result<Connection> {
    let stream = stream?;
    stream.set_nodelay(true)?;
    start(stream, settings).await.map_err(io::Error::other)
}

async fn start<T>(stream: T, settings: &Settings) -> hyper::Result<Connection>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let written = Arc::new(Written::default());
    let socket = TokioIo::new(Gather(Remembering::new(stream, written.clone())));
    // Names go out in the letters in which they came; those that we add get capitals, as most servers of old expect.
    // A space before a colon has to go on the way (RFC 9112 section 5.1); that is all that is forgiven.
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .allow_spaces_after_header_name_in_responses(true)
        .handshake(socket)
        .await?;
    tokio::spawn(async move {
        // How it ended is told to whoever waits for a response; when nobody does, an idle connection has closed.
        let ended = connection.with_upgrades().await;
        tracing::debug!(error = ended.err().as_ref().map(tracing::field::display), "a connection to a backend has ended");
    });
    Ok(Connection::new(sender, written, settings.idle_timeout))
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
