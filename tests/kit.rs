//! The test kit itself: a tool that lies makes every test worthless.

mod common;

use std::time::Duration;

use common::{
    backend::{self, Backend, Step, Trigger},
    client::{self, Client},
    program::Program,
    read_head,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn a_request_is_recorded_exactly_as_it_was_sent() {
    let backend = Backend::start().await;
    let head = "POST /a?b=c HTTP/1.1\r\nHOST: x\r\nX-oDD:  v \r\nContent-Length: 3\r\n\r\n";
    let response = client::fetch(backend.address(), format!("{head}abc")).await;
    assert_eq!((response.status, response.text()), (200, "ok"));
    let [request] = &backend.received(1).await[..] else { panic!("one request") };
    assert_eq!(request.head, head.as_bytes());
    assert_eq!((request.method.as_str(), request.target.as_str(), &request.body.content[..]), ("POST", "/a?b=c", &b"abc"[..]));
    assert!(request.has_letters("X-oDD") && !request.has_letters("X-Odd") && request.body.complete);
}

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways_and_the_connection_stays_open() {
    let backend = Backend::start().await;
    backend.next(backend::bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-End: 1\r\n\r\n"));
    let mut client = Client::connect(backend.address()).await;
    let sent = "2\r\nde\r\n1\r\nf\r\n0\r\nX-Sum: 9\r\n\r\n";
    let response = client.exchange(format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{sent}")).await;
    assert_eq!((response.text(), &response.trailers[..]), ("abc", &[("X-End".to_owned(), b"1".to_vec())][..]));
    assert_eq!(client.exchange(client::get("/again")).await.text(), "ok");
    let requests = backend.received(2).await;
    assert_eq!((&requests[0].body.wire[..], &requests[0].body.content[..]), (sent.as_bytes(), &b"def"[..]));
    assert_eq!(requests[0].body.trailers, [("X-Sum".to_owned(), b"9".to_vec())]);
    assert_eq!((requests[1].connection, backend.connections()), (0, 1));
}

#[tokio::test]
async fn an_answer_waits_for_its_trigger_and_the_backend_counts_what_it_has_at_once() {
    let backend = Backend::start().await;
    let trigger = Trigger::default();
    let act = trigger.clone();
    backend.otherwise(move |request| backend::answer_when(&act, 200, &[], &request.target));
    let (mut one, mut two) = (Client::connect(backend.address()).await, Client::connect(backend.address()).await);
    one.send(client::get("/one")).await;
    two.send(client::get("/two")).await;
    backend.received(2).await;
    assert_eq!(backend.busiest(), 2);
    trigger.release();
    assert_eq!((one.response().await.text(), two.response().await.text()), ("/one", "/two"));
}

#[tokio::test]
async fn who_is_cut_off_before_an_answer_has_begun_asks_again_and_who_is_reset_has_not_been_given_up_in_peace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asking = tokio::spawn(client::answered(address, client::get("/")));
    drop(listener.accept().await.unwrap());
    let (mut ended, _) = listener.accept().await.unwrap();
    read_head(&mut ended).await;
    drop(ended);
    let (mut answered, _) = listener.accept().await.unwrap();
    read_head(&mut answered).await;
    answered.write_all(&backend::response(200, &[], "third")).await.unwrap();
    assert_eq!(asking.await.unwrap().1.text(), "third");

    let asking = tokio::spawn(client::given_up(address, "GET"));
    let (mut reset, _) = listener.accept().await.unwrap();
    reset.read_exact(&mut [0; 3]).await.unwrap();
    socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
    drop(reset);
    let (mut ended, _) = listener.accept().await.unwrap();
    ended.read_exact(&mut [0; 3]).await.unwrap();
    assert!(!asking.is_finished());
    drop(ended);
    asking.await.unwrap();
}

#[tokio::test]
async fn every_way_to_break_a_response_is_seen_as_what_it_is() {
    let backend = Backend::start().await;
    let get = client::get("/");
    backend.next(backend::reset_unread()).next(backend::reset_after_reading());
    for _ in 0..2 {
        let mut client = Client::connect(backend.address()).await;
        client.send(&get).await;
        assert_eq!(client.try_response().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(backend.requests().len(), 1, "the first was reset unread");

    backend.next(backend::truncated(10, "half"));
    let response = client::fetch(backend.address(), &get).await;
    assert_eq!((response.text(), response.complete), ("half", false));

    backend.next(backend::bytes("garbage\r\n\r\n"));
    let mut client = Client::connect(backend.address()).await;
    client.send(&get).await;
    assert_eq!(client.try_response().await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);

    backend.next(backend::bytes("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let response = client::fetch(backend.address(), &get).await;
    assert_eq!((response.status, &response.interim[..]), (200, &[103][..]));
}

#[tokio::test]
async fn a_drip_gives_one_byte_for_each_pull() {
    let backend = Backend::start().await;
    let trigger = Trigger::default();
    let whole = backend::response(200, &["X-A: b"], "body");
    backend.next(backend::drip(&trigger, &whole));
    let mut client = Client::connect(backend.address()).await;
    client.send(client::get("/")).await;
    trigger.pull(whole.len());
    assert_eq!(client.response().await.text(), "body");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_recorded_as_incomplete() {
    let backend = Backend::start().await;
    let mut client = Client::connect(backend.address()).await;
    client.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf").await;
    client.half_close().await;
    client.closed().await;
    let request = &backend.received(1).await[0];
    assert_eq!((&request.body.content[..], request.body.complete), (&b"half"[..], false));
}

#[tokio::test]
async fn an_act_can_answer_before_the_body_has_come() {
    let backend = Backend::start().await;
    backend.next(vec![Step::ReadHead, Step::Write(backend::response(413, &[], "")), Step::Close]);
    let mut client = Client::connect(backend.address()).await;
    client.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n").await;
    assert_eq!(client.response().await.status, 413);
    client.closed().await;
}

#[tokio::test]
async fn a_stopped_backend_breaks_its_connections_and_refuses_and_is_back_on_the_same_port() {
    let mut backend = Backend::start().await;
    let mut client = Client::connect(backend.address()).await;
    assert_eq!(client.exchange(client::get("/")).await.status, 200);
    backend.stop().await;
    client.closed().await;
    for _ in 0..3 {
        let error = TcpStream::connect(backend.address()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    backend.start_again().await;
    assert_eq!(client::fetch(backend.address(), client::get("/")).await.status, 200);
    assert_eq!(backend.received(2).await.len(), 2);
}

#[tokio::test]
async fn a_client_that_aborts_is_seen_as_a_reset_and_one_that_half_closes_still_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut byte = [0];

    Client::connect(address).await.abort();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut byte).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let mut client = Client::connect(address).await;
    client.half_close().await;
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut byte).await.unwrap(), 0);
    stream.write_all(b"late").await.unwrap();
    drop(stream);
    assert_eq!(client.rest().await, b"late");
}

#[tokio::test]
async fn the_program_runs_in_a_directory_of_its_own_and_its_end_is_seen() {
    let mut program = Program::prepare("# empty\n", &["--version"]);
    assert_eq!(std::fs::read(program.path("config.toml")).unwrap(), b"# empty\n");
    program.launch().await;
    assert!(program.ended().await.success(), "{}", program.stderr());
}

#[tokio::test]
async fn a_backend_knows_when_all_of_its_peers_are_gone() {
    let backend = Backend::start().await;
    backend.disconnected().await;
    let mut client = Client::connect(backend.address()).await;
    assert_eq!(client.exchange(client::get("/")).await.status, 200);
    let mut gone = std::pin::pin!(backend.disconnected());
    tokio::select! {
        biased;
        () = &mut gone => panic!("one is connected"),
        () = std::future::ready(()) => {}
    }
    client.abort();
    gone.await;
}
