use super::*;

const NOW: Duration = Duration::from_secs(100);

fn check(fall: u32, rise: u32) -> Check {
    let second = Duration::from_secs(1);
    Check { path: "/".into(), interval: second, timeout: second, fall, rise }
}

fn fail_connects(servers: &mut Servers, index: usize, times: u32) -> Option<Moved> {
    (0..times).fold(None, |_, _| servers.connect_failed(index, NOW))
}

fn fail(servers: &mut Servers, index: usize, times: u32, now: Duration) -> Option<Moved> {
    (0..times).fold(None, |_, _| servers.failed(index, false, now))
}

/// It passes two probes in a row at `now`.
fn pass(servers: &mut Servers, index: usize, now: Duration) -> Option<Moved> {
    servers.probed(index, true, None, now);
    servers.probed(index, true, None, now)
}

#[test]
fn the_fifth_connect_failure_in_a_row_takes_a_server_out_and_a_connection_in_between_saves_it() {
    let mut servers = Servers::new(2, 2);
    assert_eq!(fail_connects(&mut servers, 0, 4), None);
    servers.answered(0);
    assert_eq!(fail_connects(&mut servers, 0, 4), None);
    assert_eq!(servers.connect_failed(0, NOW), Some(Moved::Out(Evidence::ConnectFailures(5))));
    assert!(!servers.up(0) && servers.up(1) && !servers.all_out());
    assert_eq!(servers.out().collect::<Vec<_>>(), [0]);
}

#[test]
fn a_server_falls_and_rises_by_the_numbers_of_its_check_in_a_row() {
    let (mut servers, check) = (Servers::new(1, 1), check(2, 3));
    let mut probe = |passed| servers.probed(0, passed, Some(&check), NOW);
    let moves = [false, true, false, false, true, true, false, true, true, true, true].map(&mut probe);
    let mut expected = [None; 11];
    expected[3] = Some(Moved::Out(Evidence::FailedProbes(2)));
    expected[9] = Some(Moved::Back(Return::PassedProbes(3)));
    assert_eq!(moves, expected);
}

#[test]
fn without_a_check_two_passes_in_a_row_bring_a_server_back() {
    let mut servers = Servers::new(1, 1);
    fail_connects(&mut servers, 0, 5);
    assert_eq!(servers.probed(0, true, None, NOW), None);
    assert_eq!(servers.probed(0, false, None, NOW), None);
    assert_eq!(servers.probed(0, true, None, NOW), None);
    assert_eq!(servers.probed(0, true, None, NOW), Some(Moved::Back(Return::PassedProbes(2))));
}

#[test]
fn an_answer_never_brings_a_server_back_since_it_may_be_one_from_before() {
    let mut servers = Servers::new(1, 1);
    fail_connects(&mut servers, 0, 5);
    servers.answered(0);
    assert!(servers.all_out());
}

#[test]
fn a_server_that_took_no_connections_is_back_when_it_takes_one_and_one_that_failed_otherwise_is_not() {
    let mut servers = Servers::new(4, 4);
    assert_eq!(servers.unreachable(0).next(), None);
    assert_eq!(servers.reached(0, NOW), None, "it is not out");
    fail_connects(&mut servers, 0, 5);
    fail(&mut servers, 1, 5, NOW);
    fail_connects(&mut servers, 2, 5);
    assert_eq!((servers.unreachable(0).collect::<Vec<_>>(), servers.unreachable(0b001).collect::<Vec<_>>()), (vec![0, 2], vec![2]));
    assert_eq!(servers.reached(1, NOW), None);
    assert_eq!(servers.reached(0, NOW), Some(Moved::Back(Return::Connection)));
    assert_eq!((servers.weight(0, NOW), servers.weight(1, NOW)), (FIRST_WEIGHT, 0));
}

#[test]
fn the_fifth_failure_in_a_row_takes_a_server_out_only_while_another_is_well() {
    let mut servers = Servers::new(2, 2);
    assert_eq!(fail(&mut servers, 0, 4, NOW), None);
    servers.answered(0);
    assert_eq!(fail(&mut servers, 0, 4, NOW), None);
    assert_eq!(fail(&mut servers, 1, 1, NOW), None);
    assert_eq!(fail(&mut servers, 0, 1, NOW), None, "now the other fails too: it may be the backend");
    servers.answered(1);
    assert_eq!(fail(&mut servers, 0, 1, NOW), Some(Moved::Out(Evidence::Failures(6))));
    assert_eq!(fail(&mut servers, 1, 50, NOW), None, "nor does one that is out carry anything");
    assert_eq!(fail(&mut Servers::new(1, 1), 0, 50, NOW), None);
}

