//! The store is opened beside the traffic: what can do without it passes meanwhile.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::StartError;
use crate::{
    envelope::Clock,
    store::{
        OpenError, OpeningStore, Store,
        redb::{LockedStore, RedbStore},
    },
};

/// So long a start waits for its store before it carries traffic without: most are open sooner, and nobody ever hears that they were not. Connections that come
/// meanwhile wait in the kernel's queue.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// What opens the store, on a thread of its own.
pub type Opener = Box<dyn FnOnce(LockedStore, Clock) -> Result<Arc<RedbStore>, OpenError> + Send>;

/// A store whose opening is under way, or done.
pub(super) struct Opening {
    store: Arc<OpeningStore>,
    /// None once it is over.
    result: Option<oneshot::Receiver<Result<Arc<RedbStore>, OpenError>>>,
    path: PathBuf,
    began: Instant,
}

impl Opening {
    /// Begins. What is opened takes the place of `store`.
    pub(super) fn begin(
        store: Arc<OpeningStore>,
        path: PathBuf,
        open: impl FnOnce() -> Result<Arc<RedbStore>, OpenError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let (tell, result) = oneshot::channel();
        let named = thread::Builder::new().name("store-open".into());
        // Where nobody waits for it any more, the store goes as it comes.
        named.spawn(move || drop(tell.send(open()))).map_err(StartError::Thread)?;
        Ok(Self { store, result: Some(result), path, began: Instant::now() })
    }

    /// Whether the store is open.
    pub(super) fn is_over(&self) -> bool {
        self.result.is_none()
    }

    /// Resolves when it becomes open. May be dropped and called again.
    pub(super) async fn over(&mut self) -> Result<(), OpenError> {
        let Some(result) = &mut self.result else { return std::future::pending().await };
        let gone = |_| Err(OpenError::Unreadable { path: self.path.clone(), why: "what opened it panicked".to_owned() });
        let store = result.await.unwrap_or_else(gone)?;
        self.result = None;
        let (seconds, requests) = (self.began.elapsed().as_secs_f64(), store.status().requests);
        self.store.opened(store);
        tracing::info!(requests, seconds, "the store is open");
        Ok(())
    }

    /// Waits for [`GRACE`] at most.
    pub(super) async fn at_once(&mut self) -> Result<(), OpenError> {
        if let Ok(over) = tokio::time::timeout(GRACE, self.over()).await {
            return over;
        }
        tracing::info!("the store is still being opened; what can do without it passes, the rest gets 503 until it is open");
        Ok(())
    }
}
