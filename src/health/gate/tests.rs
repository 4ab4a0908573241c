use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::*;

const WAIT: Duration = Duration::from_millis(250);

fn take_all(gate: &Arc<Gate>) -> Vec<Seat> {
    std::iter::from_fn(|| gate.try_seat()).collect()
}

/// A waiter that stands in the queue when this returns.
async fn waiter(gate: &Arc<Gate>, wait: Duration) -> tokio::task::JoinHandle<Result<Seat, NoSeat>> {
    waiter_of(Rank::First, gate, wait).await
}

async fn waiter_of(rank: Rank, gate: &Arc<Gate>, wait: Duration) -> tokio::task::JoinHandle<Result<Seat, NoSeat>> {
    let (before, theirs) = (gate.waiting(), Arc::clone(gate));
    let task = tokio::spawn(async move { theirs.seat(rank, wait).await });
    while gate.waiting() == before {
        assert!(!task.is_finished(), "there was no place in the queue, or a seat");
        tokio::task::yield_now().await;
    }
    task
}

#[test]
fn there_are_as_many_seats_as_the_limit_says_and_a_dropped_seat_is_free_again() {
    let gate = Gate::new(3);
    let mut seats = take_all(&gate);
    assert_eq!((seats.len(), gate.in_flight(), gate.limit()), (3, 3, 3));
    seats.pop();
    assert_eq!(take_all(&gate).len(), 1);
    drop(seats);
    assert_eq!(gate.in_flight(), 0);
}

#[test]
fn a_limit_is_at_least_one_and_at_most_the_largest() {
    assert_eq!(Gate::new(0).limit(), 1);
    let gate = Gate::new(u32::MAX);
    assert_eq!(gate.limit(), LARGEST_LIMIT);
    gate.set_limit(0);
    assert_eq!(gate.limit(), 1);
}

#[test]
fn a_lower_limit_takes_no_seat_away_and_gives_none_until_enough_have_come_back() {
    let gate = Gate::new(4);
    let mut seats = take_all(&gate);
    gate.set_limit(2);
    assert_eq!(gate.in_flight(), 4);
    seats.truncate(2);
    assert!(gate.try_seat().is_none());
    seats.truncate(1);
    assert_eq!(take_all(&gate).len(), 1);
}

