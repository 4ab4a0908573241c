//! A client that sends exactly the bytes that it is given and reads one response at a time.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    wire::{Field, Framing, Wire, framing, invalid, owned, values},
    within,
};

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The raw head, the empty line included.
    pub head: Vec<u8>,
    /// Its status.
    pub status: u16,
    /// Its reason phrase.
    pub reason: String,
    /// Its fields, with their letters.
    pub fields: Vec<Field>,
    /// Its content.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Vec<Field>,
    /// False when the body broke off.
    pub complete: bool,
    /// Statuses of the interim responses (1xx) before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// The first value of a field, whatever its letters.
    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.fields, name).next().map(|value| std::str::from_utf8(value).unwrap())
    }

    /// The identity of the queued request that this 202 (or what stands for it) acknowledges.
    pub fn id(&self) -> String {
        let id = self.field("forebay-id");
        id.unwrap_or_else(|| panic!("not queued: {:?}", String::from_utf8_lossy(&self.head))).to_owned()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }
}

/// One connection; it stays open until it is dropped or the peer closes it.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

impl Client {
    /// A connection to this address.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// A connection to this address, or why there is none.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = within("a connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { wire: Wire::new(stream) })
    }

    /// The address that the peer sees.
    pub fn address(&self) -> SocketAddr {
        self.wire.stream.local_addr().unwrap()
    }

    /// Sends exactly these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends exactly these bytes, or says why the peer does not take them.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("the peer to read", self.wire.write(bytes.as_ref())).await
    }

    /// The next response, whole.
    pub async fn response(&mut self) -> Response {
        self.try_response().await.expect("a response")
    }

    /// The next response to a HEAD: its fields speak of a body, and none comes.
    pub async fn response_to_head(&mut self) -> Response {
        within("a response", self.read(true)).await.expect("a response")
    }

    /// The next response as far as it comes. Errors: the connection ended before its head was whole, or the head is malformed.
    pub async fn try_response(&mut self) -> io::Result<Response> {
        within("a response", self.read(false)).await
    }

    /// The head of the next response; its body stays to be read, with [`bytes`](Self::bytes) or [`rest`](Self::rest).
    pub async fn head(&mut self) -> Response {
        let head = within("the head of a response", self.wire.head()).await.unwrap().expect("a response");
        parse(&head).unwrap()
    }

    /// So many bytes, as soon as they are there.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let body = within("bytes", self.wire.body(Framing::Length(count as u64))).await;
        assert!(body.complete, "the connection ended after {:?}", String::from_utf8_lossy(&body.content));
        body.content
    }

    /// Sends a request and gives its response.
    pub async fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes).await;
        self.response().await
    }

    /// Says that nothing more will be sent, and can still read. Nobody has to be told who has gone already.
    pub async fn half_close(&mut self) {
        if let Err(error) = self.wire.stream.shutdown().await {
            assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
        }
    }

    /// Goes away without a farewell: the peer gets a reset.
    pub fn abort(self) {
        socket2::SockRef::from(&self.wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Everything that still comes, up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        within("the end of the connection", self.wire.rest()).await
    }

    /// Reads everything that still comes; false when the connection does not end in peace.
    pub async fn ends_in_peace(&mut self) -> bool {
        within("the end of the connection", self.wire.body(Framing::UntilClose)).await.complete
    }

    /// Resolves when the peer has closed the connection in peace. Panics at a reset, or if it sends anything before.
    pub async fn ended(&mut self) {
        let more = within("the end of the connection", self.wire.has_more()).await;
        assert!(!more.expect("an end, and not a reset"), "more came in place of an end");
    }

    /// Resolves when the peer has closed or reset the connection. Panics if it sends anything before.
    pub async fn closed(&mut self) {
        let more = within("the end of the connection", self.wire.has_more()).await;
        assert!(!more.unwrap_or(false), "more came in place of an end");
    }

    async fn read(&mut self, to_head: bool) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = self.wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let mut response = parse(&head)?;
            if response.status / 100 == 1 && response.status != 101 {
                interim.push(response.status);
                continue;
            }
            let empty = to_head || matches!(response.status, 101 | 204 | 304);
            let framing = if empty { Framing::Empty } else { framing(&response.fields).unwrap_or(Framing::UntilClose) };
            let body = self.wire.body(framing).await;
            (response.body, response.trailers, response.complete, response.interim) = (body.content, body.trailers, body.complete, interim);
            return Ok(response);
        }
    }
}

/// One request on a connection of its own, which is closed afterwards.
pub async fn fetch(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    Client::connect(address).await.exchange(request).await
}

/// A new connection on which an answer to this request has begun, be it an interim one. For clients that have little time to send their head: one that was late has
/// its connection ended before anybody has heard of it, and another is made.
pub async fn heard(address: SocketAddr, request: impl AsRef<[u8]>) -> Client {
    let asked = async {
        loop {
            if let Ok(mut client) = Client::try_connect(address).await
                && client.try_send(request.as_ref()).await.is_ok()
                && client.wire.has_more().await.unwrap_or(false)
            {
                return client;
            }
        }
    };
    within("a connection on which an answer begins", asked).await
}

/// The same, and the answer.
pub async fn answered(address: SocketAddr, request: impl AsRef<[u8]>) -> (Client, Response) {
    let mut client = heard(address, request).await;
    let response = client.response().await;
    (client, response)
}

/// Sends on a new connection what is only a beginning, and waits until the peer has closed it in peace. Bytes that come in the very moment in which their time is
/// up are not read, which the system answers with a reset: another connection is made.
pub async fn given_up(address: SocketAddr, beginning: impl AsRef<[u8]>) {
    let ended = async {
        loop {
            if let Ok(mut client) = Client::try_connect(address).await
                && client.try_send(beginning.as_ref()).await.is_ok()
                && let Ok(more) = client.wire.has_more().await
            {
                assert!(!more, "more came in place of an end");
                return;
            }
        }
    };
    within("an end in peace", ended).await;
}

/// The bytes of a GET.
pub fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

/// The JSON that the admin listener answers to a GET.
pub async fn ask(admin: SocketAddr, target: &str) -> serde_json::Value {
    let response = fetch(admin, format!("GET {target} HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.json()
}

/// The bytes of a request with a body of known length; `fields` are whole lines without their end.
pub fn request(method: &str, target: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        bytes.push_str(field);
        bytes.push_str("\r\n");
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), body].concat()
}

fn parse(head: &[u8]) -> io::Result<Response> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(invalid("head of a response")),
    }
    Ok(Response {
        head: head.to_vec(),
        status: parsed.code.ok_or_else(|| invalid("status"))?,
        reason: parsed.reason.unwrap_or_default().to_owned(),
        fields: owned(parsed.headers),
        body: Vec::new(),
        trailers: Vec::new(),
        complete: false,
        interim: Vec::new(),
    })
}
