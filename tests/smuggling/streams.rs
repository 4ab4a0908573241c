//! The same over HTTP/2, where a request is made of fields and not of lines: what HTTP/1.1 could read as something else must not become a request of it.

use std::future::poll_fn;

use bytes::Bytes;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Doors,
    common::{
        client,
        frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, block, frame, heard},
        h2::Http2,
        within,
    },
};

/// What these frames are answered with: the status of an answer, or none for a reset of the stream or the connection.
async fn told(address: std::net::SocketAddr, frames: Vec<u8>) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begin = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frames].concat();
    stream.write_all(&begin).await.unwrap();
    let answer = async {
        loop {
            let (head, payload) = heard(&mut stream).await.ok()?;
            match head[3] {
                RST_STREAM | GOAWAY => return None,
                // The status is the first field. A name of the static table (RFC 7541 appendix A): 8 is 200, 12 is 400; others come as literals in Huffman's code.
                HEADERS => {
                    return Some(match payload[0] & 0x7f {
                        8 => 200,
                        12 => 400,
                        other => u16::from(other),
                    });
                }
                _ => {}
            }
        }
    };
    within("an answer or an end", answer).await
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/smuggled")];

impl Doors {
    /// None of these heads gets an answer of a backend.
    async fn refuse_streams(&self, heads: &[Vec<(&str, &str)>]) {
        for program in &self.programs {
            for head in heads {
                let answer = told(program.proxy(), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(head))).await;
                assert!(answer != Some(200), "{head:?}: {answer:?}");
            }
            assert_eq!(client::fetch(program.proxy(), client::get("/honest")).await.status, 200);
        }
        self.heard_nothing_but_honesty();
    }
}

fn with<'a>(place: usize, field: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<(&str, &str)> = GET.to_vec();
    fields[place] = field;
    fields
}

fn and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    GET.iter().chain(more).copied().collect()
}

#[tokio::test]
async fn the_head_that_is_right_is_answered() {
    let doors = Doors::open().await;
    let head = with(3, (":path", "/honest"));
    for program in &doors.programs {
        assert_eq!(told(program.proxy(), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&head))).await, Some(200));
    }
}

#[tokio::test]
async fn a_pseudo_field_cannot_hold_a_request_line() {
    let doors = Doors::open().await;
    doors
        .refuse_streams(&[
            with(0, (":method", "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\nGET")),
            with(0, (":method", "GET ")),
            with(0, (":method", "")),
            with(3, (":path", "/a HTTP/1.1\r\nHost: test\r\n\r\nGET /smuggled")),
            with(3, (":path", "/a b")),
            with(3, (":path", "")),
            with(3, (":path", "smuggled")),
            with(3, (":path", "?smuggled")),
            with(3, (":path", "/\0")),
            with(2, (":authority", "test\r\nX-Forged: 1")),
            with(2, (":authority", "user@test")),
            with(2, (":authority", "te st")),
            with(2, (":authority", "")),
            with(1, (":scheme", "http://test/smuggled HTTP/1.1\r\n\r\n")),
        ])
        .await;
}

#[tokio::test]
async fn pseudo_fields_stand_once_and_first_and_no_other_ones() {
    let doors = Doors::open().await;
    let late: Vec<_> = [("accept", "*/*")].iter().chain(&GET).copied().collect();
    doors
        .refuse_streams(&[
            late,
            and(&[(":path", "/other")]),
            and(&[(":method", "POST")]),
            and(&[(":authority", "other")]),
            and(&[(":status", "200")]),
            and(&[(":protocol", "websocket")]),
            and(&[("host", "other")]),
            GET[1..].to_vec(),
            GET[..3].to_vec(),
        ])
        .await;
}

#[tokio::test]
async fn a_field_holds_no_line_end_and_belongs_to_no_single_connection() {
    let doors = Doors::open().await;
    doors
        .refuse_streams(&[
            and(&[("x-a", "1\r\nTransfer-Encoding: chunked")]),
            and(&[("x-a", "1\nx-b: 2")]),
            and(&[("x-a", "1\0")]),
            and(&[("x-a: 1\r\nx-b", "2")]),
            and(&[("x-a:", "2")]),
            and(&[("X-A", "2")]),
            and(&[("", "2")]),
            and(&[("transfer-encoding", "chunked")]),
            and(&[("connection", "keep-alive")]),
            and(&[("keep-alive", "1")]),
            and(&[("upgrade", "h2c")]),
            and(&[("proxy-connection", "close")]),
            and(&[("te", "trailers, chunked")]),
        ])
        .await;
}

#[tokio::test]
async fn a_length_is_one_number_and_that_of_the_body() {
    let doors = Doors::open().await;
    let post = |lengths: &[(&'static str, &'static str)], body: &[u8]| {
        let fields: Vec<_> = [(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", "/upload")]
            .iter()
            .chain(lengths)
            .copied()
            .collect();
        [frame(HEADERS, END_HEADERS, 1, &block(&fields)), frame(DATA, END_STREAM, 1, body)].concat()
    };
    for program in &doors.programs {
        for (lengths, body) in [
            (&[("content-length", "1")][..], &b"GET /smuggled"[..]),
            (&[("content-length", "100")], b"short"),
            (&[("content-length", "0")], b"more"),
            (&[("content-length", "5"), ("content-length", "6")], b"short"),
            (&[("content-length", "5, 5")], b"short"),
            (&[("content-length", "+5")], b"short"),
            (&[("content-length", "0x5")], b"short"),
            (&[("content-length", "18446744073709551621")], b"short"),
        ] {
            let answer = told(program.proxy(), post(lengths, body)).await;
            assert!(answer != Some(200), "{lengths:?}: {answer:?}");
        }
        assert_eq!(client::fetch(program.proxy(), client::get("/honest")).await.status, 200);
    }
    doors.heard_nothing_but_honesty();
}

#[tokio::test]
async fn a_body_that_is_cancelled_is_never_taken_for_whole() {
    let doors = Doors::open().await;
    for program in &doors.programs {
        let client = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
        let mut sender = within("room for a stream", client.sender.clone().ready()).await.unwrap();
        let request = http::Request::post("http://test/upload").body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        stream.send_reset(h2::Reason::CANCEL);
        assert!(within("an end", response).await.is_err());
        assert!(within("the reset", poll_fn(|cx| stream.poll_reset(cx))).await.is_ok());
        assert_eq!(client::fetch(program.proxy(), client::get("/honest")).await.status, 200);
    }
    doors.heard_nothing_but_honesty();
}
