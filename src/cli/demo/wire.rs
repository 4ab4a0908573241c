//! The demo's side of HTTP: a keep-alive client as plain as a partner's script, and reading a body up to a limit.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Bytes of an answer that the client reads; what the demo's servers say is far shorter.
const ANSWER_LIMIT: usize = 16 << 20;

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("no answer: {0}")]
    Broken(#[from] hyper::Error),
    /// Too slow.
    #[error("no answer within {0:?}")]
    TooSlow(Duration),
    /// The body could not be read.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// A body that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its sender stopped.
    #[error("the body ended early: {0}")]
    Early(String),
    /// It is longer than the reader takes.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

/// An answer, whole.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// One client with one keep-alive connection, made anew whenever the old one has ended.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    patience: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client of `address` that waits for `patience` for each whole answer.
    pub fn new(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, connection: None }
    }

    /// Sends a request (origin form; `Host` is set here) and reads the whole answer. It is never sent twice.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Reply, WireError> {
        if let Ok(host) = http::HeaderValue::from_str(&self.address.to_string()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let patience = self.patience;
        let result = timeout(patience, self.exchange(request)).await.unwrap_or(Err(WireError::TooSlow(patience)));
        if result.is_err() {
            // What is left of that answer must not be read as the next one.
            self.connection = None;
        }
        result
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, WireError> {
        // An idle connection that the other side has closed is found out here, before the request is on it.
        let idle = match self.connection.take() {
            Some(mut idle) => idle.ready().await.is_ok().then_some(idle),
            None => None,
        };
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = whole(body, ANSWER_LIMIT).await?;
        self.connection = Some(connection);
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, WireError> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| WireError::Connect(self.address, error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end shows at the sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Reads a body of at most `limit` bytes.
pub async fn whole<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Early(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(BodyError::TooLong(limit));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// A response with a JSON body.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
