use super::*;

const MS: Duration = Duration::from_millis(1);
const EPOCH: u32 = 7;

fn good(rtt: f32) -> End {
    End { epoch: EPOCH, kind: 0, in_flight: 10, bad: None, replayed: false, timed: Some((0, rtt)) }
}

fn open() -> (Window, Vec<Base>) {
    let mut window = Window::default();
    window.open(EPOCH, Duration::ZERO);
    (window, vec![Base::remembered(0.1), Base::remembered(1.0)])
}

/// Adds so many at `now`; whether the last one could close it.
fn add(window: &mut Window, count: u32, end: End, now: Duration) -> bool {
    (0..count).fold(false, |_, _| window.add(end, EPOCH, now))
}

#[test]
fn a_window_closes_with_twenty_requests_after_a_quarter_second_or_with_ten_after_two() {
    for (count, millis, closes) in [
        (19, 1_999, false),
        (20, 249, false),
        (20, 250, true),
        (9, 2_000, false),
        (10, 1_999, false),
        (10, 2_000, true),
        (9, 19_999, false),
    ] {
        let (mut window, _) = open();
        assert_eq!(add(&mut window, count, good(0.1), millis * MS), closes, "{count} in {millis} ms");
    }
}

#[test]
fn a_window_is_at_least_as_long_as_one_and_a_half_of_its_requests_so_that_not_only_the_fastest_count() {
    let (mut window, mut bases) = open();
    assert!(add(&mut window, 20, good(0.4), 300 * MS));
    window.close(&mut bases, 20.0, 0, 300 * MS);
    assert!(!add(&mut window, 20, good(0.4), 899 * MS));
    assert!(add(&mut window, 1, good(0.4), 901 * MS));
}

#[test]
fn while_the_limit_grows_fast_a_window_of_very_quick_answers_closes_with_a_hundred_after_twenty_five_milliseconds() {
    for (rtt, hasty, count, millis, closes) in [
        (0.004, true, 100, 25, true),
        (0.004, true, 100, 24, false),
        (0.004, true, 99, 25, false),
        (0.004, false, 100, 25, false),
        (0.006, true, 100, 25, false),
    ] {
        let (mut window, mut bases) = open();
        add(&mut window, 20, good(rtt), 300 * MS);
        window.close(&mut bases, 20.0, 0, 300 * MS);
        window.hurry(hasty);
        assert_eq!(add(&mut window, count, good(rtt), (300 + millis) * MS), closes, "{rtt} {hasty} {count} {millis}");
    }
}

#[test]
fn what_is_older_than_twenty_seconds_is_forgotten() {
    let (mut window, mut bases) = open();
    add(&mut window, 9, good(0.1), 1_000 * MS);
    assert!(!add(&mut window, 1, good(0.1), 20_000 * MS), "the window began anew with this one");
    assert!(add(&mut window, 9, good(0.1), 22_000 * MS));
    assert_eq!(window.close(&mut bases, 20.0, 0, 22_000 * MS).requests, 10);
}

#[test]
fn what_was_admitted_under_another_limit_does_not_count() {
    let (mut window, mut bases) = open();
    let earlier = End { epoch: EPOCH - 1, ..good(0.1) };
    assert!(!add(&mut window, 100, earlier, 300 * MS));
    assert!(add(&mut window, 20, good(0.1), 300 * MS));
    assert_eq!(window.close(&mut bases, 20.0, 0, 300 * MS).requests, 20);
    // A change of the limit in the middle of a window begins it anew.
    add(&mut window, 19, good(0.1), 400 * MS);
    let later = End { epoch: EPOCH + 1, ..good(0.1) };
    assert!(!window.add(later, EPOCH + 1, 2_500 * MS));
}

#[test]
fn a_window_shows_the_median_slowdown_over_classes_and_the_mean_in_flight() {
    let (mut window, mut bases) = open();
    for rtt in [0.1, 0.12, 0.14, 0.16, 0.2] {
        add(&mut window, 2, good(rtt), 100 * MS);
    }
    let other = End { in_flight: 40, timed: Some((1, 1.3)), ..good(0.0) };
    add(&mut window, 5, other, 100 * MS);
    add(&mut window, 5, End { bad: Some(Bad::Overloaded), timed: None, in_flight: 50, ..good(0.0) }, 250 * MS);
    let seen = window.close(&mut bases, 20.0, 1, 250 * MS);
    assert_eq!((seen.requests, seen.bad, seen.most_in_flight, seen.rejected), (20, 5, 50, 1));
    assert_eq!(seen.in_flight, 27.5);
    assert!((seen.slowdown.unwrap() - 1.3).abs() < 1e-6, "{seen:?}");
}

