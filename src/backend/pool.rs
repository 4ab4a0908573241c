//! Idle connections of one thread, last in first out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use super::RequestBody;

/// Idle connections of one server that one thread keeps at most: as many as a thread is likely to use at once.
const MAX_IDLE: usize = 512;

/// How long a connection may lie idle. Well under the 75 s after which nginx closes one, and a server that closes sooner is noticed
/// by the connection itself.
const MAX_IDLE_TIME: Duration = Duration::from_secs(50);

/// The idle connections of one thread, to all backends.
///
/// Each thread has its own, so its locks are never contended; they are locks all the same because a body may be dropped anywhere.
#[derive(Debug, Default)]
pub struct Pool {
    shelves: Mutex<AHashMap<(u64, usize), Arc<Shelf>>>,
}

/// The idle connections of one thread to one server.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Pool {
    pub(super) fn shelf(&self, generation: u64, server: usize) -> Arc<Shelf> {
        self.shelves.lock().entry((generation, server)).or_default().clone()
    }

    /// Drops connections that are closed or were idle for too long, and the shelves of servers that nobody asks any more. Called every few seconds.
    pub fn sweep(&self) {
        self.shelves.lock().retain(|_, shelf| {
            shelf.idle.lock().retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < MAX_IDLE_TIME);
            Arc::strong_count(shelf) > 1 || !shelf.idle.lock().is_empty()
        });
    }
}

impl Shelf {
    /// The connection that was used last, if one can take a request now.
    pub(super) fn take(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.lock();
        // One that is neither closed nor ready still sends the end of an earlier request whose answer came early: not worth waiting for.
        std::iter::from_fn(|| idle.pop())
            .find(|idle| idle.sender.is_ready() && idle.since.elapsed() < MAX_IDLE_TIME)
            .map(|idle| idle.sender)
    }

    pub(super) fn give_back(&self, sender: SendRequest<RequestBody>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}
