//! The table of the window, line by line, on exact time.

use super::super::window::{Ramp, Sight, Slowness, Window};
use super::*;

/// A window of that size in or after slow start, all of it in use or not.
fn window(profile: Profile, size: f64, slow_start: bool, used_up: bool) -> Window {
    let mut window = Window::new(profile, None);
    window.set(size, slow_start);
    if used_up {
        window.filled(u32::MAX, 1000);
    }
    window
}

/// What is seen of a backend of 1000 seats that answers x times slower than at rest to so many live requests, and to live and replayed ones together.
fn sight(live: u32, live_x: f64, all: u32, all_x: f64) -> Sight {
    let slowness = |samples, p50| Slowness { samples, p50 };
    Sight { live: slowness(live, live_x), all: slowness(all, all_x), live_requests: live, limit: 1000, ..Sight::default() }
}

/// The size that a window of 20 comes to after one tick, rounded to a thousandth, and why.
fn after(profile: Profile, slow_start: bool, used_up: bool, sight: &Sight) -> (f64, Ramp) {
    let mut window = window(profile, 20.0, slow_start, used_up);
    let ramp = window.tick(sight, Instant::now());
    ((window.exactly() * 1e3).round() / 1e3, ramp)
}

#[test]
fn the_window_moves_as_the_table_says() {
    use Ramp::{Feeling, Growing, SlowStart, Slower, Steady};
    // Slow start, used up, what is seen; the window, and why.
    let table = [
        // Nobody knows how slow it is.
        (true, true, sight(0, 0.0, 2, 9.0), 20.5, Feeling),
        (true, false, sight(0, 0.0, 2, 9.0), 20.0, Steady),
        (false, true, sight(0, 0.0, 0, f64::NAN), 20.5, Feeling),
        // Slower by more than tau, which is 0.25 with live requests, and 1.0 without.
        (true, true, sight(20, 1.251, 90, 1.0), 19.96, Slower),
        (true, false, sight(20, 1.3, 90, 1.0), 18.0, Slower),
        (false, true, sight(20, 1.5, 90, 1.0), 10.0, Slower),
        (false, true, sight(20, 9.0, 90, 1.0), 10.0, Slower),
        (false, true, sight(0, 0.0, 90, 2.5), 15.0, Slower),
        (false, true, sight(4, 9.0, 90, 2.1), 19.0, Slower),
        (false, true, sight(5, 9.0, 90, 1.3), 18.0, Slower),
        // Slow start goes on below three quarters of tau.
        (true, true, sight(20, 1.18, 90, 9.0), 30.0, SlowStart),
        (true, true, sight(0, 0.0, 90, 1.7), 30.0, SlowStart),
        (true, false, sight(20, 1.18, 90, 1.0), 20.0, Steady),
        // From there on a tenth, less the nearer it comes to tau.
        (true, true, sight(20, 1.2, 90, 1.0), 20.4, Growing),
        (false, true, sight(20, 1.0, 90, 1.0), 22.0, Growing),
        (false, true, sight(20, 1.125, 90, 1.0), 21.0, Growing),
        (false, true, sight(20, 1.25, 90, 1.0), 20.0, Growing),
        (false, true, sight(20, 0.5, 90, 1.0), 22.0, Growing),
        (false, true, sight(0, 0.0, 90, 1.5), 21.0, Growing),
        // From nine live samples to all of them at ten.
        (false, true, sight(9, 1.125, 90, 1.0), 22.0, Growing),
        (false, true, sight(10, 1.125, 90, 1.0), 21.0, Growing),
        (false, false, sight(20, 1.0, 90, 1.0), 20.0, Steady),
    ];
    for (slow_start, used_up, sight, size, ramp) in table {
        assert_eq!(after(Profile::Gentle, slow_start, used_up, &sight), (size, ramp), "{slow_start} {used_up} {sight:?}");
    }
}

#[test]
fn slow_start_ends_with_the_first_cut_and_the_first_slow_growth() {
    for (sight, goes_on) in [
        (sight(20, 1.18, 0, 1.0), true),
        (sight(0, 0.0, 0, 1.0), true),
        (sight(20, 1.2, 0, 1.0), false),
        (sight(20, 1.4, 0, 1.0), false),
        (Sight { waited: 2, ..sight(20, 1.0, 0, 1.0) }, false),
    ] {
        let mut window = window(Profile::Gentle, 20.0, true, true);
        window.tick(&sight, Instant::now());
        assert_eq!(window.slow_start(), goes_on, "{sight:?}");
    }
}

