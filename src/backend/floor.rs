//! The least that a client has to send of a body.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// So many bytes in each second that a client is waited for, over each `window` of such time. What comes in bursts is as good as what comes evenly, and time in
/// which a backend is waited for does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Bytes in a second.
    pub rate: u64,
    /// The time over which they are counted.
    pub window: Duration,
}

/// What a look at a body has brought, for [`Meter::is_too_slow`]: `bytes` of it are in a part.
pub fn came<T, E>(polled: &Poll<Option<Result<T, E>>>, bytes: impl FnOnce(&T) -> usize) -> Poll<u64> {
    match polled {
        Poll::Ready(part) => Poll::Ready(part.as_ref().and_then(|part| part.as_ref().ok()).map_or(0, |part| bytes(part) as u64)),
        Poll::Pending => Poll::Pending,
    }
}

/// Measures one body.
#[derive(Debug)]
pub struct Meter {
    floor: Floor,
    /// Of this window: bytes that have come, and time that was waited for them.
    bytes: u64,
    waited: Duration,
    /// Since when nothing has come.
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    /// Nothing has come yet.
    pub fn new(floor: Floor) -> Self {
        Self { floor, bytes: 0, waited: Duration::ZERO, since: None, alarm: None }
    }

    /// Told after each look at the body: bytes that `came`, or none where it is waited for. True when its client is too slow; the task is woken when it is.
    pub fn is_too_slow(&mut self, cx: &mut Context<'_>, came: Poll<u64>) -> bool {
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.waited += now - since;
        }
        match came {
            Poll::Ready(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            Poll::Pending => self.since = Some(now),
        }
        if self.waited >= self.floor.window {
            if (self.bytes as f64) < self.floor.rate as f64 * self.waited.as_secs_f64() {
                return true;
            }
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
        if came.is_pending() {
            let end = now + (self.floor.window - self.waited);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
            alarm.as_mut().reset(end);
            // It is in the future, so that this registers the task and no more.
            let _registered = alarm.as_mut().poll(cx).is_ready();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const FLOOR: Floor = Floor { rate: 100, window: Duration::from_secs(10) };

    /// Sends these bytes at these seconds, and says whether and when that was too slow.
    async fn sent(pieces: &[(u64, u64)]) -> Option<u64> {
        let (mut meter, begin) = (Meter::new(FLOOR), Instant::now());
        for &(at, bytes) in pieces {
            let mut there = Box::pin(tokio::time::sleep_until(begin + Duration::from_secs(at)));
            let slow = poll_fn(|cx| {
                let came = there.as_mut().poll(cx).map(|()| bytes);
                if meter.is_too_slow(cx, came) { Poll::Ready(true) } else { came.map(|_| false) }
            });
            if slow.await {
                return Some(begin.elapsed().as_secs());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_come_in_bursts_but_not_too_slowly_over_a_window() {
        assert_eq!(sent(&[(0, 10), (100, 1)]).await, Some(10), "silence is too slow as soon as the window is over");
        assert_eq!(sent(&[(9, 2000), (19, 1), (21, 1)]).await, Some(20), "what has come in one window does not count for the next");
        assert_eq!(sent(&[(9, 1000), (12, 1), (19, 1000), (29, 1100), (30, 0)]).await, None, "a bad network sends in bursts");
        let drops: Vec<_> = (1..60).map(|second| (second, 99)).collect();
        assert_eq!(sent(&drops).await, Some(10));
        let enough: Vec<_> = (1..60).map(|second| (second, 101)).collect();
        assert_eq!(sent(&enough).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        let mut meter = Meter::new(FLOOR);
        for _ in 0..5 {
            assert!(!poll_fn(|cx| Poll::Ready(meter.is_too_slow(cx, Poll::Ready(1)))).await);
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }
}
