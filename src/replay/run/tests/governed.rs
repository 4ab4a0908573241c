//! What keeps replay from making a sick backend sicker: the window, the budget, poison alone, and the alarms.

use super::{
    bench::{Bench, gentle, new, secs},
    script::{Killer, Step},
    *,
};
use crate::{
    envelope::{DeadReason, RequestId},
    health::Mode,
    replay::{
        Profile, Settings,
        pace::{Sight, Slowness},
    },
    store::Store,
};

/// What the health of a backend of 100 seats sees of so many live requests that it answers `x` times slower than at rest.
fn live(samples: u32, x: f64) -> Sight {
    let slowness = Slowness { samples, p50: x };
    Sight { live: slowness, all: slowness, live_requests: samples, limit: 100, ..Sight::default() }
}

/// A drain of many requests of 500 ms each, from a backend of which that is seen.
async fn draining(settings: Settings, sight: Sight) -> Bench {
    let bench = Bench::new(settings);
    *bench.sight.lock() = sight;
    bench.default_step(Step::answer(200).after(Duration::from_millis(500)));
    bench.append_many("/marks", 900).await;
    bench
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_an_idle_backend_begins_with_one_and_grows_by_half_each_second() {
    let bench = draining(Settings { concurrency: None, ..gentle(1) }, live(0, 1.0)).await;
    *bench.sight.lock() = Sight { all: Slowness { samples: 20, p50: 1.0 }, ..live(0, 1.0) };
    let mut windows = Vec::new();
    bench.until("the first is sent", |bench| !bench.paths().is_empty()).await;
    for _ in 0..12 {
        windows.push(bench.status().window);
        bench.pass(secs(1)).await;
    }
    assert_eq!(windows, [1, 2, 3, 4, 6, 10, 15, 22, 34, 51, 76, 80]);
}

#[tokio::test(start_paused = true)]
async fn replay_gives_way_while_live_requests_get_slower() {
    let bench = draining(gentle(16), live(20, 1.0)).await;
    bench.until("the window is open", |bench| bench.status().window == 16).await;
    *bench.sight.lock() = live(20, 1.9);
    bench.until("it is one", |bench| bench.status().window == 1).await;
    assert_eq!(bench.status().ramp, Ramp::Slower);
    assert!(!bench.status().slow_start);
    *bench.sight.lock() = live(20, 1.0);
    bench.until("it grows again", |bench| bench.status().window == 3).await;
    assert_eq!((bench.status().ramp, bench.status().hold), (Ramp::Growing, Hold::Window));
}

#[tokio::test(start_paused = true)]
async fn the_fast_profile_drains_on_while_live_requests_get_slower() {
    let bench = draining(Settings { profile: Profile::Fast, ..gentle(16) }, live(20, 9.0)).await;
    bench.until("the window is open", |bench| bench.courier.now_at_backend() == 16).await;
}

#[tokio::test(start_paused = true)]
async fn the_fixed_profile_begins_with_all_that_is_configured() {
    let bench = draining(Settings { profile: Profile::Fixed, ..gentle(16) }, live(20, 9.0)).await;
    bench.until("the window is open", |bench| bench.courier.now_at_backend() == 16).await;
    assert!(bench.times().last().unwrap() <= &Duration::from_millis(20), "with the first of them");
    assert_eq!(bench.status().ramp, Ramp::Steady, "no tick yet");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_replayed_while_an_operator_wants_every_write_queued() {
    let bench = Bench::new(gentle(16));
    bench.health.set_mode(Mode::Spill);
    bench.append_many("/marks", 3).await;
    bench.pass(secs(3600)).await;
    assert_eq!((bench.paths().len(), bench.status().hold), (0, Hold::Mode));
    bench.health.set_mode(Mode::Auto);
    bench.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_an_operator_vouches_for_is_replayed_to_although_its_breaker_sheds() {
    let bench = Bench::new(gentle(16));
    bench.trip();
    bench.append_many("/marks", 3).await;
    bench.pass(secs(60)).await;
    assert_eq!((bench.paths().len(), bench.status().hold), (0, Hold::Shedding));
    bench.health.set_mode(Mode::Pass);
    bench.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_pauses_now_and_then_to_see_live_traffic_without_it() {
    let bench = draining(gentle(4), live(20, 1.0)).await;
    bench.until("replay pauses", |bench| bench.status().hold == Hold::Measuring).await;
    bench.until("nothing is under way", |bench| bench.courier.now_at_backend() == 0).await;
    let sent = bench.paths().len();
    bench.until("it goes on", |bench| bench.paths().len() > sent).await;
    assert!(bench.status().window > 1, "with the window that it had");
}

#[tokio::test(start_paused = true)]
async fn a_route_of_long_requests_gets_a_quarter_of_the_limit() {
    let bench = Bench::new(Settings { profile: Profile::Fixed, ..gentle(16) });
    *bench.sight.lock() = Sight { rtt: Some(Duration::from_millis(80)), ..live(0, 1.0) };
    bench.default_step(Step::answer(200).after(secs(2)));
    bench.health.reconfigure(bench::seats(20));
    for number in 0..60 {
        bench.append(new(&format!("/sheets/{number}")).route("sheets")).await;
    }
    bench.until("the first are done", |bench| bench.totals().delivered >= 16).await;
    bench.pass(secs(3)).await;
    assert_eq!(bench.courier.now_at_backend(), 5);
    assert_eq!(bench.status().hold, Hold::Route);
    bench.drained().await;
}

#[tokio::test(start_paused = true)]
async fn retries_are_put_off_to_what_attempts_and_time_have_earned() {
    let bench = Bench::new(Settings { profile: Profile::Fixed, ..gentle(64) });
    bench.script((0..60).map(|_| Step::answer(408)));
    bench.append_many("/marks", 60).await;
    bench.drained().await;
    let times = bench.times();
    assert_eq!(times.len(), 120);
    // Ten are saved up, twelve were earned by the first sixty, and each retry earns a fifth of another: the rest comes at one a second.
    let retried_within = |span: Duration| times[60..].iter().filter(|at| **at <= times[0] + span).count();
    assert!((15..=25).contains(&retried_within(secs(3))), "{times:?}");
    assert!(times[119] >= times[0] + secs(30), "{times:?}");
}

/// A request that brings the backend down, among twenty that do not. Probes pass again at once.
async fn poisoned(after: u64, noticed_after: u64) -> (Bench, RequestId) {
    let bench = Bench::new(gentle(8));
    bench.bring_back();
    let (after, noticed_after) = (Duration::from_millis(after), Duration::from_millis(noticed_after));
    *bench.courier.killer.lock() = Some(Killer { path: "/poison", after, noticed_after });
    bench.default_step(Step::answer(200).after(Duration::from_millis(300)));
    bench.append_many("/marks", 10).await;
    let poison = bench.append(new("/poison").attempts(2)).await;
    bench.append_many("/later", 10).await;
    (bench, poison)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_brings_the_backend_down_twice_is_sent_alone_once_more_and_then_given_up() {
    let (bench, poison) = poisoned(200, 0).await;
    bench.drained().await;
    let paths = bench.paths();
    assert_eq!(paths.iter().filter(|path| *path == "/poison").count(), 3, "{paths:?}");
    assert_eq!(bench.dead_reason(poison).await, Some(DeadReason::Poison));
    let outcome = bench.store.get(poison).await.unwrap().last_outcome;
    assert!(outcome.starts_with("the backend went down 3 times with it"), "{outcome}");
    assert_eq!(bench.courier.beside("/poison").last(), Some(&0), "it was alone the last time");
    assert_eq!((bench.totals().delivered, bench.totals().dead), (20, 1), "nobody else was taken for it");
}

#[tokio::test(start_paused = true)]
async fn one_whose_connection_breaks_before_the_breaker_notices_is_found_as_well() {
    let (bench, poison) = poisoned(50, 400).await;
    bench.drained().await;
    assert_eq!(bench.paths().iter().filter(|path| *path == "/poison").count(), 3);
    assert_eq!(bench.dead_reason(poison).await, Some(DeadReason::Poison));
    assert_eq!(bench.totals().delivered, 20);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_does_no_harm_alone_is_delivered_and_the_others_go_on() {
    let (bench, poison) = poisoned(200, 0).await;
    bench.until("it was sent twice", |bench| bench.courier.beside("/poison").len() == 2).await;
    *bench.courier.killer.lock() = None;
    bench.drained().await;
    assert_eq!(bench.courier.beside("/poison").last(), Some(&0));
    assert_eq!(bench.store.get(poison).await.unwrap().dead_reason, None);
    assert_eq!(bench.totals().delivered, 21);
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_changes_the_mode_meanwhile_brings_no_suspicion_on_what_is_under_way() {
    let bench = Bench::new(gentle(16));
    bench.script([Step::answer(504).after(secs(2)), Step::answer(200)]);
    let id = bench.append(new("/slow")).await;
    bench.until("it is under way", |bench| bench.paths().len() == 1).await;
    for mode in [Mode::Spill, Mode::Auto, Mode::Spill, Mode::Auto] {
        bench.health.set_mode(mode);
        bench.pass(Duration::from_millis(10)).await;
    }
    bench.drained().await;
    let record = bench.store.get(id).await.unwrap();
    assert_eq!((record.dead_reason, record.attempts), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_suspected_of_nothing() {
    let bench = Bench::new(gentle(4));
    for _ in 0..4 {
        bench.script([Step::not_sent().after(secs(2))]);
        let id = bench.append(new("/marks/1").attempts(1)).await;
        bench.until("it is sent", |bench| bench.courier.now_at_backend() == 1).await;
        bench.trip();
        bench.pass(secs(5)).await;
        bench.bring_back();
        bench.drained().await;
        assert_eq!(bench.store.answer(id).await.unwrap().status, 200);
    }
    assert_eq!(bench.totals().dead, 0);
}

#[tokio::test(start_paused = true)]
async fn what_fails_while_the_backend_comes_back_uses_up_no_attempt() {
    let bench = Bench::new(gentle(1));
    bench.trip();
    bench.script((0..6).map(|_| Step::answer(503).field("retry-after", "1")));
    let id = bench.append(new("/marks/1").attempts(2)).await;
    bench.bring_back();
    bench.drained().await;
    assert_eq!(bench.paths().len(), 7);
    assert_eq!(bench.store.answer(id).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_requests_come_faster_than_they_can_go_is_an_alarm() {
    let bench = Bench::new(gentle(8));
    bench.default_step(Step::answer(200).after(secs(2)));
    for number in 0..90 {
        bench.append(new(&format!("/a/{number}")).key(7)).await;
        bench.pass(secs(1)).await;
    }
    assert_eq!(bench.status().growing_keys, 1);
    assert!(bench.status().growing, "and so does the whole backlog");
    bench.drained().await;
    bench.until("the alarm is over", |bench| bench.status().growing_keys == 0 && !bench.status().growing).await;
}

#[tokio::test(start_paused = true)]
async fn many_dead_letters_of_expired_credentials_are_one_alarm_that_ends() {
    let bench = Bench::new(gentle(8));
    bench.default_step(Step::answer(401));
    bench.append_many("/marks", 9).await;
    bench.drained().await;
    bench.pass(secs(6)).await;
    assert!(!bench.status().auth_expired);
    bench.append_many("/more", 50).await;
    bench.drained().await;
    bench.until("it is seen", |bench| bench.status().auth_expired).await;
    assert_eq!(bench.totals().dead, 59);
    bench.until("it is over", |bench| !bench.status().auth_expired).await;
}

#[tokio::test(start_paused = true)]
async fn the_health_of_the_backend_is_told_of_each_attempt_and_tells_what_it_saw() {
    let bench = Bench::new(gentle(8));
    bench.default_step(Step::answer(200).after(Duration::from_millis(80)));
    bench.append_many("/marks", 60).await;
    bench.drained().await;
    let sight = crate::replay::attempt::sight_of(Arc::clone(&bench.health));
    bench.append_many("/more", 10).await;
    bench.drained().await;
    let seen = sight();
    assert!((seen.rtt.unwrap().as_secs_f64() - 0.08).abs() < 0.001, "{seen:?}");
    assert_eq!((seen.live.samples, seen.live_requests, seen.limit), (0, 0, 100), "none of them was live");
    assert!(seen.all.samples >= 10 && (seen.all.p50 - 1.0).abs() < 0.01, "{seen:?}");
    let live = bench.health.seat(Class::Live).await.unwrap();
    assert_eq!((sight().live_requests, sight().all.samples), (1, 0), "each look begins anew");
    drop(live);
}

#[tokio::test(start_paused = true)]
async fn how_good_the_estimates_of_a_drain_were_is_known_after_it() {
    let bench = Bench::new(Settings { profile: Profile::Fixed, ..gentle(1) });
    bench.default_step(Step::answer(200).after(Duration::from_millis(500)));
    bench.append_many("/marks", 100).await;
    assert_eq!(bench.status().estimate_ratio, None);
    bench.drained().await;
    bench.until("it is known", |bench| bench.status().estimate_ratio.is_some()).await;
    let ratio = bench.status().estimate_ratio.unwrap();
    assert!((0.9..=1.1).contains(&ratio), "a steady drain is foreseen: {ratio}");
}
