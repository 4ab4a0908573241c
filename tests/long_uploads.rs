//! Long uploads, which the kernel carries from one socket to the other where they stream, and which are read into their place where they may have to be kept: they
//! cross as they came, and end where they end.

mod common;

use common::{
    backend::Backend,
    client::{self, Client},
    noise,
    program::Program,
    read_head,
    site::Site,
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
};

const LONG: usize = 3_000_000;

/// One that streams, and one that reads whole what it may have to keep.
const ROUTES: [&str; 2] = ["/stream", "/spill"];

async fn start(server: String) -> Program {
    let site = Site::of(&[server]).route("stream", ROUTES[0], "").route("spill", ROUTES[1], "[routes.spill]");
    Program::start(&site.listener("unix:forebay.sock").to_string()).await
}

fn head(target: &str, length: usize) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn an_upload_of_any_length_crosses_byte_for_byte_and_what_follows_it_is_the_next_request() {
    let backend = Backend::start().await;
    let program = start(backend.url()).await;
    for target in ROUTES {
        let mut client = Client::connect(program.proxy()).await;
        for length in [60_000, 65_535, 65_536, 65_537, 200_000, 1 << 20, (1 << 20) + 1, LONG] {
            let (before, body) = (backend.requests().len(), noise(length));
            client.send([&head(target, length), &body[..], &client::get("/stream/next")].concat()).await;
            assert_eq!((client.response().await.status, client.response().await.text()), (200, "ok"), "{length} bytes to {target}");
            let requests = backend.received(before + 2).await;
            assert!(requests[before].body.complete && requests[before].body.content == body, "{length} bytes to {target}");
            assert_eq!(requests[before + 1].target, "/stream/next", "{length} bytes to {target}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_never_whole_at_the_backend() {
    let backend = Backend::start().await;
    let program = start(backend.url()).await;
    for target in ROUTES {
        for come in [0, 8_000, 100_000, 999_999] {
            let mut client = Client::connect(program.proxy()).await;
            client.send([&head(target, 1_000_000), &noise(come)[..]].concat()).await;
            client.half_close().await;
            let answer = client.try_response().await.map_or(0, |response| response.status);
            assert!(answer == 0 || answer == 400, "{answer} after {come} bytes to {target}");
            client.closed().await;
        }
    }
    assert_eq!(client::fetch(program.proxy(), client::get("/stream")).await.status, 200);
    assert!(backend.requests().iter().all(|request| request.method == "GET" || !request.body.complete));
    assert_eq!(program.status().await["totals"]["accepted"], 0);
}

#[tokio::test]
async fn an_upload_that_streams_arrives_as_it_drips() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let program = start(format!("http://{}", listener.local_addr().unwrap())).await;
    let body = noise(LONG);
    let mut client = Client::connect(program.proxy()).await;
    client.send(head("/stream", LONG)).await;
    let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
    read_head(&mut server).await;
    for part in body.chunks(LONG / 10) {
        let mut came = vec![0; part.len()];
        let (_, read) = tokio::join!(client.send(part), within("a part", server.read_exact(&mut came)));
        read.unwrap();
        assert!(came == part);
    }
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_long_upload_crosses_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let body = noise(LONG);
    let expected = body.clone();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in ROUTES {
            read_head(&mut stream).await;
            let mut came = vec![0; LONG];
            stream.read_exact(&mut came).await.unwrap();
            assert!(came == expected);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    });
    let program = start(format!("unix:{}", path.display())).await;
    let mut client = UnixStream::connect(program.path("forebay.sock")).await.unwrap();
    for target in ROUTES {
        client.write_all(&[&head(target, LONG), &body[..]].concat()).await.unwrap();
        let answer = read_head(&mut client).await;
        assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer));
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn a_backend_that_has_had_enough_of_an_upload_says_so_and_the_next_one_crosses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let program = start(format!("http://{}", listener.local_addr().unwrap())).await;
    let serving = tokio::spawn(async move {
        // It reads a part, answers and closes.
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut vec![0; 300_000]).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let mut body = vec![0; LONG];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        body
    });
    let mut client = Client::connect(program.proxy()).await;
    client.send([&head("/stream", LONG), &vec![b'a'; 400_000][..]].concat()).await;
    assert_eq!(client.response().await.status, 413);
    drop(client);
    let next = client::fetch(program.proxy(), [&head("/stream", LONG), &noise(LONG)[..]].concat()).await;
    assert_eq!(next.status, 200);
    assert!(within("the next one at the backend", serving).await.unwrap() == noise(LONG));
}

/// The end of a body and the next request come together, after the body was asked for and thus after its head was heard.
#[tokio::test]
async fn a_request_that_comes_with_the_end_of_an_upload_is_answered() {
    let backend = Backend::start().await;
    let program = start(backend.url()).await;
    for target in ROUTES {
        let mut client = Client::connect(program.proxy()).await;
        for length in [5, 200_000, LONG] {
            let asking = format!("POST {target} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
            client.send(asking).await;
            let word = b"HTTP/1.1 100 Continue\r\n\r\n";
            assert!(client.bytes(word.len()).await == word);
            client.send([&noise(length)[..], &client::get("/stream/next")].concat()).await;
            assert_eq!((client.response().await.status, client.response().await.text()), (200, "ok"), "{length} bytes to {target}");
        }
    }
}
