use super::{super::servers::Return, *};

/// In the middle of the jitter: gaps are exact.
const MIDDLE: f64 = 0.5;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn check(interval: f64, fall: u32, rise: u32) -> Check {
    Check { path: "/healthz".into(), interval: at(interval), timeout: at(1.0), fall, rise }
}

fn signals(policy: &mut Policy, times: u32, server: usize, signal: Signal, seconds: f64) -> Events {
    (0..times).flat_map(|_| policy.signal(server, signal, at(seconds), MIDDLE)).collect()
}

/// A round of probes that begins and ends when it is due, each server answering as told; when it was, and what it changed.
fn round(policy: &mut Policy, passes: impl Fn(usize) -> bool) -> (f64, Vec<usize>, Events) {
    let due = policy.round().expect("a round is due");
    assert!(due.is_zero() || policy.start_round(due - Duration::from_millis(1)).is_none(), "before its time");
    let servers = policy.start_round(due).unwrap();
    let events = servers.iter().flat_map(|&server| policy.probed(server, passes(server), due, MIDDLE)).collect();
    policy.end_round(due, MIDDLE);
    (due.as_secs_f64(), servers, events)
}

fn states(events: &Events) -> Vec<State> {
    events.iter().filter_map(|event| if let Event::Backend(change) = event { Some(change.to) } else { None }).collect()
}

fn moves(events: &Events) -> Vec<(usize, Moved)> {
    events.iter().filter_map(|event| if let Event::Server(server, moved) = event { Some((*server, *moved)) } else { None }).collect()
}

#[test]
fn the_only_server_and_its_backend_go_together_and_come_back_together() {
    let mut policy = Policy::new(1, 1, None);
    let events = signals(&mut policy, 5, 0, Signal::ConnectFailure, 1.0);
    assert_eq!(moves(&events), [(0, Moved::Out(Evidence::ConnectFailures(5)))]);
    assert_eq!(states(&events), [State::Shedding]);
    assert_eq!(round(&mut policy, |_| true), (1.2, vec![0], Events::new()), "one pass is not enough");
    let (due, _, events) = round(&mut policy, |_| true);
    assert_eq!((due, moves(&events)), (1.25, vec![(0, Moved::Back(Return::PassedProbes(2)))]));
    assert_eq!(states(&events), [State::Probing]);
}

#[test]
fn one_dead_server_among_several_goes_out_alone_though_it_fails_faster_than_others_answer() {
    let mut policy = Policy::new(2, 2, None);
    let events = signals(&mut policy, 60, 0, Signal::ConnectFailure, 1.0);
    assert_eq!(moves(&events), [(0, Moved::Out(Evidence::ConnectFailures(5)))]);
    assert_eq!((states(&events), policy.state()), (vec![], State::Passing));
    assert_eq!((policy.servers().weight(0, at(1.0)), policy.servers().weight(1, at(1.0))), (0, 100));
}

#[test]
fn when_every_server_refuses_in_turn_five_failures_are_enough() {
    let mut policy = Policy::new(3, 3, None);
    let events: Events =
        [0, 1, 2, 0, 1].into_iter().flat_map(|server| policy.signal(server, Signal::ConnectFailure, at(1.0), MIDDLE)).collect();
    assert_eq!((states(&events), moves(&events)), (vec![State::Shedding], vec![]));
}

#[test]
fn when_the_last_of_several_servers_goes_out_the_backend_sheds_and_one_that_returns_is_enough_to_try() {
    let mut policy = Policy::new(2, 2, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 1.0);
    assert!(signals(&mut policy, 4, 1, Signal::ConnectFailure, 1.0).is_empty(), "the other's failures are not held against it");
    let events = signals(&mut policy, 1, 1, Signal::ConnectFailure, 1.0);
    assert_eq!(states(&events), [State::Shedding]);
    round(&mut policy, |server| server == 1);
    let (_, asked, events) = round(&mut policy, |server| server == 1);
    assert_eq!(asked, [0, 1]);
    assert_eq!((states(&events), moves(&events)), (vec![State::Probing], vec![(1, Moved::Back(Return::PassedProbes(2)))]));
    assert!(!policy.servers().up(0));
}

