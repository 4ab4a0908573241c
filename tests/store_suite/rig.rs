//! A store of either engine on a clock that stands still, and short ways to say what tests say all the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use forebay::{
    envelope::{Clock, Delivery, Envelope, Field, Name, OrderKey, Reason, RequestId, Timestamp},
    store::{
        Answer, Appended, Claim, Claimed, NewRequest, Outcome, Payload, Settings, Store, StoreError,
        memory::MemoryStore,
        redb::{RedbStore, Tuning},
    },
};
use http::{HeaderName, HeaderValue, Method};

pub(crate) const START: u64 = 1_700_000_000_123;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Memory,
    Redb,
}

pub(crate) struct Rig {
    pub(crate) store: Arc<dyn Store>,
    memory: Option<Arc<MemoryStore>>,
    pub(crate) settings: Settings,
    pub(crate) now: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

pub(crate) fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings {
        path: folder.path().join("queue.redb"),
        max_requests: 1000,
        max_bytes: 100_000_000,
        min_free_disk: 0,
        keep_delivered: Duration::from_secs(60),
        keep_dead: Duration::from_secs(600),
    }
}

pub(crate) fn tuning() -> Tuning {
    Tuning {
        segment_bytes: 4096,
        database_bytes: 0,
        checkpoint_every: Duration::MAX,
        shrink_every: Duration::ZERO,
        spool_threshold: 2048,
        spool_memory: 0,
        retry_every: Duration::ZERO,
        free_disk_every: Duration::ZERO,
        beside: 1,
        step: 3,
        ..Tuning::default()
    }
}

pub(crate) fn clock(now: &Arc<AtomicU64>) -> Clock {
    let now = Arc::clone(now);
    Clock::from_fn(move || Timestamp::from_millis(now.load(Relaxed)))
}

impl Rig {
    pub(crate) fn both() -> [Self; 2] {
        [Self::new(Engine::Memory, |_| {}), Self::new(Engine::Redb, |_| {})]
    }

    pub(crate) fn new(engine: Engine, change: impl Fn(&mut Settings)) -> Self {
        Self::tuned(engine, tuning(), change)
    }

    /// With other sizes, until it is opened again.
    pub(crate) fn tuned(engine: Engine, tuning: Tuning, change: impl Fn(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(&folder);
        change(&mut settings);
        let now = Arc::new(AtomicU64::new(START));
        let memory = (engine == Engine::Memory).then(|| MemoryStore::new(settings.clone(), clock(&now)));
        let store: Arc<dyn Store> = match &memory {
            Some(memory) => Arc::clone(memory) as _,
            None => RedbStore::open_tuned(settings.clone(), clock(&now), tuning).unwrap(),
        };
        Self { store, memory, settings, now, _folder: folder }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Relaxed))
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.now.fetch_add(millis, Relaxed);
    }

    /// Lets the store go without closing it, and opens it again.
    pub(crate) fn reopen(self) -> Self {
        let Self { store, memory, settings, now, _folder } = self;
        drop(store);
        let memory = memory.map(|memory| memory.reopened());
        let store: Arc<dyn Store> = match &memory {
            Some(memory) => Arc::clone(memory) as _,
            None => RedbStore::open_tuned(settings.clone(), clock(&now), tuning()).unwrap(),
        };
        Self { store, memory, settings, now, _folder }
    }

    pub(crate) fn envelope(&self) -> Envelope {
        envelope(self.now())
    }

    pub(crate) async fn append(&self, envelope: Envelope, body: &[u8]) -> Result<Appended, StoreError> {
        append(&*self.store, envelope, body).await
    }

    /// Appends a request with `key`, and returns its identity.
    pub(crate) async fn put(&self, key: Option<u64>) -> RequestId {
        let envelope = Envelope { order_key: key.map(OrderKey::from_u64), ..self.envelope() };
        self.append(envelope, b"body").await.unwrap().id
    }

    pub(crate) async fn claim(&self, max: usize) -> Vec<Claimed> {
        self.store.claim(Claim { backend: "app", full_routes: &[], max, now: self.now() }).await.unwrap()
    }

    pub(crate) async fn claim_ids(&self, max: usize) -> Vec<RequestId> {
        self.claim(max).await.into_iter().map(|claimed| claimed.envelope.id).collect()
    }

    pub(crate) async fn settle(&self, id: RequestId, attempt: u32, outcome: Outcome) -> Result<(), StoreError> {
        self.store.settle(id, attempt, self.now(), outcome).await
    }

    pub(crate) async fn deliver(&self, id: RequestId) {
        let attempts = self.store.get(id).await.unwrap().attempts;
        self.settle(id, attempts, delivered(b"done")).await.unwrap();
    }

    pub(crate) fn totals(&self) -> forebay::store::Totals {
        let counts = self.store.counts();
        assert!(counts.routes.iter().all(|route| route.totals.balance()), "{counts:?}");
        counts.routes.first().map(|route| route.totals).unwrap_or_default()
    }
}

pub(crate) fn envelope(now: Timestamp) -> Envelope {
    Envelope {
        id: RequestId::new(),
        backend: "app".into(),
        route: "marks".into(),
        method: Method::POST,
        target: "/marks?x=%2f".into(),
        headers: vec![
            Field {
                name: HeaderName::from_static("x-id"),
                spelling: Some("X-ID".into()),
                value: HeaderValue::from_bytes(b"\xe9").unwrap(),
            },
            Field::new(http::header::ACCEPT, HeaderValue::from_static("*/*")),
        ],
        trailers: Vec::new(),
        reason: Reason::Down,
        accepted_at: now,
        expires_at: now.after(Duration::from_secs(3600)),
        delivery: Delivery::AtLeastOnce,
        max_attempts: 8,
        order_key: None,
        hold_key_when_dead: false,
    }
}

pub(crate) async fn spooled(store: &dyn Store, body: &[u8]) -> Payload {
    let mut spool = store.spooler().begin(None);
    spool.push(Bytes::copy_from_slice(body)).await.unwrap();
    spool.finish().await.unwrap()
}

pub(crate) async fn append(store: &dyn Store, envelope: Envelope, body: &[u8]) -> Result<Appended, StoreError> {
    let turn = store.turn(envelope.order_key).unwrap().into_queued();
    let payload = spooled(store, body).await;
    store.append(NewRequest { envelope, payload, turn }).await
}

pub(crate) async fn read(payload: &Payload) -> Result<Vec<u8>, StoreError> {
    let mut reader = payload.reader();
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

pub(crate) fn answer(body: &[u8]) -> Answer {
    let headers = vec![Field::new(http::header::ETAG, HeaderValue::from_static("\"1\""))];
    Answer { status: 201, headers, payload: Payload::from(Bytes::copy_from_slice(body)) }
}

pub(crate) fn delivered(body: &[u8]) -> Outcome {
    Outcome::Delivered(answer(body))
}

pub(crate) fn again(due: Timestamp) -> Outcome {
    Outcome::Again { due, consumes_attempt: true, trips: 0, why: "answered 503".into() }
}

pub(crate) fn name(text: &str) -> Name {
    text.into()
}
