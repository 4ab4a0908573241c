//! The configured rate: a token bucket that an operator sets, whatever the window says.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::super::Rate;

/// A rate may be exceeded by what falls due in this time, or the grain of the timers would keep high rates from being reached.
const BURST: Duration = Duration::from_millis(20);

/// The configured rate, as a token bucket.
#[derive(Debug)]
pub(super) struct Ceiling {
    pub(super) rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, PassedIn, NoOpMiddleware<Nanos>>,
    now: PassedIn,
    epoch: Instant,
}

impl Ceiling {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        let each = (rate.per / rate.count.get()).max(Duration::from_nanos(1));
        let burst = u32::try_from(BURST.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        // None only for a period of zero, which `each` is not.
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(rate.count)).allow_burst(burst);
        let clock = PassedIn::default();
        Self { rate, limiter: RateLimiter::direct_with_clock(quota, clock.clone()), now: clock, epoch: now }
    }

    pub(super) fn take(&self, now: Instant) -> Result<(), Instant> {
        self.now.set(now.saturating_duration_since(self.epoch));
        self.limiter.check().map_err(|not_until| now + Duration::from(not_until.earliest_possible().duration_since(self.now.now())))
    }
}

/// A clock for the limiter that says what it was last told, in nanoseconds.
#[derive(Debug, Clone, Default)]
struct PassedIn(Arc<AtomicU64>);

impl PassedIn {
    fn set(&self, elapsed: Duration) {
        self.0.store(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for PassedIn {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}