#[test]
fn a_failing_check_takes_every_server_out_and_sheds() {
    let mut policy = Policy::new(1, 1, Some(check(2.0, 3, 2)));
    assert_eq!(round(&mut policy, |_| false), (0.0, vec![0], Events::new()));
    assert_eq!(round(&mut policy, |_| false), (2.0, vec![0], Events::new()));
    let (due, _, events) = round(&mut policy, |_| false);
    assert_eq!((due, moves(&events)), (4.0, vec![(0, Moved::Out(Evidence::FailedProbes(3)))]));
    assert!(matches!(&events[1], Event::Backend(Change { to: State::Shedding, cause: Cause::FailedProbes(3), .. })));
    assert_eq!(policy.round(), Some(at(4.2)));
}

#[test]
fn a_check_that_rises_late_keeps_the_backend_shedding_until_then_and_one_that_rises_early_does_not_cut_two_passes_short() {
    for (rise, passes) in [(1, 2), (2, 2), (4, 4)] {
        let mut policy = Policy::new(1, 1, Some(check(1.0, 1, rise)));
        round(&mut policy, |_| false);
        assert_eq!(policy.state(), State::Shedding);
        let rounds = (1..10).find(|_| !states(&round(&mut policy, |_| true).2).is_empty());
        assert_eq!(rounds, Some(passes), "rise = {rise}");
    }
}

#[test]
fn passes_in_passing_do_not_dilute_what_requests_show() {
    let mut policy = Policy::new(1, 1, Some(check(0.01, 3, 2)));
    for _ in 0..100 {
        round(&mut policy, |_| true);
    }
    assert_eq!(states(&signals(&mut policy, 20, 0, Signal::Failure, 1.0)), [State::Shedding]);
}

#[test]
fn passes_before_a_trip_do_not_count_towards_its_end() {
    let mut policy = Policy::new(1, 1, Some(check(1.0, 3, 2)));
    for _ in 0..5 {
        round(&mut policy, |_| true);
    }
    assert_eq!(states(&signals(&mut policy, 20, 0, Signal::Failure, 4.5)), [State::Shedding]);
    assert_eq!(states(&round(&mut policy, |_| true).2), []);
    assert_eq!(states(&round(&mut policy, |_| true).2), [State::Probing]);
}

