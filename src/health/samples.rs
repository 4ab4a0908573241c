//! Finished requests, gathered until they say something: windows for the [`limit`](super::limit), ticks for the governor of replay. Pure; it judges
//! nothing. Only what was admitted under the present limit counts in a window: what an older one let in would be taken for this one's doing.

use std::time::Duration;

use super::{
    Quality,
    base::{Base, grain, median},
    classes::ByClass,
};

/// Latencies that are kept of a window or tick; of more, every second one, every fourth, and so on.
const KEPT: usize = 1024;
/// A window closes with so many requests at this age,
const ENOUGH: u32 = 20;
const SHORT: Duration = Duration::from_millis(250);
/// or with fewer at that age.
const FEW: u32 = 10;
const LONG: Duration = Duration::from_secs(2);
/// While the limit grows fast, and answers are too quick to say anything against that, it closes with so many at this age: nobody is to wait for us to look.
const MANY: u32 = 100;
const HASTY: Duration = Duration::from_millis(25);
/// or with so many refusals, if they are half of all: who refuses in a moment is asked again in a moment.
const REFUSED: u32 = 5;
/// Past it, what was gathered says nothing about now.
const STALE: Duration = Duration::from_secs(20);
/// A window is at least so many medians long: the first to finish are the fastest.
const MEDIANS: f64 = 1.5;

/// A window of which more than one in so many is replayed is no trough.
const MOST_REPLAYED: u32 = 4;

/// What finished requests of every class took.
#[derive(Debug, Default)]
struct Sieve {
    kept: Vec<(u16, f32)>,
    /// One of so many is kept.
    stride: u32,
    skipped: u32,
}

impl Sieve {
    fn push(&mut self, kind: u16, rtt: f32) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        if self.kept.len() >= KEPT {
            let mut odd = false;
            self.kept.retain(|_| {
                odd = !odd;
                odd
            });
            self.stride = self.stride.max(1) * 2;
        }
        self.kept.push((kind, rtt));
    }

    fn clear(&mut self) {
        self.kept.clear();
        (self.stride, self.skipped) = (1, 0);
    }

    /// Slowdowns of those whose class is known.
    fn slowdowns(&self, bases: &[Base], grain: f32) -> Vec<f32> {
        let of = |&(kind, rtt): &(u16, f32)| bases.get(usize::from(kind))?.slowdown(rtt, grain);
        self.kept.iter().filter_map(of).collect()
    }

    fn median_rtt(&self) -> Option<Duration> {
        let mut rtts: Vec<f32> = self.kept.iter().map(|&(_, rtt)| rtt).collect();
        (!rtts.is_empty()).then(|| Duration::from_secs_f32(median(&mut rtts).max(0.0)))
    }
}

/// What is gathered for the limit.
#[derive(Debug, Default)]
pub(super) struct Window {
    epoch: u32,
    began: Duration,
    requests: u32,
    bad: u32,
    refusals: ByClass,
    lost: Losses,
    replayed: u32,
    in_flight: u64,
    most_in_flight: u32,
    timed: Sieve,
    /// Of the last window.
    median_rtt: Duration,
    hasty: bool,
    lag: Duration,
}

/// What a window of finished requests showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// How many, good or bad.
    pub(super) requests: u32,
    /// Timeouts, failed connects, resets, 502, 503, 504, 429.
    pub(super) bad: u32,
    /// Those of them that were answered at once: 502, 503, 429.
    pub(super) refused: u32,
    /// Median slowdown of the good ones; none if they are too few, or of classes whose base is not known.
    pub(super) slowdown: Option<f64>,
    /// Mean of the requests in flight at admission, the admitted one included.
    pub(super) in_flight: f64,
    /// The most of them.
    pub(super) most_in_flight: u32,
    /// Live requests that found no seat meanwhile.
    pub(super) rejected: u32,
    /// Whether replay is a good part of them.
    pub(super) replayed: bool,
}

