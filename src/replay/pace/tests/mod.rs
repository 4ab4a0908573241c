mod window;

use std::num::NonZeroU32;

use super::*;
use crate::replay::Rate;

fn settings(concurrency: u32, rate: Option<(u32, u64)>) -> Settings {
    let rate = rate.map(|(count, seconds)| Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) });
    Settings { profile: Profile::Gentle, rate, concurrency: Some(concurrency) }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A backend of 100 seats that is as fast as ever, and that nobody else uses.
fn calm() -> Sight {
    Sight { all: Slowness { samples: 20, p50: 1.0 }, limit: 100, ..Sight::default() }
}

/// The same with live requests.
fn watched() -> Sight {
    Sight { live: Slowness { samples: 20, p50: 1.0 }, live_requests: 20, ..calm() }
}

/// Ends ticks in which all of the window was in use, one a second; the moment of the last.
fn ticks(pace: &mut Pace, count: u32, from: Instant) -> Instant {
    for number in 1..=count {
        let now = from + TICK_MIN * number;
        let window = pace.window(100);
        pace.began(window, 100, now);
        pace.tick(&calm(), 0, now);
    }
    from + TICK_MIN * count
}

#[test]
fn a_trip_of_the_breaker_starts_the_window_anew() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(64, None), now);
    let now = ticks(&mut pace, 5, now);
    for _ in 0..3 {
        pace.ended(Feedback::Bad, now, now);
    }
    assert!(pace.window(100) > 1 && !pace.slow_start());
    pace.tripped(now);
    assert_eq!((pace.window(100), pace.slow_start()), (1, true));
    ticks(&mut pace, 2, now);
    assert_eq!(pace.window(100), 3, "slow start again, and no standing still");
}

#[test]
fn what_was_under_way_at_a_trip_does_not_count() {
    let began = Instant::now();
    let mut pace = Pace::new(&settings(8, None), began);
    let tripped = began + millis(10);
    pace.tripped(tripped);
    for _ in 0..8 {
        assert_eq!(pace.ended(Feedback::Bad, began, tripped + millis(10)), None);
    }
    assert!(pace.slow_start());
}

#[test]
fn a_tick_is_a_second_or_twice_what_a_request_takes() {
    let start = Instant::now();
    let mut pace = Pace::new(&settings(8, None), start);
    assert_eq!(pace.next_tick(), start + secs(1));
    for (rtt, expected) in [(None, 1000), (Some(80), 1000), (Some(2500), 5000), (Some(600_000), 60_000)] {
        pace.tick(&Sight { rtt: rtt.map(millis), ..calm() }, 0, start);
        assert_eq!(pace.next_tick(), start + millis(expected), "{rtt:?}");
    }
}

#[test]
fn what_takes_longer_than_a_tick_fills_the_window_all_the_same() {
    let start = Instant::now();
    let mut pace = Pace::new(&settings(8, None), start);
    pace.began(1, 100, start);
    let sizes: Vec<u32> = (1..=4)
        .map(|second| {
            pace.tick(&Sight { all: Slowness::default(), ..calm() }, pace.window(100), start + secs(second));
            pace.window(100)
        })
        .collect();
    assert_eq!(sizes, [1, 2, 2, 3]);
}

#[test]
fn every_ten_seconds_of_a_drain_replay_pauses_for_half_of_one_to_see_how_live_traffic_is_without_it() {
    let start = Instant::now();
    let mut pace = Pace::new(&settings(8, None), start);
    pace.tick(&watched(), 0, start);
    assert_eq!(pace.pause(start + secs(60)), None, "nothing is replayed yet");
    pace.began(1, 100, start);
    let pauses: Vec<u64> = (0..330).map(|tenth| 100 * tenth).filter(|&at| pace.pause(start + millis(at)).is_some()).collect();
    let half_a_second = |from: u64| (0..5).map(move |tenth| from + 100 * tenth);
    assert_eq!(pauses, [10_000, 20_500, 31_000].into_iter().flat_map(half_a_second).collect::<Vec<_>>());
}

#[test]
fn there_is_no_such_pause_without_live_traffic_or_where_nothing_is_measured() {
    let start = Instant::now();
    for (profile, sight) in [(Profile::Gentle, calm()), (Profile::Fast, watched()), (Profile::Fixed, watched())] {
        let mut pace = Pace::new(&Settings { profile, ..settings(8, None) }, start);
        pace.tick(&sight, 0, start);
        pace.began(1, 100, start);
        assert_eq!(pace.pause(start + secs(20)), None, "{profile:?}");
    }
}

#[test]
fn what_the_window_learnt_is_forgotten_after_a_minutes_rest() {
    let start = Instant::now();
    let mut pace = Pace::new(&settings(64, None), start);
    let now = ticks(&mut pace, 6, start);
    let learnt = pace.window(100);
    assert!(learnt > 5);
    pace.rests(now);
    assert!(!pace.wakes(now + millis(999)), "hardly a rest");
    pace.rests(now + secs(50));
    assert!(pace.wakes(now + secs(59)));
    assert_eq!((pace.window(100), pace.next_tick()), (learnt, now + secs(60)));
    assert!(!pace.wakes(now + secs(200)), "it has not rested since");
    pace.rests(now + secs(200));
    assert!(pace.wakes(now + secs(260)));
    assert_eq!((pace.window(100), pace.slow_start()), (1, true));
}

#[test]
fn a_retry_after_holds_the_backend_and_a_shorter_one_does_not_cut_it_short() {
    let now = Instant::now();
    let mut pace = Pace::new(&settings(8, None), now);
    assert_eq!(pace.held_until(now), None);
    assert!(pace.rejected(Some(millis(60_000)), now));
    assert!(!pace.rejected(Some(millis(1000)), now));
    assert!(!pace.rejected(None, now));
    assert_eq!(pace.pause(now), Some((Pause::Asked, now + millis(60_000))));
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
    pace.ended(Feedback::Good, now, now);
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
    let start = Instant::now();
    let mut pace = Pace::new(&settings(64, Some((1, 60))), start);
    let now = ticks(&mut pace, 6, start);
    let learnt = pace.window(100);
    assert_eq!(pace.take(now), Ok(()));
    pace.configure(&settings(3, Some((1, 60))), now);
    assert_eq!(pace.window(100), 3);
    assert_eq!(pace.take(now), Err(now + millis(60_000)));
    pace.configure(&settings(64, None), now);
    assert_eq!(pace.window(100), learnt);
    assert_eq!(pace.take(now), Ok(()));
}
