//! Idle connections of one thread, last in first out.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use ahash::AHashMap;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use super::RequestBody;

/// Idle connections of one server that one thread keeps at most: as many as a thread is likely to use at once.
const MAX_IDLE: usize = 512;

/// Sweeps that a connection may lie idle; at the 10 s between two of them 40 to 50 s. Well under the 75 s after which nginx closes one, and a server that
/// closes sooner is noticed by the connection itself. Counted in sweeps, not seconds, because that costs no look at the clock for each request.
const MAX_IDLE_SWEEPS: u32 = 5;

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
    sweeps: AtomicU32,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    /// The number of sweeps when it was given back.
    since: u32,
}

impl Pool {
    pub(super) fn shelf(&self, generation: u64, server: usize) -> Arc<Shelf> {
        self.shelves.lock().entry((generation, server)).or_default().clone()
    }

    /// Drops connections that are closed or were idle for too long, and the shelves of servers that nobody asks any more. Called every 10 s.
    pub fn sweep(&self) {
        self.shelves.lock().retain(|_, shelf| {
            let now = shelf.sweeps.fetch_add(1, Relaxed) + 1;
            shelf.idle.lock().retain(|idle| !idle.sender.is_closed() && now.wrapping_sub(idle.since) < MAX_IDLE_SWEEPS);
            Arc::strong_count(shelf) > 1 || !shelf.idle.lock().is_empty()
        });
    }
}

impl Shelf {
    /// The connection that was used last, if one can take a request now.
    pub(super) fn take(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.lock();
        // One that is neither closed nor ready still sends the end of an earlier request whose answer came early: not worth waiting for.
        std::iter::from_fn(|| idle.pop()).find(|idle| idle.sender.is_ready()).map(|idle| idle.sender)
    }

    pub(super) fn give_back(&self, sender: SendRequest<RequestBody>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: self.sweeps.load(Relaxed) });
        }
    }
}
