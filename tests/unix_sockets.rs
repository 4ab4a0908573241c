//! Unix sockets, on the side of the clients and on that of the backend.

mod common;

use common::{backend::Backend, client, program::Program, read_head, site::Site, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn clients_are_served_on_a_unix_socket() {
    let backend = Backend::start().await;
    let mut program = Program::start(&Site::passing(backend.url()).listener("unix:forebay.sock").to_string()).await;
    let ask = async |path| {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let answer = ask(program.path("forebay.sock")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let request = &backend.received(1).await[0];
    assert_eq!((request.target.as_str(), request.field("x-forwarded-for")), ("/a", Some("127.0.0.1")), "its peer is on this machine");

    // The file that a killed process leaves behind keeps nobody from starting again.
    program.crash_and_restart().await;
    assert!(ask(program.path("forebay.sock")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_backend_is_reached_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").await.unwrap();
        String::from_utf8(head).unwrap()
    });
    let program = Program::start(&Site::passing(format!("unix:{}", path.display())).to_string()).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/a")).await.text(), "unix");
    assert!(server.await.unwrap().starts_with("GET /a HTTP/1.1\r\nHost: test\r\n"));
    std::fs::remove_file(path).unwrap();
    let gone = client::fetch(program.proxy(), client::get("/a")).await;
    assert_eq!((gone.status, gone.field("proxy-status")), (503, Some("forebay; error=connection_refused")));
}
