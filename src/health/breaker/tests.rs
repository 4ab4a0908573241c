use super::*;
use Signal::{ApplicationError, ConnectFailure, Failure, Refusal, Success};

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Records the same signal so many times at one moment; the last change, if any.
fn record(breaker: &mut Breaker, times: u32, signal: Signal, seconds: f64) -> Option<Change> {
    (0..times).fold(None, |change, _| breaker.record(signal, true, at(seconds)).or(change))
}

/// A breaker that sheds since `seconds`.
fn trip(breaker: &mut Breaker, seconds: f64) {
    assert!(breaker.trip(Cause::FailedProbes(3), at(seconds)).is_some());
}

fn probing_since(seconds: f64) -> Breaker {
    let mut breaker = Breaker::default();
    trip(&mut breaker, seconds);
    assert_eq!(breaker.probes_passed(2, at(seconds)).map(|change| change.to), Some(State::Probing));
    breaker
}

#[test]
fn five_connect_failures_in_a_row_trip_it_and_four_do_not() {
    let mut breaker = Breaker::default();
    assert_eq!(record(&mut breaker, 4, ConnectFailure, 0.0), None);
    assert_eq!(
        breaker.record(ConnectFailure, true, at(3600.0)),
        Some(Change { from: State::Passing, to: State::Shedding, cause: Cause::ConnectFailures(5) }),
        "a row has no age"
    );
}

#[test]
fn any_answer_ends_a_row_of_connect_failures() {
    for answer in [Success, ApplicationError, Failure] {
        let mut breaker = Breaker::default();
        record(&mut breaker, 4, ConnectFailure, 0.0);
        assert_eq!(breaker.record(answer, true, at(0.0)), None);
        assert_eq!(record(&mut breaker, 4, ConnectFailure, 0.0), None, "{answer:?}");
    }
}

#[test]
fn connect_failures_at_one_of_several_servers_do_not_trip_it_until_no_server_connects() {
    let mut breaker = Breaker::default();
    for _ in 0..9 {
        assert_eq!(breaker.record(ConnectFailure, false, at(1.0)), None);
    }
    let change = breaker.record(ConnectFailure, true, at(1.0)).unwrap();
    assert_eq!(change.cause, Cause::ConnectFailures(10));
}

#[test]
fn half_of_twenty_within_ten_seconds_trip_it() {
    // (successes at 0 s, failures, at, whether they trip it)
    let table = [
        (10, 10, 9.9, true),
        (11, 9, 9.9, false),
        (9, 10, 9.9, false),   // 19 prove nothing
        (11, 19, 10.0, false), // the successes are forgotten: 19
        (11, 20, 10.0, true),
        (1000, 999, 5.0, false),
        (1000, 1000, 5.0, true),
    ];
    for (successes, failures, seconds, trips) in table {
        let mut breaker = Breaker::default();
        breaker.successes(successes, at(0.0));
        let change = record(&mut breaker, failures, Failure, seconds);
        assert_eq!(change.is_some(), trips, "{successes} successes, {failures} failures at {seconds} s");
        assert_eq!(breaker.state() == State::Shedding, trips);
    }
}

#[test]
fn successes_told_one_by_one_weigh_as_much_as_successes_told_together() {
    let mut breaker = Breaker::default();
    assert_eq!(record(&mut breaker, 11, Success, 1.0), None);
    assert_eq!(record(&mut breaker, 10, Failure, 1.0), None);
    assert_eq!(breaker.record(Failure, true, at(1.0)).unwrap().cause, Cause::Failures { failures: 11, requests: 22 });
}

