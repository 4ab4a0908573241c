use super::*;

const START: Duration = Duration::from_secs(1000);

/// A window of 100 requests, none bad, in which the limit was used up.
fn seen(slowdown: f64, in_flight: f64) -> Seen {
    Seen { requests: 100, bad: 0, refused: 0, slowdown: Some(slowdown), in_flight, most_in_flight: 1_000, rejected: 0, replayed: false }
}

/// The same, with some turned away.
fn held_back(seen: Seen) -> Seen {
    Seen { rejected: 10, ..seen }
}

fn at(limit: f64, slow_start: bool) -> Limiter {
    Limiter { limit, slow_start, ..Limiter::new() }
}

/// The limiter after these windows, a second apart, and what the last of them led to.
fn after(mut limiter: Limiter, windows: &[Seen]) -> (Limiter, Verdict) {
    let mut verdict = because(Why::Unknown);
    for (second, seen) in windows.iter().enumerate() {
        verdict = limiter.window(*seen, START + Duration::from_secs(second as u64), 0.5);
    }
    (limiter, verdict)
}

#[test]
fn each_branch_moves_the_limit_by_its_number() {
    let unbound = |slowdown, in_flight| Seen { most_in_flight: 14, ..seen(slowdown, in_flight) };
    let bad = |bad, slowdown| Seen { bad, slowdown, ..seen(1.0, 10.0) };
    let table = [
        // Slow start, while nothing is in its way.
        (at(20.0, true), seen(1.0, 18.0), 30.0, Why::SlowStart),
        (at(20.0, true), seen(1.16, 18.0), 30.0, Why::SlowStart),
        (at(10.0, true), seen(1.3, 10.0), 11.0, Why::SlowStart),
        (at(20.0, false), seen(1.0, 18.0), 22.0, Why::Growing),
        (at(8.0, false), seen(1.05, 8.0), 9.0, Why::Growing),
        (at(20.0, false), seen(1.15, 18.0), 21.0, Why::Growing),
        // At 20 the thresholds of the queue are 3 and 6, at 100 they are 15 and 30.
        (at(20.0, false), seen(1.25, 20.0), 20.0, Why::Settled),
        (at(20.0, false), seen(1.42, 20.0), 20.0, Why::Settled),
        (at(20.0, false), seen(1.5, 20.0), 19.0, Why::Queueing),
        (at(100.0, false), seen(1.15, 100.0), 101.0, Why::Growing),
        (at(100.0, false), seen(1.4, 100.0), 100.0, Why::Settled),
        (at(100.0, false), seen(1.6, 100.0), 95.0, Why::Queueing),
        // What the traffic does not use up neither grows nor decays.
        (at(20.0, true), unbound(1.0, 5.0), 20.0, Why::Enough),
        (at(20.0, true), Seen { most_in_flight: 15, ..seen(1.0, 5.0) }, 30.0, Why::SlowStart),
        (at(20.0, true), Seen { rejected: 1, ..unbound(1.0, 5.0) }, 30.0, Why::SlowStart),
        // Cuts: in proportion, by 30% at most, from what was in flight, but of an unused limit the half.
        (at(20.0, true), seen(2.5, 20.0), 16.0, Why::Slow),
        (at(20.0, false), seen(9.0, 20.0), 14.0, Why::Slow),
        (at(40.0, false), held_back(seen(4.0, 30.0)), 33.0 * 0.7, Why::Slow),
        (at(40.0, false), held_back(seen(4.0, 3.0)), 14.0, Why::Slow),
        (at(40.0, false), Seen { replayed: true, ..seen(4.0, 30.0) }, 33.0 * 0.7, Why::Slow),
        (at(20.9, false), seen(2.5, 19.0), 20.9 * 0.8, Why::Slow),
        // Where the limit holds nothing back, no more than twice what is used is kept of it.
        (at(20.0, true), seen(2.5, 18.9), 20.0, Why::Enough),
        (at(40.0, false), unbound(4.0, 8.0), 28.0, Why::Enough),
        (at(40.0, false), Seen { rejected: 5, ..unbound(4.0, 8.0) }, 28.0, Why::Enough),
        (at(40.0, false), Seen { most_in_flight: 1, ..seen(4.0, 1.0) }, 8.0, Why::Enough),
        (at(20.0, false), unbound(1.9, 13.0), 20.0, Why::Enough),
        (at(5.0, false), seen(4.0, 5.0), LEAST, Why::Slow),
        // Failures, not all of which leave a slowdown.
        (at(20.0, true), bad(20, Some(1.0)), 7.0, Why::Failing),
        (at(20.0, true), bad(20, None), 7.0, Why::Failing),
        (at(20.0, true), bad(10, Some(1.0)), 30.0, Why::SlowStart),
        (at(20.0, true), Seen { requests: 10, ..bad(2, Some(1.0)) }, 30.0, Why::SlowStart),
        (at(20.0, true), Seen { requests: 10, ..bad(3, Some(1.0)) }, 7.0, Why::Failing),
        // Nothing is known of the classes yet.
        (at(20.0, true), bad(0, None), 20.0, Why::Unknown),
        // Bounds.
        (at(400.0, true), seen(1.0, 400.0), MOST, Why::SlowStart),
        (at(5.0, false), bad(50, None), LEAST, Why::Failing),
    ];
    for (limiter, seen, limit, why) in table {
        let from = limiter.limit;
        let (limiter, verdict) = after(limiter, &[seen]);
        assert!((limiter.limit - limit).abs() < 1e-9, "from {from}, {seen:?}: {}", limiter.limit);
        assert_eq!((verdict.why, verdict.rebase, limiter.why()), (why, None, why), "from {from}, {seen:?}");
    }
}

