//! How often one client may ask: a limit for all requests, and one for each route that has it.
//!
//! A client is its address (of IPv6 the network of 64 bits, which is what one household has), or what `rate_by` finds in its request. Each has a bucket of `burst`
//! requests that fills at `rate` (GCRA, <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>). A bucket that is full again is as good as none and is forgotten
//! when there is no room for another; where all are in use, newcomers share some, so that memory is bounded whoever comes.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::StateStore,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    envelope::{
        Name,
        order::{self, Subject},
    },
    telemetry::{ClientMetrics, RateLimited},
};

use super::{
    route::Found,
    settings::{RateLimit, Settings},
};

/// Locks among which the buckets of one limit are spread.
const SHARDS: usize = 16;
/// Buckets behind each lock: all together are 2 to 4 MiB for a limit.
const MOST: usize = 8192;
/// Buckets that newcomers share behind a lock where all are in use.
const SHARED: u64 = 64;

/// All limits of a configuration.
pub struct Rates {
    all: Option<Arc<Limit>>,
    routes: AHashMap<Name, Arc<Limit>>,
}

impl Rates {
    /// The limits that these settings ask for. One that was there `before` and has not changed goes on, with what it knows of its clients.
    pub fn new(settings: &Settings, before: Option<&Self>, metrics: &ClientMetrics) -> Self {
        let limit = |settings: &RateLimit, before: Option<&Arc<Limit>>, route: &str| {
            let kept = before.filter(|before| before.settings == *settings).cloned();
            kept.unwrap_or_else(|| Arc::new(Limit::new(settings.clone(), metrics.rate_limited(route))))
        };
        let all = settings.clients.rate.as_ref().map(|rate| limit(rate, before.and_then(|before| before.all.as_ref()), ""));
        let of_route = settings.routes.iter().filter_map(|route| {
            let before = before.and_then(|before| before.routes.get(&route.name));
            Some((route.name.clone(), limit(route.rate.as_ref()?, before, &route.name)))
        });
        Self { all, routes: of_route.collect() }
    }

    /// Takes one request from the buckets of its client; how long until there is one again where there is none.
    pub(super) fn wait<'a>(&self, found: &Found<'_>, subject: impl Fn() -> Subject<'a>) -> Option<Duration> {
        let of_route = match found {
            Found::Way(way) if !self.routes.is_empty() => self.routes.get(&way.settings().name),
            _ => None,
        };
        self.all.iter().chain(of_route).find_map(|limit| limit.take(subject()).err())
    }
}

/// One limit, with the buckets of its clients.
struct Limit {
    settings: RateLimit,
    limiter: RateLimiter<u64, Buckets, Ticks, NoOpMiddleware<Nanos>>,
    clock: Ticks,
    limited: RateLimited,
}

impl Limit {
    fn new(settings: RateLimit, limited: RateLimited) -> Self {
        let each = (settings.rate.per / settings.rate.count.get()).max(Duration::from_nanos(1));
        // None only for a period of zero, which `each` is not.
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(settings.rate.count)).allow_burst(settings.burst);
        let clock = Ticks(Instant::now());
        Self { settings, limiter: RateLimiter::new(quota, Buckets::new(each), clock.clone()), clock, limited }
    }

    fn take(&self, mut subject: Subject<'_>) -> Result<(), Duration> {
        subject.client_ip = network(subject.client_ip);
        let by_address = [order::Rule::ClientIp];
        let key = order::key("", &self.settings.by, subject).or_else(|| order::key("", &by_address, subject));
        self.limiter.check_key(&key.map_or(0, order::OrderKey::as_u64)).map_err(|until| {
            self.limited.inc();
            until.earliest_possible().duration_since(self.clock.now()).into()
        })
    }
}

/// What counts as one client: an address of IPv4, or the 64 bits of IPv6 that are somebody's network.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// The buckets: for each key when its bucket will be full, in time since the limit was made.
struct Buckets {
    shards: [Mutex<Shard>; SHARDS],
    each: Nanos,
}

#[derive(Default)]
struct Shard {
    full_at: AHashMap<u64, Nanos>,
    /// When those that are full were forgotten last.
    swept: Option<Nanos>,
}

/// Time between two searches for buckets that can be forgotten.
const SWEEP: u64 = 1_000_000_000;

impl Buckets {
    fn new(each: Duration) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), each: each.into() }
    }
}

impl StateStore for Buckets {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shards[(key >> 60) as usize % SHARDS].lock();
        let shard = &mut *shard;
        let (mut key, mut known) = (*key, shard.full_at.get(key).copied());
        if known.is_none() && shard.full_at.len() >= MOST {
            // What is new is full but for this one request, which tells the time.
            let (_, next) = f(None)?;
            let now = next.saturating_sub(self.each);
            if shard.swept.is_none_or(|swept| swept + Nanos::from(SWEEP) <= now) {
                shard.swept = Some(now);
                shard.full_at.retain(|_, full_at| *full_at > now);
            }
            if shard.full_at.len() >= MOST {
                key %= SHARED;
                known = shard.full_at.get(&key).copied();
            }
        }
        let (outcome, next) = f(known)?;
        shard.full_at.insert(key, next);
        Ok(outcome)
    }
}

/// The clock of the runtime, which tests can stop: nanoseconds since a limit was made.
#[derive(Clone)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX).into()
    }
}

#[cfg(test)]
mod tests;
