//! How long is waited for who has the next move: for a server to take a request and to answer it, and for a client to go on with a body.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Who has to make the next move with a body that comes from a client, and since when: a slow upload is not a slow server, nor the other way round.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// Milliseconds after `began`.
    since: AtomicU64,
    /// More of the body was asked for and has not come. Else its server is waited for, which has to take what has come.
    of_client: AtomicBool,
    /// How long a client may take.
    stall: Duration,
}

impl Pace {
    /// A client may take so long to go on.
    pub(super) fn new(stall: Duration) -> Self {
        Self { began: Instant::now(), since: AtomicU64::new(0), of_client: AtomicBool::new(false), stall }
    }

    /// Told after each look at the body, whether more of it `came` or is waited for.
    pub(super) fn looked(&self, came: bool) {
        if self.of_client.swap(!came, Relaxed) && !came {
            return;
        }
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(millis, Relaxed);
    }

    fn since(&self) -> Instant {
        self.began + Duration::from_millis(self.since.load(Relaxed))
    }
}

/// Who did not make the next move in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimedOut {
    /// The server: it did not take the request, or did not answer.
    Server,
    /// The client: it did not go on with its body for so long.
    Client(Duration),
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

/// Waits for `attempt` until its server has had `timeout` for its next move, or the client its own.
pub(super) async fn with_response_timeout<F: Future>(
    attempt: F,
    timeout: Duration,
    pace: Option<Arc<Pace>>,
    alarm: &mut Alarm,
) -> Result<F::Output, TimedOut> {
    let mut attempt = std::pin::pin!(attempt);
    let began = Instant::now();
    // No deadline is nearer than this, whose move it may become meanwhile.
    let look = pace.as_ref().map_or(timeout, |pace| pace.stall.min(timeout));
    let mut sleep = alarm.at(began + look);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(output) = attempt.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            ready!(sleep.as_mut().poll(cx));
            let (deadline, late) = match &pace {
                Some(pace) if pace.of_client.load(Relaxed) => (pace.since() + pace.stall, TimedOut::Client(pace.stall)),
                Some(pace) => (pace.since() + timeout, TimedOut::Server),
                None => (began + timeout, TimedOut::Server),
            };
            let now = Instant::now();
            if deadline <= now {
                return Poll::Ready(Err(late));
            }
            sleep.as_mut().reset(deadline.min(now + look));
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SERVER: Duration = Duration::from_secs(30);

    /// Who is out of time, and after how many seconds, when more of the body came or was waited for at these.
    async fn late(stall: u64, looks: &'static [(u64, bool)]) -> (TimedOut, u64) {
        let (pace, begin) = (Arc::new(Pace::new(Duration::from_secs(stall))), Instant::now());
        let looked = pace.clone();
        tokio::spawn(async move {
            for &(at, came) in looks {
                sleep_until(begin + Duration::from_secs(at)).await;
                looked.looked(came);
            }
        });
        let waited = with_response_timeout(pending::<()>(), SERVER, Some(pace), &mut Alarm::default()).await;
        (waited.unwrap_err(), begin.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn each_side_has_its_own_time_for_its_next_move() {
        for (stall, client) in [(75, TimedOut::Client(Duration::from_secs(75))), (10, TimedOut::Client(Duration::from_secs(10)))] {
            assert_eq!(late(stall, &[]).await, (TimedOut::Server, 30), "all of it has been sent");
            assert_eq!(late(stall, &[(0, false)]).await, (client, stall), "a client that is silent");
            assert_eq!(late(stall, &[(0, false), (9, true), (9, false)]).await, (client, 9 + stall));
            assert_eq!(late(stall, &[(0, false), (3, false), (9, false)]).await, (client, stall), "to ask again changes nothing");
            assert_eq!(late(stall, &[(0, false), (9, true)]).await, (TimedOut::Server, 39), "a server that takes no more");
            assert_eq!(late(stall, &[(0, true), (20, true), (40, false)]).await, (client, 40 + stall), "a slow server had its own time");
        }
        assert_eq!(late(75, &[(0, false), (70, true)]).await, (TimedOut::Server, 100), "a patient client's server is not given more");
    }
}