#[test]
fn fewer_than_ten_latencies_of_known_classes_are_no_slowdown() {
    let (mut window, mut bases) = open();
    bases.push(Base::default());
    add(&mut window, 9, good(0.5), 100 * MS);
    add(&mut window, 30, End { timed: Some((2, 9.0)), ..good(0.0) }, 250 * MS);
    assert_eq!(window.close(&mut bases, 20.0, 0, 250 * MS).slowdown, None);
}

#[test]
fn a_base_rises_only_when_little_is_in_flight_and_nothing_is_slow() {
    for (in_flight, rtt, expected) in [(10, 0.15, 0.105), (11, 0.15, 0.1), (10, 0.25, 0.1), (30, 0.08, 0.098)] {
        let (mut window, mut bases) = open();
        add(&mut window, 20, End { in_flight, ..good(rtt) }, 250 * MS);
        window.close(&mut bases, 20.0, 0, 250 * MS);
        assert!((bases[0].seconds().unwrap() - expected).abs() < 1e-5, "{in_flight} {rtt}: {bases:?}");
    }
}

#[test]
fn a_window_of_which_more_than_a_quarter_is_replayed_is_no_trough() {
    for (replayed, expected) in [(5, 0.105), (6, 0.1)] {
        let (mut window, mut bases) = open();
        add(&mut window, 20 - replayed, good(0.15), 250 * MS);
        add(&mut window, replayed, End { replayed: true, ..good(0.15) }, 250 * MS);
        window.close(&mut bases, 20.0, 0, 250 * MS);
        assert!((bases[0].seconds().unwrap() - expected).abs() < 1e-5, "{replayed}: {bases:?}");
    }
}

#[test]
fn of_very_many_requests_an_even_part_is_kept_and_all_are_counted() {
    let (mut window, mut bases) = open();
    for number in 0..50_000 {
        window.add(good(0.1 + number as f32 / 500_000.0), EPOCH, 100 * MS);
    }
    assert!(window.timed.kept.len() <= KEPT);
    let seen = window.close(&mut bases, 20.0, 0, 250 * MS);
    assert_eq!(seen.requests, 50_000);
    let middle = 1.5;
    assert!((seen.slowdown.unwrap() - middle).abs() < 0.02, "{seen:?}");
}

#[test]
fn a_tick_tells_live_from_replayed_and_begins_anew_when_it_is_taken() {
    let (mut ticking, bases) = (Ticking::default(), [Base::remembered(0.1)]);
    for rtt in [0.1, 0.2, 0.3] {
        ticking.add(true, 0, rtt, 1_000 * MS);
    }
    for rtt in [0.4, 0.4, 0.4, 0.4] {
        ticking.add(false, 0, rtt, 1_500 * MS);
    }
    let tick = ticking.take(&bases, 2_000 * MS);
    let slowdown = |seen: Option<Slowdown>| seen.map(|seen| ((seen.p50 * 100.0).round(), seen.samples));
    assert_eq!((slowdown(tick.live), slowdown(tick.all)), (Some((200.0, 3)), Some((400.0, 7))));
    assert_eq!(tick.span, 2_000 * MS);
    assert!(tick.rtt.unwrap() >= 399 * MS);
    let next = ticking.take(&bases, 3_000 * MS);
    assert_eq!((next.live, next.all, next.rtt, next.span), (None, None, None, 1_000 * MS));
}

#[test]
fn a_tick_that_nobody_takes_holds_the_last_twenty_seconds_at_most() {
    let (mut ticking, bases) = (Ticking::default(), [Base::remembered(0.1)]);
    (0..100).for_each(|_| ticking.add(true, 0, 0.9, 1_000 * MS));
    ticking.add(true, 0, 0.1, 30_000 * MS);
    let tick = ticking.take(&bases, 31_000 * MS);
    assert_eq!(tick.live, Some(Slowdown { p50: 1.0, samples: 1 }));
}

#[test]
fn connections_that_failed_at_one_server_count_where_hardly_anything_else_was_good_or_another_failed_too() {
    let lost = |server| End { bad: Some(Bad::Lost(server)), timed: None, ..good(0.0) };
    for (goods, losses, expected) in [
        (20, &[(0, 8)][..], (20, 0)),
        (10, &[(3, 10)], (10, 0)),
        (9, &[(3, 11)], (20, 11)),
        (20, &[(0, 4), (1, 4)], (28, 8)),
        (20, &[(0, 4), (1, 1), (0, 1)], (26, 6)),
    ] {
        let (mut window, mut bases) = open();
        losses.iter().for_each(|&(server, count)| _ = add(&mut window, count, lost(server), 100 * MS));
        add(&mut window, goods, good(0.1), 250 * MS);
        let seen = window.close(&mut bases, 20.0, 0, 250 * MS);
        assert_eq!((seen.requests, seen.bad), expected, "{goods} good, {losses:?}");
        add(&mut window, 20, good(0.1), 500 * MS);
        assert_eq!(window.close(&mut bases, 20.0, 0, 500 * MS).bad, 0, "it is forgotten with its window");
    }
}
