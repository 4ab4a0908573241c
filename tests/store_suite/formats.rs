//! Stores that were written in each format so far, kept as files, and what is in them.
//!
//! A new format begins with the fixture of the one before: `WRITE_FORMAT=1 cargo test --test store_suite what_is_written_today` writes the folder `formats/N` anew,
//! with what [`fill`] puts into a store.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forebay::{
    envelope::{DeadReason, Delivery, Envelope, Field, OrderKey, RequestId, State, Timestamp},
    store::{
        Answer, Claim, Filter, NewRequest, OpenError, Outcome, Settings, Store, StoreError, Totals,
        redb::{RedbStore, Tuning},
    },
};
use http::{HeaderName, HeaderValue, Method};
use redb::{Database, TableDefinition};

use crate::{
    disk::{Fail, FakeDisk},
    rig::{self, Engine, Rig, again, clock, delivered, name},
};

const DATABASE: &str = "queue.redb";
const PAYLOADS: &str = "queue.redb.payloads";

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_suite/formats").join(format.to_string())
}

fn settings(folder: &Path) -> Settings {
    Settings { path: folder.join(DATABASE), ..rig::settings(&tempfile::tempdir().unwrap()) }
}

/// A copy of the fixture of a format, to be opened and changed.
fn copy(format: u32) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_store(&folder(format), copy.path());
    copy
}

fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join(PAYLOADS)).unwrap();
    std::fs::copy(from.join(DATABASE), to.join(DATABASE)).unwrap();
    for entry in std::fs::read_dir(from.join(PAYLOADS)).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "lock" {
            std::fs::copy(from.join(PAYLOADS).join(&name), to.join(PAYLOADS).join(&name)).unwrap();
        }
    }
}

