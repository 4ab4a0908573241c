use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{
    super::{Check, Settings, Signal, State},
    *,
};

/// A backend whose servers answer probes as they are told, and the task that probes it on paused time.
struct Stage {
    health: Arc<Health>,
    well: Arc<Vec<AtomicBool>>,
    /// When which server was asked, in seconds since the start.
    asked: Arc<Mutex<Vec<(f64, usize)>>>,
    start: Instant,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Stage {
    fn new(servers: usize, check: Option<Check>) -> Self {
        let settings = Settings { concurrency: crate::health::Concurrency::Fixed(20), wait: Duration::ZERO, check };
        let health = Health::with_random("app".into(), settings, (servers, servers), || 0.5);
        let well: Arc<Vec<_>> = Arc::new((0..servers).map(|_| AtomicBool::new(true)).collect());
        let (asked, start) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        let probe: Probe = {
            let (well, asked) = (Arc::clone(&well), Arc::clone(&asked));
            Arc::new(move |server| {
                asked.lock().unwrap().push((start.elapsed().as_secs_f64(), server));
                let passes = well[server].load(SeqCst);
                Box::pin(async move { passes || std::future::pending().await })
            })
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run(Arc::clone(&health), probe, async move {
            let _ = stopped.await;
        }));
        Self { health, well, asked, start, stop, task }
    }

    fn set(&self, server: usize, well: bool) {
        self.well[server].store(well, SeqCst);
    }

    fn fail_connects(&self, server: usize) {
        (0..5).for_each(|_| self.health.report(server, Signal::ConnectFailure));
    }

    /// Seconds since the start at which the backend reaches a state.
    async fn reaches(&self, state: State) -> f64 {
        soon(self.health.subscribe().wait_for(|now| *now == state)).await.unwrap();
        (self.start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    fn asked(&self) -> Vec<(f64, usize)> {
        self.asked.lock().unwrap().iter().map(|(at, server)| ((at * 1000.0).round() / 1000.0, *server)).collect()
    }
}

/// An hour of paused time passes at once, when nothing else happens in it.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), event).await.expect("it does not come")
}

fn check() -> Check {
    Check { path: "/".into(), interval: Duration::from_secs(2), timeout: Duration::from_millis(500), fall: 2, rise: 2 }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_dies_and_returns_is_passing_again_without_any_traffic() {
    let stage = Stage::new(1, None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    stage.set(0, false);
    stage.fail_connects(0);
    // Asked after a fifth of a second, and 5 s for an answer; the same twice more.
    tokio::time::sleep(Duration::from_secs(15)).await;
    stage.set(0, true);
    assert_eq!(stage.reaches(State::Probing).await, 115.25);
    assert_eq!(stage.reaches(State::Passing).await, 135.25);
    assert_eq!(stage.asked()[..5], [(100.2, 0), (105.2, 0), (110.2, 0), (115.2, 0), (115.25, 0)]);
    assert_eq!(stage.asked().len(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_backend_without_a_check_is_never_asked() {
    let stage = Stage::new(2, None);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.asked(), []);
}

#[tokio::test(start_paused = true)]
async fn a_check_finds_a_dead_backend_within_its_falls_and_a_probe_without_an_answer_has_failed() {
    let stage = Stage::new(1, Some(check()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.set(0, false);
    assert_eq!(stage.reaches(State::Shedding).await, 6.5);
    assert_eq!(stage.asked(), [(0.0, 0), (2.0, 0), (4.0, 0), (6.0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_keeps_no_other_from_coming_back_and_is_not_asked_twice_at_a_time() {
    let stage = Stage::new(2, None);
    stage.set(0, false);
    stage.fail_connects(0);
    stage.fail_connects(1);
    assert_eq!(stage.reaches(State::Probing).await, 0.45);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stage.asked().iter().filter(|(_, server)| *server == 0).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_returns_gets_its_weight_back_by_and_by() {
    let stage = Stage::new(2, None);
    let weight = || stage.health.weights()[1].load(SeqCst);
    stage.fail_connects(1);
    assert_eq!(weight(), 0);
    let mut seen = Vec::new();
    for _ in 0..35 {
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        seen.push(weight());
    }
    // One probe each at 200 ms and 250 ms.
    assert_eq!(seen[..5], [10, 10, 10, 10, 13]);
    assert!(seen.is_sorted() && (50..=53).contains(&seen[15]) && seen[34] == 100, "{seen:?}");
    assert_eq!(stage.health.state(), State::Passing);
}

#[tokio::test(start_paused = true)]
async fn a_round_asks_all_servers_at_once() {
    let stage = Stage::new(3, Some(check()));
    stage.set(0, false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.asked(), [(0.0, 0), (0.0, 1), (0.0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_shutdown_also_in_the_middle_of_a_probe_and_can_be_started_anew() {
    let stage = Stage::new(1, Some(Check { timeout: Duration::from_secs(3600), ..check() }));
    stage.set(0, false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(stage.stop);
    stage.task.await.unwrap();
    assert!(stage.start.elapsed() < Duration::from_secs(2));

    let (asked, mut rounds) = tokio::sync::mpsc::channel(1);
    let probe: Probe = Arc::new(move |_| {
        asked.try_send(()).unwrap();
        Box::pin(std::future::pending())
    });
    tokio::spawn(run(Arc::clone(&stage.health), probe, std::future::pending()));
    soon(rounds.recv()).await.unwrap();
}