#[test]
fn refusals_do_not_trip_it_while_anything_succeeds_and_do_where_nothing_does_for_three_seconds() {
    let mut breaker = Breaker::default();
    for second in 0..30 {
        assert_eq!(record(&mut breaker, 1000, Refusal, f64::from(second)), None);
        record(&mut breaker, 1, if second % 2 == 0 { Success } else { ApplicationError }, f64::from(second));
    }
    assert_eq!(record(&mut breaker, 1000, Refusal, 31.9), None);
    assert_eq!(breaker.record(Refusal, true, at(32.0)).unwrap().cause, Cause::Refusals(1001));
    let mut idle = Breaker::default();
    assert_eq!(record(&mut idle, 19, Refusal, 60.0), None);
    assert!(idle.record(Refusal, true, at(60.0)).is_some(), "nobody has seen it succeed for a minute");
    let mut counted_elsewhere = Breaker::default();
    record(&mut counted_elsewhere, 1000, Refusal, 1.0);
    counted_elsewhere.successes(1, at(4.0));
    assert_eq!(record(&mut counted_elsewhere, 1000, Refusal, 5.0), None);
}

#[test]
fn in_probing_twenty_refusals_trip_it_where_no_request_has_succeeded_whatever_probes_say() {
    let mut breaker = probing_since(1.0);
    for _ in 0..19 {
        assert_eq!((breaker.probed(true, at(2.0)), breaker.record(Refusal, true, at(2.0))), (None, None));
    }
    assert_eq!(breaker.record(Refusal, true, at(2.0)).unwrap().cause, Cause::Refusals(20));
    let mut works = probing_since(1.0);
    record(&mut works, 1, Success, 2.0);
    assert_eq!(record(&mut works, 60, Refusal, 2.0), None);
    let change = record(&mut works, 19, Success, 2.0).unwrap();
    assert_eq!((change.to, change.cause), (State::Passing, Cause::Trial { successes: 20, failures: 0 }));
}

#[test]
fn application_errors_trip_it_only_at_eighty_five_percent_of_twenty() {
    for (successes, errors, trips) in [(3, 17, true), (4, 16, false), (0, 19, false), (0, 20, true), (15, 84, false), (15, 85, true)] {
        let mut breaker = Breaker::default();
        breaker.successes(successes, at(0.0));
        assert_eq!(record(&mut breaker, errors, ApplicationError, 0.0).is_some(), trips, "{successes} successes, {errors} errors");
    }
}

#[test]
fn a_server_that_takes_every_other_connection_trips_it_by_the_window() {
    let mut breaker = Breaker::default();
    let changes: Vec<_> = (0..20)
        .filter_map(|n| breaker.record(if n % 2 == 0 { Success } else { ConnectFailure }, true, at(1.0)))
        .map(|change| change.cause)
        .collect();
    assert_eq!(changes, [Cause::Failures { failures: 10, requests: 20 }]);
}

#[test]
fn while_it_sheds_only_two_probe_passes_move_it() {
    let mut breaker = Breaker::default();
    trip(&mut breaker, 0.0);
    assert_eq!(record(&mut breaker, 100, Success, 1.0), None);
    assert_eq!(record(&mut breaker, 100, Failure, 1.0), None);
    assert_eq!(breaker.probes_passed(1, at(2.0)), None);
    assert_eq!(breaker.probes_passed(2, at(2.0)), Some(Change { from: State::Shedding, to: State::Probing, cause: Cause::ProbePasses(2) }));
    assert_eq!(breaker.probes_passed(3, at(3.0)), None, "in PROBING passes are successes like others");
}

#[test]
fn twenty_successes_end_probing_and_nineteen_do_not_however_slowly_they_come() {
    let mut breaker = probing_since(0.0);
    for n in 1..20 {
        assert_eq!(breaker.record(Success, true, at(f64::from(n) * 100.0)), None);
    }
    assert_eq!(
        breaker.record(Success, true, at(2000.0)),
        Some(Change { from: State::Probing, to: State::Passing, cause: Cause::Trial { successes: 20, failures: 0 } })
    );
}