#[test]
fn replay_gets_at_most_four_fifths_of_the_seats_and_at_least_one() {
    for (limit, live, replayed) in [(1, 0, 1), (2, 0, 1), (4, 0, 3), (5, 0, 4), (10, 0, 8), (10, 7, 1), (10, 8, 0), (20, 3, 13), (1, 1, 0)]
    {
        let gate = Gate::new(limit);
        let _live: Vec<_> = (0..live).map(|_| gate.try_seat().unwrap()).collect();
        let seats: Vec<_> = std::iter::from_fn(|| gate.try_spare_seat()).collect();
        assert_eq!(seats.len(), replayed, "limit {limit}, {live} live");
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_seat_waits_as_long_as_told_and_no_longer() {
    let gate = Gate::new(1);
    let _seat = gate.try_seat().unwrap();
    let before = Instant::now();
    assert_eq!(gate.seat(Rank::First, WAIT).await.unwrap_err(), NoSeat::Full);
    assert_eq!(before.elapsed(), WAIT);
    assert_eq!(gate.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn with_no_wait_the_answer_comes_at_once() {
    let gate = Gate::new(1);
    let _seat = gate.try_seat().unwrap();
    assert_eq!(gate.seat(Rank::First, Duration::ZERO).now_or_never().unwrap().unwrap_err(), NoSeat::Full);
    gate.close();
    assert_eq!(gate.seat(Rank::First, Duration::ZERO).now_or_never().unwrap().unwrap_err(), NoSeat::Shedding);
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_in_which_they_came_one_for_each_seat() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let first = waiter(&gate, WAIT).await;
    let mut second = waiter(&gate, WAIT).await;
    drop(seat);
    let seat = first.await.unwrap().unwrap();
    assert!((&mut second).now_or_never().is_none());
    assert_eq!((gate.waiting(), gate.in_flight()), (1, 1));
    drop(seat);
    drop(second.await.unwrap().unwrap());
    assert_eq!((gate.waiting(), gate.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_a_seat_past_one_who_waits() {
    let gate = Gate::new(2);
    let mut seats = take_all(&gate);
    let waiter = waiter(&gate, WAIT).await;
    seats.pop();
    assert!(gate.try_seat().is_none() && gate.try_spare_seat().is_none(), "the free seat is the waiter's");
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn at_most_twice_the_limit_wait_where_no_seat_comes_free() {
    let gate = Gate::new(2);
    let _seats = take_all(&gate);
    let mut waiters = Vec::new();
    for _ in 0..4 {
        waiters.push(waiter(&gate, WAIT).await);
    }
    tokio::time::advance(WAIT / 5).await;
    assert_eq!(gate.seat(Rank::First, WAIT).now_or_never().unwrap().unwrap_err(), NoSeat::Full);
    assert_eq!(gate.waiting(), 4);
}

#[tokio::test(start_paused = true)]
async fn as_many_wait_as_are_served_in_half_of_the_wait_where_seats_come_free_fast() {
    let gate = Gate::new(1);
    let mut seat = gate.try_seat().unwrap();
    let mut waiters = std::collections::VecDeque::new();
    for _ in 0..100 {
        waiters.push_back(waiter(&gate, WAIT).await);
    }
    // One in a millisecond: of a hundred and twenty-five who wait, the last is served in time.
    for _ in 0..60 {
        tokio::time::advance(WAIT / 250).await;
        drop(seat);
        seat = waiters.pop_front().unwrap().await.unwrap().unwrap();
        waiters.push_back(waiter(&gate, WAIT).await);
    }
    while gate.waiting() < 125 {
        waiters.push_back(waiter(&gate, WAIT).await);
    }
    assert_eq!(gate.seat(Rank::First, WAIT).now_or_never().unwrap().unwrap_err(), NoSeat::Full);
}

#[tokio::test(start_paused = true)]
async fn those_of_the_first_rank_are_served_before_those_of_the_second_whoever_came_first() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let mut second = waiter_of(Rank::Second, &gate, WAIT).await;
    let first = waiter_of(Rank::First, &gate, WAIT).await;
    drop(seat);
    let seat = first.await.unwrap().unwrap();
    assert!((&mut second).now_or_never().is_none());
    drop(seat);
    drop(second.await.unwrap().unwrap());
    assert_eq!((gate.waiting(), gate.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_of_the_second_rank_makes_room_among_those_who_wait_for_one_of_the_first() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let stays = waiter_of(Rank::Second, &gate, WAIT).await;
    let goes = waiter_of(Rank::Second, &gate, WAIT).await;
    tokio::time::advance(WAIT / 5).await;
    assert_eq!(gate.seat(Rank::Second, WAIT).now_or_never().unwrap().unwrap_err(), NoSeat::Full, "two wait already");
    let theirs = Arc::clone(&gate);
    let first = tokio::spawn(async move { theirs.seat(Rank::First, WAIT).await });
    assert_eq!(goes.await.unwrap().unwrap_err(), NoSeat::Full, "the last of them, at once");
    assert_eq!(gate.waiting(), 2);
    drop(seat);
    drop(first.await.unwrap().unwrap());
    drop(stays.await.unwrap().unwrap());
    assert_eq!((gate.waiting(), gate.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_who_stops_waiting_leaves_the_queue_and_the_seat_goes_to_the_next() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let first = waiter(&gate, WAIT).await;
    let second = waiter(&gate, WAIT).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(gate.waiting(), 1);
    drop(seat);
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_seat_handed_to_one_who_is_gone_before_he_takes_it_comes_back() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let first = waiter(&gate, WAIT).await;
    let second = waiter(&gate, WAIT).await;
    // On one thread the first has its answer now, but has not run.
    drop(seat);
    first.abort();
    assert!(second.await.unwrap().is_ok());
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_tells_waiters_at_once_and_opening_gives_seats_again() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let waiters = [waiter(&gate, WAIT).await, waiter(&gate, WAIT).await];
    let before = Instant::now();
    gate.close();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap_err(), NoSeat::Shedding);
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(gate.seat(Rank::First, WAIT).now_or_never().unwrap().unwrap_err(), NoSeat::Shedding);
    assert_eq!((gate.limit(), gate.in_flight(), gate.waiting()), (0, 1, 0));
    gate.set_limit(2);
    assert!(gate.try_seat().is_some());
    drop(seat);
    assert_eq!(gate.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_serves_as_many_waiters_as_it_has_new_seats() {
    let gate = Gate::new(2);
    let _held = take_all(&gate);
    let (first, second, mut third) = (waiter(&gate, WAIT).await, waiter(&gate, WAIT).await, waiter(&gate, WAIT).await);
    gate.set_limit(4);
    let _seats = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    assert!((&mut third).now_or_never().is_none());
    assert_eq!((gate.in_flight(), gate.waiting()), (4, 1));
    third.abort();
}

#[tokio::test(start_paused = true)]
async fn replay_hears_of_a_seat_that_it_may_have_and_not_of_one_that_it_may_not() {
    let gate = Gate::new(5);
    let mut seats = take_all(&gate);
    let mut freed = Box::pin(gate.freed());
    assert!((&mut freed).now_or_never().is_none());
    seats.pop();
    assert!((&mut freed).now_or_never().is_none(), "the fifth seat is not for replay");
    seats.pop();
    freed.await;
    assert!(gate.freed().now_or_never().is_some(), "there is one now");
}

#[tokio::test(start_paused = true)]
async fn replay_hears_of_the_room_that_a_waiter_leaves_behind() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let waiter = waiter(&gate, WAIT).await;
    let freed = gate.freed();
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    drop(seat);
    freed.await;
}

#[tokio::test(start_paused = true)]
async fn replay_hears_of_a_gate_that_closes_or_opens() {
    let gate = Gate::new(1);
    let _seat = gate.try_seat().unwrap();
    for _ in 0..2 {
        let mut freed = Box::pin(gate.freed());
        assert!((&mut freed).now_or_never().is_none());
        gate.close();
        freed.await;
    }
    let mut freed = Box::pin(gate.freed());
    assert!((&mut freed).now_or_never().is_none());
    gate.set_limit(1);
    freed.await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_without_a_place_hears_of_any_free_seat() {
    let gate = Gate::new(5);
    let mut seats = take_all(&gate);
    for change in ["a seat", "the limit", "closing"] {
        let mut vacant = Box::pin(gate.vacant());
        assert!((&mut vacant).now_or_never().is_none(), "before {change}");
        match change {
            "a seat" => drop(seats.pop()),
            "the limit" => gate.set_limit(6),
            _ => gate.close(),
        }
        assert!(vacant.now_or_never().is_some(), "{change}");
        gate.set_limit(5);
        seats.extend(gate.try_seat());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_without_a_place_does_not_hear_of_a_seat_that_goes_to_one_with_a_place() {
    let gate = Gate::new(1);
    let seat = gate.try_seat().unwrap();
    let waiter = waiter(&gate, WAIT).await;
    let mut vacant = Box::pin(gate.vacant());
    assert!((&mut vacant).now_or_never().is_none());
    drop(seat);
    assert!((&mut vacant).now_or_never().is_none());
    drop(waiter.await.unwrap().unwrap());
    vacant.await;
}

#[test]
fn a_seat_that_has_just_come_free_is_for_those_who_wait_not_for_newcomers_or_replay() {
    let word = Word(0).with_limit(2);
    assert!(word.has_room_for_newcomers() && word.has_spare_room());
    let awaited = Word(word.0 + ONE_WAITER);
    assert!(awaited.has_room() && !awaited.has_room_for_newcomers() && !awaited.has_spare_room());
}

/// Two threads and one seat: had one been freed unseen by a thread that is about to wait, both would wait for it.
#[test]
fn no_wake_up_is_lost_between_looking_for_a_seat_and_waiting_for_one() {
    let gate = Gate::new(1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..50_000 {
                        drop(gate.seat(Rank::First, Duration::from_secs(10)).await.unwrap());
                    }
                });
            });
        }
    });
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

/// Threads that take, wait for, give up and free seats as fast as they can while the limit moves: no more seats at once than the largest
/// limit, none lost, and nobody left waiting beside a free seat.
#[test]
fn under_many_threads_seats_never_exceed_the_limit_and_none_is_lost() {
    // Twice the least limit: the queue has room for every thread.
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 10_000;
    let gate = Gate::new(4);
    let (taken, served) = (AtomicU32::new(0), AtomicU32::new(0));
    let hold = |seat: Seat| {
        let now = taken.fetch_add(1, SeqCst) + 1;
        assert!(now <= 5, "{now} seats at once");
        // Long enough for others to find the seats taken and to wait.
        (0..8).for_each(|_| std::thread::yield_now());
        taken.fetch_sub(1, SeqCst);
        drop(seat);
        served.fetch_add(1, SeqCst);
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (gate, hold) = (&gate, &hold);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for round in 0..ROUNDS {
                        match (thread + round) % 6 {
                            0 => gate.try_seat().into_iter().for_each(hold),
                            1 => gate.try_spare_seat().into_iter().for_each(hold),
                            2 => {
                                // Asks, and is gone at once if it must wait.
                                if let Some(Ok(seat)) = gate.seat(Rank::First, Duration::from_secs(60)).now_or_never() {
                                    hold(seat);
                                }
                            }
                            3 => gate.set_limit(4 + round % 2),
                            // Somebody who holds a seat will free it: this ends, or a wake-up was lost.
                            4 => gate.freed().await,
                            // A wait that ended here would be a lost wake-up: nobody holds a seat for longer than an instant.
                            _ => hold(gate.seat(Rank::First, Duration::from_secs(60)).await.unwrap()),
                        }
                    }
                });
            });
        }
    });
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    assert!(served.load(SeqCst) >= THREADS * ROUNDS / 6);
}