#[test]
fn slow_start_ends_with_the_first_slow_bad_or_queueing_window_and_with_the_second_in_a_row_that_is_not_quick() {
    let bad = Seen { bad: 50, ..seen(1.0, 20.0) };
    for window in [seen(2.1, 20.0), seen(1.9, 20.0), bad] {
        assert!(!after(at(20.0, true), &[window]).0.slow_start, "{window:?}");
    }
    let not_quick = seen(1.3, 10.0);
    for (windows, goes_on) in [
        (vec![not_quick], true),
        (vec![not_quick; 2], false),
        (vec![not_quick, seen(1.0, 11.0), not_quick], true),
        (vec![seen(1.6, 6.0)], false),
    ] {
        assert_eq!(after(at(10.0, true), &windows).0.slow_start, goes_on, "{windows:?}");
    }
    assert!(after(at(20.0, true), &[seen(1.0, 20.0)]).0.slow_start);
}

#[test]
fn cuts_that_help_go_on_and_cuts_that_do_not_are_taken_back() {
    let helps = [seen(4.0, 40.0), seen(3.5, 35.0), seen(3.0, 30.0), seen(2.5, 25.0), seen(2.1, 20.0)];
    let (limiter, verdict) = after(at(40.0, false), &helps);
    assert_eq!((verdict.why, verdict.rebase), (Why::Slow, None));
    assert!(limiter.limit < 20.0);
    let in_vain = [seen(2.5, 20.0), seen(2.5, 16.0), seen(2.5, 13.0), seen(2.5, 10.0)];
    assert_eq!(after(at(20.0, false), &in_vain[..3]).1.why, Why::Slow, "half of it proves something");
    let (limiter, verdict) = after(at(20.0, false), &in_vain);
    assert_eq!(verdict.why, Why::NotOurs);
    assert!((verdict.rebase.unwrap() - 2.5).abs() < 1e-9);
    assert_eq!(limiter.limit, 25.0, "what was in flight and a quarter more, where that is more than the limit was");
    assert!(limiter.slow_start);
}

#[test]
fn few_requests_prove_little() {
    for (requests, why) in [(10, Why::Slow), (100, Why::NotOurs)] {
        let windows = [(2.9, 20.0), (2.5, 10.0)].map(|(slowdown, in_flight)| Seen { requests, ..held_back(seen(slowdown, in_flight)) });
        assert_eq!(after(at(20.0, false), &windows).1.why, why, "{requests}");
    }
}

#[test]
fn a_descent_goes_on_over_windows_that_are_less_slow_by_chance_and_ends_with_growth() {
    let (_, verdict) = after(
        at(20.0, false),
        &[(2.5, 20.0), (1.9, 16.0), (2.5, 13.0), (2.5, 10.0)].map(|(slowdown, in_flight)| held_back(seen(slowdown, in_flight))),
    );
    assert_eq!(verdict.why, Why::NotOurs);
    let (limiter, verdict) = after(at(20.0, false), &[seen(2.5, 20.0), seen(1.0, 16.0), seen(2.5, 17.0)]);
    assert_eq!((verdict.why, limiter.descent.unwrap().in_flight), (Why::Slow, 17.0));
}

#[test]
fn slowness_with_which_a_backend_keeps_up_becomes_the_new_normal_and_takes_no_seat_away() {
    let slow = Seen { most_in_flight: 17, ..seen(2.5, 12.0) };
    let (limiter, verdict) = after(at(20.0, true), &[slow; 3]);
    assert_eq!((limiter.limit, verdict), (20.0, because(Why::Enough)));
    let (limiter, verdict) = after(at(20.0, true), &[slow; 4]);
    assert_eq!((limiter.limit, verdict.why, verdict.rebase), (20.0, Why::NotOurs, Some(2.5)));
    let full = seen(2.5, 20.0);
    assert_eq!(after(at(20.0, true), &[slow, slow, slow, full]).1.why, Why::Slow, "more piled up");
    assert_eq!(after(at(20.0, true), &[slow, slow, full, slow]).0.endured.map(|endured| endured.mean.requests), Some(100));
}

