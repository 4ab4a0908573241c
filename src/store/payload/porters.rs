//! The threads that carry pieces of bodies to the disk and back.
//!
//! They are few and the same for all bodies. In a runtime's own pool, who asks for the next piece as soon as the one before is done mostly comes before its thread has gone idle,
//! and is given a new one: a single upload had 15 of them within a second, and each costs a stack and a heap.

use std::{io, sync::LazyLock, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::store::StoreError;

/// How many there are. A piece is copied to or from the page cache, which is faster than any disk; what has to wait for the disk waits elsewhere.
const PORTERS: usize = 4;

/// How long one stays for the next body: to end it and begin another costs more memory than to let it wait.
const REST: Duration = Duration::from_secs(3600);

/// Runs nothing but its blocking threads.
static POOL: LazyLock<io::Result<Runtime>> =
    LazyLock::new(|| Builder::new_current_thread().max_blocking_threads(PORTERS).thread_keep_alive(REST).thread_name("payload").build());

/// Has one of them do something.
pub(super) async fn carry<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let pool = POOL.as_ref().map_err(StoreError::failed)?;
    pool.spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::failed(error)))
}