#[test]
fn probing_ends_only_when_at_most_a_tenth_has_failed() {
    let mut breaker = probing_since(0.0);
    record(&mut breaker, 3, Failure, 0.0);
    assert_eq!(record(&mut breaker, 26, Success, 1.0), None, "3 of 29 are more than a tenth");
    assert_eq!(breaker.record(Success, true, at(1.0)).unwrap().cause, Cause::Trial { successes: 27, failures: 3 });
}

#[test]
fn an_application_error_neither_ends_probing_nor_spoils_it() {
    let mut breaker = probing_since(0.0);
    record(&mut breaker, 10, ApplicationError, 0.0);
    assert_eq!(record(&mut breaker, 19, Success, 0.0), None);
    assert_eq!(breaker.record(Success, true, at(0.0)).unwrap().to, State::Passing);
}

#[test]
fn failures_in_probing_trip_it_even_when_they_are_too_few_for_ten_seconds() {
    let mut breaker = probing_since(0.0);
    for n in 0..19 {
        assert_eq!(breaker.record(Failure, true, at(f64::from(n) * 20.0)), None);
    }
    let change = breaker.record(Failure, true, at(400.0)).unwrap();
    assert_eq!((change.from, change.to), (State::Probing, State::Shedding));
    assert_eq!(change.cause, Cause::Failures { failures: 20, requests: 20 });
}

#[test]
fn five_connect_failures_in_a_row_trip_it_in_probing_too() {
    let mut breaker = probing_since(0.0);
    record(&mut breaker, 10, Success, 1.0);
    assert_eq!(record(&mut breaker, 5, ConnectFailure, 1.0).unwrap().cause, Cause::ConnectFailures(5));
}

#[test]
fn a_trial_without_a_verdict_starts_anew_after_a_hundred_requests() {
    let mut breaker = probing_since(0.0);
    for (times, signal) in [(9, Failure), (19, Success), (2, Failure), (70, Success)] {
        assert_eq!(record(&mut breaker, times, signal, 0.0), None, "11 of 100 are more than a tenth, and less than half");
    }
    assert_eq!(record(&mut breaker, 19, Success, 60.0), None);
    assert_eq!(breaker.record(Success, true, at(60.0)).unwrap().cause, Cause::Trial { successes: 20, failures: 0 });
}

#[test]
fn the_gap_is_short_however_long_an_outage_lasts_and_doubles_with_each_trial_that_fails_to_thirty_seconds() {
    let mut breaker = Breaker::default();
    trip(&mut breaker, 0.0);
    assert_eq!(breaker.gap(0.5), at(0.2));
    let gaps: Vec<f64> = (1..=7)
        .map(|trial| {
            breaker.probes_passed(2, at(f64::from(trial)));
            trip(&mut breaker, f64::from(trial));
            breaker.gap(0.5).as_secs_f64()
        })
        .collect();
    assert_eq!(gaps, [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
}

#[test]
fn the_jitter_reaches_from_half_of_the_gap_to_half_more() {
    for (exponent, random, seconds) in [(0, 0.0, 0.5), (0, 0.5, 1.0), (0, 1.0, 1.5), (2, 0.25, 3.0), (9, 0.0, 15.0), (9, 1.0, 45.0)] {
        assert_eq!(gap(exponent, random), at(seconds), "2^{exponent} with {random}");
    }
}

#[test]
fn a_backend_that_trips_again_within_a_minute_of_passing_keeps_its_gap_and_a_later_one_does_not() {
    for (passed_for, gap) in [(0.0, 2.0), (59.9, 2.0), (60.0, 0.2)] {
        let mut breaker = probing_since(0.0);
        trip(&mut breaker, 1.0);
        breaker.probes_passed(2, at(100.0));
        record(&mut breaker, 20, Success, 500.0);
        assert_eq!(breaker.state(), State::Passing);
        trip(&mut breaker, 500.0 + passed_for);
        assert_eq!(breaker.gap(0.5), at(gap), "after {passed_for} s of passing");
    }
}