#[test]
fn a_row_with_refusals_in_it_takes_a_server_out_only_after_a_second_since_one_that_is_full_refuses_many_in_a_moment() {
    let mut servers = Servers::new(2, 2);
    let refuse = |servers: &mut Servers, millis| (0..50).find_map(|_| servers.failed(0, true, NOW + Duration::from_millis(millis)));
    assert_eq!(refuse(&mut servers, 0).or(refuse(&mut servers, 999)), None);
    servers.answered(0);
    assert_eq!(refuse(&mut servers, 1_500), None, "the row begins anew");
    assert_eq!(fail(&mut servers, 0, 4, NOW + Duration::from_millis(1_500)), None);
    assert_eq!(refuse(&mut servers, 2_500), Some(Moved::Out(Evidence::Failures(55))));
    pass(&mut servers, 0, NOW + Duration::from_millis(2_500));
    assert_eq!(refuse(&mut servers, 2_600), Some(Moved::Out(Evidence::Failures(5))), "with a tenth of its share it is hardly full");
}

#[test]
fn a_server_that_passes_its_probes_and_fails_its_work_is_held_back_for_longer_each_time() {
    let mut servers = Servers::new(2, 2);
    let mut now = NOW;
    let holds: Vec<u64> = (0..8)
        .map(|_| {
            assert!(fail(&mut servers, 0, 5, now).is_some());
            let hold = servers.gap(now, 0.5).unwrap();
            if hold > breaker::QUICK_GAP {
                assert_eq!((pass(&mut servers, 0, now), servers.askable(now).next()), (None, None), "held");
            }
            now += hold;
            assert_eq!(servers.askable(now).next(), Some(0));
            assert_eq!(pass(&mut servers, 0, now), Some(Moved::Back(Return::PassedProbes(2))));
            hold.as_secs()
        })
        .collect();
    assert_eq!(holds, [0, 1, 2, 4, 8, 16, 30, 30]);
    now += RAMP;
    fail(&mut servers, 0, 5, now);
    assert_eq!(servers.gap(now, 0.5), Some(breaker::QUICK_GAP), "it had its full weight");
    pass(&mut servers, 0, now);
    fail(&mut servers, 0, 5, now);
    servers.forget();
    assert!(pass(&mut servers, 0, now).is_some(), "when nothing is left, any that passes will do");
}

#[test]
fn a_recovered_server_begins_at_a_tenth_and_has_its_full_weight_after_thirty_seconds() {
    let mut servers = Servers::new(2, 2);
    assert_eq!(servers.weight(0, NOW), 100, "a server that never was out has no ramp");
    fail_connects(&mut servers, 0, 5);
    assert_eq!(servers.weight(0, NOW), 0);
    servers.probed(0, true, None, NOW);
    servers.probed(0, true, None, NOW);
    for (millis, weight) in [(0, 10), (2_999, 10), (3_300, 11), (15_000, 50), (29_999, 99), (30_000, 100), (9_999_999, 100)] {
        assert_eq!(servers.weight(0, NOW + Duration::from_millis(millis)), weight, "after {millis} ms");
    }
    assert!(servers.any_grows(NOW + Duration::from_millis(29_999)));
    assert!(!servers.any_grows(NOW + RAMP));
    assert_eq!(servers.weight(7, NOW), 0, "a server that does not exist gets nothing");
}

#[test]
fn a_server_that_is_out_is_asked_after_a_tenth_of_the_time_that_it_is_and_soon_once_it_passes() {
    let mut servers = Servers::new(2, 2);
    assert_eq!(servers.gap(NOW, 0.5), None);
    fail_connects(&mut servers, 0, 5);
    for (out_for, gap) in [(0, 200), (2_000, 200), (5_000, 500), (20_000, 2_000), (86_400_000, 2_000)] {
        let gap = Some(Duration::from_millis(gap));
        assert_eq!(servers.gap(NOW + Duration::from_millis(out_for), 0.5), gap, "after {out_for} ms");
    }
    servers.probed(0, true, None, NOW);
    assert_eq!(servers.gap(NOW, 0.5), Some(breaker::CONFIRMING_GAP));
}

#[test]
fn a_server_that_comes_is_eased_in_and_one_that_goes_is_nobody() {
    let mut servers = Servers::new(1, 3);
    assert_eq!(servers.present().collect::<Vec<_>>(), [0]);
    assert!(!servers.up(1) && servers.weight(1, NOW) == 0);
    servers.appear(1, true, NOW);
    servers.appear(2, false, NOW);
    assert_eq!([0, 1, 2].map(|index| servers.weight(index, NOW)), [100, FIRST_WEIGHT, 100]);
    fail_connects(&mut servers, 1, 5);
    assert_eq!(servers.out().collect::<Vec<_>>(), [1]);
    servers.vanish(1);
    assert!(servers.out().next().is_none(), "nobody asks after it");
    assert_eq!(servers.probed(1, true, None, NOW), None);
    servers.vanish(0);
    assert!(!servers.all_out());
    servers.vanish(2);
    assert!(servers.all_out());
}
