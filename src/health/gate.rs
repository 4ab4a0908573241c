//! Seats: how many requests are at a backend at once, and who waits for one. Mechanism alone: it is told its limit, and never why.
//!
//! Everything that decides whether there is a seat stands in one atomic word, so that taking a seat and freeing it are one compare-and-swap
//! and one subtraction, without a lock or an allocation:
//!
//! ```text
//! bit 63        62              41..61     21..40    0..20
//! replay waits  newcomer waits  waiters    limit     in flight          limit 0 = closed
//! ```
//!
//! Those who wait stand in a queue behind a lock, which is touched only by those who wait and by whoever frees a seat while somebody does.
//! Since the word says that somebody waits, nobody can take a seat past the queue, and no wake-up is lost: one who wants to wait
//! raises `waiters` by a compare-and-swap that fails if a seat was freed meanwhile, and whoever frees a seat later sees him.

mod queue;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::NoSeat;
use queue::Queue;
pub use queue::Rank;

/// The largest limit; a larger one is taken for this one.
pub const LARGEST_LIMIT: u32 = (1 << 20) - 1;

const FIELD: u64 = (1 << 21) - 1;
const LIMIT_FIELD: u64 = LARGEST_LIMIT as u64;
const ONE_SEAT: u64 = 1;
const LIMIT_SHIFT: u32 = 21;
const WAITERS_SHIFT: u32 = 41;
const ONE_WAITER: u64 = 1 << WAITERS_SHIFT;
const NEWCOMER_WAITS: u64 = 1 << 62;
const REPLAY_WAITS: u64 = 1 << 63;

/// The seats of one backend, or of one route at its backend. All seats that were given out come back, also past a change of the limit.
#[derive(Debug)]
pub struct Gate {
    word: AtomicU64,
    /// Counts the changes of the limit.
    epoch: AtomicU32,
    queue: Mutex<Queue>,
    freed: Notify,
    vacant: Notify,
}

/// A request's place at the backend. Dropping it gives the place to the next; hold it until the response body has ended.
#[derive(Debug)]
#[must_use = "dropping a seat frees it"]
pub struct Seat {
    gate: Arc<Gate>,
    in_flight: u32,
    epoch: u32,
}

impl Seat {
    /// Seats that were taken when this one was given, itself included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Changes of the limit before it was given.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Changes of the limit so far.
    pub fn present_epoch(&self) -> u32 {
        self.gate.epoch.load(Relaxed)
    }
}

/// A place in the queue. Dropped before the answer, it leaves the queue: a client that hangs up must not keep others from the seats.
struct Place<'a> {
    gate: &'a Arc<Gate>,
    rank: Rank,
    number: u64,
}

enum Asked {
    Seat(Seat),
    Queued(u64, oneshot::Receiver<Result<Seat, NoSeat>>),
}

#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn in_flight(self) -> u32 {
        (self.0 & FIELD) as u32
    }

    fn limit(self) -> u32 {
        (self.0 >> LIMIT_SHIFT & LIMIT_FIELD) as u32
    }

    fn waiters(self) -> u32 {
        (self.0 >> WAITERS_SHIFT & FIELD) as u32
    }

    fn with_limit(self, limit: u32) -> Self {
        Self(self.0 & !(LIMIT_FIELD << LIMIT_SHIFT) | u64::from(limit) << LIMIT_SHIFT)
    }

    fn has_room(self) -> bool {
        self.in_flight() < self.limit()
    }

    /// A free seat is for those who wait, before anybody who has just come.
    fn has_room_for_newcomers(self) -> bool {
        self.has_room() && self.waiters() == 0
    }

    /// Replay, and writes that may be queued while reads suffer, get no seat while somebody waits, and leave a fifth of the seats free (at least one they may
    /// have): bursts of live requests are to find a seat at once.
    fn has_spare_room(self) -> bool {
        let seats = (self.limit() * 4 / 5).max(self.limit().min(1));
        self.waiters() == 0 && self.in_flight() < seats
    }
}

