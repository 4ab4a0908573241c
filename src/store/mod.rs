//! The durable queue: what a 202 rests on.
//!
//! [`Store`] is its one face, in verbs of a request's life: *turn* (its place in order), *append*, *claim*, *settle*, *cancel*,
//! *redrive*, *discard*, *prune*, and looks at it. Two engines stand behind it: [`memory`], the model that tests compare against, and [`redb`], the
//! real one. Every engine passes the same conformance suite.
//!
//! # Contract
//! 1. `append` returns only when the request, body included, is durable. What it returned `Ok` for is there after any crash.
//! 2. `claim` returns only when the start of the attempt is durable: after a crash the store knows what may have been executed.
//! 3. Every accepted request is, at every moment and in one snapshot of [`Store::counts`], in exactly one of the counted states.
//! 4. Of all requests with one ordering key at most one is claimed at a time, always the one whose turn is first; none while a live
//!    write holding a turn of that key is under way.
//! 5. At open, what was being delivered is queued again when it may be resent ([`Envelope::may_be_resent`]), and is dead
//!    (`outcome-unknown`) when it may not.
//!
//! What to send where, when to try again, and what an answer means is not known here.

mod capacity;
mod error;
mod history;
pub mod memory;
mod opening;
mod payload;
mod records;
pub mod redb;
mod refusing;
mod status;
mod transfer;
mod turns;
mod wakes;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::envelope::{DeadReason, Envelope, Field, Name, OrderKey, RequestId, State, Timestamp};

pub(crate) use self::redb::sync_parent;
pub use error::{Limit, OpenError, StoreError};
pub use history::{History, HourCounts, KEPT_HOURS, Moves};
pub use opening::OpeningStore;
use payload::TEMPORARY_PREFIX;
pub use payload::{BodyFile, Payload, PayloadBody, PayloadReader, Spool, Spooler};
pub use status::{Age, Ages, Refusals, Refused, StoreStatus};
pub use transfer::{ExportError, Exported, ImportError, Imported, export, import};
pub use turns::{LiveTurn, Position, QueuedTurn, Turn, Turns};

/// [`Record::last_outcome`] of a request whose attempt ended with the program.
const INTERRUPTED: &str = "forebay stopped before the attempt ended";

/// How much the store may hold, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The redb file; payloads lie in a folder beside it, of the same name with `.payloads` appended.
    pub path: PathBuf,
    /// Requests that are queued or being delivered.
    pub max_requests: u64,
    /// Bytes of those requests' bodies and heads.
    pub max_bytes: u64,
    /// Free bytes of the file system below which nothing new is accepted.
    pub min_free_disk: u64,
    /// How long outcome and response of a delivered or cancelled request stay readable.
    pub keep_delivered: Duration,
    /// How long a dead letter is kept; then it is discarded.
    pub keep_dead: Duration,
}

/// A write to be queued.
#[derive(Debug)]
pub struct NewRequest {
    /// What is to be sent.
    pub envelope: Envelope,
    /// Its body.
    pub payload: Payload,
    /// Its place in order, from [`Store::turn`].
    pub turn: QueuedTurn,
}

/// What `append` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The request's identity.
    pub id: RequestId,
    /// Requests of the same backend that are queued ahead of it.
    pub ahead: u64,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// A request for work.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Whose queue.
    pub backend: &'a str,
    /// Routes that are at their limit: nothing of them is claimed.
    pub full_routes: &'a [Name],
    /// At most so many.
    pub max: usize,
    /// The current moment: only what is due is claimed.
    pub now: Timestamp,
}

/// A request whose attempt has begun, durably.
#[derive(Debug)]
pub struct Claimed {
    /// What is to be sent.
    pub envelope: Envelope,
    /// Its body; a read fails with [`StoreError::Damaged`] where the stored bytes do not match their checksum.
    pub payload: Payload,
    /// Number of this attempt, from 1, counting every one that was started.
    pub attempt: u32,
    /// Attempts that have failed and count against `max_attempts`, this one not included.
    pub failures: u32,
    /// Trips of the breaker during which it was at the backend, as far as its attempts said so when they were settled.
    pub trips: u32,
}

