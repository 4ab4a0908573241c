//! Idle connections of one thread, last in first out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::AHashMap;
use http::HeaderMap;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{RequestBody, again::Written};

/// Idle connections of one server that one thread keeps at most: as many as a thread is likely to use at once.
const MAX_IDLE: usize = 512;

/// How often [`Pool::sweep`] is called. The clock of a pool moves only then (or with [`Pool::tick`]), so that no request costs a look at the real one; a
/// connection lies idle up to so much longer than its clock says.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The idle connections of one thread, to all backends.
///
/// Each thread has its own, so its locks are never contended; they are locks all the same because a body may be dropped anywhere.
#[derive(Debug)]
pub struct Pool {
    shelves: Mutex<AHashMap<(u64, usize), Arc<Shelf>>>,
    began: Instant,
    /// Milliseconds after `began`, as of the last look.
    now: Arc<AtomicU64>,
}

/// The idle connections of one thread to one server.
#[derive(Debug)]
pub(super) struct Shelf {
    idle: Mutex<Vec<Idle>>,
    now: Arc<AtomicU64>,
}

/// A connection that is open, and what is known of it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    /// What was last sent on it.
    pub(super) written: Arc<Written>,
    /// For how long it may lie idle.
    keep: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: u64,
}

/// A connection from a shelf.
pub(super) struct Taken {
    pub(super) connection: Connection,
    /// It was idle for long enough for its server to have closed it, and for us not to have looked since.
    pub(super) rested: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { shelves: Mutex::default(), began: Instant::now(), now: Arc::default() }
    }
}

impl Pool {
    pub(super) fn shelf(&self, generation: u64, server: usize) -> Arc<Shelf> {
        let new = || Arc::new(Shelf { idle: Mutex::default(), now: self.now.clone() });
        self.shelves.lock().entry((generation, server)).or_insert_with(new).clone()
    }

    /// Looks at the clock.
    pub fn tick(&self) {
        self.now.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Drops connections that are closed or were idle for too long, and the shelves of servers that nobody asks any more. Called every [`SWEEP`].
    pub fn sweep(&self) {
        self.tick();
        let now = self.now.load(Relaxed);
        self.shelves.lock().retain(|_, shelf| {
            shelf.idle.lock().retain(|idle| !idle.connection.sender.is_closed() && idle.is_fresh(now));
            Arc::strong_count(shelf) > 1 || !shelf.idle.lock().is_empty()
        });
    }
}

impl Shelf {
    /// The connection that was used last, if one can take a request now.
    pub(super) fn take(&self) -> Option<Taken> {
        let now = self.now.load(Relaxed);
        let mut idle = self.idle.lock();
        // One that is neither closed nor ready still sends the end of an earlier request whose answer came early: not worth waiting for.
        let found = std::iter::from_fn(|| idle.pop()).find(|idle| idle.connection.sender.is_ready() && idle.is_fresh(now))?;
        Some(Taken { rested: found.since != now, connection: found.connection })
    }

    pub(super) fn give_back(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: self.now.load(Relaxed) });
        }
    }
}

impl Idle {
    fn is_fresh(&self, now: u64) -> bool {
        u128::from(now.saturating_sub(self.since)) <= self.connection.keep.as_millis()
    }
}

impl Connection {
    /// A new connection, that may lie idle for so long.
    pub(super) fn new(sender: SendRequest<RequestBody>, written: Arc<Written>, idle_timeout: Duration) -> Self {
        Self { sender, written, keep: idle_timeout.saturating_sub(SWEEP) }
    }

    /// Heeds what its server says with its first answer about how long it will keep it (`Keep-Alive: timeout=5`, RFC 2068 section 19.7.1; what Apache, Node
    /// and others send): it is used only until a second before. Servers say the same with each answer, so that one look is enough.
    pub(super) fn heed(&mut self, headers: &HeaderMap) {
        if let Some(kept) = headers.get("keep-alive").and_then(|value| timeout_of(value.to_str().ok()?)) {
            self.keep = self.keep.min(kept.saturating_sub(2 * SWEEP));
        }
    }
}

/// The parameter `timeout` of a `Keep-Alive` field, in seconds.
fn timeout_of(value: &str) -> Option<Duration> {
    let mut parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connection(idle_timeout: u64, keep_alive: Option<&str>) -> (Connection, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let (sender, driver) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await.unwrap();
        tokio::spawn(driver);
        let mut connection = Connection::new(sender, Arc::default(), Duration::from_secs(idle_timeout));
        if let Some(value) = keep_alive {
            connection.heed(&HeaderMap::from_iter([("keep-alive".parse().unwrap(), value.parse().unwrap())]));
        }
        tokio::task::yield_now().await;
        (connection, far)
    }

    /// The seconds that have passed when a connection is no longer given out.
    async fn kept(idle_timeout: u64, keep_alive: Option<&str>) -> u64 {
        for seconds in 0..1000 {
            let pool = Pool::default();
            let shelf = pool.shelf(0, 0);
            let (connection, _far) = connection(idle_timeout, keep_alive).await;
            shelf.give_back(connection);
            for _ in 0..seconds {
                tokio::time::advance(SWEEP).await;
                pool.sweep();
            }
            match shelf.take() {
                None => return seconds,
                Some(taken) => assert_eq!(taken.rested, seconds > 0),
            }
        }
        1000
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_used_after_its_idle_timeout_nor_in_the_last_second_of_its_servers() {
        for (idle_timeout, keep_alive, expected) in [
            (45, None, 45),
            (1, None, 1),
            (45, Some("timeout=5, max=100"), 4),
            (45, Some("max=100, Timeout = 20"), 19),
            (45, Some("timeout=300"), 45),
            (45, Some("timeout=1"), 1),
            (45, Some("timeout=soon"), 45),
        ] {
            assert_eq!(kept(idle_timeout, keep_alive).await, expected, "{idle_timeout} s, {keep_alive:?}");
        }
    }

    #[tokio::test]
    async fn the_last_in_is_the_first_out_and_a_closed_one_never() {
        let pool = Pool::default();
        let shelf = pool.shelf(0, 0);
        let (first, _open) = connection(45, None).await;
        let (second, gone) = connection(45, None).await;
        shelf.give_back(first);
        shelf.give_back(second);
        drop(gone);
        tokio::task::yield_now().await;
        assert!(shelf.take().is_some() && shelf.take().is_none());
    }
}
