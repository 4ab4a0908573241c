use std::sync::Mutex as StdMutex;

use futures_util::FutureExt;

use super::*;

mod boring;
mod full;

fn settings(concurrency: u32) -> Settings {
    Settings { concurrency: Concurrency::Fixed(concurrency), wait: Duration::from_millis(250), check: None }
}

fn health(concurrency: u32, servers: usize) -> Arc<Health> {
    Health::with_random("app".into(), settings(concurrency), (servers, servers), || 0.5)
}

fn report(health: &Health, times: u32, server: usize, signal: Signal) {
    (0..times).for_each(|_| health.report(server, signal));
}

/// A backend that sheds, and one that has come as far as PROBING from there.
fn shed(health: &Health) {
    for server in 0..health.weights.len() {
        report(health, 5, server, Signal::ConnectFailure);
    }
    assert_eq!(health.state(), State::Shedding);
}

fn probe_back(health: &Health) {
    health.probed(0, true);
    health.probed(0, true);
    assert_eq!(health.state(), State::Probing);
}

fn weights(health: &Health) -> Vec<u32> {
    health.weights().iter().map(|weight| weight.load(Relaxed)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_trips_gives_no_seat_and_says_so() {
    let health = health(20, 1);
    let mut states = health.subscribe();
    let seat = health.seat(Class::Live).await.unwrap();
    shed(&health);
    assert_eq!(*states.borrow_and_update(), State::Shedding);
    assert_eq!(health.seat(Class::Live).await.unwrap_err(), NoSeat::Shedding);
    assert_eq!(health.seat(Class::Replay).await.unwrap_err(), NoSeat::Shedding);
    assert_eq!((health.limit(), health.in_flight(), health.failing()), (0, 1, true));
    drop(seat);
    assert_eq!(health.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_when_it_trips_are_told_at_once() {
    let health = health(1, 1);
    let _seat = health.seat(Class::Live).await.unwrap();
    let mut waiter = Box::pin(health.seat(Class::Live));
    assert!((&mut waiter).now_or_never().is_none());
    assert_eq!(health.waiting(), 1);
    shed(&health);
    assert_eq!(waiter.now_or_never().unwrap().unwrap_err(), NoSeat::Shedding);
}

#[tokio::test(start_paused = true)]
async fn probing_gives_eight_seats_or_as_many_as_are_configured_when_those_are_fewer() {
    for (concurrency, seats) in [(20, 8), (3, 3)] {
        let health = health(concurrency, 1);
        shed(&health);
        probe_back(&health);
        assert_eq!((health.limit(), health.failing()), (seats, true));
        report(&health, 20, 0, Signal::Success);
        assert_eq!((health.state(), health.limit()), (State::Passing, concurrency));
    }
}

#[tokio::test(start_paused = true)]
async fn live_waits_its_time_and_replay_not_at_all() {
    let health = health(1, 1);
    let _seat = health.seat(Class::Live).await.unwrap();
    assert_eq!(health.seat(Class::Replay).now_or_never().unwrap().unwrap_err(), NoSeat::Full);
    let before = Instant::now();
    assert_eq!(health.seat(Class::Live).await.unwrap_err(), NoSeat::Full);
    assert_eq!(before.elapsed(), Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_be_queued_waits_while_nobody_suffers_and_behind_every_read() {
    let health = health(1, 1);
    let seat = health.seat(Class::Live).await.unwrap();
    let mut write = Box::pin(health.seat(Class::Spillable));
    assert!((&mut write).now_or_never().is_none());
    let mut read = Box::pin(health.seat(Class::Live));
    assert!((&mut read).now_or_never().is_none());
    drop(seat);
    let seat = read.await.unwrap();
    assert!((&mut write).now_or_never().is_none());
    drop(seat);
    assert!(write.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn once_reads_suffer_such_a_write_takes_what_is_to_spare_or_goes_at_once_for_two_seconds() {
    let health = health(10, 1);
    let mut seats = Vec::new();
    for _ in 0..10 {
        seats.push(health.seat(Class::Live).await.unwrap());
    }
    assert_eq!(health.seat(Class::Live).await.unwrap_err(), NoSeat::Full);
    assert_eq!(health.seat(Class::Spillable).now_or_never().unwrap().unwrap_err(), NoSeat::Full, "it does not wait");
    seats.truncate(8);
    assert_eq!(health.seat(Class::Spillable).now_or_never().unwrap().unwrap_err(), NoSeat::Full, "two seats are for reads");
    assert!(health.seat(Class::Live).now_or_never().unwrap().is_ok());
    seats.truncate(7);
    assert!(health.seat(Class::Spillable).now_or_never().unwrap().is_ok());
    tokio::time::advance(Duration::from_secs(2)).await;
    seats.push(health.seat(Class::Live).await.unwrap());
    assert!(health.seat(Class::Spillable).now_or_never().unwrap().is_ok(), "two seconds later it is as any other");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_less_than_half_of_the_wait_makes_no_write_go_elsewhere() {
    let health = health(1, 1);
    for (waits, contested) in [(124, false), (125, true)] {
        let seat = health.seat(Class::Live).await.unwrap();
        let read = Box::pin(health.seat(Class::Live));
        let free = async {
            tokio::time::sleep(Duration::from_millis(waits)).await;
            drop(seat);
        };
        let (read, ()) = tokio::join!(read, free);
        let goes = health.seat(Class::Spillable).now_or_never().is_some();
        assert_eq!((read.is_ok(), goes), (true, contested), "{waits} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_has_just_come_back_keeps_seats_for_reads() {
    let health = health(20, 1);
    shed(&health);
    probe_back(&health);
    let writes: Vec<Seat> = std::iter::from_fn(|| health.seat(Class::Spillable).now_or_never().unwrap().ok()).collect();
    assert_eq!((writes.len(), health.limit()), (6, 8));
    assert!(health.seat(Class::Live).now_or_never().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn replay_is_woken_by_a_freed_seat_and_by_a_change_of_state() {
    let health = health(1, 1);
    let seat = health.seat(Class::Live).await.unwrap();
    let freed = health.seat_freed();
    drop(seat);
    freed.await;
    let _seat = health.seat(Class::Live).await.unwrap();
    let mut freed = Box::pin(health.seat_freed());
    assert!((&mut freed).now_or_never().is_none());
    shed(&health);
    freed.await;
}

#[tokio::test(start_paused = true)]
async fn successes_on_the_short_way_weigh_against_failures_for_ten_seconds() {
    let health = health(20, 1);
    report(&health, 60, 0, Signal::Success);
    tokio::time::advance(Duration::from_secs(3)).await;
    report(&health, 40, 0, Signal::Success);
    tokio::time::advance(Duration::from_millis(6_999)).await;
    report(&health, 99, 0, Signal::Failure);
    assert_eq!(health.state(), State::Passing, "99 of 199");
    tokio::time::advance(Duration::from_millis(1)).await;
    report(&health, 1, 0, Signal::Failure);
    assert_eq!(health.state(), State::Shedding, "100 of 140: the first 60 successes are forgotten");
}

#[tokio::test(start_paused = true)]
async fn one_success_on_the_short_way_ends_a_row_of_connect_failures() {
    let health = health(20, 1);
    for _ in 0..10 {
        report(&health, 4, 0, Signal::ConnectFailure);
        report(&health, 10, 0, Signal::Success);
    }
    assert_eq!(health.state(), State::Passing);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_out_has_no_weight_and_the_others_keep_theirs() {
    let health = health(20, 3);
    report(&health, 5, 1, Signal::ConnectFailure);
    assert_eq!(weights(&health), [100, 0, 100]);
    assert_eq!(health.state(), State::Passing);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_come_after_half_the_age_of_an_outage_or_in_two_seconds_and_never_in_less_than_one() {
    let health = health(1, 1);
    assert_eq!(health.retry_after(), Duration::from_secs(2));
    shed(&health);
    for (age, told) in [(0, 1), (1, 1), (10, 5), (58, 29), (3600, 30)] {
        tokio::time::advance(Duration::from_secs(age).saturating_sub(health.start.elapsed())).await;
        assert_eq!(health.retry_after(), Duration::from_secs(told), "after {age} s");
    }
    probe_back(&health);
    assert_eq!(health.retry_after(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn clients_are_spread_by_a_quarter_to_both_sides() {
    for (random, millis) in [((|| 0.0) as fn() -> f64, 1_500), (|| 1.0, 2_500)] {
        let health = Health::with_random("app".into(), settings(1), (1, 1), random);
        assert_eq!(health.retry_after(), Duration::from_millis(millis));
    }
}

#[tokio::test(start_paused = true)]
async fn new_settings_hold_at_once_and_open_nothing_that_is_closed() {
    let health = health(2, 1);
    let seats = [health.seat(Class::Live).await.unwrap(), health.seat(Class::Live).await.unwrap()];
    health.reconfigure(Settings { wait: Duration::ZERO, ..settings(3) });
    drop(health.seat(Class::Live).await.unwrap());
    health.reconfigure(Settings { wait: Duration::ZERO, ..settings(1) });
    assert_eq!(health.seat(Class::Live).now_or_never().unwrap().unwrap_err(), NoSeat::Full);
    drop(seats);
    shed(&health);
    health.reconfigure(settings(30));
    assert_eq!(health.limit(), 0);
    probe_back(&health);
    assert_eq!(health.limit(), 8);
    health.reconfigure(settings(5));
    assert_eq!(health.limit(), 5);
}

#[tokio::test(start_paused = true)]
async fn each_change_of_state_is_one_line_with_its_evidence() {
    let health = health(20, 1);
    let log = Log::default();
    let logged = log.begin();
    shed(&health);
    probe_back(&health);
    report(&health, 20, 0, Signal::Success);
    drop(logged);
    assert_eq!(
        log.lines(),
        [
            r#"WARN backend app: shedding after 5 connect failures in a row backend=app state="shedding""#,
            r#"INFO backend app: probing after 2 probes passed in a row backend=app state="probing""#,
            r#"INFO backend app: passing after 20 successes and 0 failures backend=app state="passing""#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn that_reads_suffer_and_that_they_no_longer_do_is_a_line_each_with_its_evidence() {
    let health = health(1, 1);
    let log = Log::default();
    let logged = log.begin();
    let seat = health.seat(Class::Live).await.unwrap();
    for _ in 0..2 {
        assert_eq!(health.seat(Class::Live).await.unwrap_err(), NoSeat::Full);
    }
    drop(seat);
    drop(health.seat(Class::Live).await.unwrap());
    tokio::time::advance(Duration::from_secs(2)).await;
    drop(health.seat(Class::Live).await.unwrap());
    drop(health.seat(Class::Live).await.unwrap());
    drop(logged);
    assert_eq!(
        log.lines(),
        [
            r#"WARN backend app: reads before writes that may be queued, since a read was refused after 250 ms backend=app contest="on""#,
            r#"INFO backend app: reads and writes alike again, after 2 reads that suffered within 0.2 s and none since backend=app contest="off""#,
        ]
    );
}

#[derive(Clone, Default)]
struct Log(Arc<StdMutex<Vec<u8>>>);

impl Log {
    /// What this thread logs goes here, as long as the guard is held.
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_the_place_of_another_has_its_requests_and_says_alone_how_many_seats_there_are() {
    let before = health(2, 1);
    let seats = [before.seat(Class::Live).await.unwrap(), before.seat(Class::Live).await.unwrap()];
    let after = Health::after(&before, settings(2), 2, 2);
    assert_eq!((after.in_flight(), after.limit()), (2, 2));
    assert_eq!(after.seat(Class::Live).await.unwrap_err(), NoSeat::Full);
    shed(&before);
    before.reconfigure(settings(9));
    assert_eq!((after.limit(), after.state()), (2, State::Passing));
    drop(seats);
    assert_eq!(after.in_flight(), 0);
    let _seat = after.seat(Class::Live).await.unwrap();
    shed(&after);
    let again = Health::after(&after, settings(3), 1, 1);
    assert_eq!((again.in_flight(), again.limit()), (1, 3), "a gate that the one before has closed is open again");
}
