use std::{sync::Arc, time::Duration};

use super::*;
use crate::health::{Gate, Settings, Signal, State};

fn health(concurrency: Concurrency) -> Arc<Health> {
    Health::with_random("app".into(), Settings { concurrency, wait: Duration::ZERO, check: None }, (1, 1), || 0.5)
}

fn sample(kind: Kind, rtt: Duration, quality: Quality) -> Sample {
    Sample { kind, class: Class::Live, rtt: Some(rtt), quality }
}

/// Fills the gate and ends so many requests of this latency, all admitted under the present limit, at the pace of one window in a quarter second.
async fn traffic(health: &Arc<Health>, kind: Kind, rtt: Duration, count: u32) {
    let mut seats = Vec::new();
    while let Ok(seat) = health.seat(Class::Live).await {
        seats.push(seat);
    }
    // Whoever looks how long a turn of this loop takes sees that it takes no time.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_millis(250)).await;
    let seat = seats.last().unwrap();
    (0..count).for_each(|_| health.sample(seat, sample(kind, rtt, Quality::Good)));
}

const QUICK: Duration = Duration::from_millis(80);

/// To the microsecond.
fn is(span: Option<Duration>, expected: Duration) -> bool {
    span.is_some_and(|span| span.abs_diff(expected) < Duration::from_micros(1))
}