#[test]
fn without_any_traffic_probes_alone_end_probing() {
    let mut policy = Policy::new(1, 1, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    round(&mut policy, |_| true);
    round(&mut policy, |_| true);
    let ends: Vec<f64> = (0..20)
        .filter_map(|_| {
            let (due, _, events) = round(&mut policy, |_| true);
            (states(&events) == [State::Passing]).then_some(due)
        })
        .collect();
    assert_eq!(ends, [20.25], "twenty probes, one each second");
    assert_eq!(policy.round(), None, "a healthy backend without a check is left alone");
}

#[test]
fn a_server_that_is_still_out_does_not_spoil_the_trial_of_the_others() {
    let mut policy = Policy::new(2, 2, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    signals(&mut policy, 5, 1, Signal::ConnectFailure, 0.0);
    let end = (0..22).map(|_| round(&mut policy, |server| server == 0)).find(|(_, _, events)| states(events) == [State::Passing]);
    assert_eq!(end.map(|(due, ..)| due), Some(20.25));
}

#[test]
fn a_backend_that_dies_in_probing_without_traffic_sheds_after_three_failed_probes() {
    let mut policy = Policy::new(1, 1, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    round(&mut policy, |_| true);
    round(&mut policy, |_| true);
    assert_eq!(policy.state(), State::Probing);
    let changes: Vec<_> = (0..3).map(|_| states(&round(&mut policy, |_| false).2)).collect();
    assert_eq!(changes, [vec![], vec![], vec![State::Shedding]]);
}

#[test]
fn rounds_stay_quick_while_nothing_passes_so_that_a_long_outage_ends_as_soon_as_a_short_one() {
    let mut policy = Policy::new(1, 1, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    let due: Vec<f64> = (0..40).map(|_| round(&mut policy, |_| false).0).collect();
    assert_eq!((due[0], due[1], due[39]), (0.2, 0.4, 8.0));
    assert_eq!((round(&mut policy, |_| true).0, round(&mut policy, |_| true).0), (8.2, 8.25));
    assert_eq!(policy.state(), State::Probing);
}

#[test]
fn rounds_back_off_after_trials_that_fail_but_a_check_is_never_slower_than_its_interval() {
    for (check, gaps) in [(None, [0.2, 2.0, 4.0, 8.0]), (Some(check(3.0, 1, 2)), [0.2, 2.0, 3.0, 3.0])] {
        let mut policy = Policy::new(1, 1, check);
        let mut now = 0.0;
        for gap in gaps {
            signals(&mut policy, 20, 0, Signal::Failure, now);
            assert_eq!(policy.state(), State::Shedding);
            let first = round(&mut policy, |_| true).0;
            assert_eq!(first - now, gap);
            now = round(&mut policy, |_| true).0;
            assert_eq!(policy.state(), State::Probing);
        }
    }
}

#[test]
fn a_slow_answer_does_not_stretch_the_interval_of_a_check() {
    let mut policy = Policy::new(1, 1, Some(check(2.0, 3, 2)));
    policy.start_round(at(0.0)).unwrap();
    assert_eq!(policy.round(), None, "one at a time");
    policy.end_round(at(0.9), MIDDLE);
    assert_eq!(policy.round(), Some(at(2.0)));
    policy.start_round(at(2.0)).unwrap();
    policy.end_round(at(5.0), MIDDLE);
    assert_eq!(policy.round(), Some(at(5.0)));
}

#[test]
fn while_others_carry_the_backend_only_a_server_that_is_out_is_asked() {
    let mut policy = Policy::new(3, 3, None);
    assert_eq!(policy.round(), None);
    signals(&mut policy, 5, 1, Signal::ConnectFailure, 0.0);
    let rounds: Vec<_> = (0..3).map(|_| round(&mut policy, |_| false)).collect();
    assert_eq!(
        rounds.iter().map(|(due, asked, _)| (*due, asked.clone())).collect::<Vec<_>>(),
        [(0.2, vec![1]), (0.4, vec![1]), (0.6, vec![1])]
    );
    while policy.round().unwrap() < at(30.0) {
        round(&mut policy, |_| false);
    }
    let late = policy.round().unwrap();
    signals(&mut policy, 5, 2, Signal::ConnectFailure, 30.0);
    assert!(late > at(31.0) && policy.round() == Some(at(30.2)), "another that goes out is not made to wait for the first");
}

#[test]
fn a_sick_server_goes_out_alone_and_many_failures_at_once_are_still_its_own() {
    let mut policy = Policy::new(2, 2, None);
    signals(&mut policy, 3, 1, Signal::Success, 0.0);
    let events = signals(&mut policy, 200, 0, Signal::Failure, 0.0);
    assert_eq!((moves(&events), policy.state()), (vec![(0, Moved::Out(Evidence::Failures(5)))], State::Passing));
    signals(&mut policy, 200, 1, Signal::Failure, 0.0);
    assert_eq!(policy.state(), State::Shedding, "the last one takes the backend with it");
}

#[test]
fn what_a_server_failed_before_it_went_out_is_not_held_against_the_others() {
    let mut policy = Policy::new(3, 3, None);
    for server in [0, 1] {
        let events = signals(&mut policy, 5, server, Signal::Failure, 0.0);
        assert_eq!(moves(&events), [(server, Moved::Out(Evidence::Failures(5)))]);
    }
    signals(&mut policy, 10, 2, Signal::Success, 0.0);
    signals(&mut policy, 2, 2, Signal::Failure, 0.0);
    assert_eq!(policy.state(), State::Passing, "2 of 12, not 12 of 22");
}

#[test]
fn a_try_after_which_another_server_is_asked_speaks_for_its_server_alone() {
    let mut policy = Policy::new(3, 3, None);
    for _ in 0..40 {
        policy.server_failed(0, Signal::Failure, at(0.0), MIDDLE);
        policy.server_failed(1, Signal::ConnectFailure, at(0.0), MIDDLE);
    }
    assert_eq!((policy.state(), policy.servers().out().collect::<Vec<_>>()), (State::Passing, vec![0, 1]));
    assert_eq!(states(&policy.server_failed(2, Signal::Failure, at(0.0), MIDDLE)), []);
}

#[test]
fn servers_that_fail_together_are_a_backend_that_fails() {
    let mut policy = Policy::new(2, 2, None);
    let events: Events = (0..10).flat_map(|_| [0, 1]).flat_map(|server| signals(&mut policy, 1, server, Signal::Failure, 0.0)).collect();
    assert_eq!((moves(&events), states(&events)), (vec![], vec![State::Shedding]));
}

#[test]
fn a_server_that_takes_connections_again_is_back_before_the_other_goes_but_not_while_all_is_shed() {
    let mut policy = Policy::new(2, 2, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    signals(&mut policy, 4, 1, Signal::ConnectFailure, 0.0);
    assert_eq!(moves(&policy.reached(0, at(0.1), MIDDLE)), [(0, Moved::Back(Return::Connection))]);
    let events = signals(&mut policy, 1, 1, Signal::ConnectFailure, 0.1);
    assert_eq!((moves(&events), policy.state()), (vec![(1, Moved::Out(Evidence::ConnectFailures(5)))], State::Passing));
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.2);
    assert_eq!(policy.state(), State::Shedding);
    assert!(policy.reached(0, at(0.3), MIDDLE).is_empty());
}

#[test]
fn what_a_server_that_is_out_still_answers_counts_nowhere() {
    let mut policy = Policy::new(2, 2, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    assert!(signals(&mut policy, 100, 0, Signal::Failure, 0.0).is_empty());
    assert!(signals(&mut policy, 100, 9, Signal::Failure, 0.0).is_empty(), "nor does one that does not exist");
    assert_eq!(policy.state(), State::Passing);
}

#[test]
fn a_success_is_wanted_while_a_row_of_failures_stands_and_not_otherwise() {
    for failure in [Signal::ConnectFailure, Signal::Failure] {
        let mut policy = Policy::new(2, 2, None);
        assert!(!policy.is_suspicious());
        signals(&mut policy, 1, 0, failure, 0.0);
        signals(&mut policy, 1, 1, Signal::Success, 0.0);
        assert!(policy.is_suspicious(), "the first server has answered nothing since");
        signals(&mut policy, 1, 0, Signal::Success, 0.0);
        assert!(!policy.is_suspicious());
    }
}

#[test]
fn a_growing_weight_is_looked_at_every_second_until_it_is_full() {
    let mut policy = Policy::new(2, 2, None);
    signals(&mut policy, 5, 0, Signal::ConnectFailure, 0.0);
    round(&mut policy, |_| true);
    round(&mut policy, |_| true);
    assert_eq!(policy.next_wake(at(2.0)), Some(at(3.0)));
    assert_eq!(policy.next_wake(at(30.2)), Some(at(31.2)));
    assert_eq!(policy.next_wake(at(31.2)), None);
}

#[test]
fn a_new_check_begins_after_its_interval_and_one_that_is_gone_asks_nobody() {
    let mut policy = Policy::new(1, 1, None);
    policy.reconfigure(Some(check(3.0, 1, 1)), at(10.0), MIDDLE);
    assert_eq!(policy.round(), Some(at(13.0)));
    policy.reconfigure(None, at(11.0), MIDDLE);
    assert_eq!(policy.round(), None);
}
