//! What a connection is doing and since when, for its timeouts; and what must not be given up when its client goes away.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::taking::{Taker, Takers};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, between two requests.
    Idle,
    /// The head of a request is arriving.
    Head,
    /// A request is being answered.
    Busy,
    /// Nothing yet: it has just been accepted.
    Fresh,
}

/// The phase of one connection, shared by its socket, its service and its timer.
pub(super) struct Watch {
    /// The first time that a phase was stamped.
    began: OnceLock<Instant>,
    /// Milliseconds after `began` at which the phase began, times four, plus the phase.
    word: AtomicU64,
    /// The connection ends although its client has more to say.
    refused: AtomicBool,
    /// It is to end as soon as it has no request.
    farewell: AtomicBool,
    /// Set when it carries many requests at a time (HTTP/2).
    streams: OnceLock<Box<Streams>>,
}

/// The requests of a connection that carries many at a time.
struct Streams {
    /// How many are being answered, how many have been, and how many of these their client took back.
    open: AtomicU32,
    ended: AtomicU32,
    cancelled: AtomicU32,
    takers: Takers,
}

/// Cancelled streams that a client has for nothing: who leaves a page that is loading cancels dozens.
const CANCELLED_FOR_NOTHING: u32 = 100;

/// One request that is being answered, until its answer has ended or was given up.
pub(super) struct Answering {
    watch: Arc<Watch>,
    answered: bool,
}

impl Answering {
    /// The connection has a request to answer.
    pub(super) fn begin(watch: &Arc<Watch>) -> Self {
        if let Some(streams) = watch.streams.get() {
            streams.open.fetch_add(1, Relaxed);
        }
        watch.enter(Phase::Busy);
        Self { watch: watch.clone(), answered: false }
    }

    /// Sees that the client takes the answer, where its connection alone does not show that.
    pub(super) fn taker(&self) -> Option<Taker> {
        self.watch.streams.get().map(|streams| streams.takers.add())
    }

    /// There is an answer; this goes with its body. `refusal`: the client may still be sending what nobody will read.
    pub(super) fn answered(&mut self, refusal: bool) {
        self.answered = true;
        if refusal {
            self.watch.refuse();
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.watch.streams.get().is_some_and(|streams| !streams.ended(self.answered)) {
            return;
        }
        self.watch.enter(Phase::Idle);
    }
}

impl Watch {
    /// A connection that has just been accepted: the head of its first request is due.
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self {
            began: OnceLock::new(),
            word: AtomicU64::new(UNSTAMPED | Phase::Fresh as u64),
            refused: AtomicBool::new(false),
            farewell: AtomicBool::new(false),
            streams: OnceLock::new(),
        })
    }

    /// From now on it speaks HTTP/2 and carries many requests at a time. Between them it is idle, whatever else it is told.
    pub(super) fn multiplex(&self) {
        let takers = Takers::new(*self.began.get_or_init(Instant::now));
        self.streams
            .get_or_init(|| Box::new(Streams { open: AtomicU32::new(0), ended: AtomicU32::new(0), cancelled: AtomicU32::new(0), takers }));
        self.enter(Phase::Idle);
    }

    /// Whether most of its streams were begun only to be cancelled.
    pub(super) fn is_flooded(&self) -> bool {
        self.streams.get().is_some_and(|streams| streams.are_flood())
    }

    /// The connection takes no other request that has not begun to come.
    pub(super) fn farewell(&self) {
        self.farewell.store(true, Relaxed);
    }

    /// Whether that has been said.
    pub(super) fn has_farewell(&self) -> bool {
        self.farewell.load(Relaxed)
    }

    /// Whether its client has not taken what it asked for, for so long (HTTP/2).
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        self.streams.get().is_some_and(|streams| streams.takers.is_stuck(patience))
    }

    /// What it is doing.
    pub(super) fn phase(&self) -> Phase {
        match self.word.load(Relaxed) & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Fresh,
        }
    }

    /// Enters a phase. When it began is noted by [`stamp`](Self::stamp), once the connection has nothing more to do for now: most phases are
    /// over by then, and cost no look at the clock.
    pub(super) fn enter(&self, phase: Phase) {
        self.word.store(UNSTAMPED | phase as u64, Relaxed);
    }

    /// Bytes have arrived: the first ones after a pause begin a head.
    pub(super) fn received(&self) {
        let word = self.word.load(Relaxed);
        if word & 3 == Phase::Idle as u64 && self.streams.get().is_none() {
            self.enter(Phase::Head);
        } else if word & 3 == Phase::Fresh as u64 {
            // Its time began with the connection.
            self.word.store(word & !3 | Phase::Head as u64, Relaxed);
        }
    }

    /// The answer that ends is one that refuses what its client may still be sending.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Relaxed);
    }

    /// Whether the client may still be sending what nobody reads: it was refused, perhaps in the middle of a head.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.load(Relaxed) || self.word.load(Relaxed) & 3 == Phase::Head as u64
    }

    /// Notes when the phase began, if that has not been noted, and tells then when it is over.
    pub(super) fn stamp(&self, header_timeout: Duration, idle_timeout: Duration) -> Option<Instant> {
        let word = self.word.load(Relaxed);
        if word & UNSTAMPED == 0 || word & 3 == Phase::Busy as u64 {
            return None;
        }
        let (began, now) = (self.began.get_or_init(Instant::now), Instant::now());
        let millis = u64::try_from((now - *began).as_millis()).unwrap_or(u64::MAX >> 3);
        self.word.store(millis << 2 | word & 3, Relaxed);
        Some(now + if word & 3 == Phase::Idle as u64 { idle_timeout } else { header_timeout })
    }

    /// When the connection has to be looked at again; the phase that it has overstayed when it is out of time.
    pub(super) fn deadline(&self, header_timeout: Duration, idle_timeout: Duration) -> Result<Instant, Phase> {
        let now = Instant::now();
        let since = self.began.get().map_or(now, |began| *began + Duration::from_millis((self.word.load(Relaxed) & !UNSTAMPED) >> 2));
        let phase = self.phase();
        let deadline = match phase {
            Phase::Idle => since + idle_timeout,
            Phase::Head | Phase::Fresh => since + header_timeout,
            Phase::Busy => now + header_timeout.min(idle_timeout),
        };
        if deadline <= now { Err(phase) } else { Ok(deadline) }
    }
}

