//! What is measured of a backend's load, and what follows from it: mechanism around the pure [`limit`](super::limit), [`base`](super::base) and
//! [`samples`](super::samples). Of one finished request it costs a short lock and a few words; the sums are done once in a window.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Class, Concurrency, Health, Mode, Quality, Seat, Why,
    base::Base,
    breaker::PROBING_LIMIT,
    lag::Lag,
    limit::Limiter,
    samples::{Bad, End, Seen, Tick, Ticking, Window},
};

/// A class of requests that take about as long as one another: those of a route with a safe method (RFC 9110 section 9.2.1), or with another. Of
/// one backend's [`Health`]; cheap to copy, so that it is looked up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(u16);

/// The most classes; those of more routes share the last.
const MOST_KINDS: usize = 1024;

/// One finished dispatch.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What it was.
    pub kind: Kind,
    /// Whose it was.
    pub class: Class,
    /// From its dispatch, its body already buffered, to the head of the response; none when its body was streaming from a client meanwhile, who
    /// may have been slow.
    pub rtt: Option<Duration>,
    /// How it ended.
    pub quality: Quality,
}

/// What outlives a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The adaptive limit; none while it is not known.
    pub limit: Option<f64>,
    /// Base latencies.
    pub bases: Vec<Remembered>,
    /// What an operator said.
    #[serde(default)]
    pub mode: Mode,
}

/// The base latency of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The route.
    pub route: String,
    /// Of its safe methods, or of the others.
    pub safe: bool,
    /// Undisturbed latency, in seconds.
    pub seconds: f32,
}

/// The limit and what it rests on, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadView {
    /// Whether the limit is found by itself.
    pub adaptive: bool,
    /// Why it is what it is.
    pub why: Why,
    /// Median slowdown of the last window.
    pub slowdown: Option<f64>,
    /// Base latencies of the classes that are known.
    pub bases: Vec<Remembered>,
}

/// Everything that is measured of one backend.
#[derive(Debug)]
pub(super) struct Load {
    measure: Mutex<Measure>,
    /// The limit that holds while the backend passes.
    limit: AtomicU32,
    rejected: AtomicU32,
    live_requests: AtomicU32,
    live_waited: AtomicU32,
    lag: Arc<Lag>,
}

#[derive(Debug)]
struct Measure {
    kinds: Vec<(Box<str>, bool)>,
    bases: Vec<Base>,
    window: Window,
    ticking: Ticking,
    /// None while the configuration says how many.
    limiter: Option<Limiter>,
    slowdown: Option<f64>,
}

/// A window that changed something, for the log.
struct Change {
    before: u32,
    after: u32,
    why: Why,
    seen: Seen,
    rebase: Option<f64>,
}

impl Load {
    pub(super) fn new(concurrency: Concurrency) -> Self {
        let limiter = (concurrency == Concurrency::Adaptive).then(Limiter::new);
        let load = Self {
            limit: AtomicU32::new(0),
            measure: Mutex::new(Measure {
                kinds: Vec::new(),
                bases: Vec::new(),
                window: Window::default(),
                ticking: Ticking::default(),
                limiter,
                slowdown: None,
            }),
            rejected: AtomicU32::new(0),
            live_requests: AtomicU32::new(0),
            live_waited: AtomicU32::new(0),
            lag: Arc::default(),
        };
        load.configure(concurrency);
        load
    }

    /// A fixed limit holds at once; an adaptive one goes on from where it is.
    pub(super) fn configure(&self, concurrency: Concurrency) {
        let mut measure = self.measure.lock();
        let limit = match concurrency {
            Concurrency::Fixed(limit) => {
                measure.limiter = None;
                limit
            }
            Concurrency::Adaptive => measure.limiter.get_or_insert_with(Limiter::new).limit(),
        };
        self.limit.store(limit, Relaxed);
    }

    /// Whether the limit is found by itself.
    fn is_adaptive(&self) -> bool {
        self.measure.lock().limiter.is_some()
    }

    /// The limit that holds while the backend passes.
    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// The limit that holds while it is tried. A number that somebody configured says nothing of a backend that has just come back.
    pub(super) fn probing_limit(&self) -> u32 {
        if self.is_adaptive() { self.limit() } else { self.limit().min(PROBING_LIMIT) }
    }

