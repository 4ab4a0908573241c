//! Whether clients of HTTP/2 take their answers. Each stream has a window of its own, so that one that is not read holds what belongs to it although its connection is busy.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The answers of one connection that are under way.
#[derive(Debug)]
pub(super) struct Takers {
    began: Instant,
    list: Mutex<Vec<Weak<AtomicU64>>>,
}

/// One answer: milliseconds after the beginning, from 1, at which its client was given the last piece; 0 while there is none to take.
#[derive(Debug)]
pub(super) struct Taker {
    began: Instant,
    given: Arc<AtomicU64>,
}

impl Takers {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, list: Mutex::default() }
    }

    /// One more answer.
    pub(super) fn add(&self) -> Taker {
        let given = Arc::new(AtomicU64::new(0));
        let mut list = self.list.lock();
        list.retain(|other| other.strong_count() > 0);
        list.push(Arc::downgrade(&given));
        Taker { began: self.began, given }
    }

    /// Whether a client has left a piece of an answer untaken for so long.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let now = millis(self.began);
        let given = |taker: &Weak<AtomicU64>| taker.upgrade().map(|given| given.load(Relaxed)).filter(|given| *given > 0);
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.list.lock().iter().filter_map(given).any(|given| now.saturating_sub(given) >= patience)
    }
}

impl Taker {
    /// The connection asks for the next piece: what it was given before has been taken.
    pub(super) fn asks(&self) {
        self.given.store(0, Relaxed);
    }

    /// It was given one.
    pub(super) fn is_given(&self) {
        self.given.store(millis(self.began), Relaxed);
    }
}

/// Milliseconds since then, and one.
fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_stuck_when_its_client_takes_nothing_and_not_when_its_backend_gives_nothing() {
        let takers = Takers::new(Instant::now());
        let (read, unread) = (takers.add(), takers.add());
        let patience = Duration::from_secs(60);
        unread.is_given();
        tokio::time::advance(patience - Duration::from_millis(1)).await;
        read.is_given();
        assert!(!takers.is_stuck(patience));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(takers.is_stuck(patience), "one that is read does not excuse another");
        unread.asks();
        tokio::time::advance(patience / 2).await;
        assert!(!takers.is_stuck(patience));
        tokio::time::advance(patience).await;
        assert!(takers.is_stuck(patience));
        drop(read);
        assert!(!takers.is_stuck(patience), "who waits for a backend is not stuck");
    }
}
