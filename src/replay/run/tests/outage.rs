//! Outages and what follows them, whole: clients, limit, breaker, replay and the model store before a backend of known capacity, on paused time.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};

use super::{
    bench::{empty_store, new, secs},
    *,
};
use crate::{
    backend::{ErrorKind, SendError},
    health::{
        Health,
        sim::{Backend, Done, Fate, Forebay, Lost, Stream, load, part, read, write},
    },
    replay::{
        Handle, Profile, Settings,
        attempt::{Accounts, sight_of},
        courier::{Answered, Courier, Outgoing},
    },
    store::{NewRequest, Payload, RouteCounts, Store, Turn, memory::MemoryStore},
    telemetry::Metrics,
};

/// Carries to the simulated backend.
struct Carrier(Arc<Backend>, Arc<Health>);

impl Courier for Carrier {
    fn send(&self, _request: Request<Outgoing>) -> BoxFuture<'_, Result<Answered, SendError>> {
        Box::pin(async move {
            let server = self.0.choose(&self.1.weights());
            let error = |kind, maybe_sent| SendError { kind, maybe_sent, server: Some(server), detail: "lost".into(), spare: None };
            match self.0.serve(server, Duration::from_millis(80)).await {
                Ok(()) => {
                    let response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
                    Ok(Answered { response, server })
                }
                Err(Lost::Refused) => Err(error(ErrorKind::Connect, false)),
                Err(Lost::Broken | Lost::Full) => Err(error(ErrorKind::Reset, true)),
            }
        })
    }

    fn sweep(&self) {}
}

/// Everything, and a load of 60 reads and 40 writes a second of 80 ms on 16 workers: half of what the backend can take.
struct World {
    backend: Arc<Backend>,
    forebay: Arc<Forebay>,
    store: Arc<MemoryStore>,
}

impl World {
    fn new(seed: u64) -> Self {
        let began = Instant::now();
        let (clock, store) = empty_store(began);
        let backend = Backend::new(1, 16);
        backend.seed(seed);
        let mut forebay = Forebay::new(&backend);
        let (queue, time) = (Arc::clone(&store), clock.clone());
        forebay.spill = Box::new(move |_| {
            let (store, accepted_at) = (Arc::clone(&queue), time.now());
            Box::pin(async move {
                let mut envelope = new("/marks").into_envelope();
                (envelope.accepted_at, envelope.expires_at, envelope.max_attempts) = (accepted_at, accepted_at.after(secs(86_400)), 50);
                let turn = match store.turn(None).unwrap() {
                    Turn::Live(turn) => turn.into_queued(),
                    Turn::Queued(turn) => turn,
                };
                store.append(NewRequest { envelope, payload: Payload::from(Bytes::from_static(b"{}")), turn }).await.unwrap();
            })
        });
        let handle = Handle::new(Settings { profile: Profile::Gentle, rate: None, concurrency: None }, RouteGates::default());
        let health = Arc::clone(&forebay.health);
        let context = Context {
            name: "app".into(),
            courier: Box::new(Carrier(Arc::clone(&backend), Arc::clone(&health))),
            health: Arc::clone(&health),
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock,
            metrics: Arc::new(Metrics::default()),
            handle: Arc::clone(&handle),
            sight: sight_of(Arc::clone(&health)),
            accounts: Accounts::new(began),
            random: || 0.5,
        };
        let (stop, shutdown) = watch::channel(None);
        tokio::spawn(async move {
            run(Arc::new(context), shutdown).await;
            drop(stop);
        });
        Self { backend, forebay: Arc::new(forebay), store }
    }

    /// Writes that are still to be replayed.
    fn left(&self) -> u64 {
        self.store.counts().routes.iter().map(|route| route.totals.queued + route.totals.delivering).sum()
    }

    /// Writes that were accepted and are neither delivered nor still there.
    fn lost(&self) -> u64 {
        let of = |route: &RouteCounts| route.totals.accepted - route.totals.delivered - route.totals.queued - route.totals.delivering;
        self.store.counts().routes.iter().map(of).sum()
    }
}

/// What became of an outage of 40 s after 12 s.
struct Outcome {
    /// Until the queue was empty, from the return of the backend on.
    drained: Duration,
    /// Of the live requests of that time, and of 20 s at least.
    failed: f64,
    /// Median latency of those, as a multiple of that before the outage.
    slower: f64,
    /// Writes that were acknowledged and never reached the backend.
    lost: u64,
}

/// The backend comes back so many times slower for 10 s.
async fn outage(seed: u64, cold: f64) -> Outcome {
    let world = World::new(seed);
    let began = Instant::now();
    let forebays = [Arc::clone(&world.forebay)];
    let streams = [Stream(read("reads", 80), 60.0), Stream(write("marks", 80), 40.0)];
    let traffic = tokio::spawn(async move { load(&forebays, &streams, secs(140)).await });
    tokio::time::sleep(secs(12)).await;
    world.backend.set_up(0, false);
    tokio::time::sleep(secs(40)).await;
    world.backend.set_slowness(cold);
    world.backend.set_up(0, true);
    let back = began.elapsed();
    tokio::time::sleep(secs(10)).await;
    world.backend.set_slowness(1.0);
    while world.left() > 0 && began.elapsed() < secs(140) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let drained = began.elapsed() - back;
    let done = traffic.await.unwrap();
    while world.left() > 0 {
        tokio::time::sleep(secs(1)).await;
    }
    let between = |from: Duration, to: Duration| done.iter().filter(|done| (from..to).contains(&done.due)).copied().collect::<Vec<Done>>();
    let within = between(back, back + drained.max(secs(20)));
    Outcome {
        drained,
        failed: part(&within, Fate::Refused) + part(&within, Fate::Failed),
        slower: median(&within) / median(&between(secs(2), secs(12))),
        lost: world.lost(),
    }
}

fn median(done: &[Done]) -> f64 {
    let mut took: Vec<Duration> = done.iter().filter(|done| done.fate == Fate::Good).map(|done| done.took).collect();
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_queue_drains_beside_live_traffic_that_hardly_notices() {
    let Outcome { drained, failed, slower, lost } = outage(1, 1.0).await;
    assert!(drained < secs(35) && failed < 0.01 && slower < 1.3, "{drained:?}, {failed} failed, {slower} times slower");
    assert_eq!(lost, 0);
}

#[tokio::test(start_paused = true)]
async fn reads_are_served_by_a_backend_that_comes_back_three_times_slower_for_a_while() {
    let Outcome { drained, failed, slower, lost } = outage(3, 3.0).await;
    assert!(drained < secs(55) && failed < 0.01 && slower < 1.4, "{drained:?}, {failed} failed, {slower} times slower");
    assert_eq!(lost, 0);
}