#[test]
fn the_fifth_slow_window_at_the_least_limit_is_the_new_normal() {
    let slow = seen(3.0, 4.0);
    let (limiter, verdict) = after(at(LEAST, false), &[slow; 4]);
    assert_eq!((limiter.limit, verdict.why, verdict.rebase), (LEAST, Why::Slow, None));
    let (limiter, verdict) = after(at(LEAST, false), &[slow; 5]);
    assert_eq!((limiter.limit, verdict.why, verdict.rebase), (8.0, Why::NotOurs, Some(3.0 / MILDLY_SLOW)));
    let (limiter, _) = after(at(LEAST, false), &[slow, slow, slow, slow, Seen { most_in_flight: 1, ..seen(1.5, 1.0) }, slow]);
    assert_eq!(limiter.floor_windows, 1);
}

#[test]
fn slowness_under_a_limit_that_holds_back_is_taken_for_normal_once_in_a_minute() {
    let rebases = |seconds: u64| {
        let mut limiter = at(LEAST, false);
        (0..seconds).filter(|second| limiter.window(seen(3.0, 100.0), START + Duration::from_secs(*second), 0.5).rebase.is_some()).count()
    };
    assert_eq!([rebases(5), rebases(64), rebases(65)], [1, 1, 2]);
}

/// Held between the two thresholds: the queue is 4, and they are 3 and 6.
const HELD: f64 = 1.25;

#[test]
fn a_limit_that_is_held_for_five_seconds_is_tried_with_a_quarter_more_and_taken_back_if_it_gets_slower() {
    let held = [seen(HELD, 20.0); 5];
    assert_eq!(after(at(20.0, false), &held).1.why, Why::Settled);
    let (limiter, verdict) = after(at(20.0, false), &[seen(HELD, 20.0); 6]);
    assert_eq!((limiter.limit, verdict.why), (25.0, Why::Trial));
    // 100 requests are too few, 200 are enough; the latency went with the concurrency.
    let mut limiter = limiter;
    let slower = seen(1.56, 25.0);
    let now = START + Duration::from_millis(5_500);
    assert_eq!(limiter.window(slower, now, 0.5).why, Why::Trial);
    assert_eq!(limiter.window(slower, now, 0.5).why, Why::TrialEnded);
    assert_eq!((limiter.limit, limiter.trial_wait), (20.0, Duration::from_secs(10)));
}

#[test]
fn a_trial_of_little_traffic_ends_after_three_seconds() {
    let few = |slowdown, in_flight| Seen { requests: 20, ..seen(slowdown, in_flight) };
    let (mut limiter, _) = after(at(20.0, false), &[few(HELD, 20.0); 6]);
    let began = START + Duration::from_secs(5);
    assert_eq!(limiter.window(few(1.56, 25.0), began + Duration::from_millis(2_999), 0.5).why, Why::Trial);
    assert_eq!(limiter.window(few(1.56, 25.0), began + Duration::from_secs(3), 0.5).why, Why::TrialEnded);
}

#[test]
fn a_quarter_more_is_kept_when_two_looks_in_a_row_find_it_no_slower() {
    let look = Seen { requests: 200, ..seen(HELD, 25.0) };
    let mut windows = vec![seen(HELD, 20.0); 6];
    windows.push(look);
    let (limiter, verdict) = after(at(20.0, false), &windows);
    assert_eq!((limiter.limit, verdict.why), (25.0, Why::Trial));
    windows.push(look);
    let (limiter, verdict) = after(at(20.0, false), &windows);
    assert_eq!((limiter.limit, verdict.why, verdict.rebase), (25.0, Why::TrialKept, Some(HELD)));
    windows[7] = Seen { requests: 200, ..seen(1.56, 25.0) };
    assert_eq!(after(at(20.0, false), &windows).1.why, Why::TrialEnded);
}

#[test]
fn trials_alone_do_not_raise_the_bases_past_twice_what_they_were_while_the_limit_bounds_the_traffic() {
    let (mut limiter, mut now, mut rebases) = (at(20.0, false), START, Vec::new());
    // Latency that never shows what we do, as where three more proxies stand before the backend.
    while now < START + Duration::from_secs(600) {
        let limit = limiter.limit;
        rebases.extend(limiter.window(Seen { requests: 200, ..seen(1.3, limit) }, now, 0.5).rebase);
        now += Duration::from_secs(1);
    }
    assert_eq!(rebases, [1.3, 1.3]);
    limiter.window(Seen { most_in_flight: 1, ..seen(1.0, 1.0) }, now, 0.5);
    assert!((limiter.raised_by_trials - 1.0).abs() < 1e-9, "with a rest it begins anew");
}

