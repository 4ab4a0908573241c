//! However the bytes of a client come, they are the same requests; and what is sent on for one request is one request.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Response, Uri, header::CONNECTION};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Error, Origin, Part, RequestHead, RequestOf, ResponseOf,
    decode::{Decoded, Decoder},
    encode::{Encoder, Sending},
    parse,
    pipe::{Piped, Socket},
    server::{Connection, Incoming, Next, Then},
    wire::Out,
    write,
};
use crate::fuzz;

const SEEDS: &[&[u8]] = &[
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2?x HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n\r\nGET /no\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nG\r\n\n\r\n10\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nPOST /1 HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nxPUT http://a/2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\nGET http://a?2 HTTP/1.1\r\nHost: a\r\n\r\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"content-length:18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"X-Empty:\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff",
    b";a=b",
    b"#",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"HTTP/1.0",
];

/// The connection of a client that has said all that it will, read in pieces.
pub(super) struct Said {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
}

impl Said {
    pub(super) fn new(bytes: Vec<u8>, piece: usize) -> Self {
        Self { bytes, at: 0, piece }
    }
}

impl AsyncRead for Said {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = (self.at + self.piece.min(buffer.remaining())).min(self.bytes.len());
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Said {}
impl Piped for Full<Bytes> {}

/// A request as it was understood.
type Served = (Box<RequestHead>, Vec<u8>);

/// Reads a body of known length into a place for it.
pub(super) async fn placed(body: &mut Incoming) -> Result<Vec<u8>, Error> {
    let mut place = BytesMut::with_capacity(body.size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(0));
    while let Some(part) = poll_fn(|cx| body.poll_place(&mut place, cx)).await {
        if let Part::Frame(frame) = part? {
            place.extend_from_slice(frame.data_ref().unwrap());
        }
    }
    Ok(place.into())
}

/// A length for which there is a place.
const SMALL: u64 = 100_000;

/// Reads a request whole and notes it.
#[expect(clippy::disallowed_methods, reason = "the body is a part of the input")]
async fn note(request: RequestOf<Incoming>, in_place: bool, served: Rc<RefCell<Vec<Served>>>) -> ResponseOf<Empty<Bytes>> {
    let RequestOf { head, mut body } = request;
    let mut response = Response::new(Empty::new());
    let read = match body.size_hint().exact() {
        Some(..=SMALL) if in_place => placed(&mut body).await,
        _ => (&mut body).collect().await.map(|body| body.to_bytes().to_vec()),
    };
    match read {
        Ok(body) => served.borrow_mut().push((head, body)),
        Err(_) => _ = response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close")),
    }
    response.into()
}

/// The requests that are understood in these bytes, whole ones only. `in_place`: their bodies are read into places for them.
fn served(bytes: &[u8], piece: usize, in_place: bool) -> Vec<Served> {
    let served = Rc::new(RefCell::new(Vec::new()));
    let mut connection = Connection::new(Said::new(bytes.to_vec(), piece), 32 * 1024);
    let serving = async {
        while let Ok(Next::Request(request)) = connection.next(|| false).await {
            let answered = connection.answer(Box::pin(note(request, in_place, Rc::clone(&served)))).await;
            if !matches!(answered, Ok(Then::Request)) {
                break;
            }
        }
    };
    // The clock stands still until nobody has anything to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), serving).await });
    assert!(ended.is_ok(), "the connection hangs");
    served.take()
}

fn shown(served: &[Served]) -> Vec<String> {
    let show =
        |(request, body): &Served| format!("{} {} {:?} {:?} {body:?}", request.method, request.uri, request.version, request.headers);
    served.iter().map(show).collect()
}

/// What is sent on for a request is read as that request, and nothing follows it.
fn is_one_request((request, body): Served) {
    let mut text = Vec::new();
    write::request(&request, &mut text);
    text.extend_from_slice(b"\r\n");
    let (again, said, _) = parse::request(&mut BytesMut::from(&text[..])).unwrap().unwrap();
    let head = again.origin.as_ref().map(Origin::head);
    assert_eq!((head, said.length, said.chunked), (Some(&text[..]), None, false), "{:?}", text.escape_ascii().to_string());
    let target = |uri: &Uri| uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    assert_eq!((&again.method, target(&again.uri)), (&request.method, target(&request.uri)));
    for (name, value) in &again.headers {
        assert!(request.headers.get_all(name).iter().any(|had| had == value), "{name}");
    }
    if body.len() > 4000 {
        return;
    }
    let mut sending = Sending::new(Full::new(Bytes::from(body.clone())), Encoder::Chunks { trailers: true });
    let mut out = Out::default();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while let Poll::Ready(Ok(Some(framed))) = sending.poll_next(false, &mut cx) {
        assert!(out.has_room());
        framed.put(&mut out);
    }
    let (mut decoder, mut buffer, mut back) = (Decoder::Size, BytesMut::from(&out.text[..]), Vec::new());
    while let Decoded::Data(data) = decoder.decode(&mut buffer).unwrap() {
        back.extend_from_slice(&data);
    }
    assert!(decoder.is_over() && buffer.is_empty() && back == body);
}

#[test]
fn fuzz_requests_are_the_same_however_they_come_and_each_goes_on_as_one() {
    fuzz::run(SEEDS, WORDS, |bytes| {
        let whole = served(bytes, usize::MAX, false);
        for (piece, in_place) in [(1, false), (7, true), (usize::MAX, true)] {
            assert_eq!(shown(&served(bytes, piece, in_place)), shown(&whole), "in pieces of {piece}, in place: {in_place}");
        }
        let accepted = !whole.is_empty();
        whole.into_iter().filter(|(request, _)| request.method != Method::CONNECT).for_each(is_one_request);
        accepted
    });
}
