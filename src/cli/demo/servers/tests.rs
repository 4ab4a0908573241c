//! The stand-ins over real sockets: what they execute, what a crash does, and what it leaves.

use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::cli::demo::{
    load::{mark_request, upload_request},
    wire::{Client, WireError},
    workbook,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Work that no test lives to see the end of.
const ENDLESS: Duration = Duration::from_secs(3600);

fn start(step: Duration, uploads_at_once: usize) -> (Servers, mpsc::Receiver<Event>) {
    let (events, told) = mpsc::channel(64);
    (Servers::start(Temper { step, uploads_at_once, away: None }, &events).unwrap(), told)
}

fn sheet(prefix: &str, count: usize) -> Vec<u8> {
    workbook::workbook(&workbook::orders(prefix, count)).unwrap()
}

async fn upload(address: SocketAddr, key: &str, file: &[u8]) -> Result<StatusCode, WireError> {
    let request = upload_request("partner-1", key, file).unwrap();
    Client::new(address, PATIENCE).send(request).await.map(|reply| reply.status)
}

fn mark(sequence: u64) -> Mark {
    Mark { id: format!("M-1-{sequence}"), driver: "driver-1".into(), parcel: format!("1-{sequence}"), sequence }
}

async fn until_at_work(server: &Standin, uploads: usize) {
    while server.at_work() < uploads {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_order_of_an_uploaded_spreadsheet_is_executed_once() {
    let (servers, _told) = start(Duration::ZERO, 6);
    let file = sheet("P1-00001", 250);
    let mut client = Client::new(servers.admin.address(), PATIENCE);
    let reply = client.send(upload_request("partner-1", "k1", &file).unwrap()).await.unwrap();
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.body, r#"{"first":"P1-00001-0001","imported":250,"last":"P1-00001-0250"}"#.to_owned() + "\n");

    let again = client.send(upload_request("partner-1", "k1", &file).unwrap()).await.unwrap();
    assert_eq!((again.status, again.body), (reply.status, reply.body), "a repeat gets the first answer");
    let pages = servers.admin.ledger().pages();
    assert_eq!((pages.executions.len(), pages.repeats), (250, 1));
    assert!(pages.executions.values().all(|&times| times == 1));
}

#[tokio::test]
async fn the_same_spreadsheet_under_two_keys_is_executed_twice() {
    let (servers, _told) = start(Duration::ZERO, 6);
    let file = sheet("P1-00001", 3);
    for key in ["k1", "k2"] {
        assert_eq!(upload(servers.admin.address(), key, &file).await.unwrap(), StatusCode::CREATED);
    }
    assert_eq!(servers.admin.ledger().times("P1-00001-0002"), 2);
}

#[tokio::test]
async fn what_is_no_order_sheet_is_refused_and_executes_nothing() {
    let (servers, _told) = start(Duration::ZERO, 6);
    let address = servers.admin.address();
    assert_eq!(upload(address, "k1", b"no spreadsheet").await.unwrap(), StatusCode::BAD_REQUEST);

    // A form that ends in the middle of its file.
    let whole = upload_request("partner-1", "k2", &sheet("P1", 3)).unwrap();
    let (head, body) = whole.into_parts();
    let body = crate::cli::demo::wire::whole(body, 1 << 20).await.unwrap();
    let half = Request::from_parts(head, Full::new(body.slice(..body.len() / 2)));
    assert_eq!(Client::new(address, PATIENCE).send(half).await.unwrap().status, StatusCode::BAD_REQUEST);

    let formless = Request::post(UPLOAD_PATH).body(Full::new(Bytes::from_static(b"x"))).unwrap();
    assert_eq!(Client::new(address, PATIENCE).send(formless).await.unwrap().status, StatusCode::BAD_REQUEST);
    assert_eq!(servers.admin.ledger().extent().entries, 0);
    assert_eq!(servers.admin.at_work(), 0);
}

#[tokio::test]
async fn one_upload_too_many_crashes_admin_and_loses_those_in_work() {
    let (servers, mut told) = start(ENDLESS, 2);
    let address = servers.admin.address();
    let file = sheet("P1", 2);
    let (first, second) = (file.clone(), file.clone());
    let first = tokio::spawn(async move { upload(address, "k1", &first).await });
    let second = tokio::spawn(async move { upload(address, "k2", &second).await });
    until_at_work(&servers.admin, 2).await;
    assert!(upload(address, "k3", &file).await.is_err());
    assert!(first.await.unwrap().is_err() && second.await.unwrap().is_err());

    let why = "3 uploads at once were too many for it".to_owned();
    assert_eq!(told.recv().await, Some(Event::Crashed { which: Which::Admin, why, back_in: None }));
    assert!(!servers.admin.is_up() && servers.app.is_up());
    assert_eq!(servers.admin.ledger().extent().entries, 0);
}

#[tokio::test]
async fn a_crashed_server_refuses_and_comes_back_at_its_port_with_its_ledger() {
    let (servers, mut told) = start(Duration::ZERO, 6);
    let app = &servers.app;
    let mut driver = Client::new(app.address(), PATIENCE);
    assert_eq!(driver.send(mark_request(&mark(1)).unwrap()).await.unwrap().status, StatusCode::CREATED);

    for round in 2..5 {
        assert!(app.crash("of a test", None));
        assert!(!app.crash("again", None), "it is down already");
        assert!(matches!(told.recv().await, Some(Event::Crashed { which: Which::App, .. })));
        // The listener closes on the server's own thread: the first of these may still find it.
        let mut stranger = Client::new(app.address(), PATIENCE);
        while !matches!(stranger.send(mark_request(&mark(0)).unwrap()).await, Err(WireError::Connect(..))) {}

        assert!(app.revive());
        assert_eq!(told.recv().await, Some(Event::Back(Which::App)));
        let mut driver = Client::new(app.address(), PATIENCE);
        assert_eq!(driver.send(mark_request(&mark(round)).unwrap()).await.unwrap().status, StatusCode::CREATED);
    }
    assert_eq!(app.ledger().times("M-1-1"), 1);
    assert_eq!(app.outages().0, 3);
}

#[tokio::test]
async fn a_server_that_crashed_by_itself_comes_back_by_itself() {
    let (events, mut told) = mpsc::channel(64);
    let servers = Servers::start(Temper { step: ENDLESS, uploads_at_once: 0, away: Some(Duration::from_millis(1)) }, &events).unwrap();
    assert!(upload(servers.admin.address(), "k1", &sheet("P1", 1)).await.is_err());
    assert!(matches!(told.recv().await, Some(Event::Crashed { .. })));
    assert_eq!(told.recv().await, Some(Event::Back(Which::Admin)));
    let health = Request::get("/healthz").body(Full::default()).unwrap();
    assert_eq!(Client::new(servers.admin.address(), PATIENCE).send(health).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_user_crashes_and_revives_a_server_by_http() {
    let (servers, mut told) = start(Duration::ZERO, 6);
    let mut user = Client::new(servers.control, PATIENCE);
    let mut post = async |path: &str| user.send(Request::post(path).body(Full::default()).unwrap()).await.unwrap().status;
    assert_eq!(post("/crash/admin").await, StatusCode::OK);
    assert!(matches!(told.recv().await, Some(Event::Crashed { which: Which::Admin, .. })));
    assert_eq!(post("/crash/admin").await, StatusCode::CONFLICT);
    assert_eq!(post("/revive/admin").await, StatusCode::OK);
    assert_eq!(told.recv().await, Some(Event::Back(Which::Admin)));
    assert_eq!(post("/crash/nobody").await, StatusCode::NOT_FOUND);
    assert_eq!(post("/crash").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_mark_tells_whether_its_parcel_was_delivered() {
    let (servers, _told) = start(Duration::ZERO, 6);
    let mut client = Client::new(servers.app.address(), PATIENCE);
    let mut ask = async || client.send(Request::get("/parcels/1-1").body(Full::default()).unwrap()).await.unwrap().body;
    assert_eq!(ask().await, "{\"delivered\":false,\"parcel\":\"1-1\"}\n");
    Client::new(servers.app.address(), PATIENCE).send(mark_request(&mark(1)).unwrap()).await.unwrap();
    assert_eq!(ask().await, "{\"delivered\":true,\"parcel\":\"1-1\"}\n");
}

#[tokio::test]
async fn a_crash_that_is_over_at_once_is_a_crash_all_the_same() {
    let (servers, mut told) = start(ENDLESS, 6);
    let address = servers.admin.address();
    let file = sheet("P1", 1);
    for round in 1..=20 {
        let (key, file) = (format!("k{round}"), file.clone());
        let upload = tokio::spawn(async move { upload(address, &key, &file).await });
        until_at_work(&servers.admin, 1).await;
        assert!(servers.admin.crash("of a test", None) && servers.admin.revive());
        assert!(upload.await.unwrap().is_err());
        assert!(matches!(told.recv().await, Some(Event::Crashed { .. })));
        assert_eq!(told.recv().await, Some(Event::Back(Which::Admin)));
    }
    assert_eq!(servers.admin.outages().0, 20);
}
