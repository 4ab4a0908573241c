//! A client of HTTP/2 that does what it is told, one stream at a time or many.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

use super::within;

/// One connection.
pub struct Http2 {
    pub sender: SendRequest<Bytes>,
    /// Ends with the connection.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer, whole.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Http2 {
    /// Begins with the preface.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self::try_over(stream).await.unwrap()
    }

    /// The same, or why it cannot begin.
    pub async fn try_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, h2::Error> {
        let (sender, connection) = within("the beginning of HTTP/2", h2::client::handshake(stream)).await?;
        Ok(Self { sender, connection: tokio::spawn(connection) })
    }

    /// Sends a request with this body and leaves its answer to come.
    pub async fn send(&mut self, request: http::request::Builder, body: &'static str) -> ResponseFuture {
        self.try_send(request, body).await.unwrap()
    }

    /// The same, or why the connection takes no request.
    pub async fn try_send(&mut self, request: http::request::Builder, body: &'static str) -> Result<ResponseFuture, h2::Error> {
        let mut sender = within("room for a stream", self.sender.clone().ready()).await?;
        let (response, mut stream) = sender.send_request(request.body(()).unwrap(), body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body.as_bytes()), true)?;
        }
        Ok(response)
    }

    /// A request and its answer.
    pub async fn exchange(&mut self, request: http::request::Builder, body: &'static str) -> Result<Answer, h2::Error> {
        let response = self.try_send(request, body).await?;
        whole(within("an answer", response).await?).await
    }
}

/// Reads an answer to its end.
pub async fn whole(response: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.into_parts();
    let mut content = Vec::new();
    while let Some(data) = within("the body of an answer", body.data()).await {
        let data = data?;
        let _freed = body.flow_control().release_capacity(data.len());
        content.extend_from_slice(&data);
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: content })
}

/// A GET of this path at `http://test`.
pub fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://test{path}"))
}