/// A good or bad end of a request that was admitted under this limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) epoch: u32,
    /// Class.
    pub(super) kind: u16,
    pub(super) in_flight: u32,
    pub(super) bad: Option<Bad>,
    pub(super) replayed: bool,
    /// Class and seconds of a good one that was timed.
    pub(super) timed: Option<(u16, f32)>,
}

/// What was bad about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    Overloaded,
    Refused,
    /// The connection to this server failed, and it is not the only one.
    Lost(usize),
}

impl Bad {
    pub(super) fn of(quality: Quality) -> Option<Self> {
        match quality {
            Quality::Good | Quality::Neither => None,
            Quality::Bad => Some(Self::Overloaded),
            Quality::Refused => Some(Self::Refused),
            Quality::Lost(server) => Some(Self::Lost(server)),
        }
    }
}

/// Connections that failed in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Losses {
    #[default]
    None,
    /// All at this server, and so many.
    One(usize, u32),
    Several,
}

impl Losses {
    fn add(&mut self, at: usize) {
        *self = match *self {
            Self::None => Self::One(at, 1),
            Self::One(server, count) if server == at => Self::One(server, count + 1),
            Self::One(..) | Self::Several => Self::Several,
        };
    }
}

impl Window {
    /// A request has ended at `now`, while `epoch` is the present one. True when the window can be closed.
    pub(super) fn add(&mut self, end: End, epoch: u32, now: Duration) -> bool {
        let age = now.saturating_sub(self.began);
        if epoch != self.epoch || age >= STALE {
            // An empty window began with its epoch, and what was admitted early in it counts like the rest.
            let began = if self.requests == 0 && age < STALE { self.began } else { now };
            self.open(epoch, began);
        }
        if end.epoch != epoch {
            return false;
        }
        self.requests += 1;
        self.bad += u32::from(end.bad.is_some());
        self.refusals.add(end.kind, end.bad);
        if let Some(Bad::Lost(server)) = end.bad {
            self.lost.add(server);
        }
        self.replayed += u32::from(end.replayed);
        self.in_flight += u64::from(end.in_flight);
        self.most_in_flight = self.most_in_flight.max(end.in_flight);
        if let Some((kind, rtt)) = end.timed {
            self.timed.push(kind, rtt);
        }
        let age = now.saturating_sub(self.began);
        let hasty = self.hasty && self.requests >= MANY && self.median_rtt.as_secs_f32() < grain(self.lag);
        let enough = if hasty { HASTY } else { SHORT }.max(self.median_rtt.mul_f64(MEDIANS));
        let refused = self.refusals.refused;
        let refuses = refused >= REFUSED && 2 * refused >= self.requests && self.refusals.are_of_the_good();
        refuses || (self.requests >= ENOUGH && age >= enough) || (self.requests >= FEW && age >= LONG)
    }

    /// Whether the limit grows fast: then windows of quick answers are short.
    pub(super) fn hurry(&mut self, hasty: bool) {
        self.hasty = hasty;
    }

    /// A turn of our own event loop takes so long.
    pub(super) fn delayed(&mut self, lag: Duration) {
        self.lag = lag;
    }

    /// Closes the window at `now` and opens the next. The bases move with what it holds; `limit` says what little load is.
    pub(super) fn close(&mut self, bases: &mut [Base], limit: f64, rejected: u32, now: Duration) -> Seen {
        let requests = self.requests.max(1);
        let in_flight = self.in_flight as f64 / f64::from(requests);
        let mut slowdowns = self.timed.slowdowns(bases, grain(self.lag));
        let slowdown = (slowdowns.len() >= FEW as usize).then(|| f64::from(median(&mut slowdowns)));
        self.median_rtt = self.timed.median_rtt().unwrap_or_default().min(LONG);
        // Replay fills whatever room there is: while it does, half of the limit is no rest.
        let replayed = self.replayed > requests / MOST_REPLAYED;
        let trough = !replayed && in_flight <= limit / 2.0 && slowdown.is_some_and(|x| x < 2.0);
        self.move_bases(bases, trough);
        // One server that is lost while the others serve is no sign of load.
        let alone = match self.lost {
            Losses::One(_, count) if self.requests - self.bad >= FEW => count,
            _ => 0,
        };
        let (requests, bad) = (requests - alone, self.bad - alone);
        let apart = if self.refusals.are_apart() { self.refusals.refused } else { 0 };
        let (requests, bad, refused) = (requests - apart, bad - apart, self.refusals.refused - apart);
        let seen = Seen { requests, bad, refused, slowdown, in_flight, most_in_flight: self.most_in_flight, rejected, replayed };
        self.open(self.epoch, now);
        seen
    }