    /// The backend came back: what is known of its limit is void. True when the limit is found by itself.
    pub(super) fn restart(&self) -> bool {
        let mut measure = self.measure.lock();
        let Some(limiter) = &mut measure.limiter else { return false };
        limiter.restart();
        self.limit.store(limiter.limit(), Relaxed);
        true
    }

    pub(super) fn live_asked(&self) {
        self.live_requests.fetch_add(1, Relaxed);
    }

    pub(super) fn live_waits(&self) {
        self.live_waited.fetch_add(1, Relaxed);
    }

    /// A live request found no seat.
    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    fn sample(&self, seat: &Seat, sample: Sample, now: Duration, random: fn() -> f64) -> Option<Change> {
        if sample.quality == Quality::Neither {
            return None;
        }
        self.lag.look(now);
        let good = sample.quality == Quality::Good;
        let timed = sample.rtt.filter(|_| good).map(|rtt| (sample.kind.0, rtt.as_secs_f32()));
        let end = End {
            epoch: seat.epoch(),
            kind: sample.kind.0,
            in_flight: seat.in_flight(),
            bad: Bad::of(sample.quality),
            replayed: sample.class == Class::Replay,
            timed,
        };
        let mut measure = self.measure.lock();
        if let Some((kind, rtt)) = timed {
            measure.ticking.add(sample.class != Class::Replay, kind, rtt, now);
            if let Some(base) = measure.bases.get_mut(usize::from(kind)) {
                base.learn(rtt);
            }
        }
        if !measure.window.add(end, seat.present_epoch(), now) {
            return None;
        }
        if let Some(lag) = self.lag.take() {
            measure.window.delayed(lag);
            measure.ticking.delayed(lag);
        }
        let rejected = self.rejected.swap(0, Relaxed);
        measure.close(rejected, now, random).inspect(|change| self.limit.store(change.after, Relaxed))
    }
}

impl Measure {
    fn close(&mut self, rejected: u32, now: Duration, random: fn() -> f64) -> Option<Change> {
        let limit = self.limiter.as_ref().map_or(f64::INFINITY, Limiter::exactly);
        let seen = self.window.close(&mut self.bases, limit, rejected, now);
        self.slowdown = seen.slowdown;
        let limiter = self.limiter.as_mut()?;
        let (before, was) = (limiter.limit(), limiter.why());
        let verdict = limiter.window(seen, now, random());
        self.window.hurry(verdict.why == Why::SlowStart);
        if let Some(factor) = verdict.rebase {
            self.bases.iter_mut().for_each(|base| base.rescale(factor));
        }
        let change = Change { before, after: limiter.limit(), why: verdict.why, seen, rebase: verdict.rebase };
        (change.before != change.after || change.rebase.is_some() || was != change.why).then_some(change)
    }

    fn remembered(&self) -> Vec<Remembered> {
        let known = self.kinds.iter().zip(&self.bases).filter_map(|((route, safe), base)| Some((route, *safe, base.seconds()?)));
        known.map(|(route, safe, seconds)| Remembered { route: route.to_string(), safe, seconds: rounded(seconds) }).collect()
    }

    fn kind(&mut self, route: &str, safe: bool) -> usize {
        if let Some(known) = self.kinds.iter().position(|(name, of)| **name == *route && *of == safe) {
            return known;
        }
        if self.kinds.len() < MOST_KINDS {
            self.kinds.push((route.into(), safe));
            self.bases.push(Base::default());
        }
        self.kinds.len() - 1
    }
}

impl Health {
    /// Whether its limit is found by itself.
    pub fn is_adaptive(&self) -> bool {
        self.load.is_adaptive()
    }

    /// The class of a route's requests. `safe` says of the method that it only reads.
    pub fn kind(&self, route: &str, safe: bool) -> Kind {
        Kind(u16::try_from(self.load.measure.lock().kind(route, safe)).unwrap_or_default())
    }

    /// How long a request of this class takes undisturbed; none while it is being learned.
    pub fn base(&self, kind: Kind) -> Option<Duration> {
        let measure = self.load.measure.lock();
        measure.bases.get(usize::from(kind.0))?.seconds().map(Duration::from_secs_f32)
    }