impl Streams {
    /// Counts the end of one; true when it was the last.
    fn ended(&self, answered: bool) -> bool {
        self.ended.fetch_add(1, Relaxed);
        if !answered {
            self.cancelled.fetch_add(1, Relaxed);
        }
        self.open.fetch_sub(1, Relaxed) == 1
    }

    /// Whether most were begun only to be cancelled: work for us and the backend, and none for the client (CVE-2023-44487).
    fn are_flood(&self) -> bool {
        let cancelled = self.cancelled.load(Relaxed);
        cancelled > CANCELLED_FOR_NOTHING && cancelled > self.ended.load(Relaxed) / 2
    }
}

/// Set in the word while it is not known when the phase began.
const UNSTAMPED: u64 = 1 << 63;

/// `begin` is asked for the future once there is room for it: a future is some kilobytes, which are not moved when they are written where they stay.
pub(super) fn in_place<F: Future>(begin: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::<F>::new_uninit();
    Box::into_pin(Box::write(room, begin()))
}

/// Set once a request must be seen to its end, whatever its client does.
#[derive(Debug, Clone, Default)]
pub(super) struct Commitment(Arc<AtomicBool>);

impl Commitment {
    /// The write has arrived whole: from now on it is delivered or queued even when its client hangs up before it hears of that.
    pub(super) fn whole(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A future that finishes in a task of its own when it is dropped after its commitment.
///
/// The handling of a request whose client has gone is dropped. That is right for a read, which then frees its seat. A write that has arrived whole has
/// perhaps been sent by half: dropping it would leave open whether it was executed, and lose it where it was not.
pub(super) struct Committed<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    commitment: Commitment,
}

impl<T: Send + 'static> Committed<T> {
    /// See [`in_place`].
    pub(super) fn new<F: Future<Output = T> + Send + 'static>(commitment: Commitment, begin: impl FnOnce() -> F) -> Self {
        Self { future: Some(in_place(begin)), commitment }
    }
}

impl<T: Send + 'static> Future for Committed<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Committed<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && self.commitment.0.load(Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_deadline() {
        let (header, idle) = (Duration::from_secs(10), Duration::from_secs(75));
        let watch = Watch::begin();
        assert_eq!(watch.stamp(header, idle), Some(Instant::now() + header));
        assert_eq!(watch.deadline(header, idle), Ok(Instant::now() + header));
        tokio::time::advance(header).await;
        assert_eq!(watch.deadline(header, idle), Err(Phase::Fresh));
        watch.enter(Phase::Busy);
        assert_eq!(watch.stamp(header, idle), None);
        tokio::time::advance(idle * 9).await;
        assert!(watch.deadline(header, idle).is_ok(), "a request that takes long is not idle");
        watch.enter(Phase::Idle);
        assert_eq!(watch.stamp(header, idle), Some(Instant::now() + idle));
        tokio::time::advance(idle - Duration::from_secs(1)).await;
        assert!(watch.deadline(header, idle).is_ok());
        watch.received();
        watch.received();
        assert_eq!((watch.stamp(header, idle), watch.stamp(header, idle)), (Some(Instant::now() + header), None));
        assert_eq!(watch.deadline(header, idle), Ok(Instant::now() + header), "the first byte begins a head");
    }

    #[tokio::test]
    async fn a_committed_future_ends_although_nobody_waits_for_it() {
        for committed in [true, false] {
            let commitment = Commitment::default();
            let (go, went) = oneshot::channel::<()>();
            let (done, is_done) = oneshot::channel::<()>();
            let mut future = Committed::new(commitment.clone(), || async move {
                let _ = went.await;
                let _ = done.send(());
            });
            assert!((&mut future).now_or_never().is_none());
            if committed {
                commitment.whole();
            }
            drop(future);
            let _ = go.send(());
            assert_eq!(is_done.await.is_ok(), committed);
        }
    }
}
