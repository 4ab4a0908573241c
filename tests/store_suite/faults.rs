//! The real engine on a disk that fails, fills up, or changes bytes; and beside other programs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forebay::{
    envelope::{DeadReason, Envelope, OrderKey, RequestId, State, Timestamp},
    store::{
        Claim, Filter, Limit, OpenError, Settings, Store, StoreError, Totals,
        redb::{RedbStore, Tuning},
    },
};
use futures_util::FutureExt;

use crate::{
    disk::{Fail, FakeDisk},
    history::adds_up,
    rig::{self, Engine, Rig, again, clock, delivered},
};

pub(crate) struct Bench {
    pub(crate) store: Arc<RedbStore>,
    pub(crate) disk: FakeDisk,
    pub(crate) settings: Settings,
    tuning: Tuning,
    now: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// One whose database contains each batch as soon as it is answered.
    pub(crate) fn checkpointing() -> Self {
        Self::with(|_, tuning| tuning.checkpoint_every = Duration::ZERO)
    }

    pub(crate) fn with(change: impl Fn(&mut Settings, &mut Tuning)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut settings, mut tuning) = (rig::settings(&folder), rig::tuning());
        change(&mut settings, &mut tuning);
        let disk = FakeDisk::new(folder.path().join("queue.redb.payloads"));
        let now = Arc::new(AtomicU64::new(rig::START));
        let store = open(&settings, &tuning, &now, &disk).unwrap();
        Self { store, disk, settings, tuning, now, _folder: folder }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Relaxed))
    }

    pub(crate) fn restart(self, disk: FakeDisk) -> Self {
        self.try_restart(disk).unwrap()
    }

    pub(crate) fn try_restart(self, disk: FakeDisk) -> Result<Self, OpenError> {
        let Self { store, settings, tuning, now, _folder, .. } = self;
        drop(store);
        let store = open(&settings, &tuning, &now, &disk)?;
        Ok(Self { store, disk, settings, tuning, now, _folder })
    }

    pub(crate) async fn put(&self, body: &[u8]) -> Result<RequestId, StoreError> {
        rig::append(&*self.store, rig::envelope(self.now()), body).await.map(|appended| appended.id)
    }

    pub(crate) async fn claim(&self, max: usize) -> Result<Vec<(RequestId, u32)>, StoreError> {
        let claimed = self.store.claim(Claim { backend: "app", full_routes: &[], max, now: self.now() }).await?;
        Ok(claimed.into_iter().map(|claimed| (claimed.envelope.id, claimed.attempt)).collect())
    }

    pub(crate) fn totals(&self) -> Totals {
        let counts = self.store.counts();
        assert!(counts.routes.iter().all(|route| route.totals.balance()), "{counts:?}");
        counts.routes.first().map(|route| route.totals).unwrap_or_default()
    }

    /// Files are removed after the answer, so that nobody waits for it; the next answer comes after that.
    pub(crate) async fn tidied(&self) {
        self.store.prune(self.now()).await.unwrap();
    }

    /// The writer has nothing left to do, also not of what follows its answers.
    pub(crate) async fn idle(&self) {
        let nothing = Claim { backend: "none", full_routes: &[], max: 1, now: self.now() };
        assert!(self.store.claim(nothing).await.unwrap().is_empty());
    }

    pub(crate) async fn state(&self, id: RequestId) -> Option<State> {
        match self.store.get(id).await {
            Ok(record) => Some(record.state),
            Err(StoreError::NotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn open(settings: &Settings, tuning: &Tuning, now: &Arc<AtomicU64>, disk: &FakeDisk) -> Result<Arc<RedbStore>, OpenError> {
    RedbStore::open_with(settings.clone(), clock(now), tuning.clone(), Arc::new(disk.clone()))
}

/// What a caller was told, and so may rely on.
#[derive(Debug, Default)]
struct Told {
    appended: Vec<RequestId>,
    refused: Vec<RequestId>,
    delivered: Vec<RequestId>,
    cancelled: Vec<RequestId>,
}

async fn workload(bench: &Bench) -> Told {
    let mut told = Told::default();
    for round in 0..3u64 {
        for (len, key) in [(10, None), (1500, Some(7)), (1500, Some(7)), (5000, None)] {
            let envelope = Envelope { order_key: key.map(OrderKey::from_u64), ..rig::envelope(bench.now()) };
            let id = envelope.id;
            match rig::append(&*bench.store, envelope, &vec![round as u8; len]).await {
                Ok(_) => told.appended.push(id),
                Err(StoreError::Failed(_)) => told.refused.push(id),
                Err(error) => panic!("{error}"),
            }
        }
        for (id, attempt) in bench.claim(3).await.unwrap_or_default() {
            let outcome = if round == 1 { again(bench.now()) } else { delivered(&[7; 700]) };
            let is_delivery = round != 1;
            if bench.store.settle(id, attempt, bench.now(), outcome).await.is_ok() && is_delivery {
                told.delivered.push(id);
            }
        }
        let last = *told.appended.last().unwrap_or(&RequestId::new());
        if bench.store.cancel(last, bench.now()).await.is_ok() {
            told.cancelled.push(last);
        }
        let _ = bench.store.prune(bench.now()).await;
    }
    told
}

async fn check(bench: &Bench, told: &Told, context: &str) {
    for &id in &told.appended {
        let state = bench.state(id).await;
        assert!(state.is_some(), "{context}: an acknowledged request is lost");
        assert_eq!(told.delivered.contains(&id), state == Some(State::Delivered), "{context}: {id} is {state:?}");
        if told.cancelled.contains(&id) {
            assert_eq!(state, Some(State::Cancelled), "{context}");
        }
        if !matches!(state, Some(State::Delivered | State::Cancelled)) {
            rig::read(&bench.store.body(id).await.unwrap()).await.unwrap();
        }
    }
    assert_eq!(bench.store.page(Filter::default(), None, 1000).await.unwrap().records.len() as u64, bench.totals().accepted, "{context}");
    adds_up(&*bench.store, context).await;
}

/// Calls until the store has got over its failure. Each prune waits for the writer, which then tries.
pub(crate) async fn until_it_works(bench: &Bench) -> RequestId {
    for _ in 0..100 {
        if let Ok(id) = bench.put(b"again").await {
            return id;
        }
        let _ = bench.store.prune(bench.now()).await;
    }
    panic!("it never works again: {:?}", bench.store.status());
}

#[tokio::test]
async fn whichever_operation_fails_nothing_acknowledged_is_lost_and_it_goes_on_by_itself() {
    gets_over(Bench::new, Fail::Once).await;
    gets_over(Bench::checkpointing, Fail::Once).await;
}

/// For each operation of a workload: fails there, goes on by itself, and keeps its word after a crash.
pub(crate) async fn gets_over(bench: impl Fn() -> Bench, fail: impl Fn(u64) -> Fail) {
    let mut at = 1;
    loop {
        let bench = bench();
        let before = bench.disk.operations();
        bench.disk.fail(fail(before + at));
        let mut told = workload(&bench).await;
        let reached = bench.disk.operations() >= before + at;
        told.appended.push(until_it_works(&bench).await);
        assert_eq!(bench.store.status().failing, None);
        for &id in &told.refused {
            assert_eq!(bench.state(id).await, None, "operation {at}: a request that was refused is there");
        }
        // A settlement that failed may be done again, or may have been done.
        for (id, attempt) in in_flight(&bench).await {
            bench.store.settle(id, attempt, bench.now(), again(bench.now())).await.unwrap();
        }
        check_settled(&bench, &mut told).await;
        check(&bench, &told, &format!("operation {at}")).await;
        let disk = if at % 2 == 0 { bench.disk.kill() } else { bench.disk.lose_power(at) };
        let bench = bench.restart(disk);
        check(&bench, &told, &format!("operation {at}, restarted")).await;
        drain(&bench).await;
        if !reached {
            assert!(at > 50, "the workload has {at} operations");
            return;
        }
        at += 1;
    }
}

async fn in_flight(bench: &Bench) -> Vec<(RequestId, u32)> {
    let filter = Filter { state: Some(State::Delivering), ..Filter::default() };
    let page = bench.store.page(filter, None, 100).await.unwrap();
    page.records.iter().map(|record| (record.envelope.id, record.attempts)).collect()
}

/// Takes what was done although its caller was told of a failure for told.
async fn check_settled(bench: &Bench, told: &mut Told) {
    for &id in &told.appended {
        let state = bench.state(id).await;
        if state == Some(State::Delivered) && !told.delivered.contains(&id) {
            told.delivered.push(id);
        }
    }
}

/// Everything that is queued can be delivered.
pub(crate) async fn drain(bench: &Bench) {
    loop {
        let claimed = bench.claim(5).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        for (id, attempt) in claimed {
            bench.store.settle(id, attempt, bench.now(), delivered(b"")).await.unwrap();
        }
    }
    let totals = bench.totals();
    assert_eq!((totals.queued, totals.delivering), (0, 0));
    assert_eq!((bench.store.status().requests, bench.store.status().bytes), (0, 0));
    bench.store.room(bench.settings.max_bytes, 0).expect("all room was given back");
}

#[tokio::test]
async fn power_may_go_after_any_operation() {
    power_goes_after_each_operation(Bench::new).await;
    power_goes_after_each_operation(Bench::checkpointing).await;
}

async fn power_goes_after_each_operation(bench: impl Fn() -> Bench) {
    let mut at = 1;
    loop {
        let bench = bench();
        let before = bench.disk.operations();
        bench.disk.fail(Fail::From(before + at));
        let mut told = workload(&bench).await;
        let reached = bench.disk.operations() >= before + at;
        let disk = bench.disk.lose_power(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bench = bench.restart(disk);
        check_settled(&bench, &mut told).await;
        check(&bench, &told, &format!("power lost at {at}")).await;
        drain(&bench).await;
        if !reached {
            return;
        }
        at += 1;
    }
}

#[tokio::test]
async fn while_the_disk_fails_nothing_is_accepted_and_the_reason_is_told() {
    let bench = Bench::new();
    let first = bench.put(b"before").await.unwrap();
    bench.disk.fail(Fail::From(0));
    assert!(matches!(bench.put(b"lost").await, Err(StoreError::Failed(_))));
    assert!(matches!(bench.store.room(0, 0), Err(StoreError::Failed(_))));
    assert!(bench.store.status().failing.unwrap().contains("the disk failed"));
    bench.disk.fail(Fail::Never);
    until_it_works(&bench).await;
    assert_eq!(bench.store.status().failing, None);
    assert_eq!(bench.state(first).await, Some(State::Queued));
    assert_eq!(bench.totals().accepted, 2);
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let bench = Bench::with(|settings, _| settings.min_free_disk = 1_000_000);
    let first = bench.put(b"first").await.unwrap();
    bench.disk.set_free(999_999);
    assert!(matches!(bench.put(b"more").await, Err(StoreError::Full(Limit::FreeDisk(1_000_000)))));
    assert!(matches!(bench.store.room(0, 0), Err(StoreError::Full(Limit::FreeDisk(_)))));
    assert_eq!(bench.claim(1).await.unwrap(), [(first, 1)]);
    bench.store.settle(first, 1, bench.now(), delivered(b"")).await.unwrap();
    bench.disk.set_free(2_000_000);
    bench.store.room(1_000_000, 0).unwrap();
    bench.put(b"more").await.unwrap();
}

#[tokio::test]
async fn one_damaged_record_is_set_aside_and_the_others_go_on() {
    let bench = Bench::new();
    let body = |i: u8| vec![i; 1000];
    let mut ids = Vec::new();
    for i in 0..6 {
        ids.push(bench.put(&body(i)).await.unwrap());
    }
    let disk = bench.disk.kill();
    // Somewhere in the second record: each has its head and 1,000 bytes.
    assert_eq!(disk.flip(|name, offset| name.ends_with("00000001") && offset == 1800), 1);
    let bench = bench.restart(disk);
    let claimed = bench.claim(10).await.unwrap();
    assert_eq!(claimed.len(), 5);
    let damaged: Vec<_> = ids.iter().filter(|id| !claimed.iter().any(|(claimed, _)| claimed == *id)).collect();
    let record = bench.store.get(*damaged[0]).await.unwrap();
    assert_eq!((record.state, record.dead_reason), (State::Dead, Some(DeadReason::Damaged)));
    assert!(matches!(bench.store.body(*damaged[0]).await, Err(StoreError::Damaged(id)) if id == *damaged[0]));
    assert_eq!(bench.store.status().damaged, 1);
    assert_eq!(bench.totals(), Totals { accepted: 6, delivering: 5, dead: 1, ..Totals::default() });
}

#[tokio::test]
async fn no_flipped_bit_is_ever_taken_for_what_was_sent() {
    let bench = Bench::new();
    for i in 0..3 {
        bench.put(&[i; 50]).await.unwrap();
    }
    let whole = bench.disk.kill();
    for offset in (0..2_300).step_by(7) {
        let bench = Bench::new();
        let disk = whole.kill();
        disk.fail(Fail::Never);
        whole.fail(Fail::Never);
        disk.flip(|_, at| at == offset);
        let bench = bench.restart(disk);
        let claimed = bench.store.claim(Claim { backend: "app", full_routes: &[], max: 10, now: bench.now() }).await.unwrap();
        for claimed in &claimed {
            let body = rig::read(&claimed.payload).await.unwrap();
            assert!(body.len() == 50 && body.iter().all(|byte| *byte == body[0]) && &*claimed.envelope.target == "/marks?x=%2f");
        }
        assert!(claimed.len() >= 2);
        assert_eq!(bench.totals().dead, 3 - claimed.len() as u64);
    }
}

#[tokio::test]
async fn a_segment_goes_as_soon_as_nothing_in_it_is_needed() {
    let bench = Bench::new();
    for _ in 0..40 {
        bench.put(&[1; 1000]).await.unwrap();
    }
    let full = bench.disk.segments().len();
    assert!(full > 10);
    drain(&bench).await;
    bench.tidied().await;
    assert!(bench.disk.segments().len() < full, "bodies are let go with their delivery");
    bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
    bench.tidied().await;
    assert_eq!(bench.disk.segments().len(), 1, "only the one that is written is left");
}

#[tokio::test]
async fn a_second_program_is_told_that_the_store_is_in_use() {
    let rig = Rig::new(Engine::Redb, |_| {});
    let error = RedbStore::open_tuned(rig.settings.clone(), clock(&rig.now), rig::tuning()).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    rig.store.close().await;
    drop(RedbStore::open_tuned(rig.settings.clone(), clock(&rig.now), rig::tuning()).unwrap());
}

#[tokio::test]
async fn claims_whose_caller_went_away_are_queued_again() {
    let bench = Bench::new();
    let id = bench.put(b"x").await.unwrap();
    {
        let claim = bench.store.claim(Claim { backend: "app", full_routes: &[], max: 1, now: bench.now() });
        let mut claim = std::pin::pin!(claim);
        // One poll sends the command; the caller then goes away.
        assert!(claim.as_mut().now_or_never().is_none());
    }
    let wake = bench.store.wake("app");
    let claimed = loop {
        let claimed = bench.claim(1).await.unwrap();
        if !claimed.is_empty() {
            break claimed;
        }
        wake.notified().await;
    };
    assert_eq!(claimed, [(id, 1)], "the attempt that was not made is not counted");
}