    /// Told of a finished dispatch and the seat that it had. What it says of the servers goes to [`report`](Self::report).
    pub fn sample(&self, seat: &Seat, sample: Sample) {
        self.sample_at(seat, sample, Instant::now());
    }

    /// The same by who has looked at the clock.
    pub fn sample_at(&self, seat: &Seat, mut sample: Sample, now: Instant) {
        if let Quality::Lost(server) = sample.quality
            && !self.has_another(server)
        {
            sample.quality = Quality::Bad;
        }
        if let Some(change) = self.load.sample(seat, sample, now - self.start, self.random) {
            if change.before != change.after {
                let _policy = self.policy.lock();
                self.set_gate();
            }
            self.log_change(&change);
        }
    }

    /// Whether another server than this one is given traffic.
    fn has_another(&self, server: usize) -> bool {
        self.weights.iter().enumerate().any(|(other, weight)| other != server && weight.load(Relaxed) > 0)
    }

    /// A request is given up, but its server may still work on it: its seat stays taken for as long as the slowest of a hundred of its class
    /// take. Within a runtime; outside of one the seat is free at once.
    pub fn abandon(&self, seat: Seat, kind: Kind) {
        let slowest = {
            let measure = self.load.measure.lock();
            measure.bases.get(usize::from(kind.0)).and_then(Base::slowest)
        };
        if let (Some(slowest), Ok(runtime)) = (slowest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                tokio::time::sleep(slowest).await;
                drop(seat);
            });
        }
    }

    /// What happened since the last call. For the one governor of the backend's replay.
    pub fn take_tick(&self) -> Tick {
        let now = self.now();
        let mut measure = self.load.measure.lock();
        let Measure { bases, ticking, .. } = &mut *measure;
        let tick = ticking.take(bases, now);
        drop(measure);
        Tick { live_requests: self.load.live_requests.swap(0, Relaxed), live_waited: self.load.live_waited.swap(0, Relaxed), ..tick }
    }

    /// The limit and what it rests on.
    pub fn load(&self) -> LoadView {
        let measure = self.load.measure.lock();
        LoadView {
            adaptive: measure.limiter.is_some(),
            why: measure.limiter.as_ref().map_or(Why::Fixed, Limiter::why),
            slowdown: measure.slowdown,
            bases: measure.remembered(),
        }
    }

    /// What a later run should know.
    pub fn memory(&self) -> Memory {
        let measure = self.load.measure.lock();
        let known = measure.limiter.as_ref().filter(|limiter| limiter.why() != Why::Unknown);
        Memory { limit: known.map(|limiter| limiter.limit().into()), bases: measure.remembered(), mode: self.mode() }
    }

    /// What an earlier run knew. To be called before anything is sent.
    pub fn remember(&self, memory: &Memory) {
        let mut measure = self.load.measure.lock();
        for Remembered { route, safe, seconds } in &memory.bases {
            let kind = measure.kind(route, *safe);
            measure.bases[kind] = Base::remembered(*seconds);
        }
        if let (Some(limit), Some(limiter)) = (memory.limit, &mut measure.limiter) {
            *limiter = Limiter::remembered(limit);
            self.load.limit.store(limiter.limit(), Relaxed);
        }
        drop(measure);
        self.set_mode(memory.mode);
    }

    fn log_change(&self, change: &Change) {
        let Change { before, after, why, seen, rebase } = change;
        let backend = &self.name;
        let Seen { requests, bad, slowdown, in_flight, .. } = seen;
        let slowdown = slowdown.unwrap_or_default();
        match rebase {
            Some(factor) => tracing::info!(
                %backend,
                "backend {backend}: {why}; its base latencies are {factor:.2} times what they were, and its limit goes from {before} to {after} \
                 (slowdown {slowdown:.2} with {in_flight:.1} in flight, {requests} requests, {bad} bad)"
            ),
            None => tracing::debug!(
                %backend,
                "backend {backend}: limit {before} -> {after}: {why} (slowdown {slowdown:.2} with {in_flight:.1} in flight, {requests} requests, {bad} bad)"
            ),
        }
    }
}

/// Two digits: what is kept need not change with every window.
fn rounded(seconds: f32) -> f32 {
    let unit = 10_f32.powf(seconds.max(1e-6).log10().floor() - 1.0);
    (seconds / unit).round() * unit
}

#[cfg(test)]
mod tests;