/// An answer of a backend that is kept for the client.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Header fields in order.
    pub headers: Vec<Field>,
    /// Its body; cut at the limit that replay keeps.
    pub payload: Payload,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// The backend took it.
    Delivered(Answer),
    /// Another attempt is to be made.
    Again {
        /// Not before this moment.
        due: Timestamp,
        /// Whether it counts against `max_attempts`.
        consumes_attempt: bool,
        /// Trips of the breaker during which it was at the backend, to be added to those before.
        trips: u32,
        /// What happened, for an operator, in a few words.
        why: String,
    },
    /// It is given up.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What happened, in a few words.
        why: String,
        /// What the backend answered, if it did.
        answer: Option<Answer>,
    },
}

/// Which requests; an absent field means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this backend.
    pub backend: Option<Name>,
    /// Of this route.
    pub route: Option<Name>,
    /// In this state.
    pub state: Option<State>,
    /// Dead for this reason.
    pub dead_reason: Option<DeadReason>,
}

impl Filter {
    fn is_of(&self, backend: &Name, route: &Name) -> bool {
        self.backend.as_ref().is_none_or(|wanted| wanted == backend) && self.route.as_ref().is_none_or(|wanted| wanted == route)
    }
}

/// What is known of one request, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The request as it will be sent.
    pub envelope: Envelope,
    /// Length of its body.
    pub body_bytes: u64,
    /// Where it is in its life.
    pub state: State,
    /// Attempts started so far.
    pub attempts: u32,
    /// When it may be tried next; only while queued.
    pub due: Option<Timestamp>,
    /// When it became what it is.
    pub changed_at: Timestamp,
    /// Why it is dead; only when dead.
    pub dead_reason: Option<DeadReason>,
    /// What happened at the last attempt, in a few words; empty before one.
    pub last_outcome: String,
    /// Status of the backend's kept answer.
    pub answer_status: Option<u16>,
    /// Requests of the same backend queued ahead of it; only while queued.
    pub ahead: Option<u64>,
}

/// One page of a listing, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The requests.
    pub records: Vec<Record>,
    /// What to give as `after` for the next page; none when this was the last.
    pub next: Option<RequestId>,
}

/// Exact counts of one route. `accepted` is always the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All that were ever acknowledged.
    pub accepted: u64,
    /// Waiting.
    pub queued: u64,
    /// Attempt under way.
    pub delivering: u64,
    /// Taken by the backend, ever.
    pub delivered: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Withdrawn, ever.
    pub cancelled: u64,
    /// Dead letters thrown away, by an operator or by age, ever.
    pub discarded: u64,
}

impl Totals {
    fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Queued => &mut self.queued,
            State::Delivering => &mut self.delivering,
            State::Delivered => &mut self.delivered,
            State::Dead => &mut self.dead,
            State::Cancelled => &mut self.cancelled,
        }
    }

    /// Whether every accepted request is in exactly one state.
    pub const fn balance(&self) -> bool {
        self.accepted == self.queued + self.delivering + self.delivered + self.dead + self.cancelled + self.discarded
    }
}

/// Counts of one route at one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCounts {
    /// The backend.
    pub backend: Name,
    /// The route.
    pub route: Name,
    /// Its counts.
    pub totals: Totals,
}

/// State of one backend's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCounts {
    /// The backend.
    pub backend: Name,
    /// Bytes of the queued and the delivering.
    pub bytes: u64,
    /// When the oldest queued or delivering request was accepted, to the second below.
    pub oldest: Option<Timestamp>,
}

/// One consistent look at all counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Every route that ever accepted a request, those that the configuration no longer names included; ordered by backend, then route.
    pub routes: Vec<RouteCounts>,
    /// Every backend that ever accepted one; ordered by name.
    pub queues: Vec<QueueCounts>,
}

