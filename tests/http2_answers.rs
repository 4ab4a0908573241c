//! Answers over HTTP/2 that end before their request does, and requests that are for no path.

mod common;

use common::{
    backend::Backend,
    client::{self, Client},
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, block, frame, heard, serving},
    h2_server::Server,
    program::Program,
    site::Site,
    within,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// A request the rest of which never comes.
const BEGUN: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nbegun";

async fn before(url: String) -> Program {
    Program::start(&Site::passing(url).backend("protocol = \"h2c\"").to_string()).await
}

/// A server that answers the head of each request at once, with a body of these frames, and then has enough of the request (RFC 9113 section 8.1). `whole`: the
/// last of them says that it is.
async fn impatient(whole: bool, body: &'static [&'static str], fields: &'static [(&'static str, &'static str)]) -> String {
    const NO_ERROR: [u8; 4] = [0; 4];
    let answer = move |_, stream| {
        let status = [&[(":status", "200")], fields].concat();
        let ends = |last: bool| if last && whole { END_STREAM } else { 0 };
        let begun = frame(HEADERS, END_HEADERS | ends(body.is_empty()), stream, &block(&status));
        let frames = body.iter().enumerate();
        let data = frames.flat_map(|(at, text)| frame(DATA, ends(at + 1 == body.len()), stream, text.as_bytes()));
        [begun, data.collect(), frame(RST_STREAM, 0, stream, &NO_ERROR)].concat()
    };
    serving(answer).await.0
}

#[tokio::test]
async fn an_answer_that_has_enough_of_its_request_is_whole() {
    for (body, fields, text) in [
        (&["all", " of it"][..], &[][..], "all of it"),
        (&["all", " of it"], &[("content-length", "9")], "all of it"),
        (&[], &[("content-length", "0")], ""),
        (&[], &[], ""),
    ] {
        let program = before(impatient(true, body, fields).await).await;
        let mut client = Client::connect(program.proxy()).await;
        client.send(BEGUN).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text(), response.complete), (200, text, true), "{body:?} {fields:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_in_its_middle_breaks_off_whatever_was_sent_of_its_request() {
    for (body, fields) in [(&["half"][..], &[][..]), (&["half"], &[("content-length", "8")]), (&[], &[])] {
        let program = before(impatient(false, body, fields).await).await;
        let mut client = Client::connect(program.proxy()).await;
        client.send(BEGUN).await;
        let whole = client.try_response().await.is_ok_and(|response| response.status == 200 && response.complete);
        assert!(!whole, "{body:?} {fields:?}");
    }
}

/// RFC 9113 section 8.3.1.
#[tokio::test]
async fn options_for_the_whole_server_have_an_asterisk_for_their_path() {
    let server = Server::start(100).await;
    let program = before(server.url()).await;
    for (target, path) in [("*", "*"), ("http://test", "*"), ("http://test/", "/")] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client::fetch(program.proxy(), request).await.status, 200);
        assert_eq!(server.seen().last().unwrap().head.uri.path(), path, "{target}");
    }

    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let mut stream = TcpStream::connect(program.proxy()).await.unwrap();
    let head = block(&[(":method", "OPTIONS"), (":scheme", "http"), (":authority", "test"), (":path", "*")]);
    let begun = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)].concat();
    stream.write_all(&begun).await.unwrap();
    within("an answer", async { while heard(&mut stream).await.unwrap().0[3] != HEADERS {} }).await;
    let request = &backend.received(1).await[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("OPTIONS", "*"));
}
