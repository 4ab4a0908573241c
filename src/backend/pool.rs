//! Connections of one thread that can take a request: those of HTTP/1.1 that are idle, last in first out, and those of HTTP/2 that have a stream left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{patience::Alarm, socket::Socket};
use crate::{
    http1::{AnswerHead, KEEP_ALIVE, client},
    http2::client::Sender,
};

/// Idle connections of one server that one thread keeps at most: as many as a thread is likely to use at once.
const MAX_IDLE: usize = 512;

/// Requests at a time on one connection of HTTP/2, where its server allows more.
const MOST_STREAMS: usize = 100;

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

/// The connections of one thread to one server that can take a request.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Those of HTTP/1.1, idle.
    idle: Mutex<Vec<Idle>>,
    /// Those of HTTP/2, idle or not.
    shared: Mutex<Vec<Arc<Multiplexed>>>,
    /// Held while one of HTTP/2 is opened: those who wait for it may use it too.
    pub(super) opening: tokio::sync::Mutex<()>,
    now: Arc<AtomicU64>,
}

/// A connection to send a request on.
#[derive(Debug)]
pub(super) enum Connection {
    /// All of one.
    Whole(Http1),
    /// A stream of one.
    Stream(Stream),
}

/// A connection of HTTP/1.1 that is open.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) connection: client::Connection<Socket>,
    pub(super) kept: Kept,
}

/// What stays with a connection from one request to the next.
#[derive(Debug)]
pub(super) struct Kept {
    /// For how long it may lie idle.
    time: Duration,
    /// Whether its server has had its say on that.
    heeded: bool,
    /// Rings when an answer is late.
    pub(super) alarm: Alarm,
}

/// A connection of HTTP/2.
#[derive(Debug)]
pub(super) struct Multiplexed {
    sender: Sender,
    tls: bool,
    /// Streams on it now.
    streams: AtomicUsize,
    /// When one was last begun.
    used: AtomicU64,
    keep: Duration,
    /// It gave no answer in time: who knows whether anybody is there.
    doubtful: AtomicBool,
}

/// A request's part of a connection of HTTP/2.
#[derive(Debug)]
pub(super) struct Stream(Arc<Multiplexed>);

#[derive(Debug)]
struct Idle {
    connection: Http1,
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
        let new = || {
            let (idle, shared, opening) = (Mutex::default(), Mutex::default(), tokio::sync::Mutex::default());
            Arc::new(Shelf { idle, shared, opening, now: self.now.clone() })
        };
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
            shelf.idle.lock().retain_mut(|idle| idle.is_fresh(now) && idle.connection.is_open());
            shelf.shared.lock().retain(|shared| shared.is_open() && (shared.streams.load(Relaxed) > 0 || shared.is_fresh(now)));
            Arc::strong_count(shelf) > 1 || !shelf.idle.lock().is_empty() || !shelf.shared.lock().is_empty()
        });
    }
}

impl Shelf {
    /// The connection that was used last, if one can take a request now. `whole`: it has to be one of HTTP/1.1.
    pub(super) fn take(&self, whole: bool) -> Option<Taken> {
        if !whole && let Some(stream) = self.stream() {
            return Some(stream);
        }
        let now = self.now.load(Relaxed);
        let mut idle = self.idle.lock();
        let found =
            std::iter::from_fn(|| idle.pop()).find_map(|mut idle| (idle.is_fresh(now) && idle.connection.is_open()).then_some(idle))?;
        Some(Taken { rested: found.since != now, connection: Connection::Whole(found.connection) })
    }

    /// A stream of a connection that has one left.
    fn stream(&self) -> Option<Taken> {
        let now = self.now.load(Relaxed);
        let shared = self.shared.lock();
        let free = shared.iter().find(|shared| shared.is_open() && shared.has_room() && shared.is_fresh(now))?;
        let rested = free.streams.load(Relaxed) == 0 && free.used.load(Relaxed) != now;
        Some(Taken { connection: Connection::Stream(Stream::begin(free, now)), rested })
    }

    /// Whether the server speaks HTTP/2, as far as is known.
    pub(super) fn is_shared(&self) -> bool {
        !self.shared.lock().is_empty()
    }

