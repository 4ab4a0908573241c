//! Days on which nothing happens, or next to nothing: the adaptive limit must not be noticed. Simulated servers of 16 workers, time that is paused.

use super::super::sim::{Backend, Done, Fate, Forebay, Stream, closed, count, load, part, read, write};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Requests of 80 ms that 16 workers can take in a second.
const CAPACITY: f64 = 200.0;

fn one(servers: usize, workers: u32) -> (Arc<Backend>, [Arc<Forebay>; 1]) {
    let backend = Backend::new(servers, workers);
    let forebay = Arc::new(Forebay::new(&backend));
    (backend, [forebay])
}

/// 60% reads and 40% writes of 80 ms, together so much of what 16 workers can take.
fn usual(part: f64) -> [Stream; 2] {
    [Stream(read("reads", 80), 0.6 * part * CAPACITY), Stream(write("marks", 80), 0.4 * part * CAPACITY)]
}

fn assert_all_passed(done: &[Done], what: &str) {
    let not = done.iter().find(|done| done.fate != Fate::Good);
    assert!(not.is_none(), "{what}: {} of {}, first {not:?}", done.len() - count(done, Fate::Good), done.len());
}

#[tokio::test(start_paused = true)]
async fn little_traffic_is_never_refused() {
    let (_backend, forebay) = one(1, 16);
    assert_all_passed(&load(&forebay, &usual(0.01), HOUR).await, "an hour of two a second");
    assert_all_passed(&load(&forebay, &usual(0.001), 6 * HOUR).await, "six of one in five seconds");
}

#[tokio::test(start_paused = true)]
async fn half_of_what_a_backend_can_take_is_never_refused_or_queued() {
    let (_backend, forebay) = one(1, 16);
    assert_all_passed(&load(&forebay, &usual(0.5), 5 * MINUTE).await, "from the first request on");
}

#[tokio::test(start_paused = true)]
async fn clients_that_ask_again_as_soon_as_they_are_answered_are_never_refused_where_the_backend_is_fast() {
    for (clients, workers) in [(64, 4), (64, 1_000), (1_000, 16), (1_000, 1_000)] {
        let (_backend, [forebay]) = one(1, workers);
        let done = closed(&forebay, clients, read("reads", 1), 2 * SECOND).await;
        assert_all_passed(&done, &format!("{clients} clients, {workers} workers, limit {}", forebay.health.limit()));
    }
}

/// One of many clients of a backend that answers at once, each of which takes 50 microseconds of our own processor.
async fn busy_client(health: Arc<Health>, end: Instant) -> Result<(), NoSeat> {
    let kind = health.kind("reads", true);
    while Instant::now() < end {
        let seat = health.seat(Class::Live).await?;
        let began = Instant::now();
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_micros(50)).await;
        health.sample(&seat, Sample { kind, class: Class::Live, rtt: Some(began.elapsed()), quality: Quality::Good });
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn that_our_own_processor_is_used_up_is_no_slowness_of_the_backend() {
    let settings = Settings { concurrency: Concurrency::Adaptive, ..settings(1) };
    let health = Health::with_random("app".into(), settings, (1, 1), || 0.5);
    let end = Instant::now() + 2 * SECOND;
    let clients: Vec<_> = (0..1_000).map(|_| tokio::spawn(busy_client(Arc::clone(&health), end))).collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), Ok(()));
    }
    assert_eq!(health.limit(), 512);
}

#[tokio::test(start_paused = true)]
async fn where_a_fast_backend_has_room_for_all_its_clients_nobody_waits_at_the_limit_after_half_a_second() {
    for clients in [64, 400] {
        let (_backend, [forebay]) = one(1, 1_000);
        closed(&forebay, clients, read("reads", 1), SECOND / 2).await;
        forebay.health.take_tick();
        closed(&forebay, clients, read("reads", 1), SECOND).await;
        assert_eq!(forebay.health.take_tick().live_waited, 0, "{clients} clients");
    }
}

#[tokio::test(start_paused = true)]
async fn after_idle_hours_the_limit_is_what_it_was() {
    let (_backend, forebay) = one(1, 16);
    load(&forebay, &usual(0.7), MINUTE).await;
    let evening = forebay[0].health.limit();
    assert_all_passed(&load(&forebay, &usual(0.002), 8 * HOUR).await, "the night");
    assert!(forebay[0].health.limit() >= evening, "{} after {evening}", forebay[0].health.limit());
    tokio::time::sleep(8 * HOUR).await;
    assert_all_passed(&load(&forebay, &usual(0.7), MINUTE).await, "the morning");
}

