//! A store that is still being opened: live traffic need not wait for it.
//!
//! To read what a large queue holds takes seconds. Whoever passes requests on gets an [`OpeningStore`] at once. Until it has [`opened`](OpeningStore::opened), a write
//! without an ordering key may go live and everything that needs the queue is refused as [`StoreError::Opening`], also a write with a key: whether an earlier one of
//! its key waits is not known yet. From then on it is the store that was opened, at the cost of one look at a word of memory.

use std::sync::{Arc, OnceLock};

use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::Notify;

use super::{
    Answer, Appended, Claim, Claimed, Counts, Filter, History, NewRequest, Outcome, Page, Payload, Record, Settings, Spooler, Store,
    StoreError, StoreStatus, Turn,
};
use crate::envelope::{Name, OrderKey, RequestId, Timestamp};

/// What [`StoreStatus::failing`] says until it has opened.
const OPENING: &str = "it is still being opened";

/// Stands for a store from before it is open.
pub struct OpeningStore {
    store: OnceLock<Arc<dyn Store>>,
    /// For bodies of writes that are read whole before they go live.
    spooler: Spooler,
}

impl OpeningStore {
    /// Stands for the store of these settings, whose payload folder is there.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let folder = super::redb::payload_folder(&settings.path);
        Arc::new(Self { store: OnceLock::new(), spooler: Spooler::new(folder, Spooler::THRESHOLD, Spooler::BUDGET) })
    }

    /// From now on it is this one. Only the first call counts.
    pub fn opened(&self, store: Arc<dyn Store>) {
        let _ = self.store.set(store);
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a dyn Store) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        self.store.get().map_or_else(|| ready(Err(StoreError::Opening)).boxed(), |store| ask(&**store))
    }

    fn look<T>(&self, look: impl FnOnce(&dyn Store) -> T) -> Option<T> {
        self.store.get().map(|store| look(&**store))
    }
}

impl Store for OpeningStore {
    fn turn(&self, key: Option<OrderKey>) -> Result<Turn, StoreError> {
        match (self.store.get(), key) {
            (Some(store), key) => store.turn(key),
            (None, None) => Ok(Turn::unplaced()),
            (None, Some(_)) => Err(StoreError::Opening),
        }
    }

    fn room(&self, bytes: u64, written: u64) -> Result<(), StoreError> {
        self.look(|store| store.room(bytes, written)).unwrap_or(Err(StoreError::Opening))
    }

    fn spooler(&self) -> &Spooler {
        self.store.get().map_or(&self.spooler, |store| store.spooler())
    }

    fn append(&self, mut request: NewRequest) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.ask(|store| {
            // A turn from before has no place in order yet; having no key, any will do.
            if !request.turn.is_placed() {
                match store.turn(None) {
                    Ok(turn) => request.turn = turn.into_queued(),
                    Err(error) => return ready(Err(error)).boxed(),
                }
            }
            store.append(request)
        })
    }

    fn claim<'a>(&'a self, claim: Claim<'a>) -> BoxFuture<'a, Result<Vec<Claimed>, StoreError>> {
        self.ask(|store| store.claim(claim))
    }

    fn settle(&self, id: RequestId, attempt: u32, at: Timestamp, outcome: Outcome) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask(|store| store.settle(id, attempt, at, outcome))
    }

    fn cancel(&self, id: RequestId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask(|store| store.cancel(id, at))
    }

    fn redrive(&self, filter: Filter, at: Timestamp, limit: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.ask(|store| store.redrive(filter, at, limit))
    }

    fn discard(&self, filter: Filter, at: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.ask(|store| store.discard(filter, at))
    }

    fn prune(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.ask(|store| store.prune(now))
    }

    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Record, StoreError>> {
        self.ask(|store| store.get(id))
    }

    fn body(&self, id: RequestId) -> BoxFuture<'_, Result<Payload, StoreError>> {
        self.ask(|store| store.body(id))
    }

    fn answer(&self, id: RequestId) -> BoxFuture<'_, Result<Answer, StoreError>> {
        self.ask(|store| store.answer(id))
    }

    fn page(&self, filter: Filter, after: Option<RequestId>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.ask(|store| store.page(filter, after, limit))
    }

    fn counts(&self) -> Counts {
        self.look(|store| store.counts()).unwrap_or_default()
    }

    fn history(&self, from: Timestamp) -> BoxFuture<'_, Result<History, StoreError>> {
        self.ask(|store| store.history(from))
    }

    fn status(&self) -> StoreStatus {
        self.look(|store| store.status()).unwrap_or_else(|| StoreStatus { failing: Some(OPENING.to_owned()), ..StoreStatus::default() })
    }

    /// Before it has opened, one that is never rung.
    fn wake(&self, backend: &str) -> Arc<Notify> {
        self.look(|store| store.wake(backend)).unwrap_or_default()
    }

    fn pending(&self, key: OrderKey) -> u32 {
        self.look(|store| store.pending(key)).unwrap_or_default()
    }

    fn next_due(&self, backend: &str, full_routes: &[Name]) -> Option<Timestamp> {
        self.look(|store| store.next_due(backend, full_routes)).flatten()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.get().map_or_else(|| ready(()).boxed(), |store| store.close())
    }
}

impl std::fmt::Debug for OpeningStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpeningStore").field("opened", &self.store.get().is_some()).finish_non_exhaustive()
    }
}
