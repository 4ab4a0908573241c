//! The demo without forebay: the real load, the real servers, and between them a router that does, or does not do, what a proxy must. What an
//! honest one does balances; every way of cheating that a client cannot see is found by the books.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};

use super::{
    books::{self, Books, Fault},
    journal::Journal,
    load::{Load, Rush, Settings},
    servers::{Servers, Temper},
    stage::{Route, Stage, Status, Totals},
    wire::{self, Client},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the router does with a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conduct {
    /// Passes it on.
    Honest,
    /// Says that it has it, and has not.
    Liar,
    /// Passes it on twice, each time under another key.
    Stutterer,
    /// Passes nothing on and says so.
    Refuser,
}

async fn route(conduct: Conduct, admin: SocketAddr, app: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = wire::whole(body, 1 << 24).await.unwrap();
    let write = head.method == http::Method::POST;
    let server = if head.uri.path().starts_with("/admin/") { admin } else { app };
    let mut copy = Request::from_parts(head.clone(), Full::new(body.clone()));
    match conduct {
        Conduct::Liar if write => {
            let mut response = wire::json(StatusCode::ACCEPTED, &serde_json::Value::Null);
            response.headers_mut().insert("forebay-id", HeaderValue::from_static("never"));
            return response;
        }
        Conduct::Refuser => return wire::json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::Value::Null),
        Conduct::Stutterer if write => {
            copy.headers_mut().insert("idempotency-key", HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).unwrap());
            Client::new(server, PATIENCE).send(Request::from_parts(head, Full::new(body))).await.unwrap();
        }
        _ => {}
    }
    let reply = Client::new(server, PATIENCE).send(copy).await.unwrap();
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    response
}

async fn router(conduct: Conduct, servers: &Servers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (admin, app) = (servers.admin.address(), servers.app.address());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(route(conduct, admin, app, request).await) });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Runs a load through the router until `enough` writes have been answered, and closes the books.
async fn run(conduct: Conduct, rush: Option<Rush>) -> (Books, Arc<Journal>) {
    let (events, _told) = mpsc::channel(64);
    let servers = Servers::start(Temper { step: Duration::ZERO, uploads_at_once: 100, away: None }, &events).unwrap();
    let settings = Settings {
        drivers: 4,
        mark_interval: Duration::from_millis(4),
        partners: 2,
        upload_interval: Duration::from_millis(20),
        orders: 5,
        read_interval: Duration::from_millis(20),
        patience: PATIENCE,
        pause: Duration::from_millis(1),
        ..Settings::gentle(router(conduct, &servers).await, servers.admin.address())
    };
    let journal = Arc::<Journal>::default();
    let mut load = Load::start(settings, Arc::clone(&journal)).unwrap();
    if let Some(rush) = rush {
        load.rush(rush);
    }
    let answered = |journal: &Journal| {
        let entries = journal.entries();
        let rushed = rush.map_or(0, |rush| rush.uploads as usize);
        let tally = entries.tally;
        tally.acknowledged() + tally.refused > 60 && tally.reads + tally.reads_refused > 2 && entries.uploads.len() > 4 + rushed
    };
    while !answered(&journal) {
        tokio::task::yield_now().await;
    }
    load.stop();
    load.finished().await;

    let sent = journal.entries();
    let accepted = Totals { accepted: sent.tally.queued, delivered: sent.tally.queued, ..Totals::default() };
    let status = Status { backends: vec![], routes: vec![Route { name: "all".into(), backend: "all".into(), totals: accepted }] };
    let [admin, app] = [servers.admin.ledger().pages(), servers.app.ledger().pages()];
    (books::close(&sent, &admin, &app, Ok(&status)), journal)
}

#[tokio::test]
async fn the_books_of_an_honest_proxy_balance() {
    let (books, journal) = run(Conduct::Honest, Some(Rush { uploads: 3, around: true })).await;
    assert_eq!(books.faults, []);
    assert_eq!((books.foreign, books.orders.missing, books.marks.doubled), (0, 0, 0));
    assert_eq!(books.marks.once, books.marks.sent);
    assert!(books.orders.once >= 20 && journal.tally().reads > 0 && journal.reasons().is_empty());
    assert_eq!(journal.entries().uploads.iter().filter(|upload| upload.around).count(), 3);
}

#[tokio::test]
async fn a_proxy_that_says_202_and_forgets_is_found_out() {
    let (books, _) = run(Conduct::Liar, None).await;
    assert!(matches!(books.faults[0], Fault::Missing(..)), "{:?}", books.faults[0]);
    assert_eq!((books.marks.missing, books.marks.queued), (books.marks.sent, books.marks.sent));
}

#[tokio::test]
async fn a_proxy_that_sends_a_write_under_two_keys_is_found_out() {
    let (books, _) = run(Conduct::Stutterer, None).await;
    assert!(matches!(books.faults[0], Fault::Doubled(_, 2)), "{:?}", books.faults[0]);
    assert_eq!((books.marks.doubled, books.orders.doubled), (books.marks.sent, books.orders.sent));
}

#[tokio::test]
async fn a_proxy_that_refuses_everything_has_broken_no_promise_and_still_fails() {
    let (books, journal) = run(Conduct::Refuser, None).await;
    assert_eq!(books.faults, [Fault::Idle("order"), Fault::Idle("mark")]);
    assert_eq!(books.marks.sent, 4, "a driver keeps to his first mark until somebody takes it");
    assert_eq!(journal.reasons()[0].0, "answered 503 Service Unavailable");
}

#[tokio::test]
async fn the_stage_asks_the_admin_api_over_http() {
    let (events, _told) = mpsc::channel(64);
    let servers = Servers::start(Temper { step: Duration::ZERO, uploads_at_once: 1, away: None }, &events).unwrap();
    // Something that is no admin API: an answer of 404 is told as such.
    let strange = Stage::attached(servers.app.address(), servers.app.address());
    assert_eq!(strange.status().await.unwrap_err().to_string(), "the admin API answered 404 Not Found, not a status");
    servers.app.crash("of a test", None);
    while strange.status().await.is_err_and(|error| !error.to_string().contains("cannot connect")) {}
}