impl Gate {
    /// A gate with so many seats, at least 1 and at most [`LARGEST_LIMIT`].
    pub fn new(limit: u32) -> Arc<Self> {
        let word = Word(0).with_limit(limit.clamp(1, LARGEST_LIMIT));
        Arc::new(Self {
            word: AtomicU64::new(word.0),
            epoch: AtomicU32::new(0),
            queue: Mutex::default(),
            freed: Notify::new(),
            vacant: Notify::new(),
        })
    }

    /// A seat, if one is free and nobody waits for it.
    pub fn try_seat(self: &Arc<Self>) -> Option<Seat> {
        self.take(Word::has_room_for_newcomers)
    }

    /// A seat that nobody else needs: nobody waits, and less than four fifths of the seats (but at least one) are taken.
    pub fn try_spare_seat(self: &Arc<Self>) -> Option<Seat> {
        self.take(Word::has_spare_room)
    }

    /// A seat, waited for up to `wait` behind those of a better rank and those of the same who came before. At most twice the limit wait, or as many as seats
    /// come free in half of the wait. Errors: [`NoSeat::Shedding`] at once when the gate is closed or closes meanwhile, [`NoSeat::Full`] otherwise.
    pub async fn seat(self: &Arc<Self>, rank: Rank, wait: Duration) -> Result<Seat, NoSeat> {
        match self.try_seat() {
            Some(seat) => Ok(seat),
            None => Box::pin(self.wait_for_seat(rank, Instant::now(), wait)).await,
        }
    }