#[test]
fn live_requests_that_wait_while_one_is_replayed_do_not_end_slow_start() {
    let mut least = window(Profile::Gentle, 1.0, true, true);
    let now = Instant::now();
    assert_eq!(least.tick(&Sight { waited: 26, ..sight(20, 1.0, 0, 0.0) }, now), Ramp::LiveWaited);
    assert_eq!((least.exactly(), least.slow_start()), (1.0, true));
    least.filled(1, 1000);
    assert_eq!(least.tick(&sight(20, 1.0, 0, 0.0), now), Ramp::SlowStart);
}

#[test]
fn a_window_that_is_small_grows_by_at_least_one() {
    for slow_start in [true, false] {
        let mut small = window(Profile::Gentle, 1.0, slow_start, true);
        small.tick(&sight(20, 1.0, 0, 0.0), Instant::now());
        assert_eq!(small.exactly(), 2.0, "{slow_start}");
    }
}

#[test]
fn the_third_tick_in_a_row_that_leaves_the_backend_nearly_at_rest_grows_the_window_by_a_quarter() {
    let now = Instant::now();
    let after = |slowdowns: &[f64]| {
        let mut window = window(Profile::Gentle, 100.0, false, false);
        for slowdown in slowdowns {
            window.filled(1000, 1000);
            window.tick(&sight(20, *slowdown, 0, 0.0), now);
        }
        window.exactly().round()
    };
    assert_eq!(after(&[1.0, 1.0]), 121.0);
    assert_eq!(after(&[1.0, 1.0, 1.0]), 151.0);
    assert_eq!(after(&[1.0, 1.0, 1.0, 1.0]), 189.0, "for as long as it goes on");
    assert_eq!(after(&[1.0, 1.0, 1.15, 1.0]), 138.0, "one that is not calm begins anew");
    assert_eq!(after(&[1.0, 1.0, 1.3, 1.0, 1.0]), 132.0, "and so does a cut");
}

#[test]
fn more_than_one_live_request_in_twenty_that_had_to_wait_cuts_the_window_first_of_all() {
    for (live_requests, waited, expected) in [(100, 5, 22.0), (100, 6, 14.0), (0, 1, 14.0), (0, 0, 22.0)] {
        for profile in [Profile::Gentle, Profile::Fast] {
            let sight = Sight { live_requests, waited, ..sight(20, 1.0, 90, 1.0) };
            let (size, ramp) = after(profile, false, true, &sight);
            assert_eq!((size, ramp == Ramp::LiveWaited), (expected, expected == 14.0), "{live_requests} {waited} {profile:?}");
        }
    }
    let mut both = window(Profile::Gentle, 20.0, true, true);
    let now = Instant::now();
    both.ended(true, now);
    assert_eq!(both.tick(&Sight { waited: 9, ..sight(20, 1.0, 0, 0.0) }, now), Ramp::LiveWaited, "before a replayed one that failed");
}

#[test]
fn three_replayed_requests_that_failed_halve_the_window_at_once() {
    for profile in [Profile::Gentle, Profile::Fast] {
        let (mut window, now) = (window(profile, 20.0, true, true), Instant::now());
        (0..100).for_each(|_| assert_eq!(window.ended(false, now), None));
        assert_eq!([window.ended(true, now), window.ended(true, now), window.ended(true, now)], [None, None, Some(Ramp::Failing)]);
        assert_eq!((window.exactly(), window.slow_start()), (10.0, false));
    }
}

#[test]
fn more_than_one_in_twenty_that_failed_halves_it_when_the_tick_ends() {
    for (good, expected) in [(19, Ramp::Growing), (18, Ramp::Failing), (0, Ramp::Failing)] {
        let (mut window, now) = (window(Profile::Gentle, 20.0, false, true), Instant::now());
        window.ended(true, now);
        for _ in 0..good {
            window.ended(false, now);
        }
        assert_eq!(window.tick(&sight(20, 1.0, 0, 0.0), now), expected, "{good}");
    }
    let (mut next, now) = (window(Profile::Gentle, 20.0, false, true), Instant::now());
    next.ended(true, now);
    next.tick(&sight(20, 1.0, 0, 0.0), now);
    assert_eq!(next.tick(&sight(20, 1.0, 0, 0.0), now + secs(5)), Ramp::Steady, "a tick counts its own");
}

