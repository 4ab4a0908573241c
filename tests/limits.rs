//! Time and connections are bounded, towards clients and towards backends.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::net::SocketAddr;

use common::{
    backend::{self, Backend, Step, Trigger},
    client::{self, Client},
    program::Program,
    site::Site,
    within,
};
use socket2::{Domain, Socket, Type};

async fn start(site: Site) -> Program {
    Program::start(&site.to_string()).await
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients("header_timeout = \"100ms\"\nidle_timeout = \"1h\"")).await;
    Client::connect(program.proxy()).await.ended().await;
    client::given_up(program.proxy(), "GET / HTTP/1.1\r\nHost: te").await;
    let (mut second, answer) = client::answered(program.proxy(), client::get("/")).await;
    assert_eq!(answer.status, 200);
    second.send("GET /half").await;
    second.ended().await;
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn an_idle_connection_ends_and_one_that_waits_for_its_answer_does_not() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients("idle_timeout = \"500ms\"\nheader_timeout = \"500ms\"")).await;
    let trigger = Trigger::default();
    let hint = Step::Write(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec());
    backend.next(vec![Step::Read, hint, Step::Wait(trigger.clone()), Step::Write(backend::response(200, &[], "late"))]);
    let mut waiting = client::heard(program.proxy(), client::get("/slow")).await;
    // More than the timeout has passed for who waits when two have been idle for as long, one after the other.
    for _ in 0..2 {
        let (mut idle, answer) = client::answered(program.proxy(), client::get("/")).await;
        assert_eq!(answer.status, 200);
        idle.ended().await;
    }
    trigger.release();
    assert_eq!(waiting.response().await.text(), "late");
}

#[tokio::test]
async fn an_upload_that_stops_coming_is_given_up() {
    for site in [
        |url| Site::passing(url).backend("response_timeout = \"1h\"").clients("idle_timeout = \"500ms\""),
        |url| Site::spilling(url, "").clients("idle_timeout = \"500ms\""),
    ] {
        let backend = Backend::start().await;
        let program = start(site(backend.url())).await;
        let mut client = Client::connect(program.proxy()).await;
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf").await;
        let response = client.response().await;
        assert_eq!((response.status, response.field("connection")), (408, Some("close")));
        client.ended().await;
        assert!(backend.requests().iter().all(|request| !request.body.complete));
        assert_eq!(program.status().await["totals"]["accepted"], 0);
    }
}

#[tokio::test]
async fn a_client_that_pauses_within_its_upload_is_no_slow_backend() {
    let backend = Backend::start().await;
    // The good answer has to come in this time, too.
    let program = start(Site::passing(backend.url()).backend("response_timeout = \"2s\"")).await;
    let mut client = Client::connect(program.proxy()).await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf").await;
    // More than the backend's time has passed when another request is out of it.
    backend.otherwise(|request| {
        if request.target == "/" { backend::answer(200, &[], "ok") } else { vec![Step::Read, Step::Wait(Trigger::default())] }
    });
    assert_eq!(client::fetch(program.proxy(), client::get("/silent")).await.status, 504);
    client.send("half").await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn a_backend_that_does_not_take_an_upload_is_not_waited_for() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).backend("response_timeout = \"100ms\"").clients("max_body = \"1GiB\"")).await;
    backend.next(vec![Step::ReadHead, Step::Wait(Trigger::default())]);
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::request("POST", "/", &[], vec![0; 32 << 20])).await;
    let response = client.response().await;
    assert_eq!((response.status, response.field("proxy-status")), (504, Some("forebay; error=http_response_timeout")));
}

#[tokio::test]
async fn a_backend_that_does_not_answer_in_time_is_not_waited_for() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).backend("response_timeout = \"100ms\"")).await;
    let trigger = Trigger::default();
    let begun = Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na".to_vec());
    let rest = [Step::Wait(trigger.clone()), Step::Write(b"b".to_vec())];
    backend.otherwise(move |request| match request.target.as_str() {
        "/slow" => [&[Step::Read, begun.clone()], &rest[..]].concat(),
        _ => vec![Step::Read, Step::Wait(Trigger::default())],
    });
    let response = client::fetch(program.proxy(), client::get("/silent")).await;
    assert_eq!((response.status, response.field("proxy-status")), (504, Some("forebay; error=http_response_timeout")));
    // The timeout is for the head of the answer, which is tried again where it was late; a body may take its time.
    let begins = async {
        loop {
            let mut client = Client::connect(program.proxy()).await;
            client.send(client::get("/slow")).await;
            if client.head().await.status == 200 {
                return client;
            }
        }
    };
    let mut slow = within("the head of an answer", begins).await;
    assert_eq!(client::fetch(program.proxy(), client::get("/silent")).await.status, 504, "a whole timeout later");
    trigger.release();
    assert_eq!(slow.bytes(2).await, b"ab");
}

/// A server that the network does not reach: its queue of connections is full, so that nobody answers those who knock.
fn unreachable() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let knock = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _in_progress = socket.connect(&address);
        socket
    };
    let mut sockets: Vec<_> = (0..4).map(knock).collect();
    sockets.push(listener);
    (address.as_socket().unwrap(), sockets)
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_in_time_is_not_waited_for() {
    let (address, _sockets) = unreachable();
    let site = Site::of(&[format!("http://{address}")])
        .backend("connect_timeout = \"100ms\"")
        .route("marks", "/marks", "[routes.spill]")
        .route("pages", "/", "");
    let program = start(site).await;
    let read = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((read.status, read.field("proxy-status")), (503, Some("forebay; error=connection_timeout")));
    assert!(read.field("retry-after").is_some());
    let write = client::fetch(program.proxy(), client::request("POST", "/marks", &[], "x")).await;
    assert_eq!((write.status, write.field("proxy-status")), (202, Some("forebay; error=connection_timeout; details=\"rescued\"")));
}

#[tokio::test]
async fn past_the_limit_of_connections_a_client_is_told_so_and_finds_room_later() {
    let backend = Backend::start().await;
    let program = start(Site::passing(backend.url()).clients("max_connections = 2")).await;
    let mut first = Client::connect(program.proxy()).await;
    let mut second = Client::connect(program.proxy()).await;
    assert_eq!(first.exchange(client::get("/")).await.status, 200);
    assert_eq!(second.exchange(client::get("/")).await.status, 200);
    let mut third = Client::connect(program.proxy()).await;
    third.send(client::get("/")).await;
    let refused = third.response().await;
    assert_eq!((refused.status, refused.field("connection"), refused.field("retry-after")), (503, Some("close"), Some("1")));
    third.ended().await;
    assert_eq!(first.exchange(client::get("/")).await.status, 200, "who is in stays in");
    drop(second);
    let admitted = async {
        loop {
            let mut client = Client::connect(program.proxy()).await;
            // Until the end of the other one is noticed, this one is told off and closed.
            if client.try_send(client::get("/")).await.is_ok() && client.try_response().await.is_ok_and(|response| response.status == 200) {
                return;
            }
        }
    };
    within("room for another client", admitted).await;
}
