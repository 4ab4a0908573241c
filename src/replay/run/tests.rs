//! The loop against the model store, the real health and a scripted backend, on tokio's paused clock: waiting takes no time, and time is exact.

mod bench;
mod flaky;
mod governed;
mod outage;
mod script;

use std::num::NonZeroU32;

use super::*;
use crate::{
    envelope::{DeadReason, Delivery},
    replay::{Rate, RouteGates, Settings},
    store::Store,
};
use bench::{Bench, gentle, new, secs};
use script::Step;

#[tokio::test(start_paused = true)]
async fn a_queued_request_is_delivered_and_its_answer_kept() {
    let bench = Bench::new(gentle(8));
    let id = bench.append(new("/marks/1")).await;
    bench.drained().await;
    assert_eq!(bench.paths(), ["/marks/1"]);
    assert_eq!(bench.store.answer(id).await.unwrap().status, 200);
    assert_eq!(bench.totals().delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_while_the_backend_sheds_and_that_costs_no_attempt() {
    let bench = Bench::new(gentle(8));
    bench.trip();
    let id = bench.append(new("/marks/1").attempts(1)).await;
    bench.pass(secs(3600)).await;
    assert_eq!(bench.paths(), [""; 0]);
    assert_eq!(bench.store.get(id).await.unwrap().attempts, 0);
    bench.bring_back();
    bench.drained().await;
    assert_eq!(bench.totals().delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_trip_while_the_queue_drains_stops_it_and_starts_it_anew_from_one() {
    let bench = Bench::new(gentle(8));
    bench.default_step(Step::answer(200).after(secs(1)));
    bench.append_many("/marks", 100).await;
    bench.until("the window is open", |bench| bench.courier.now_at_backend() == 8).await;
    bench.trip();
    bench.pass(secs(60)).await;
    let sent = bench.paths().len();
    bench.pass(secs(600)).await;
    assert_eq!(bench.paths().len(), sent, "what was under way ended, and nothing new began");
    bench.bring_back();
    bench.until("one more is sent", |bench| bench.paths().len() > sent).await;
    assert_eq!(bench.courier.now_at_backend(), 1);
    bench.drained().await;
    assert_eq!(bench.totals().delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_attempts_are_used_up_is_given_up_with_its_last_answer() {
    let bench = Bench::new(gentle(8));
    bench.default_step(Step::answer(500));
    let id = bench.append(new("/marks/1").attempts(3)).await;
    bench.drained().await;
    assert_eq!(bench.paths().len(), 3);
    assert_eq!(bench.dead_reason(id).await, Some(DeadReason::AttemptsExhausted));
    assert_eq!(bench.store.answer(id).await.unwrap().status, 500);
}

#[tokio::test(start_paused = true)]
async fn retry_after_holds_the_whole_backend() {
    let bench = Bench::new(gentle(8));
    bench.script([Step::answer(503).field("retry-after", "120")]);
    bench.append(new("/marks/1")).await;
    bench.append(new("/marks/2")).await;
    bench.until("the pause has begun", |bench| bench.status().held_until.is_some()).await;
    bench.drained().await;
    let times = bench.times();
    assert_eq!(times.len(), 3);
    assert!(times[1] >= times[0] + secs(120), "{times:?}");
    assert_eq!(bench.totals().delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_key_arrive_in_order_one_at_a_time_whatever_fails() {
    let bench = Bench::new(gentle(8));
    bench.script([Step::answer(500), Step::answer(500)]);
    for number in 0..4 {
        bench.append(new(&format!("/a/{number}")).key(7)).await;
    }
    bench.drained().await;
    assert_eq!(bench.paths(), ["/a/0", "/a/0", "/a/0", "/a/1", "/a/2", "/a/3"]);
    assert_eq!(bench.courier.most_at_backend(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_for_its_retry_holds_back_nobody_else() {
    let bench = Bench::new(gentle(1));
    bench.script([Step::answer(500)]);
    bench.append(new("/a/0").key(7)).await;
    bench.append(new("/a/1").key(7)).await;
    bench.append(new("/b/0").key(8)).await;
    bench.append(new("/none")).await;
    bench.drained().await;
    assert_eq!(bench.paths(), ["/a/0", "/b/0", "/none", "/a/0", "/a/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_route_at_its_limit_waits_while_others_go_on() {
    let gate = crate::health::gate::Gate::new(2);
    let routes = RouteGates::from_iter([(Name::from("sheets"), Arc::clone(&gate))]);
    let bench = Bench::with(gentle(8), routes);
    bench.default_step(Step::answer(200).after(secs(10)));
    for number in 0..10 {
        bench.append(new(&format!("/sheets/{number}")).route("sheets")).await;
    }
    bench.append_many("/marks", 30).await;
    bench.drained().await;
    assert_eq!(bench.courier.most_at_backend_of("/sheets"), 2);
    assert_eq!(bench.courier.most_at_backend(), 8);
    assert_eq!(bench.totals().delivered, 40);
    assert_eq!(gate.in_flight(), 0);
    assert_eq!(bench.most_attempts().await, 1, "none was claimed in vain");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_live_traffic_fills_is_left_alone_until_it_has_room() {
    let gate = crate::health::gate::Gate::new(1);
    let bench = Bench::with(gentle(8), RouteGates::from_iter([(Name::from("sheets"), Arc::clone(&gate))]));
    let live = gate.try_seat().unwrap();
    bench.append(new("/sheets/1").route("sheets")).await;
    // Not at a moment at which the loop wakes up for something else.
    bench.pass(secs(601)).await;
    assert_eq!(bench.paths(), [""; 0]);
    let freed = tokio::time::Instant::now();
    drop(live);
    bench.drained().await;
    assert_eq!(bench.totals().delivered, 1);
    assert!(freed.elapsed() < secs(1), "the seat itself says that it is free");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_sent_uses_none_up() {
    let bench = Bench::new(gentle(8));
    bench.script((0..20).map(|_| Step::not_sent()));
    let id = bench.append(new("/marks/1").attempts(1).delivery(Delivery::AtMostOnce)).await;
    bench.drained().await;
    assert_eq!(bench.paths().len(), 21);
    assert_eq!(bench.store.answer(id).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_executed_is_sent_again_only_where_the_route_allows_it() {
    let bench = Bench::new(gentle(1));
    bench.script([Step::lost(), Step::lost()]);
    let once = bench.append(new("/once").delivery(Delivery::AtMostOnce)).await;
    let more = bench.append(new("/more").delivery(Delivery::AtLeastOnce)).await;
    bench.drained().await;
    assert_eq!(bench.paths(), ["/once", "/more", "/more"]);
    assert_eq!(bench.dead_reason(once).await, Some(DeadReason::OutcomeUnknown));
    assert_eq!(bench.store.answer(more).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_window_opens_one_by_one_and_never_past_the_setting() {
    let bench = Bench::new(gentle(5));
    bench.default_step(Step::answer(200).after(secs(1)));
    bench.append_many("/marks", 60).await;
    bench.until("the first is sent", |bench| !bench.paths().is_empty()).await;
    bench.pass(Duration::from_millis(500)).await;
    assert_eq!(bench.paths().len(), 1);
    bench.drained().await;
    assert_eq!(bench.courier.most_at_backend(), 5);
    assert_eq!(bench.totals().delivered, 60);
}

#[tokio::test(start_paused = true)]
async fn failures_halve_the_window() {
    let bench = Bench::new(gentle(8));
    bench.default_step(Step::answer(200).after(secs(1)));
    bench.append_many("/marks", 200).await;
    bench.until("the window is open", |bench| bench.status().window == 8).await;
    bench.script((0..3).map(|_| Step::lost()));
    bench.until("the window is cut", |bench| bench.status().window == 4).await;
    bench.drained().await;
    assert_eq!(bench.totals().delivered, 200);
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_never_exceeded() {
    let rate = Rate { count: NonZeroU32::new(10).unwrap(), per: secs(1) };
    let bench = Bench::new(Settings { rate: Some(rate), ..gentle(8) });
    bench.append_many("/marks", 31).await;
    bench.drained().await;
    let times = bench.times();
    for (earlier, later) in times.iter().zip(&times[10..]) {
        assert!(*later >= *earlier + secs(1), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_replay_sends_nothing_until_it_is_resumed() {
    let bench = Bench::new(gentle(8));
    bench.handle.set_paused(true);
    bench.append(new("/marks/1")).await;
    bench.pass(secs(600)).await;
    assert_eq!(bench.paths(), [""; 0]);
    bench.handle.set_paused(false);
    bench.drained().await;
    assert_eq!(bench.paths(), ["/marks/1"]);
}

#[tokio::test(start_paused = true)]
async fn new_settings_hold_from_now_on() {
    let bench = Bench::new(gentle(2));
    bench.default_step(Step::answer(200).after(secs(1)));
    bench.append_many("/marks", 100).await;
    bench.until("the window is open", |bench| bench.courier.now_at_backend() == 2).await;
    bench.handle.configure(gentle(6), RouteGates::default());
    bench.drained().await;
    assert_eq!(bench.courier.most_at_backend(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_is_under_way_and_begins_nothing() {
    let mut bench = Bench::new(gentle(1));
    bench.default_step(Step::answer(200).after(secs(5)));
    bench.append_many("/marks", 3).await;
    bench.until("one is sent", |bench| !bench.paths().is_empty()).await;
    bench.stop(secs(30)).await;
    let totals = bench.totals();
    assert_eq!((totals.delivered, totals.queued, totals.delivering), (1, 2, 0));
    assert_eq!(bench.paths().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_stop_leaves_nothing_half_claimed() {
    let mut bench = Bench::new(gentle(2));
    bench.script([Step::answer(200)]);
    bench.default_step(Step::silent());
    bench.append(new("/first")).await;
    let once = bench.append(new("/once").delivery(Delivery::AtMostOnce)).await;
    let more = bench.append(new("/more").delivery(Delivery::AtLeastOnce).attempts(1)).await;
    bench.until("both are sent", |bench| bench.courier.now_at_backend() == 2).await;
    bench.stop(secs(30)).await;
    assert_eq!(bench.dead_reason(once).await, Some(DeadReason::OutcomeUnknown));
    let record = bench.store.get(more).await.unwrap();
    assert_eq!(record.state, crate::envelope::State::Queued);
    assert_eq!(bench.totals().delivering, 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_ends_after_the_stop_began_is_given_back_unsent() {
    let mut bench = Bench::new(gentle(1));
    let once = bench.append(new("/once").delivery(Delivery::AtMostOnce)).await;
    // The loop has not run yet: it sees the stop first, or its claim ends after it.
    bench.stop(secs(30)).await;
    assert_eq!(bench.paths(), [""; 0]);
    assert_eq!(bench.store.get(once).await.unwrap().state, crate::envelope::State::Queued);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_settled_only_once_although_the_store_fails_for_a_while() {
    let bench = Bench::new(gentle(1));
    let id = bench.append(new("/once").delivery(Delivery::AtMostOnce)).await;
    bench.store.fail_settling(5);
    bench.drained().await;
    assert_eq!(bench.paths(), ["/once"]);
    assert_eq!(bench.store.answer(id).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_claim_for_a_while_is_asked_again() {
    let bench = Bench::new(gentle(8));
    bench.store.fail_claiming(3);
    bench.append(new("/marks/1")).await;
    bench.drained().await;
    assert_eq!(bench.totals().delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn pruning_goes_on_until_the_stop() {
    let mut bench = Bench::new(gentle(8));
    bench.handle.set_paused(true);
    let id = bench.append(new("/marks/1")).await;
    let (store, clock, shutdown) = (bench.store.clone(), bench.clock.clone(), bench.shutdown());
    let pruning = tokio::spawn(crate::replay::prune(store, clock, shutdown));
    bench.pass(bench::MAX_AGE + secs(6)).await;
    assert_eq!(bench.dead_reason(id).await, Some(DeadReason::Expired));
    bench.stop(secs(1)).await;
    pruning.await.unwrap();
}

#[test]
fn the_replay_may_run_on_any_thread() {
    fn is_send<T: Send>(_: impl FnOnce(crate::replay::Replay, Shutdown) -> T) {}
    is_send(crate::replay::Replay::run);
}
