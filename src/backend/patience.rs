//! The response timeout, which starts when a request's body has been sent.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// When a streaming body last moved, so that a slow upload is not taken for a slow backend.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// Milliseconds after `began`.
    last: AtomicU64,
    done: AtomicBool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0), done: AtomicBool::new(false) }
    }
}

impl Pace {
    pub(super) fn moved(&self, done: bool) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
        if done {
            self.done.store(true, Ordering::Relaxed);
        }
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Nothing moved for the whole timeout.
#[derive(Debug)]
pub(super) struct TimedOut {
    /// The request had been sent: it is the backend that is slow, not the client.
    pub(super) body_done: bool,
}

/// A timer that stays with its connection: to put it off costs much less than to end it and begin another with each request.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn at(&mut self, time: Instant) -> Pin<&mut Sleep> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(time)));
        sleep.as_mut().reset(time);
        sleep.as_mut()
    }
}

/// Waits for `attempt` for at most `timeout` since the body last moved.
pub(super) async fn with_response_timeout<F: Future>(
    attempt: F,
    timeout: Duration,
    pace: Option<Arc<Pace>>,
    alarm: &mut Alarm,
) -> Result<F::Output, TimedOut> {
    let mut attempt = std::pin::pin!(attempt);
    let began = Instant::now();
    let mut sleep = alarm.at(began + timeout);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(output) = attempt.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            ready!(sleep.as_mut().poll(cx));
            let deadline = pace.as_ref().map_or(began, |pace| pace.last()) + timeout;
            if deadline <= Instant::now() {
                return Poll::Ready(Err(TimedOut { body_done: pace.as_ref().is_none_or(|pace| pace.done.load(Ordering::Relaxed)) }));
            }
            sleep.as_mut().reset(deadline);
        }
    })
    .await
}
