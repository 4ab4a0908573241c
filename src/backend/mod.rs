//! Sending a request to a backend and getting a response, or an error that says whether it may have been executed.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};

use crate::envelope::Name;

/// Where a backend is and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its servers, in the order of the configuration; at least one, at most 64.
    pub servers: Vec<ServerAddress>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time from the whole request being sent to the head of the response.
    pub response_timeout: Duration,
}

/// Address of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// A fixed TCP address.
    Tcp(SocketAddr),
    /// A host name and port, looked up at each new connection.
    Name(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Name(host, port) => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is known when there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Refused, unreachable, no name.
    Connect,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// The connection ended or broke before the head of a response.
    Reset,
    /// No head of a response within `response_timeout`.
    Timeout,
    /// What came is not HTTP.
    BadResponse,
    /// The body that we were sending failed at its source (a client that hung up, a store that could not read).
    RequestBody,
}

/// No response.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct SendError {
    /// What happened.
    pub kind: ErrorKind,
    /// Whether anything of the request may have reached the backend. `false` is certain.
    pub maybe_sent: bool,
    /// Which server it was, by its index; none when none was up.
    pub server: Option<usize>,
    /// The cause, for the log.
    pub detail: String,
}

/// One backend: its servers and the choice among them. Shared by all threads.
#[derive(Debug)]
pub struct Backend {}

/// The idle connections of one thread, to all backends.
#[derive(Debug, Default)]
pub struct Pool {}

/// A response and where it came from.
#[derive(Debug)]
pub struct Reply {
    /// Head and streaming body.
    pub response: Response<ResponseBody>,
    /// Index of the server that gave it.
    pub server: usize,
}

/// A body on its way to a backend (`http_body::Body<Data = Bytes>`).
#[derive(Debug)]
pub struct RequestBody {}

/// A body on its way from a backend (`http_body::Body<Data = Bytes>`); its end gives the connection back to the pool.
#[derive(Debug)]
pub struct ResponseBody {}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        todo!()
    }

    /// A body in memory.
    pub fn full(_bytes: Bytes) -> Self {
        todo!()
    }

    /// Any other body.
    pub fn boxed<B>(_body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
    {
        todo!()
    }
}

impl Backend {
    /// A backend; `weights` are those of its servers, 0 for one that is out.
    pub fn new(_name: Name, _settings: Settings, _weights: Arc<[AtomicU32]>) -> Arc<Self> {
        todo!()
    }

    /// Sends a request to the less loaded of two servers that are up and waits for the head of the response.
    ///
    /// The request's hop-by-hop fields must be gone already. Its body goes out as it comes; connect and response timeouts are ours.
    pub async fn send(&self, _pool: &Pool, _request: Request<RequestBody>) -> Result<Reply, SendError> {
        todo!()
    }
}
