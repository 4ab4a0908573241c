//! Long answers, nearly all of which the kernel carries from one socket to the other: they cross as they came, are counted, and cost no memory for a client that is slow.

mod common;

use common::{
    backend::{self, Act, Backend, Step, Trigger},
    client::{self, Client},
    noise,
    program::Program,
    read_head,
    site::Site,
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

const LONG: usize = 3_000_000;

/// The same body, framed in every way, and with an end to the connection where that frames it.
fn framed(body: &[u8]) -> Vec<(&'static str, Act)> {
    let answer = |head: &[u8], parts: &[&[u8]], end: Option<Step>| {
        let bytes = [head, &parts.concat()].concat();
        [Step::Read, Step::Write(bytes)].into_iter().chain(end).collect()
    };
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (first, second) = body.split_at(1_000_000);
    let chunks = [b"f4240\r\n", first, b"\r\n1e8480\r\n", second, b"\r\n0\r\n\r\n"];
    vec![
        ("by a length", answer(length.as_bytes(), &[body], None)),
        ("in chunks", answer(chunked, &chunks, None)),
        ("by the end", answer(b"HTTP/1.1 200 OK\r\n\r\n", &[body], Some(Step::Close))),
    ]
}

#[tokio::test]
async fn a_long_answer_crosses_byte_for_byte_however_it_is_framed() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let body = noise(LONG);
    let mut client = Client::connect(program.proxy()).await;
    for (framing, act) in framed(&body) {
        backend.next(act.clone());
        let response = client.exchange(client::get("/")).await;
        assert!((response.status, response.complete) == (200, true) && response.body == body, "{framing}: {}", response.body.len());
        let next = client.exchange(client::get("/next")).await;
        assert_eq!((next.text(), next.complete), ("ok", true), "{framing}");
        // An old client has no chunks, and hears its connection end.
        backend.next(act);
        let mut old = Client::connect(program.proxy()).await;
        old.send("GET / HTTP/1.0\r\n\r\n").await;
        let response = old.response().await;
        assert!(response.complete && response.body == body, "{framing}: {}", response.body.len());
    }
    // Where the backend did not close, its connection is used again and again.
    assert!(backend.connections() <= 3, "{}", backend.connections());
}

#[tokio::test]
async fn long_answers_to_pipelined_requests_keep_their_order() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let bodies: Vec<_> = (0..3).map(|number| noise(LONG + number)).collect();
    for body in &bodies {
        backend.next(backend::answer(200, &[], body));
    }
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::get("/").repeat(3)).await;
    for body in &bodies {
        assert!(client.response().await.body == *body);
    }
}

#[tokio::test]
async fn a_long_answer_crosses_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let body = noise(LONG);
    let answer = backend::response(200, &[], &body);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            read_head(&mut stream).await;
            stream.write_all(&answer).await.unwrap();
        }
    });
    let program = Program::start(&Site::passing(format!("unix:{}", path.display())).listener("unix:forebay.sock").to_string()).await;
    let mut client = UnixStream::connect(program.path("forebay.sock")).await.unwrap();
    for _ in 0..2 {
        client.write_all(&client::get("/")).await.unwrap();
        read_head(&mut client).await;
        let mut got = vec![0; LONG];
        within("a body", client.read_exact(&mut got)).await.unwrap();
        assert!(got == body);
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn a_long_answer_that_drips_arrives_as_it_drips() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let trigger = Trigger::default();
    let body = noise(LONG);
    let mut act = vec![Step::Read, Step::Write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").into())];
    act.extend(body.chunks(LONG / 10).flat_map(|part| [Step::Wait(trigger.clone()), Step::Write(part.to_vec())]));
    backend.next(act);
    let mut client = Client::connect(program.proxy()).await;
    client.send(client::get("/")).await;
    assert_eq!(client.head().await.status, 200);
    for part in body.chunks(LONG / 10) {
        trigger.pull(1);
        assert!(client.bytes(part.len()).await == part);
    }
}

#[tokio::test]
async fn the_access_log_counts_every_byte_of_a_long_answer() {
    let backend = Backend::start().await;
    let log = "workers = 1\nlog = { access = \"stdout\" }";
    let program = Program::start(&Site::passing(backend.url()).top(log).to_string()).await;
    let acts = framed(&noise(LONG));
    for (number, (framing, act)) in acts.into_iter().enumerate() {
        backend.next(act);
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.body.len(), LONG);
        assert_eq!(program.printed(number, "a line of the access log").await["bytes_sent"], LONG, "{framing}");
    }
}

#[tokio::test]
async fn who_takes_a_long_answer_slowly_costs_no_memory() {
    const CLIENTS: usize = 40;
    const TAKEN: usize = 1_000_000;
    let backend = Backend::start().await;
    backend.otherwise(|_| backend::answer(200, &[], "x".repeat(16 << 20)));
    let program = Program::start(&Site::passing(backend.url()).backend("concurrency = 64").top("workers = 1").to_string()).await;
    let begin = async || {
        let mut client = Client::connect(program.proxy()).await;
        client.send(client::get("/")).await;
        assert_eq!(client.head().await.status, 200);
        client.bytes(TAKEN).await;
        client
    };
    // The first one pays for what is touched for the first time.
    let mut clients = vec![begin().await];
    program.forget_peak();
    let before = program.peak_kib();
    while clients.len() < CLIENTS {
        clients.push(begin().await);
    }
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown < CLIENTS as u64 * 32, "{CLIENTS} answers took {grown} KiB");
}
