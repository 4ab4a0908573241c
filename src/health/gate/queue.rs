//! Who waits for a seat, in which order, and how many may. Behind the lock of the [`Gate`](super::Gate).

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::Seat;
use crate::health::NoSeat;

/// For so long after somebody has begun to wait nobody knows how fast seats come free.
const UNKNOWN: Duration = Duration::from_millis(50);
/// What came free before says less about now: it is forgotten by halves.
const HALF: Duration = Duration::from_millis(125);

/// Who is served first among those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// They are.
    First,
    /// Those that may as well go elsewhere: they make room among those who wait, too.
    Second,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) answer: oneshot::Sender<Result<Seat, NoSeat>>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By rank, each in the order of their numbers.
    ranks: [VecDeque<Waiter>; 2],
    next_number: u64,
    pace: Option<Pace>,
}

impl Queue {
    /// The number of the new one.
    pub(super) fn push(&mut self, rank: Rank, answer: oneshot::Sender<Result<Seat, NoSeat>>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.ranks[rank as usize].push_back(Waiter { number, answer });
        number
    }

    pub(super) fn pop(&mut self) -> Option<Waiter> {
        self.ranks.iter_mut().find_map(VecDeque::pop_front)
    }

    /// The one that makes room for one of a better rank.
    pub(super) fn pop_last_of_second(&mut self) -> Option<Waiter> {
        self.ranks[Rank::Second as usize].pop_back()
    }

    /// Whether that one was there.
    pub(super) fn remove(&mut self, rank: Rank, number: u64) -> bool {
        let waiters = &mut self.ranks[rank as usize];
        let index = waiters.binary_search_by_key(&number, |waiter| waiter.number);
        index.is_ok_and(|index| waiters.remove(index).is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranks.iter().all(VecDeque::is_empty)
    }

    /// One of those who waited was given a seat.
    pub(super) fn served(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.served += 1.0;
        }
    }

    /// Whether seats come free so fast that `waiters` are served in half of `wait`. It is asked before each that is to wait.
    pub(super) fn is_quick(&mut self, waiters: u32, wait: Duration, now: Instant) -> bool {
        if self.is_empty() {
            self.pace = None;
        }
        self.pace.get_or_insert(Pace { since: now, served: 0.0 }).is_quick(waiters, wait, now)
    }
}

/// How many of those who waited were given a seat while somebody waited.
#[derive(Debug)]
struct Pace {
    since: Instant,
    served: f64,
}

impl Pace {
    fn is_quick(&mut self, waiters: u32, wait: Duration, now: Instant) -> bool {
        let span = now.saturating_duration_since(self.since);
        if span < UNKNOWN {
            return true;
        }
        let quick = f64::from(waiters) * span.as_secs_f64() <= self.served * wait.as_secs_f64() / 2.0;
        if span > 2 * HALF {
            self.served *= HALF.as_secs_f64() / span.as_secs_f64();
            self.since = now.checked_sub(HALF).unwrap_or(now);
        }
        quick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(250);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn as_many_may_wait_as_are_served_in_half_of_the_wait() {
        for (served, millis, most) in [(0.0, 100, 0), (100.0, 100, 125), (1000.0, 250, 500), (1.0, 125, 1)] {
            let since = Instant::now();
            let pace = || Pace { since, served };
            assert!(pace().is_quick(most, WAIT, since + millis * MS), "{served} in {millis} ms: {most}");
            assert!(!pace().is_quick(most + 1, WAIT, since + millis * MS), "{served} in {millis} ms: {most} and one more");
        }
    }

    #[test]
    fn nothing_is_known_at_first_and_nobody_is_turned_away_for_it() {
        let since = Instant::now();
        let mut pace = Pace { since, served: 0.0 };
        assert!(pace.is_quick(100_000, WAIT, since + 49 * MS));
        assert!(!pace.is_quick(1, WAIT, since + 50 * MS));
    }

    #[test]
    fn what_was_quick_long_ago_is_forgotten() {
        let since = Instant::now();
        let mut pace = Pace { since, served: 10_000.0 };
        let quick = |pace: &mut Pace, millis: u32| pace.is_quick(100, WAIT, since + millis * MS);
        assert!((250..2000).step_by(50).any(|millis| !quick(&mut pace, millis)), "{pace:?}");
    }
}
