//! The model store, which can be told to fail.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::{
    envelope::{Name, OrderKey, RequestId, Timestamp},
    store::{
        Answer, Appended, Claim, Claimed, Counts, Filter, History, NewRequest, Outcome, Page, Payload, Record, Spooler, Store, StoreError,
        StoreStatus, Turn, memory::MemoryStore,
    },
};

/// The model store, which can be told to fail.
pub(super) struct Flaky {
    store: Arc<MemoryStore>,
    settlings_to_fail: AtomicU32,
    claims_to_fail: AtomicU32,
}

impl Flaky {
    pub(super) fn new(store: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { store, settlings_to_fail: AtomicU32::new(0), claims_to_fail: AtomicU32::new(0) })
    }

    pub(super) fn fail_settling(&self, times: u32) {
        self.settlings_to_fail.store(times, Ordering::Relaxed);
    }

    pub(super) fn fail_claiming(&self, times: u32) {
        self.claims_to_fail.store(times, Ordering::Relaxed);
    }
}

fn failure(left: &AtomicU32) -> Option<StoreError> {
    let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    fails.then(|| StoreError::Failed("as scripted".into()))
}

impl Store for Flaky {
    fn claim<'a>(&'a self, claim: Claim<'a>) -> BoxFuture<'a, Result<Vec<Claimed>, StoreError>> {
        match failure(&self.claims_to_fail) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.store.claim(claim),
        }
    }

    fn settle(&self, id: RequestId, attempt: u32, at: Timestamp, outcome: Outcome) -> BoxFuture<'_, Result<(), StoreError>> {
        match failure(&self.settlings_to_fail) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.store.settle(id, attempt, at, outcome),
        }
    }

    fn turn(&self, key: Option<OrderKey>) -> Result<Turn, StoreError> {
        self.store.turn(key)
    }
    fn room(&self, bytes: u64, written: u64) -> Result<(), StoreError> {
        self.store.room(bytes, written)
    }
    fn spooler(&self) -> &Spooler {
        self.store.spooler()
    }
    fn append(&self, request: NewRequest) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.store.append(request)
    }
    fn cancel(&self, id: RequestId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.cancel(id, at)
    }
    fn redrive(&self, filter: Filter, at: Timestamp, limit: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.redrive(filter, at, limit)
    }
    fn discard(&self, filter: Filter, at: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.discard(filter, at)
    }
    fn prune(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.prune(now)
    }
    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Record, StoreError>> {
        self.store.get(id)
    }
    fn body(&self, id: RequestId) -> BoxFuture<'_, Result<Payload, StoreError>> {
        self.store.body(id)
    }
    fn answer(&self, id: RequestId) -> BoxFuture<'_, Result<Answer, StoreError>> {
        self.store.answer(id)
    }
    fn page(&self, filter: Filter, after: Option<RequestId>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.store.page(filter, after, limit)
    }
    fn counts(&self) -> Counts {
        self.store.counts()
    }
    fn history(&self, from: Timestamp) -> BoxFuture<'_, Result<History, StoreError>> {
        self.store.history(from)
    }
    fn status(&self) -> StoreStatus {
        self.store.status()
    }
    fn wake(&self, backend: &str) -> Arc<Notify> {
        self.store.wake(backend)
    }
    fn pending(&self, key: OrderKey) -> u32 {
        self.store.pending(key)
    }
    fn next_due(&self, backend: &str, full_routes: &[Name]) -> Option<Timestamp> {
        self.store.next_due(backend, full_routes)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