    /// A new connection of HTTP/2, for all to use, and its first stream.
    pub(super) fn share(&self, sender: Sender, tls: bool, idle_timeout: Duration) -> Stream {
        let (now, keep) = (self.now.load(Relaxed), idle_timeout.saturating_sub(SWEEP));
        let (streams, used, doubtful) = (AtomicUsize::new(0), AtomicU64::new(now), AtomicBool::new(false));
        let connection = Arc::new(Multiplexed { sender, tls, streams, used, keep, doubtful });
        let first = Stream::begin(&connection, now);
        self.shared.lock().push(connection);
        first
    }

    /// An answer has ended, and its connection takes another request.
    pub(super) fn give_back(&self, connection: Http1) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: self.now.load(Relaxed) });
        }
    }
}

impl Idle {
    fn is_fresh(&self, now: u64) -> bool {
        is_fresh(self.since, now, self.connection.kept.time)
    }
}

impl Multiplexed {
    fn is_open(&self) -> bool {
        self.sender.is_open() && !self.doubtful.load(Relaxed)
    }

    fn has_room(&self) -> bool {
        self.streams.load(Relaxed) < self.sender.most().min(MOST_STREAMS)
    }

    fn is_fresh(&self, now: u64) -> bool {
        self.streams.load(Relaxed) > 0 || is_fresh(self.used.load(Relaxed), now, self.keep)
    }
}

fn is_fresh(since: u64, now: u64, keep: Duration) -> bool {
    u128::from(now.saturating_sub(since)) <= keep.as_millis()
}

impl Stream {
    fn begin(connection: &Arc<Multiplexed>, now: u64) -> Self {
        connection.streams.fetch_add(1, Relaxed);
        connection.used.store(now, Relaxed);
        Self(connection.clone())
    }

    pub(super) fn sender(&self) -> Sender {
        self.0.sender.clone()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.0.tls
    }

    /// No answer came in time: the next request goes out on another connection.
    pub(super) fn doubt(&self) {
        self.0.doubtful.store(true, Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Connection {
    /// Whether it can take a request.
    pub(super) fn is_ready(&mut self) -> bool {
        match self {
            Self::Whole(connection) => connection.is_open(),
            Self::Stream(stream) => stream.0.is_open(),
        }
    }
}

impl Http1 {
    /// A new connection, that may lie idle for so long.
    pub(super) fn new(socket: Socket, idle_timeout: Duration) -> Self {
        let kept = Kept { time: idle_timeout.saturating_sub(SWEEP), heeded: false, alarm: Alarm::default() };
        Self { connection: client::Connection::new(socket), kept }
    }

    /// Whether it has not ended, as far as has been heard.
    fn is_open(&mut self) -> bool {
        let is_fit = self.connection.is_fit();
        if !is_fit {
            tracing::debug!("a connection to a backend has ended");
        }
        is_fit
    }

    /// Heeds what its server says with its first answer about how long it will keep it (`Keep-Alive: timeout=5`, RFC 2068 section 19.7.1; what Apache, Node
    /// and others send): it is used only until a second before. Servers say the same with each answer, so that one look is enough.
    #[inline]
    pub(super) fn heed(&mut self, answer: &AnswerHead) {
        if !std::mem::replace(&mut self.kept.heeded, true)
            && let Some(kept) = answer.get(&KEEP_ALIVE).and_then(|value| timeout_of(str::from_utf8(value).ok()?))
        {
            self.kept.time = self.kept.time.min(kept.saturating_sub(2 * SWEEP));
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
    use tokio::net::UnixStream;

    use super::*;

    async fn connection(idle_timeout: u64, keep_alive: Option<&str>) -> (Http1, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let mut connection = Http1::new(Socket::Unix(near), Duration::from_secs(idle_timeout));
        if let Some(value) = keep_alive {
            let answer = http::Response::builder().header(KEEP_ALIVE, value).body(()).unwrap();
            connection.heed(&answer.into_parts().0.into());
        }
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
            match shelf.take(false) {
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
        for connection in [first, second] {
            shelf.give_back(connection);
        }
        drop(gone);
        // To yield is to look.
        tokio::task::yield_now().await;
        assert!(shelf.take(false).is_some() && shelf.take(false).is_none());
    }
}
