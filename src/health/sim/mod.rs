//! A backend of known capacity, forebays before it and clients before these, on tokio's paused clock: minutes pass in milliseconds, and nothing
//! depends on how busy the machine is. For tests of what the limit, the breaker and replay make of a load.

mod backend;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use backend::{Backend, Lost};

use super::{Class, Concurrency, Health, Quality, Sample, Settings, Signal, probe};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Work {
    pub(crate) route: &'static str,
    pub(crate) safe: bool,
    /// It loses nothing by being queued.
    pub(crate) spills: bool,
    /// Mean of the time that it takes one worker.
    pub(crate) takes: Duration,
}

/// A read that takes so many milliseconds.
pub(crate) const fn read(route: &'static str, millis: u64) -> Work {
    Work { route, safe: true, spills: false, takes: Duration::from_millis(millis) }
}

/// A write that takes so many milliseconds, and may be queued.
pub(crate) const fn write(route: &'static str, millis: u64) -> Work {
    Work { safe: false, spills: true, ..read(route, millis) }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    /// It was to be queued.
    Spilled,
    /// 503.
    Refused,
    /// The backend was lost.
    Failed,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Since the load began.
    pub(crate) due: Duration,
    pub(crate) took: Duration,
    pub(crate) fate: Fate,
    pub(crate) work: Work,
    /// Number of the forebay that it came to.
    pub(crate) by: usize,
}

/// Requests of one kind, so many a second; open-loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream(pub(crate) Work, pub(crate) f64);

/// One forebay before the backend, as far as seats go.
pub(crate) struct Forebay {
    pub(crate) health: Arc<Health>,
    pub(crate) backend: Arc<Backend>,
    /// Queues a write.
    pub(crate) spill: Box<dyn Fn(Work) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Forebay {
    /// With an adaptive limit, and a wait of 250 ms.
    pub(crate) fn new(backend: &Arc<Backend>) -> Self {
        let settings = Settings { concurrency: Concurrency::Adaptive, wait: Duration::from_millis(250), check: None };
        let servers = backend.servers();
        let health = Health::with_random("app".into(), settings, (servers, servers), || 0.5);
        let asked = Arc::clone(backend);
        let probe: probe::Probe = Arc::new(move |server| Box::pin(std::future::ready(asked.is_up(server))));
        tokio::spawn(probe::run(Arc::clone(&health), probe, std::future::pending()));
        Self { health, backend: Arc::clone(backend), spill: Box::new(|_| Box::pin(std::future::ready(()))) }
    }

    async fn ask(&self, work: Work) -> Fate {
        let class = if work.spills { Class::Spillable } else { Class::Live };
        let fate = match self.health.seat(class).await {
            Err(_) => Fate::Refused,
            Ok(seat) => {
                let kind = self.health.kind(work.route, work.safe);
                let began = Instant::now();
                let server = self.backend.choose(&self.health.weights());
                let result = self.backend.serve(server, work.takes).await;
                let (signal, quality) = judged(server, &result);
                self.health.report(server, signal);
                self.health.sample(&seat, Sample { kind, class, rtt: Some(began.elapsed()), quality });
                if result.is_ok() { Fate::Good } else { Fate::Failed }
            }
        };
        if work.spills && fate != Fate::Good {
            (self.spill)(work).await;
            return Fate::Spilled;
        }
        fate
    }
}

/// What health is told of such an end.
pub(crate) fn judged(server: usize, result: &Result<(), Lost>) -> (Signal, Quality) {
    match result {
        Ok(()) => (Signal::Success, Quality::Good),
        Err(Lost::Refused) => (Signal::ConnectFailure, Quality::Lost(server)),
        Err(Lost::Broken) => (Signal::Failure, Quality::Lost(server)),
        Err(Lost::Full) => (Signal::Refusal, Quality::Refused),
    }
}

/// Sends these streams for that long to each forebay in turn; returns when all of it has ended. Arrivals are as far apart as chance has it.
pub(crate) async fn load(forebays: &[Arc<Forebay>], streams: &[Stream], span: Duration) -> Vec<Done> {
    let began = Instant::now();
    let done = Arc::new(Mutex::new(Vec::new()));
    let arrive = |&Stream(work, rate): &Stream| {
        let (forebays, done) = (forebays.to_vec(), Arc::clone(&done));
        let mut random = fastrand::Rng::with_seed(forebays[0].backend.another_seed());
        tokio::spawn(async move {
            let mut requests = Vec::new();
            let (mut due, mut turn) = (Duration::ZERO, 0);
            loop {
                due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
                if due >= span {
                    break;
                }
                tokio::time::sleep_until(began + due).await;
                let (by, done) = (turn % forebays.len(), Arc::clone(&done));
                let forebay = Arc::clone(&forebays[by]);
                turn += 1;
                requests.push(tokio::spawn(async move {
                    let fate = forebay.ask(work).await;
                    let took = began.elapsed() - due;
                    done.lock().push(Done { due, took, fate, work, by });
                }));
            }
            for request in requests {
                request.await.unwrap();
            }
        })
    };
    let arrivals: Vec<_> = streams.iter().map(arrive).collect();
    for arrival in arrivals {
        arrival.await.unwrap();
    }
    tokio::time::sleep_until(began + span).await;
    std::mem::take(&mut *done.lock())
}

/// So many clients, each of which asks again as soon as it is answered, or a millisecond after it was refused; returns after that long.
pub(crate) async fn closed(forebay: &Arc<Forebay>, clients: usize, work: Work, span: Duration) -> Vec<Done> {
    let began = Instant::now();
    let client = || {
        let forebay = Arc::clone(forebay);
        tokio::spawn(async move {
            let mut done = Vec::new();
            while began.elapsed() < span {
                let due = began.elapsed();
                let fate = forebay.ask(work).await;
                done.push(Done { due, took: began.elapsed() - due, fate, work, by: 0 });
                if fate != Fate::Good {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            done
        })
    };
    let clients: Vec<_> = (0..clients).map(|_| client()).collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    all
}

/// How many of those ended so.
pub(crate) fn count(done: &[Done], fate: Fate) -> usize {
    done.iter().filter(|done| done.fate == fate).count()
}

/// The part of those that ended so.
pub(crate) fn part(done: &[Done], fate: Fate) -> f64 {
    count(done, fate) as f64 / done.len().max(1) as f64
}