#[tokio::test(start_paused = true)]
async fn the_limit_grows_while_it_is_used_up_and_nothing_gets_slower() {
    let health = health(Concurrency::Adaptive);
    let kind = health.kind("marks", false);
    assert_eq!((health.limit(), health.load().why), (20, Why::Unknown));
    traffic(&health, kind, QUICK, 50).await;
    assert!(is(health.base(kind), QUICK));
    traffic(&health, kind, QUICK, 20).await;
    assert_eq!((health.limit(), health.load().why), (30, Why::SlowStart));
    traffic(&health, kind, 4 * QUICK, 20).await;
    assert_eq!((health.limit(), health.load().why), (21, Why::Slow));
    assert!(health.load().slowdown.is_some_and(|x| (x - 4.0).abs() < 1e-3));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_limit_stays_and_the_slowdown_is_known_all_the_same() {
    let health = health(Concurrency::Fixed(20));
    let kind = health.kind("marks", false);
    traffic(&health, kind, QUICK, 50).await;
    traffic(&health, kind, 4 * QUICK, 20).await;
    traffic(&health, kind, 4 * QUICK, 20).await;
    assert_eq!((health.limit(), health.load().why), (20, Why::Fixed));
    assert!(health.load().slowdown.is_some_and(|x| (x - 4.0).abs() < 1e-3));
}

#[tokio::test(start_paused = true)]
async fn errors_and_refusals_never_count_as_quick_answers() {
    for status in [400, 401, 404, 409, 500, 501] {
        assert_eq!(Quality::of_status(status), Quality::Neither, "{status}");
    }
    for status in [429, 502, 503] {
        assert_eq!(Quality::of_status(status), Quality::Refused, "{status}");
    }
    assert_eq!(Quality::of_status(504), Quality::Bad);
    for status in [200, 202, 204, 301, 304] {
        assert_eq!(Quality::of_status(status), Quality::Good, "{status}");
    }
    let health = health(Concurrency::Adaptive);
    let kind = health.kind("marks", false);
    let seat = health.seat(Class::Live).await.unwrap();
    (0..100).for_each(|_| health.sample(&seat, sample(kind, Duration::from_millis(1), Quality::Bad)));
    (0..100).for_each(|_| health.sample(&seat, sample(kind, Duration::from_millis(1), Quality::Neither)));
    assert_eq!((health.base(kind), health.take_tick().all), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_route_has_a_class_for_what_reads_and_one_for_what_writes() {
    let health = health(Concurrency::Adaptive);
    let (reads, writes) = (health.kind("marks", true), health.kind("marks", false));
    assert_ne!(reads, writes);
    assert_eq!((health.kind("marks", true), health.kind("marks", false)), (reads, writes));
    assert_ne!(health.kind("orders", true), reads);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_begins_with_half_of_what_it_had_and_grows_from_there() {
    let health = health(Concurrency::Adaptive);
    let kind = health.kind("marks", false);
    traffic(&health, kind, QUICK, 50).await;
    traffic(&health, kind, QUICK, 20).await;
    (0..5).for_each(|_| health.report(0, Signal::ConnectFailure));
    assert_eq!((health.state(), health.limit()), (State::Shedding, 0));
    health.probed(0, true);
    health.probed(0, true);
    assert_eq!((health.state(), health.limit()), (State::Probing, 15));
    (0..20).for_each(|_| health.report(0, Signal::Success));
    assert_eq!((health.state(), health.limit()), (State::Passing, 15));
    traffic(&health, kind, QUICK, 20).await;
    assert_eq!(health.limit(), 22);
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_is_known_to_the_next_run() {
    let first = health(Concurrency::Adaptive);
    let kind = first.kind("marks", false);
    traffic(&first, kind, QUICK, 50).await;
    traffic(&first, kind, QUICK, 20).await;
    let second = health(Concurrency::Adaptive);
    second.remember(&first.memory());
    assert_eq!((second.limit(), second.load().why), (30, Why::Remembered));
    assert!(is(second.base(second.kind("marks", false)), QUICK));
    assert_eq!(health(Concurrency::Adaptive).memory().limit, None, "what is only a guess is not worth keeping");
}

#[tokio::test(start_paused = true)]
async fn a_configured_number_is_not_overruled_by_what_was_learned() {
    let health = health(Concurrency::Fixed(6));
    health.remember(&Memory { limit: Some(100.0), ..Memory::default() });
    assert_eq!(health.limit(), 6);
    health.reconfigure(Settings { concurrency: Concurrency::Adaptive, wait: Duration::ZERO, check: None });
    assert_eq!(health.limit(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_share_follows_the_limit_and_keeps_its_own_number() {
    let health = health(Concurrency::Fixed(20));
    let (half, three, little) = (Gate::new(1), Gate::new(3), Gate::new(1));
    health.set_shares([(half.clone(), 0.5, None), (three.clone(), 0.5, Some(3)), (little.clone(), 0.01, None)]);
    assert_eq!((half.limit(), three.limit(), little.limit()), (10, 3, 1));
    health.reconfigure(Settings { concurrency: Concurrency::Fixed(40), wait: Duration::ZERO, check: None });
    assert_eq!((half.limit(), three.limit(), little.limit()), (20, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn the_seat_of_what_was_given_up_stays_taken_for_as_long_as_the_slowest_of_its_class_take() {
    let health = health(Concurrency::Fixed(4));
    let kind = health.kind("marks", false);
    let seat = health.seat(Class::Live).await.unwrap();
    (0..50).for_each(|_| health.sample(&seat, sample(kind, 10 * QUICK, Quality::Good)));
    health.abandon(seat, kind);
    tokio::time::sleep(Duration::from_millis(799)).await;
    assert_eq!(health.in_flight(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(health.in_flight(), 0);
    // Of a class of which nothing is known, nothing can be said.
    let seat = health.seat(Class::Live).await.unwrap();
    health.abandon(seat, health.kind("orders", false));
    assert_eq!(health.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tick_counts_the_live_requests_and_those_that_found_no_seat() {
    let health = health(Concurrency::Fixed(2));
    let seats = [health.seat(Class::Live).await.unwrap(), health.seat(Class::Live).await.unwrap()];
    assert!(health.seat(Class::Live).await.is_err());
    assert!(health.seat(Class::Replay).await.is_err());
    let tick = health.take_tick();
    assert_eq!((tick.live_requests, tick.live_waited), (3, 1));
    assert_eq!(health.take_tick().live_requests, 0);
    drop(seats);
}

#[tokio::test(start_paused = true)]
async fn what_streams_from_a_client_is_not_timed() {
    let health = health(Concurrency::Adaptive);
    let kind = health.kind("uploads", false);
    let seat = health.seat(Class::Live).await.unwrap();
    let untimed = Sample { rtt: None, ..sample(kind, QUICK, Quality::Good) };
    (0..100).for_each(|_| health.sample(&seat, untimed));
    assert_eq!((health.base(kind), health.take_tick().all), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_lost_among_several_takes_no_seat_from_the_others_and_the_only_one_does() {
    for (servers, expected) in [(2, 20), (1, 14)] {
        let settings = Settings { concurrency: Concurrency::Adaptive, wait: Duration::ZERO, check: None };
        let health = Health::with_random("app".into(), settings, (servers, servers), || 0.5);
        let kind = health.kind("marks", false);
        let seats: Vec<Seat> = std::iter::from_fn(|| health.gate.try_seat()).collect();
        tokio::time::advance(Duration::from_millis(250)).await;
        (0..10).for_each(|_| health.sample(&seats[19], sample(kind, QUICK, Quality::Lost(0))));
        (0..20).for_each(|_| health.sample(&seats[19], sample(kind, QUICK, Quality::Good)));
        assert_eq!(health.limit(), expected, "of {servers}");
    }
}
