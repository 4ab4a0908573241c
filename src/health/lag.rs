//! How long what is ready waits for our own threads. A latency that is made of that says nothing about a backend: with a thousand clients that ask as fast as
//! they are answered it is our own processor that is used up, and an answer that was ready after microseconds is read after many milliseconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Time between two looks, while there is traffic.
const GAP: Duration = Duration::from_millis(10);
/// The sum of what was seen, in microseconds, stands in the lower bits; how often one has looked, in the upper.
const COUNT_SHIFT: u32 = 44;

/// The delay of the thread that asks, as a mean since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// When to look again, in microseconds since the start of the backend's health.
    next: AtomicU64,
    seen: AtomicU64,
}

impl Lag {
    /// Looks how long a turn of this thread's event loop takes, if it is time to. One atomic load otherwise. Does nothing outside of a runtime.
    pub(super) fn look(self: &Arc<Self>, now: Duration) {
        let (now, next) = (micros(now), self.next.load(Relaxed));
        if now < next || self.next.compare_exchange(next, now + micros(GAP), Relaxed, Relaxed).is_err() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let lag = Arc::clone(self);
        runtime.spawn(async move {
            let began = Instant::now();
            // It goes on behind everybody whose socket is ready by then.
            tokio::task::yield_now().await;
            lag.saw(began.elapsed());
        });
    }

    /// The mean of what was seen since the last call; none where nothing was.
    pub(super) fn take(&self) -> Option<Duration> {
        let seen = self.seen.swap(0, Relaxed);
        let sum = seen & ((1 << COUNT_SHIFT) - 1);
        sum.checked_div(seen >> COUNT_SHIFT).map(Duration::from_micros)
    }

    fn saw(&self, turn: Duration) {
        // A minute of sleep (of the whole machine) is as good as more.
        let turn = micros(turn.min(Duration::from_secs(60)));
        self.seen.fetch_add((1 << COUNT_SHIFT) + turn, Relaxed);
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_mean_of_what_was_seen_since_it_was_taken() {
        let lag = Lag::default();
        assert_eq!(lag.take(), None);
        [1, 2, 6].into_iter().for_each(|millis| lag.saw(Duration::from_millis(millis)));
        assert_eq!((lag.take(), lag.take()), (Some(Duration::from_millis(3)), None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_turn_of_the_loop_takes_is_seen_once_in_ten_milliseconds() {
        let lag = Arc::new(Lag::default());
        lag.look(Duration::ZERO);
        lag.look(Duration::from_millis(9));
        // It begins, and somebody else takes his time.
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(30)).await;
        tokio::task::yield_now().await;
        assert_eq!(lag.seen.load(Relaxed) >> COUNT_SHIFT, 1);
        assert_eq!(lag.take(), Some(Duration::from_millis(30)));
        lag.look(Duration::from_millis(10));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(lag.seen.load(Relaxed) >> COUNT_SHIFT, 1);
    }
}