#[test]
fn a_trial_with_no_more_in_flight_proves_nothing() {
    let mut windows = vec![seen(HELD, 20.0); 6];
    windows.push(Seen { requests: 200, ..seen(HELD, 21.0) });
    let (limiter, verdict) = after(at(20.0, false), &windows);
    assert_eq!((limiter.limit, verdict.why), (20.0, Why::TrialEnded));
}

#[test]
fn a_trial_during_which_the_backend_suffers_ends_at_once() {
    for window in [seen(3.0, 25.0), Seen { bad: 50, ..seen(1.0, 25.0) }] {
        let mut windows = vec![seen(HELD, 20.0); 6];
        windows.push(window);
        let (limiter, _) = after(at(20.0, false), &windows);
        assert!(limiter.trial.is_none() && limiter.limit < 20.0, "{window:?}: {}", limiter.limit);
    }
}

#[test]
fn trials_become_rarer_to_one_in_a_minute_and_are_spread_by_a_quarter() {
    for (random, seconds) in [(0.0, 4), (0.5, 5), (1.0, 7)] {
        let mut limiter = at(20.0, false);
        let first = (0..).find(|second| limiter.window(seen(HELD, 20.0), START + Duration::from_secs(*second), random).why == Why::Trial);
        assert_eq!(first, Some(seconds), "3.75 s, 5 s, 6.25 s, by windows of a second");
    }
    let (mut limiter, mut now, mut trials) = (at(20.0, false), START, Vec::new());
    while trials.len() < 6 {
        let limit = limiter.limit;
        if limiter.window(seen(HELD * limit / 20.0, limit), now, 0.5).why == Why::Trial && limiter.trial.unwrap().seen.requests == 0 {
            trials.push(now);
        }
        now += Duration::from_secs(1);
    }
    let gaps: Vec<u64> = trials.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    // A trial takes two windows of 100 requests, and the time begins to count with the one after it.
    assert_eq!(gaps, [13, 23, 43, 63, 63]);
}

#[test]
fn a_backend_that_came_back_begins_with_half_of_before_between_four_and_sixteen_and_slow_start() {
    for (before, limit) in [(300.0, 16), (30.0, 15), (12.0, 6), (LEAST, 4)] {
        let mut limiter = at(before, false);
        limiter.restart();
        assert_eq!((limiter.limit(), limiter.slow_start, limiter.why()), (limit, true, Why::Probing));
    }
}

#[test]
fn a_backend_that_comes_back_slower_than_it_was_is_measured_anew_in_its_first_two_windows_and_not_cut() {
    let returned = || {
        let mut limiter = at(16.0, false);
        limiter.restart();
        limiter
    };
    let look = |windows: &[Seen]| {
        let (limiter, verdict) = after(returned(), windows);
        (limiter.limit, verdict.why, verdict.rebase)
    };
    let slower = Why::SlowerBack;
    assert_eq!(look(&[seen(2.0, 8.0)]), (12.0, slower, Some(2.0)));
    assert_eq!(look(&[seen(1.26, 8.0)]), (12.0, slower, Some(1.26)));
    assert_eq!(look(&[seen(2.0, 8.0), seen(1.5, 12.0)]), (12.0, slower, Some(1.5)), "the first to finish are the fastest");
    assert_eq!(look(&[seen(2.0, 8.0), seen(1.0, 12.0)]), (18.0, Why::SlowStart, None));
    assert_eq!(look(&[seen(2.0, 8.0), seen(1.5, 12.0), seen(2.5, 12.0)]).1, Why::Slow, "from then on it may be our doing");
    assert_eq!(look(&[seen(1.0, 8.0)]), (12.0, Why::SlowStart, None));
    assert_eq!(look(&[seen(1.0, 8.0), seen(2.5, 12.0)]).1, Why::Slow, "it was as fast as ever, so that this is our doing");
    assert_eq!(look(&[Seen { bad: 50, ..seen(2.0, 8.0) }]).1, Why::Failing);
}

#[test]
fn what_is_remembered_is_kept_within_bounds_and_not_doubled_at_once() {
    for (kept, limit) in [(50.0, 50), (1.0, 4), (1e9, 512), (f64::NAN, 20), (-5.0, 4)] {
        let limiter = Limiter::remembered(kept);
        assert_eq!((limiter.limit(), limiter.slow_start), (limit, false), "{kept}");
    }
}