    /// The same for one who found no seat at `now`.
    pub(super) async fn wait_for_seat(self: &Arc<Self>, rank: Rank, now: Instant, wait: Duration) -> Result<Seat, NoSeat> {
        if wait.is_zero() {
            return Err(self.refusal());
        }
        let (number, answer) = match self.ask(rank, now, wait)? {
            Asked::Seat(seat) => return Ok(seat),
            Asked::Queued(number, answer) => (number, answer),
        };
        let _place = Place { gate: self, rank, number };
        match tokio::time::timeout_at(now + wait, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NoSeat::Full),
        }
    }

    /// Why there is no seat now, if there is none.
    pub fn refusal(&self) -> NoSeat {
        if self.limit() == 0 { NoSeat::Shedding } else { NoSeat::Full }
    }

    /// Resolves when [`try_spare_seat`](Self::try_spare_seat) may have a seat (at once, if it would have now), or when the limit has
    /// changed; may resolve in vain.
    pub async fn freed(&self) {
        let freed = self.freed.notified();
        if Word(self.word.fetch_or(REPLAY_WAITS, AcqRel)).has_spare_room() {
            return;
        }
        freed.await;
    }

    /// Resolves when [`try_seat`](Self::try_seat) may have a seat (at once, if it would have now), or when the limit has changed; may
    /// resolve in vain. It is no place among those who wait: they and whoever comes at the right moment are faster.
    pub async fn vacant(&self) {
        let vacant = self.vacant.notified();
        if Word(self.word.fetch_or(NEWCOMER_WAITS, AcqRel)).has_room_for_newcomers() {
            return;
        }
        vacant.await;
    }

    /// Changes the number of seats: at least 1 and at most [`LARGEST_LIMIT`]. Opens the gate if it was closed. Who has a seat keeps it.
    pub fn set_limit(self: &Arc<Self>, limit: u32) {
        let limit = limit.clamp(1, LARGEST_LIMIT);
        let before = self.update(|word| Some(word.with_limit(limit)));
        if before.is_none_or(|word| word.limit() != limit) {
            self.epoch.fetch_add(1, Relaxed);
        }
        self.hand_over();
        self.freed.notify_waiters();
        self.vacant.notify_waiters();
    }

    /// No seats from now on; those who wait are told so. Who has a seat keeps it.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        self.update(|word| Some(word.with_limit(0)));
        while let Some(waiter) = queue.pop() {
            self.word.fetch_sub(ONE_WAITER, AcqRel);
            // A failure means that it has stopped waiting by itself.
            let _ = waiter.answer.send(Err(NoSeat::Shedding));
        }
        drop(queue);
        self.freed.notify_waiters();
        self.vacant.notify_waiters();
    }

    /// Seats taken.
    pub fn in_flight(&self) -> u32 {
        self.word().in_flight()
    }

    /// Seats in all; 0 while closed.
    pub fn limit(&self) -> u32 {
        self.word().limit()
    }

    /// How many wait for a seat.
    pub fn waiting(&self) -> u32 {
        self.word().waiters()
    }

    fn word(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    /// The word before the change, if `change` made one.
    fn update(&self, change: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        self.word.fetch_update(AcqRel, Acquire, |word| change(Word(word)).map(|word| word.0)).ok().map(Word)
    }

    fn take(self: &Arc<Self>, there_is_one: impl Fn(Word) -> bool) -> Option<Seat> {
        let before = self.update(|word| there_is_one(word).then_some(Word(word.0 + ONE_SEAT)))?;
        Some(Seat { gate: Arc::clone(self), in_flight: before.in_flight() + 1, epoch: self.epoch.load(Relaxed) })
    }

    /// A seat or a place in the queue. Under the lock, so that nobody is handed a seat past one who is being queued.
    fn ask(self: &Arc<Self>, rank: Rank, now: Instant, wait: Duration) -> Result<Asked, NoSeat> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(seat) = self.try_seat() {
                return Ok(Asked::Seat(seat));
            }
            let word = self.word();
            if word.limit() == 0 {
                return Err(NoSeat::Shedding);
            }
            let is_quick = queue.is_quick(word.waiters() + 1, wait, now);
            if word.waiters() >= 2 * word.limit() && !is_quick {
                let last = (rank == Rank::First).then(|| queue.pop_last_of_second()).flatten();
                let Some(last) = last else { return Err(NoSeat::Full) };
                self.word.fetch_sub(ONE_WAITER, AcqRel);
                // A failure means that it has stopped waiting by itself.
                let _ = last.answer.send(Err(NoSeat::Full));
            }
            // With room and somebody waiting, whoever made the room is about to hand it over and waits for the lock.
            let may_wait = |word: Word| word.limit() > 0 && !word.has_room_for_newcomers();
            if self.update(|word| may_wait(word).then_some(Word(word.0 + ONE_WAITER))).is_some() {
                let (answer, receiver) = oneshot::channel();
                return Ok(Asked::Queued(queue.push(rank, answer), receiver));
            }
        }
    }

    fn free(self: &Arc<Self>) {
        let word = Word(self.word.fetch_sub(ONE_SEAT, AcqRel) - ONE_SEAT);
        if word.waiters() > 0 {
            self.hand_over();
        } else if word.0 & (REPLAY_WAITS | NEWCOMER_WAITS) != 0 {
            self.wake();
        }
    }

    /// Gives free seats to those who wait, by rank; within one first come, first served.
    fn hand_over(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        let mut seat = None;
        while !queue.is_empty() {
            let Some(held) = seat.take().or_else(|| self.take(Word::has_room)) else { break };
            let Some(waiter) = queue.pop() else { break };
            self.word.fetch_sub(ONE_WAITER, AcqRel);
            match waiter.answer.send(Ok(held)) {
                Ok(()) => queue.served(),
                // A failure means that it has stopped waiting by itself.
                Err(declined) => seat = declined.ok(),
            }
        }
        drop(queue);
        // What nobody took comes free only now: freeing it takes the lock.
        drop(seat);
        self.wake();
    }

    /// Wakes those who wait without a place, if there is room for them.
    fn wake(&self) {
        let replay = |word: Word| (word.0 & REPLAY_WAITS != 0 && word.has_spare_room()).then_some(Word(word.0 & !REPLAY_WAITS));
        if self.update(replay).is_some() {
            self.freed.notify_waiters();
        }
        let newcomer =
            |word: Word| (word.0 & NEWCOMER_WAITS != 0 && word.has_room_for_newcomers()).then_some(Word(word.0 & !NEWCOMER_WAITS));
        if self.update(newcomer).is_some() {
            self.vacant.notify_waiters();
        }
    }

    fn leave(self: &Arc<Self>, rank: Rank, number: u64) {
        let mut queue = self.queue.lock();
        if queue.remove(rank, number) {
            self.word.fetch_sub(ONE_WAITER, AcqRel);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.rank, self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.free();
    }
}

#[cfg(test)]
mod tests;