/// Why a file that says it has `format` is not opened.
fn open_format(settings: &Settings, format: u64) -> OpenError {
    {
        let database = Database::create(&settings.path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", format).unwrap();
        write.commit().unwrap();
    }
    RedbStore::open_tuned(settings.clone(), clock(&Arc::default()), rig::tuning()).map(drop).unwrap_err()
}

/// The newest format that this program knows.
fn newest() -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let error = open_format(&settings(folder.path()), u64::MAX);
    let OpenError::TooNew { known, .. } = error else { panic!("{error}") };
    known
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
        let turn = self.store.turn(envelope.order_key).unwrap().into_queued();
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
async fn what_is_written_today_is_what_the_files_of_all_formats_hold() {
    let made = tempfile::tempdir().unwrap();
    let settings = settings(made.path());
    let now = Arc::new(AtomicU64::new(rig::START));
    let tuning = Tuning { segment_bytes: 32_768, database_bytes: u64::MAX, ..rig::tuning() };
    let store = RedbStore::open_tuned(settings.clone(), clock(&now), tuning).unwrap();
    let filler = Filler { store, now };
    fill(&filler).await;
    let target = std::env::var_os("WRITE_FORMAT").map(|_| folder(newest()));
    let elsewhere = tempfile::tempdir().unwrap();
    // As a kill leaves it: much of what is in it, only the journal has.
    copy_store(made.path(), elsewhere.path());
    if let Some(target) = target {
        if target.exists() {
            std::fs::remove_dir_all(&target).unwrap();
        }
        copy_store(elsewhere.path(), &target);
    }
    let now = Arc::new(AtomicU64::new(rig::START + 3_500_000));
    check(&*RedbStore::open_tuned(self::settings(elsewhere.path()), clock(&now), rig::tuning()).unwrap()).await;
}

/// Number, state, attempts, length of the body and status of the answer of a request.
type Kept = (u8, State, u32, Option<u64>, Option<u16>);

/// Every request, after an open.
const KEPT: [Kept; 11] = [
    (3, State::Delivered, 1, None, Some(201)),
    (4, State::Delivered, 1, None, Some(201)),
    (5, State::Cancelled, 0, None, None),
    (6, State::Queued, 1, Some(5), None),
    (7, State::Dead, 1, Some(10), Some(201)),
    (8, State::Queued, 0, Some(10), None),
    (9, State::Queued, 1, Some(5), None),
    // What was at the backend is queued again where it may be resent.
    (10, State::Queued, 1, Some(4_500), None),
    (11, State::Dead, 1, Some(4), None),
    (12, State::Queued, 0, Some(9), None),
    (13, State::Queued, 0, Some(0), None),
];

async fn check(store: &dyn Store) {
    let records = store.page(Filter::default(), None, 100).await.unwrap().records;
    assert_eq!(records.len(), KEPT.len());
    for (record, (number, state, attempts, body, answer)) in records.iter().zip(KEPT) {
        let found = (record.envelope.id, record.state, record.attempts, record.answer_status);
        assert_eq!(found, (id(number), state, attempts, answer));
        let bytes = match store.body(id(number)).await {
            Ok(payload) => Some(rig::read(&payload).await.unwrap()),
            Err(StoreError::NotFound) => None,
            Err(error) => panic!("{number}: {error}"),
        };
        assert_eq!(bytes.map(|bytes| bytes.len() as u64), body, "{number}");
        if let Some(status) = answer {
            let answer = store.answer(id(number)).await.unwrap();
            rig::read(&answer.payload).await.unwrap();
            assert_eq!(answer.status, status);
        }
    }
    let totals: Vec<_> = store.counts().routes.iter().map(|route| (route.route.clone(), route.totals)).collect();
    let orders = Totals { accepted: 2, queued: 1, dead: 1, ..Totals::default() };
    let marks = Totals { accepted: 10, queued: 4, delivered: 3, dead: 1, cancelled: 1, discarded: 1, ..Totals::default() };
    let rest = Totals { accepted: 1, queued: 1, ..Totals::default() };
    assert_eq!(totals, [(name("orders"), orders), (name("marks"), marks), (name("rest"), rest)]);
}

#[tokio::test]
async fn a_store_of_each_format_so_far_opens_with_all_that_is_in_it_and_goes_on() {
    for format in 1..=newest() {
        let copy = copy(format);
        let settings = settings(copy.path());
        let now = Arc::new(AtomicU64::new(rig::START + 3_500_000));
        let open = || RedbStore::open_tuned(settings.clone(), clock(&now), rig::tuning()).unwrap();
        check(&*open()).await;
        let store = open();
        check(&*store).await;
        let envelope = rig::envelope(Timestamp::from_millis(now.load(Relaxed)));
        rig::append(&*store, envelope, b"new").await.unwrap();
        let history = store.history(Timestamp::default()).await.unwrap();
        let latest = history.hours.iter().find(|counts| counts.route == name("marks") && counts.moves.delivered == 0).unwrap();
        assert_eq!(latest.moves.accepted, 1);
        let since = if format == 1 { now.load(Relaxed) } else { rig::START };
        assert_eq!(history.since.as_millis(), since, "format {format}");
        let claimed = store.claim(Claim { backend: "app", full_routes: &[], max: 9, now: envelope_now(&now) }).await.unwrap();
        assert_eq!(claimed.len(), 4, "one waits behind a dead letter, one behind another of its key");
    }
}

fn envelope_now(now: &AtomicU64) -> Timestamp {
    Timestamp::from_millis(now.load(Relaxed))
}

#[tokio::test]
async fn power_may_go_at_any_moment_of_a_migration() {
    for format in 1..newest() {
        power_goes_at_any_moment_of_a_migration(format).await;
    }
}

async fn power_goes_at_any_moment_of_a_migration(format: u32) {
    let now = Arc::new(AtomicU64::new(rig::START + 60_000));
    let mut at = 1;
    loop {
        let copy = copy(format);
        let settings = settings(copy.path());
        let disk = FakeDisk::new(copy.path().join(PAYLOADS));
        disk.take_in(&settings.path);
        let open = |disk: &FakeDisk| RedbStore::open_with(settings.clone(), clock(&now), rig::tuning(), Arc::new(disk.clone()));
        disk.fail(Fail::From(at));
        let opened = open(&disk);
        let reached = disk.operations() >= at;
        assert!(reached || opened.is_ok());
        drop(opened);
        let disk = disk.lose_power(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let store = open(&disk).unwrap();
        check(&*store).await;
        rig::append(&*store, rig::envelope(envelope_now(&now)), b"new").await.unwrap();
        if !reached {
            assert!(at > 5, "the migration has {at} operations");
            return;
        }
        at += 1;
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_says_why() {
    let rig = Rig::new(Engine::Redb, |_| {});
    rig.store.close().await;
    let open = |settings: &Settings| RedbStore::open_tuned(settings.clone(), clock(&rig.now), rig::tuning()).map(drop).unwrap_err();
    let error = open_format(&rig.settings, u64::MAX);
    assert!(matches!(error, OpenError::TooNew { found: u32::MAX, .. }), "{error}");
    assert!(error.to_string().contains("run the newer forebay that wrote it"), "{error}");
    std::fs::write(&rig.settings.path, b"not a database at all, but rather long enough to be one").unwrap();
    assert!(matches!(open(&rig.settings), OpenError::Unreadable { .. }));
    let nowhere = Settings { path: "/proc/nowhere/queue.redb".into(), ..rig.settings.clone() };
    assert!(matches!(open(&nowhere), OpenError::Io { .. }));
}
