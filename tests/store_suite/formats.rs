//! Stores that were written in each format so far, kept as files, and what is in them.
//!
//! A new format begins with the fixture of the one before: `cargo test --test store_suite -- --ignored the_fixture_of_this_format`
//! writes the folder `formats/N` anew, with what [`fill`] puts into a store.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forebay::{
    envelope::{DeadReason, Delivery, Envelope, Field, OrderKey, RequestId, Timestamp},
    store::{Answer, Claim, Filter, NewRequest, Outcome, Settings, Store, redb::RedbStore},
};
use http::{HeaderName, HeaderValue, Method};

use crate::rig::{self, again, clock, delivered, name};

const DATABASE: &str = "queue.redb";

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_suite/formats").join(format.to_string())
}

fn settings(folder: &Path) -> Settings {
    Settings { path: folder.join(DATABASE), ..rig::settings(&tempfile::tempdir().unwrap()) }
}

/// The identity of a request of the fixture.
fn id(number: u8) -> RequestId {
    let mut bytes = *b"\x01\x8b\xcf\xe5\x68\x7b\x70\x00\x80\x00\x00\x00\x00\x00\x00\x00";
    bytes[15] = number;
    RequestId::from_bytes(bytes)
}

struct Filler {
    store: Arc<RedbStore>,
    now: Arc<AtomicU64>,
}

impl Filler {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Relaxed))
    }

    fn pass(&self, millis: u64) {
        self.now.fetch_add(millis, Relaxed);
    }

    async fn put(&self, number: u8, body: &[u8], change: impl FnOnce(&mut Envelope)) {
        let mut envelope = Envelope { id: id(number), ..rig::envelope(self.now()) };
        change(&mut envelope);
        let turn = rig::queued(self.store.turn(envelope.order_key));
        let payload = rig::spooled(&*self.store, body).await;
        self.store.append(NewRequest { envelope, payload, turn }).await.unwrap();
    }

    /// Begins the first attempt of a request, which must be the next one of its backend.
    async fn start(&self, number: u8, backend: &str) {
        let claimed = self.store.claim(Claim { backend, full_routes: &[], max: 1, now: self.now() }).await.unwrap();
        assert_eq!(claimed.iter().map(|claimed| claimed.envelope.id).collect::<Vec<_>>(), [id(number)]);
        self.pass(10);
    }

    async fn attempt(&self, number: u8, outcome: Outcome) {
        self.start(number, "app").await;
        self.store.settle(id(number), 1, self.now(), outcome).await.unwrap();
    }

    async fn prune(&self) {
        self.store.prune(self.now()).await.unwrap();
    }
}

fn dead(reason: DeadReason, answer: Option<Answer>) -> Outcome {
    Outcome::Dead { reason, why: "answered 422".into(), answer }
}

/// A text in which characters take one to four bytes.
fn text(len: usize) -> Vec<u8> {
    "Straße, 3 €, 東京, 🦫; ".repeat(len / 20).into_bytes()
}

/// Requests in every state, with bodies and answers in segments and in files, and counts of some that are gone.
async fn fill(filler: &Filler) {
    // Delivered and forgotten; dead and discarded.
    filler.put(1, b"gone", |_| {}).await;
    filler.attempt(1, delivered(b"")).await;
    filler.put(2, b"gone", |_| {}).await;
    filler.attempt(2, dead(DeadReason::Refused, None)).await;
    filler.store.discard(Filter::default(), filler.now()).await.unwrap();
    filler.pass(60_000);
    filler.prune().await;
    // Delivered: all in segments, and all in files.
    filler.put(3, b"small", |_| {}).await;
    filler.attempt(3, delivered(b"taken")).await;
    filler.put(4, &text(5_000), |_| {}).await;
    let payload = rig::spooled(&*filler.store, &[0xff; 3_000]).await;
    filler.attempt(4, Outcome::Delivered(Answer { payload, ..rig::answer(b"") })).await;
    // Withdrawn; failed, and due later.
    filler.put(5, b"withdrawn", |_| {}).await;
    filler.store.cancel(id(5), filler.now()).await.unwrap();
    filler.put(6, b"later", |_| {}).await;
    filler.attempt(6, again(filler.now().after(Duration::from_secs(30)))).await;
    // A dead letter that holds its key, and one behind it.
    let hold = |envelope: &mut Envelope| {
        (envelope.order_key, envelope.hold_key_when_dead) = (Some(OrderKey::from_u64(9)), true);
    };
    filler.put(7, b"{\"mark\":1}", hold).await;
    filler.attempt(7, dead(DeadReason::Refused, Some(rig::answer(b"no such parcel")))).await;
    filler.put(8, b"{\"mark\":2}", hold).await;
    // Given up and queued again.
    filler.put(9, b"again", |envelope| envelope.route = name("rest")).await;
    filler.attempt(9, dead(DeadReason::AttemptsExhausted, None)).await;
    filler.store.redrive(Filter { route: Some(name("rest")), ..Filter::default() }, filler.now(), 1).await.unwrap();
    // At the backend: one that may be resent, one that may not.
    filler.put(10, &text(3_000), |envelope| (envelope.backend, envelope.route) = (name("admin"), name("orders"))).await;
    filler.start(10, "admin").await;
    let once = |envelope: &mut Envelope| {
        (envelope.backend, envelope.route, envelope.delivery) = (name("admin"), name("orders"), Delivery::AtMostOnce);
    };
    filler.put(11, b"once", once).await;
    filler.start(11, "admin").await;
    // Queued behind one another, with everything that a request may have.
    for (number, body) in [(12, &b"\x00\xff binary"[..]), (13, b"")] {
        let change = |envelope: &mut Envelope| {
            envelope.method = Method::from_bytes(b"MKCOL").unwrap();
            envelope.order_key = Some(OrderKey::from_u64(u64::MAX));
            envelope.trailers = vec![Field::new(HeaderName::from_static("digest"), HeaderValue::from_static("abc"))];
        };
        filler.put(number, body, change).await;
    }
    filler.prune().await;
}

#[tokio::test]
#[ignore = "writes a file of the repository, when a format is new"]
async fn the_fixture_of_this_format() {
    let made = tempfile::tempdir().unwrap();
    let settings = settings(made.path());
    let now = Arc::new(AtomicU64::new(rig::START));
    let store = RedbStore::open_tuned(settings.clone(), clock(&now), rig::tuning()).unwrap();
    let filler = Filler { store, now };
    fill(&filler).await;
    drop(filler);
    let format = 1;
    let target = folder(format);
    let payloads = format!("{DATABASE}.payloads");
    std::fs::create_dir_all(target.join(&payloads)).unwrap();
    std::fs::copy(&settings.path, target.join(DATABASE)).unwrap();
    for entry in std::fs::read_dir(made.path().join(&payloads)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), target.join(&payloads).join(entry.file_name())).unwrap();
        }
    }
}