#[test]
fn after_such_a_cut_the_window_stands_still_for_five_seconds() {
    let (mut window, start) = (window(Profile::Gentle, 20.0, false, true), Instant::now());
    for _ in 0..3 {
        window.ended(true, start);
    }
    for second in 1..5 {
        let now = start + secs(second);
        window.filled(u32::MAX, 1000);
        (0..5).for_each(|_| assert_eq!(window.ended(true, now), None));
        assert_eq!(window.tick(&Sight { waited: 9, ..sight(20, 9.0, 0, 0.0) }, now), Ramp::Still);
        assert_eq!(window.exactly(), 10.0);
    }
    window.filled(u32::MAX, 1000);
    assert_eq!(window.tick(&sight(20, 1.0, 0, 0.0), start + secs(5)), Ramp::Growing);
    assert_eq!(window.exactly(), 11.0);
}

#[test]
fn the_fast_profile_takes_no_notice_of_how_slow_the_backend_gets() {
    let slow = sight(100, 9.0, 100, 9.0);
    assert_eq!(after(Profile::Fast, true, true, &slow), (30.0, Ramp::SlowStart));
    assert_eq!(after(Profile::Fast, false, true, &slow), (22.0, Ramp::Growing));
    assert_eq!(after(Profile::Fast, false, false, &slow), (20.0, Ramp::Steady));
    assert_eq!(after(Profile::Fast, false, true, &sight(0, 0.0, 0, 0.0)), (22.0, Ramp::Growing));
}

#[test]
fn the_fixed_profile_never_moves() {
    let (mut window, now) = (Window::new(Profile::Fixed, Some(6)), Instant::now());
    (0..9).for_each(|_| assert_eq!(window.ended(true, now), None));
    assert_eq!(window.tick(&Sight { waited: 9, ..sight(100, 9.0, 100, 9.0) }, now), Ramp::Fixed);
    assert_eq!((window.size(1000), window.size(4), window.slow_start()), (6, 6, false));
}

#[test]
fn it_is_never_less_than_one_nor_more_than_the_setting_or_four_fifths_of_the_limit() {
    let now = Instant::now();
    let mut least = window(Profile::Gentle, 1.0, false, true);
    for second in 0..20 {
        least.tick(&sight(20, 9.0, 0, 0.0), now + secs(second));
        assert_eq!(least.size(1000), 1);
    }
    let grown = |most: Option<u32>, limit: u32| {
        let mut window = Window::new(Profile::Gentle, most);
        for second in 0..30 {
            window.filled(u32::MAX, limit);
            window.tick(&Sight { limit, ..sight(20, 1.0, 0, 0.0) }, now + secs(second));
        }
        (window.size(limit), window.exactly())
    };
    assert_eq!(grown(None, 100), (80, 80.0));
    assert_eq!(grown(Some(12), 100), (12, 12.0));
    assert_eq!(grown(None, 9), (7, 7.2));
    assert_eq!(grown(None, 1), (1, 1.0));
    // A limit that falls between two ticks holds at once.
    assert_eq!(window(Profile::Gentle, 50.0, false, true).size(20), 16);
}

#[test]
fn a_window_of_one_is_six_after_four_ticks_and_fifteen_after_six() {
    let (mut window, now) = (Window::new(Profile::Gentle, None), Instant::now());
    let sizes: Vec<u32> = (0..6)
        .map(|second| {
            window.filled(window.size(1000), 1000);
            window.tick(&sight(20, 1.0, 0, 0.0), now + secs(second));
            window.size(1000)
        })
        .collect();
    assert_eq!(sizes, [2, 3, 4, 6, 10, 15]);
}

#[test]
fn after_ticks_in_which_live_requests_waited_three_times_as_many_slow_them_down_less() {
    let now = Instant::now();
    let slowed = sight(20, 1.2, 90, 1.0);
    for (waits, owed) in [(0, 0), (1, 3), (4, 12), (30, 60)] {
        let mut window = window(Profile::Gentle, 1.0, false, false);
        (0..waits).for_each(|_| _ = window.tick(&Sight { waited: 2, ..slowed }, now));
        window.set(20.0, false);
        let cuts = (0..100).take_while(|_| window.tick(&slowed, now) == Ramp::Slower).count();
        assert_eq!(cuts, owed, "after {waits}");
    }
}
