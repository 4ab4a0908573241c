//! Live traffic does not wait for a store that takes its time to open; what needs the store is refused until it has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    net::SocketAddr,
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};

use common::{
    backend::{self, Backend, Trigger},
    client::{self, Client},
    site::Site,
    within,
};
use forebay::{
    app::{App, Order, StartError},
    config::Config,
    proxy::ListenAddress,
    store::{OpenError, redb::LockedStore},
};
use tokio::sync::mpsc;

/// A forebay in this process, whose store opens when it is told to.
struct Forebay {
    proxy: SocketAddr,
    admin: SocketAddr,
    orders: mpsc::Sender<Order>,
    /// Dropped or sent to, it lets the store open.
    open: SyncSender<()>,
    thread: JoinHandle<Result<(), StartError>>,
}

impl Forebay {
    fn start(folder: &Path, site: &Site) -> Self {
        Self::start_with(folder, site, |_| Ok(()))
    }

    /// With a store of which `found` says what is wrong.
    fn start_with(folder: &Path, site: &Site, found: impl FnOnce(&Path) -> Result<(), OpenError> + Send + 'static) -> Self {
        let path = folder.join("held.redb");
        let text = site.to_string().replace("\"queue.redb\"", &format!("{path:?}"));
        let (open, opens) = sync_channel(1);
        let opener = move |locked: LockedStore, clock| {
            let _let_go = opens.recv();
            found(&path)?;
            locked.open(clock)
        };
        let app = App::bind_with(Config::parse("config.toml", &text).unwrap(), Box::new(opener)).unwrap();
        let ListenAddress::Tcp(proxy) = *app.proxy_addresses()[0] else { panic!("it listens on no port") };
        let (admin, (orders, received)) = (app.admin_address(), mpsc::channel(1));
        let thread = std::thread::spawn(move || app.run(received));
        Self { proxy, admin, orders, open, thread }
    }

    async fn ready(&self) -> client::Response {
        self.ask_admin("/readyz").await
    }

    async fn ask_admin(&self, target: &str) -> client::Response {
        client::fetch(self.admin, format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin)).await
    }

    async fn becomes_ready(&self) {
        let ready = async { while self.ready().await.status != 200 {} };
        within("it to be ready", ready).await;
    }

    async fn stop(self) -> Result<(), StartError> {
        drop(self.open);
        // It may have ended by itself.
        let _ = self.orders.send(Order::Stop).await;
        within("its end", tokio::task::spawn_blocking(|| self.thread.join())).await.unwrap().unwrap()
    }
}

fn site(backend: &Backend) -> Site {
    Site::of(&[backend.url()])
        .route("ordered", "/ordered", "[routes.spill]\norder_by = [\"path\"]\n")
        .route("any", "/any", "[routes.spill]\norder_by = \"none\"\n")
        .route("reads", "/", "")
}

fn refused_for_the_store(response: &client::Response) {
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.json()["reason"], "store_opening");
    assert_eq!(response.field("proxy-status"), Some("forebay; error=proxy_internal_error; details=\"store_opening\""));
    assert!(response.field("retry-after").is_some() && response.field("forebay-id").is_none());
}

fn write(target: &str, body: &str) -> Vec<u8> {
    client::request("POST", target, &[], body)
}

/// A forebay whose store does not open yet, with its backend.
async fn opening() -> (Backend, tempfile::TempDir, Forebay) {
    let (backend, folder) = (Backend::start().await, tempfile::tempdir().unwrap());
    let forebay = Forebay::start(folder.path(), &site(&backend));
    (backend, folder, forebay)
}

/// The same, where one write to `/ordered` lies in the store; and its identity.
async fn opening_with_one_queued() -> (Backend, tempfile::TempDir, Forebay, String) {
    let (mut backend, folder, forebay) = opening().await;
    backend.stop().await;
    forebay.open.send(()).unwrap();
    forebay.becomes_ready().await;
    let id = client::fetch(forebay.proxy, write("/ordered", "first")).await.id();
    forebay.stop().await.unwrap();
    backend.start_again().await;
    let forebay = Forebay::start(folder.path(), &site(&backend));
    (backend, folder, forebay, id)
}