    /// Forgets what was gathered.
    pub(super) fn open(&mut self, epoch: u32, now: Duration) {
        (self.epoch, self.began) = (epoch, now);
        (self.requests, self.bad, self.lost, self.replayed) = (0, 0, Losses::None, 0);
        self.refusals.clear();
        (self.in_flight, self.most_in_flight) = (0, 0);
        self.timed.clear();
    }

    fn move_bases(&mut self, bases: &mut [Base], trough: bool) {
        let kept = &mut self.timed.kept;
        kept.sort_unstable_by_key(|&(kind, _)| kind);
        let mut rtts = Vec::new();
        for of_kind in kept.chunk_by(|left, right| left.0 == right.0) {
            rtts.clear();
            rtts.extend(of_kind.iter().map(|&(_, rtt)| rtt));
            if let Some(base) = bases.get_mut(usize::from(of_kind[0].0)) {
                base.window(&mut rtts, trough);
            }
        }
    }
}

/// How many times as slow as undisturbed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowdown {
    /// Median of `rtt / base`.
    pub p50: f64,
    /// Of so many requests; of very many, of those that were kept (about a thousand).
    pub samples: u32,
}

/// What happened since the last tick.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tick {
    /// How long that is; at most 20 s, since older things say nothing about now.
    pub span: Duration,
    /// Live requests alone.
    pub live: Option<Slowdown>,
    /// Live and replayed together.
    pub all: Option<Slowdown>,
    /// Median latency of all, whatever its class.
    pub rtt: Option<Duration>,
    /// Live requests that asked for a seat.
    pub live_requests: u32,
    /// Those among them that found none free, and waited or were turned away.
    pub live_waited: u32,
}

/// What is gathered for the governor of replay.
#[derive(Debug, Default)]
pub(super) struct Ticking {
    began: Duration,
    live: Sieve,
    replayed: Sieve,
    lag: Duration,
}

impl Ticking {
    /// A turn of our own event loop takes so long.
    pub(super) fn delayed(&mut self, lag: Duration) {
        self.lag = lag;
    }

    pub(super) fn add(&mut self, live: bool, kind: u16, rtt: f32, now: Duration) {
        if now.saturating_sub(self.began) >= STALE {
            self.open(now);
        }
        if live { self.live.push(kind, rtt) } else { self.replayed.push(kind, rtt) }
    }

    /// What was gathered; the next tick begins.
    pub(super) fn take(&mut self, bases: &[Base], now: Duration) -> Tick {
        let slowdown = |mut values: Vec<f32>| {
            let samples = u32::try_from(values.len()).unwrap_or(u32::MAX);
            (samples > 0).then(|| Slowdown { p50: f64::from(median(&mut values)), samples })
        };
        let (live, replayed) = (self.live.slowdowns(bases, grain(self.lag)), self.replayed.slowdowns(bases, grain(self.lag)));
        let all = [live.as_slice(), replayed.as_slice()].concat();
        let mut rtts: Vec<f32> = self.live.kept.iter().chain(&self.replayed.kept).map(|&(_, rtt)| rtt).collect();
        let tick = Tick {
            span: now.saturating_sub(self.began).min(STALE),
            live: slowdown(live),
            all: slowdown(all),
            rtt: (!rtts.is_empty()).then(|| Duration::from_secs_f32(median(&mut rtts).max(0.0))),
            live_requests: 0,
            live_waited: 0,
        };
        self.open(now);
        tick
    }

    fn open(&mut self, now: Duration) {
        self.began = now;
        self.live.clear();
        self.replayed.clear();
    }
}

#[cfg(test)]
mod tests;
