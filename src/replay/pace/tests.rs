use std::num::NonZeroU32;

use super::*;

fn settings(concurrency: u32, rate: Option<(u32, u64)>) -> Settings {
    let rate = rate.map(|(count, seconds)| Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) });
    Settings { rate, concurrency }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Ends attempts with the window full each time.
fn end_all(pace: &mut Pace, feedback: Feedback, count: u32, now: Instant) {
    for _ in 0..count {
        let window = pace.window(now);
        pace.ended(feedback, now, window, now);
    }
}

#[test]
fn the_window_opens_by_one_with_each_success_up_to_its_most() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(4, None), now);
    let sizes: Vec<u32> = (0..6)
        .map(|_| {
            let before = pace.window(now);
            end_all(&mut pace, Feedback::Good, 1, now);
            before
        })
        .collect();
    assert_eq!(sizes, [1, 2, 3, 4, 4, 4]);
}

#[test]
fn a_window_that_is_not_used_up_does_not_grow() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    for _ in 0..5 {
        pace.ended(Feedback::Good, now, 1, now);
    }
    assert_eq!(pace.window(now), 2);
}

#[test]
fn an_application_error_neither_opens_nor_cuts_the_window() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    end_all(&mut pace, Feedback::Good, 3, now);
    end_all(&mut pace, Feedback::Neutral, 30, now);
    assert_eq!(pace.window(now + TICK), 4);
}

#[test]
fn three_bad_attempts_in_a_tick_halve_the_window_at_once() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    end_all(&mut pace, Feedback::Good, 100, now);
    end_all(&mut pace, Feedback::Bad, 2, now);
    assert_eq!(pace.window(now), 8);
    end_all(&mut pace, Feedback::Bad, 1, now);
    assert_eq!(pace.window(now), 4);
}

#[test]
fn one_bad_attempt_in_twenty_is_borne_and_more_halve_the_window_when_the_tick_ends() {
    for (good, expected) in [(19, 8), (18, 4)] {
        let start = Instant::now();
        let mut pace = Pace::new(&settings(8, None), start);
        end_all(&mut pace, Feedback::Good, 10, start);
        let now = start + TICK;
        end_all(&mut pace, Feedback::Bad, 1, now);
        end_all(&mut pace, Feedback::Good, good, now);
        assert_eq!(pace.window(now), 8);
        assert_eq!(pace.window(now + TICK), expected, "{good}");
    }
}

#[test]
fn after_a_cut_the_window_stands_still_for_five_seconds_and_then_grows_slowly() {
    let start = Instant::now();
    let mut pace = Pace::new(&settings(16, None), start);
    end_all(&mut pace, Feedback::Good, 15, start);
    end_all(&mut pace, Feedback::Bad, 3, start);
    for second in 0..5 {
        let now = start + Duration::from_secs(second);
        end_all(&mut pace, Feedback::Bad, 5, now);
        end_all(&mut pace, Feedback::Good, 5, now);
        assert_eq!(pace.window(now), 8, "{second}");
    }
    let mut sizes = Vec::new();
    for second in 6..12 {
        let now = start + Duration::from_secs(second);
        end_all(&mut pace, Feedback::Good, 5, now);
        sizes.push(pace.window(now));
    }
    // 8 -> 8.8 -> 9.68 -> 10.6 -> 11.7 -> 12.9: a tenth a tick, the first tick after the pause being counted from its own start.
    assert_eq!(sizes, [8, 8, 9, 10, 11, 12]);
}

#[test]
fn the_window_never_falls_below_one() {
    let start = Instant::now();
    let mut pace = Pace::new(&settings(8, None), start);
    for round in 0..4 {
        end_all(&mut pace, Feedback::Bad, 3, start + CUT_HOLD * round);
    }
    assert_eq!(pace.window(start + CUT_HOLD * 5), 1);
}

#[test]
fn a_trip_of_the_breaker_starts_the_window_anew() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    end_all(&mut pace, Feedback::Good, 20, now);
    end_all(&mut pace, Feedback::Bad, 3, now);
    pace.tripped(now);
    assert_eq!(pace.window(now), 1);
    end_all(&mut pace, Feedback::Good, 2, now);
    assert_eq!(pace.window(now), 3, "slow start again");
}

#[test]
fn what_was_under_way_at_a_trip_does_not_open_the_window() {
    let began = Instant::now();
    let mut pace = Pace::new(&settings(8, None), began);
    let tripped = began + millis(10);
    pace.tripped(tripped);
    for in_flight in (1..=8).rev() {
        pace.ended(Feedback::Good, began, in_flight, tripped + millis(10));
    }
    assert_eq!(pace.window(tripped + millis(10)), 1);
}

#[test]
fn a_retry_after_holds_the_backend_and_a_shorter_one_does_not_cut_it_short() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    assert_eq!(pace.held_until(now), None);
    pace.rejected(Some(millis(60_000)), now);
    pace.rejected(Some(millis(1000)), now);
    pace.rejected(None, now);
    assert_eq!(pace.held_until(now), Some(now + millis(60_000)));
    assert_eq!(pace.held_until(now + millis(60_000)), None);
}

#[test]
fn rejections_without_a_time_hold_the_backend_for_longer_and_longer() {
    let mut now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        pace.rejected(None, now);
        pace.rejected(None, now);
        let until = pace.held_until(now).unwrap();
        pauses.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    pace.ended(Feedback::Good, now, 1, now);
    pace.rejected(None, now);
    assert_eq!(pace.held_until(now), Some(now + PAUSE_MIN));
}

#[test]
fn the_rate_is_a_ceiling_without_a_burst() {
    let now = Instant::now();
    let pace = Pace::new(&settings(8, Some((10, 1))), now);
    assert_eq!(pace.take(now), Ok(()));
    assert_eq!(pace.take(now), Err(now + millis(100)));
    assert_eq!(pace.take(now + millis(60)), Err(now + millis(100)));
    assert_eq!(pace.take(now + millis(100)), Ok(()));
    // A long rest saves nothing up.
    assert_eq!(pace.take(now + millis(60_000)), Ok(()));
    assert_eq!(pace.take(now + millis(60_000)), Err(now + millis(60_100)));
}

#[test]
fn a_high_rate_is_reached_although_timers_are_coarse() {
    let start = Instant::now();
    let pace = Pace::new(&settings(8, Some((5000, 1))), start);
    let taken: usize = (1..=1000).map(|millisecond| std::iter::from_fn(|| pace.take(start + millis(millisecond)).ok()).count()).sum();
    assert!((4990..=5110).contains(&taken), "{taken}");
}

#[test]
fn a_reload_keeps_what_was_learnt() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, Some((1, 60))), now);
    end_all(&mut pace, Feedback::Good, 10, now);
    assert_eq!(pace.take(now), Ok(()));
    pace.configure(&settings(3, Some((1, 60))), now);
    assert_eq!(pace.window(now), 3);
    assert_eq!(pace.take(now), Err(now + millis(60_000)));
    pace.configure(&settings(3, None), now);
    assert_eq!(pace.take(now), Ok(()));
}