#[tokio::test(start_paused = true)]
async fn a_mix_of_routes_that_changes_is_no_overload() {
    let (_backend, forebay) = one(1, 16);
    let mix = |quick: f64, rate: f64| [Stream(read("quick", 20), quick * rate), Stream(read("reads", 80), (1.0 - quick) * rate)];
    for round in 0..3 {
        assert_all_passed(&load(&forebay, &mix(0.8, 280.0), MINUTE).await, &format!("{round}: mostly quick ones"));
        assert_all_passed(&load(&forebay, &mix(0.2, 140.0), MINUTE).await, &format!("{round}: mostly slow ones"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_makes_a_backend_faster_for_good_is_used_and_one_that_makes_it_slower_is_accepted() {
    let (backend, forebay) = one(1, 16);
    assert_all_passed(&load(&forebay, &usual(0.3), MINUTE).await, "as it was");
    backend.set_slowness(0.4);
    assert_all_passed(&load(&forebay, &usual(0.3), MINUTE).await, "faster");
    assert!(part(&load(&forebay, &usual(1.8), MINUTE).await, Fate::Good) >= 0.995, "and with it goes more");
    backend.set_slowness(2.5);
    load(&forebay, &usual(0.3), MINUTE).await;
    assert_all_passed(&load(&forebay, &usual(0.3), 10 * MINUTE).await, "slower, after a minute");
}

#[tokio::test(start_paused = true)]
async fn while_a_deploy_makes_a_backend_slower_for_good_hardly_anybody_is_refused_and_afterwards_nobody() {
    for (part, slowness) in [(0.3, 2.5), (0.2, 2.2), (0.45, 2.0), (0.1, 8.0)] {
        let (mut refused, mut all) = (0, 0);
        for seed in 0..4 {
            let (backend, forebay) = one(1, 16);
            backend.seed(seed);
            let reads = [Stream(read("reads", 80), part * CAPACITY)];
            load(&forebay, &reads, MINUTE / 4).await;
            backend.set_slowness(slowness);
            let done = load(&forebay, &reads, MINUTE).await;
            (refused, all) = (refused + done.len() - count(&done, Fate::Good), all + done.len());
            let rare = self::part(&load(&forebay, &reads, MINUTE).await, Fate::Refused);
            assert!(rare <= 0.001, "{part} of what it could take, {slowness} times slower, seed {seed}: {rare}");
        }
        assert!(refused * 100 <= all, "{part} of what it could take, {slowness} times slower: {refused} of {all}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_of_seconds_among_milliseconds_is_no_overload() {
    let (_backend, forebay) = one(1, 16);
    // Two and a half workers on uploads, four on marks.
    let streams = [Stream(write("uploads", 5_000), 0.5), Stream(write("marks", 20), 150.0), Stream(read("reads", 20), 50.0)];
    let done = load(&forebay, &streams, 10 * MINUTE).await;
    assert_all_passed(&done, "uploads among marks");
    let slow = done.iter().find(|done| done.work.route != "uploads" && done.took > Duration::from_millis(500));
    assert!(slow.is_none(), "{slow:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_among_several_costs_what_was_on_its_way_to_it_and_its_return_costs_nothing() {
    let (backend, forebay) = one(3, 8);
    // Half of what three can take, three quarters of what two can.
    let fleet = [Stream(read("reads", 80), 90.0), Stream(write("marks", 80), 60.0)];
    assert_all_passed(&load(&forebay, &fleet, MINUTE).await, "all three");
    let failing = async {
        tokio::time::sleep(10 * SECOND).await;
        backend.set_up(1, false);
        tokio::time::sleep(MINUTE).await;
        backend.set_up(1, true);
    };
    let (done, ()) = tokio::join!(load(&forebay, &fleet, 3 * MINUTE), failing);
    // Up to eight at work, and five that were refused a connection.
    let [failed, spilled, refused] = [Fate::Failed, Fate::Spilled, Fate::Refused].map(|fate| count(&done, fate));
    assert!(failed + spilled <= 13 && refused == 0, "{failed} failed, {spilled} queued, {refused} refused");
    assert_all_passed(&load(&forebay, &fleet, MINUTE).await, "all three again");
}

#[tokio::test(start_paused = true)]
async fn a_brown_out_is_used_whole_and_over_with_its_end() {
    let (backend, forebay) = one(1, 16);
    let reads = [Stream(read("reads", 80), 0.7 * CAPACITY)];
    load(&forebay, &reads, MINUTE).await;
    backend.set_slowness(1.0 / 0.3);
    load(&forebay, &reads, 5 * SECOND).await;
    let good = count(&load(&forebay, &reads, MINUTE).await, Fate::Good) as f64 / MINUTE.as_secs_f64();
    assert!(good >= 0.9 * 0.3 * CAPACITY, "{good}/s");
    backend.set_slowness(1.0);
    load(&forebay, &reads, 5 * SECOND).await;
    assert_all_passed(&load(&forebay, &reads, MINUTE).await, "afterwards");
}

/// So many forebays before one backend that is asked for so many times its capacity, after a calm minute and another in which they find their shares: what each
/// of them serves, as a part of the capacity, and the median of what an answer takes.
async fn shares(forebays: usize, times: f64) -> (Vec<f64>, Duration) {
    let backend = Backend::new(1, 16);
    backend.seed(2);
    let forebays: Vec<Arc<Forebay>> = (0..forebays).map(|_| Arc::new(Forebay::new(&backend))).collect();
    let reads = |times: f64| [Stream(read("reads", 80), times * CAPACITY)];
    load(&forebays, &reads(0.5), MINUTE).await;
    load(&forebays, &reads(times), MINUTE).await;
    let done: Vec<Done> = load(&forebays, &reads(times), 3 * MINUTE).await.into_iter().filter(|done| done.fate == Fate::Good).collect();
    let of = |number| done.iter().filter(|done| done.by == number).count() as f64 / (3 * MINUTE).as_secs_f64() / CAPACITY;
    let mut took: Vec<Duration> = done.iter().map(|done| done.took).collect();
    took.sort_unstable();
    ((0..forebays.len()).map(of).collect(), took[took.len() / 2])
}

#[tokio::test(start_paused = true)]
async fn several_forebays_before_one_backend_share_it_fairly_use_it_whole_and_keep_it_quick() {
    for (forebays, times) in [(2, 1.5), (2, 3.0), (4, 1.5), (4, 3.0)] {
        let (shares, median) = shares(forebays, times).await;
        let (least, most) = (shares.iter().copied().fold(f64::MAX, f64::min), shares.iter().copied().fold(0.0, f64::max));
        assert!(most <= 2.0 * least, "{forebays} at {times}: {shares:?}");
        assert!(shares.iter().sum::<f64>() >= 0.9, "{forebays} at {times}: {shares:?}");
        // 0.25 s of it may be the wait for a seat.
        assert!(median <= Duration::from_millis(600), "{forebays} at {times}: {median:?}");
    }
}