/// The queue. See the module's contract.
///
/// Methods that return a future may wait for the disk. The others only touch memory, and are cheap enough for the path of every write.
pub trait Store: Send + Sync + 'static {
    /// Gives a write its place in order and says whether it may go live.
    ///
    /// With a key that has anything pending (queued, being delivered, waiting for a retry, held), it is [`Turn::Queued`]: it must be appended. Otherwise, and always
    /// without a key, it is [`Turn::Live`], which counts as under way until it is dropped, or becomes a queued turn at its old
    /// place by [`LiveTurn::into_queued`]. Check and entry are one atomic step per key. Never waits. [`StoreError::Opening`] while what a key has pending is not known.
    fn turn(&self, key: Option<OrderKey>) -> Result<Turn, StoreError>;

    /// Whether a request of `bytes`, of which `written` are on the disk already, would be accepted now. Asked before a body is read, and again while it streams.
    fn room(&self, bytes: u64, written: u64) -> Result<(), StoreError>;

    /// Where bodies that are too large for memory are put while they arrive.
    fn spooler(&self) -> &Spooler;

    /// Makes a request durable. On an error nothing of it remains, and its turn is given back.
    fn append(&self, request: NewRequest) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// Begins an attempt of up to `max` requests that are due and whose turn it is, oldest turn first. Empty when there is none. A request whose
    /// stored bytes are damaged is not returned: it is made dead (`damaged`), counted and logged. One past its `expires_at` is made dead (`expired`).
    fn claim<'a>(&'a self, claim: Claim<'a>) -> BoxFuture<'a, Result<Vec<Claimed>, StoreError>>;

    /// Ends the attempt numbered `attempt` of a request. [`StoreError::WrongState`] when that attempt is not under way.
    fn settle(&self, id: RequestId, attempt: u32, at: Timestamp, outcome: Outcome) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Withdraws a queued request. [`StoreError::WrongState`] when it is anything else.
    fn cancel(&self, id: RequestId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Queues dead letters again, due at `at`, with all their attempts and their whole age anew, and no trips to their name; at most `limit` of them, oldest first. Returns how many.
    fn redrive(&self, filter: Filter, at: Timestamp, limit: u64) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Throws dead letters away. Returns how many.
    fn discard(&self, filter: Filter, at: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Makes queued requests past their age dead, and forgets requests and hours that have been kept long enough. Returns how many requests were touched. Called every few seconds.
    fn prune(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// What is known of a request.
    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Record, StoreError>>;

    /// The body of a request, as long as it is kept.
    fn body(&self, id: RequestId) -> BoxFuture<'_, Result<Payload, StoreError>>;

    /// The kept answer of a backend. [`StoreError::NotFound`] when there is none (yet, or any more).
    fn answer(&self, id: RequestId) -> BoxFuture<'_, Result<Answer, StoreError>>;

    /// A page of requests in order of identity, after `after`, at most `limit`.
    fn page(&self, filter: Filter, after: Option<RequestId>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// One snapshot of all counts, in which every route balances.
    fn counts(&self) -> Counts;

    /// What happened in each hour from the one of `from` on, and in those that [`prune`](Self::prune) has not yet let go.
    fn history(&self, from: Timestamp) -> BoxFuture<'_, Result<History, StoreError>>;

    /// How the store itself is.
    fn status(&self) -> StoreStatus;

    /// Notified (`notify_one`) whenever something of that backend may have become claimable other than by the passing of time:
    /// an append, a settlement, a redrive, the end of a live write that held back a key.
    fn wake(&self, backend: &str) -> Arc<Notify>;

    /// Requests of an ordering key that pend: queued, being delivered, or dead and holding it. Those that are being appended do not count.
    fn pending(&self, key: OrderKey) -> u32;

    /// When the next request of that backend falls due, if that is what it waits for. In the past when one is due now. Requests of `full_routes` and of keys that are under way do not count.
    fn next_due(&self, backend: &str, full_routes: &[Name]) -> Option<Timestamp>;

    /// Commits what is under way and closes: every later call fails with [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