#[tokio::test]
async fn what_needs_no_store_passes_while_it_opens_and_the_rest_is_refused_and_nothing_is_lost() {
    let (backend, _folder, forebay, id) = opening_with_one_queued().await;

    for live in [client::get("/"), write("/any", "x"), client::request("POST", "/any", &[], "x".repeat(200_000)), write("/", "x")] {
        assert_eq!(client::fetch(forebay.proxy, live).await.status, 200);
    }
    refused_for_the_store(&client::fetch(forebay.proxy, write("/ordered", "second")).await);
    refused_for_the_store(&client::fetch(forebay.proxy, client::request("POST", "/any", &["Prefer: respond-async"], "x")).await);
    refused_for_the_store(&client::fetch(forebay.proxy, client::get(&format!("/.forebay/requests/{id}"))).await);
    let ready = forebay.ready().await;
    assert!(ready.status == 503 && ready.text().contains("opening"), "{}", ready.text());
    let status = client::ask(forebay.admin, "/api/v1/status").await;
    assert_eq!((&status["phase"], &status["store"]["failing"]), (&"opening".into(), &"it is still being opened".into()));
    let metrics = forebay.ask_admin("/metrics").await;
    let text = metrics.text();
    assert!(text.contains("forebay_in_flight") && text.contains("forebay_store_opening 1\n"), "{text}");
    let unknown = ["forebay_store_requests", "forebay_queue_", "forebay_replay_window"];
    let said = text.lines().find(|line| unknown.iter().any(|name| line.starts_with(name)));
    assert_eq!(said, None, "what is not known is not said");
    assert_eq!(status["backends"][0]["queue"]["drained_in_seconds"], serde_json::Value::Null);
    assert!(backend.requests().iter().all(|request| request.target != "/ordered"), "nothing goes before its turn");

    forebay.open.send(()).unwrap();
    forebay.becomes_ready().await;
    let delivered = async { while client::ask(forebay.admin, "/api/v1/status").await["totals"]["delivered"] != 1 {} };
    within("what was queued to be delivered", delivered).await;
    let metrics = forebay.ask_admin("/metrics").await;
    let text = metrics.text();
    assert!(text.contains("forebay_store_opening 0\n") && text.contains("forebay_queue_requests{"), "{text}");
    assert_eq!(client::fetch(forebay.proxy, write("/ordered", "second")).await.status, 200);
    let ordered: Vec<_> = backend.requests().into_iter().filter(|request| request.target == "/ordered").map(|r| r.body.content).collect();
    assert_eq!(ordered, [b"first".to_vec(), b"second".to_vec()]);
    forebay.stop().await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_live_is_queued_behind_what_the_store_held_if_it_has_opened_by_then() {
    let (backend, _folder, forebay, id) = opening_with_one_queued().await;
    let trigger = Trigger::default();
    backend.next(backend::answer_when(&trigger, 503, &[], ""));
    let mut late = Client::connect(forebay.proxy).await;
    late.send(write("/any", "late")).await;
    backend.received(1).await;
    forebay.open.send(()).unwrap();
    forebay.becomes_ready().await;
    trigger.release();
    let rescued = late.response().await;
    assert_eq!(rescued.status, 202, "{}", rescued.text());
    let books = async {
        loop {
            let totals = client::ask(forebay.admin, "/api/v1/status").await["totals"].clone();
            if totals["delivered"] == 2 {
                return totals;
            }
        }
    };
    assert_eq!(within("both to be delivered", books).await["accepted"], 2);
    for id in [id, rescued.id()] {
        let outcome = client::fetch(forebay.proxy, client::get(&format!("/.forebay/requests/{id}"))).await;
        assert_eq!(outcome.json()["state"], "delivered");
    }
    forebay.stop().await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_live_before_the_store_has_opened_is_refused() {
    let (backend, _folder, forebay) = opening().await;
    backend.next(backend::answer(503, &[], ""));
    refused_for_the_store(&client::fetch(forebay.proxy, write("/any", "x")).await);
    forebay.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_turns_out_unreadable_ends_the_program_with_the_reason_and_what_is_under_way_is_finished() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let unreadable = |path: &Path| Err(OpenError::Unreadable { path: path.into(), why: "it is a letter".into() });
    let forebay = Forebay::start_with(folder.path(), &site(&backend), unreadable);
    let trigger = Trigger::default();
    backend.next(backend::answer_when(&trigger, 200, &[], "whole"));
    let mut live = Client::connect(forebay.proxy).await;
    live.send(client::get("/")).await;
    backend.received(1).await;
    forebay.open.send(()).unwrap();
    let draining = async { while !forebay.ready().await.text().contains("draining") {} };
    within("it to stop", draining).await;
    trigger.release();
    assert_eq!(live.response().await.text(), "whole");
    let error = within("its end", tokio::task::spawn_blocking(|| forebay.thread.join())).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("held.redb cannot be read as a store: it is a letter"), "{error}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_store_that_is_still_being_opened() {
    let (_backend, _folder, forebay) = opening().await;
    let Forebay { proxy, orders, open, thread, .. } = forebay;
    assert_eq!(client::fetch(proxy, client::get("/")).await.status, 200);
    orders.send(Order::Stop).await.unwrap();
    within("its end", tokio::task::spawn_blocking(|| thread.join())).await.unwrap().unwrap().unwrap();
    drop(open);
}
