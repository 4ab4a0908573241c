//! Which of a backend's servers are up, as far as their own failures say, and how much of the traffic a recovered one is given. Pure, as the
//! [`breaker`], which knows only the backend as a whole.
//!
//! A server goes out after 5 connect failures in a row, or after `fall` failed probes in a row. Only probes bring it back: `rise` of them in a
//! row. Its weight then grows with time, `max(10%, t / 30 s)`: its caches are cold and its processes few.

use std::{fmt, time::Duration};

use super::{
    Check,
    breaker::{self, CONNECT_FAILURES, PROBE_PASSES},
};

/// Time that a recovered server takes to its full weight.
pub(super) const RAMP: Duration = Duration::from_secs(30);
/// The weight, in percent, that a recovered server begins with.
pub(super) const FIRST_WEIGHT: u32 = 10;
/// Failed probes in a row that take a server out when no check is configured; it is asked then only while the backend is not passing.
pub(super) const FALL: u32 = 3;

/// All servers of one backend, by index.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<Server>,
    exponent: u32,
}

#[derive(Debug, Clone, Default)]
struct Server {
    /// There is a server of this number.
    present: bool,
    out: bool,
    connect_failures: u32,
    failed_probes: u32,
    passed_probes: u32,
    recovered: Option<Duration>,
}

/// What a probe or a failure has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// It went out.
    Out(Evidence),
    /// It came back.
    Back(Evidence),
}

/// Why a server went out or came back; printed, it completes "out after …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    ConnectFailures(u32),
    FailedProbes(u32),
    PassedProbes(u32),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailures(count) => write!(f, "{count} connect failures in a row"),
            Self::FailedProbes(count) => write!(f, "{count} failed probes in a row"),
            Self::PassedProbes(count) => write!(f, "{count} probes passed in a row"),
        }
    }
}

impl Servers {
    /// So many servers, all up, and numbers for more, `room` in all.
    pub(super) fn new(count: usize, room: usize) -> Self {
        let server = |number| Server { present: number < count, ..Server::default() };
        Self { list: (0..room.max(count)).map(server).collect(), exponent: 0 }
    }

    /// A server has come. `eased`: it is given little at first, as one that has recovered.
    pub(super) fn appear(&mut self, index: usize, eased: bool, now: Duration) {
        if let Some(server) = self.list.get_mut(index) {
            *server = Server { present: true, recovered: eased.then_some(now), ..Server::default() };
        }
    }

    /// A server has gone, and its number is free.
    pub(super) fn vanish(&mut self, index: usize) {
        if let Some(server) = self.list.get_mut(index) {
            *server = Server::default();
        }
    }

    /// The numbers that are a server's, up or not.
    pub(super) fn present(&self) -> impl Iterator<Item = usize> {
        self.list.iter().enumerate().filter(|(_, server)| server.present).map(|(index, _)| index)
    }

    /// Whether there is a server of this number.
    pub(super) fn is_present(&self, index: usize) -> bool {
        self.list.get(index).is_some_and(|server| server.present)
    }

    /// Whether this one is up; an index that does not exist is not.
    pub(super) fn up(&self, index: usize) -> bool {
        self.list.get(index).is_some_and(Server::is_up)
    }

    /// Whether none is up.
    pub(super) fn all_out(&self) -> bool {
        !self.list.iter().any(Server::is_up)
    }

    /// Those that are out.
    pub(super) fn out(&self) -> impl Iterator<Item = usize> {
        self.list.iter().enumerate().filter(|(_, server)| server.present && server.out).map(|(index, _)| index)
    }

    /// It took a connection.
    pub(super) fn connected(&mut self, index: usize) {
        if let Some(server) = self.list.get_mut(index) {
            server.connect_failures = 0;
        }
    }

    /// It took no connection.
    pub(super) fn connect_failed(&mut self, index: usize) -> Option<Moved> {
        let server = self.list.get_mut(index)?;
        server.connect_failures = server.connect_failures.saturating_add(1);
        let failures = server.connect_failures;
        (failures >= CONNECT_FAILURES && self.take_out(index)).then_some(Moved::Out(Evidence::ConnectFailures(failures)))
    }

    /// Whether any server that is up fails to connect now.
    pub(super) fn any_fails_to_connect(&self) -> bool {
        self.list.iter().any(|server| server.is_up() && server.connect_failures > 0)
    }

    /// Whether every server that is up fails to connect now.
    pub(super) fn all_fail_to_connect(&self) -> bool {
        self.list.iter().all(|server| !server.is_up() || server.connect_failures > 0)
    }

    /// A probe of it has ended.
    pub(super) fn probed(&mut self, index: usize, passed: bool, check: Option<&Check>, now: Duration) -> Option<Moved> {
        let (fall, rise) = check.map_or((FALL, PROBE_PASSES), |check| (check.fall, check.rise));
        let server = self.list.get_mut(index).filter(|server| server.present)?;
        if !passed {
            server.passed_probes = 0;
            server.failed_probes = server.failed_probes.saturating_add(1);
            let failed = server.failed_probes;
            return (failed >= fall && self.take_out(index)).then_some(Moved::Out(Evidence::FailedProbes(failed)));
        }
        server.failed_probes = 0;
        server.passed_probes = server.passed_probes.saturating_add(1);
        let passes = server.passed_probes;
        if !server.out || passes < rise {
            return None;
        }
        server.out = false;
        server.connect_failures = 0;
        server.recovered = Some(now);
        Some(Moved::Back(Evidence::PassedProbes(passes)))
    }

    /// The most probes in a row that a server has passed that is up.
    pub(super) fn best_passes(&self) -> u32 {
        self.list.iter().filter(|server| server.is_up()).map(|server| server.passed_probes).max().unwrap_or(0)
    }

    /// Whether one has passed its last probe, up or not.
    pub(super) fn any_passed(&self) -> bool {
        self.list.iter().any(|server| server.passed_probes > 0)
    }

    /// Whether one that is out has begun to pass probes.
    pub(super) fn any_returns(&self) -> bool {
        self.list.iter().any(|server| server.out && server.passed_probes > 0)
    }

    /// The backend sheds: from now on only new probes count.
    pub(super) fn forget(&mut self) {
        for server in &mut self.list {
            server.connect_failures = 0;
            server.passed_probes = 0;
            server.failed_probes = 0;
        }
    }

    /// A round of probes in which no server that is out passed.
    pub(super) fn round_failed(&mut self) {
        self.exponent = self.exponent.saturating_add(1);
    }

    /// Time between two probes of the servers that are out while others carry the backend; `random` is in 0..1.
    pub(super) fn gap(&self, random: f64) -> Duration {
        breaker::gap(if self.any_returns() { 0 } else { self.exponent }, random)
    }

    /// The weight of a server at `now`, in percent of a full one; 0 when it is out.
    pub(super) fn weight(&self, index: usize, now: Duration) -> u32 {
        let Some(server) = self.list.get(index).filter(|server| server.is_up()) else { return 0 };
        let Some(recovered) = server.recovered else { return 100 };
        let percent = now.saturating_sub(recovered).as_millis() * 100 / RAMP.as_millis();
        u32::try_from(percent).unwrap_or(100).clamp(FIRST_WEIGHT, 100)
    }

    /// Whether a weight still grows at `now`.
    pub(super) fn any_grows(&self, now: Duration) -> bool {
        self.list.iter().any(|server| server.is_up() && server.recovered.is_some_and(|at| now.saturating_sub(at) < RAMP))
    }

    fn take_out(&mut self, index: usize) -> bool {
        let server = &mut self.list[index];
        if !server.is_up() {
            return false;
        }
        *server = Server { present: true, out: true, ..Server::default() };
        self.exponent = 0;
        true
    }
}

impl Server {
    fn is_up(&self) -> bool {
        self.present && !self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn check(fall: u32, rise: u32) -> Check {
        let second = Duration::from_secs(1);
        Check { path: "/".into(), interval: second, timeout: second, fall, rise }
    }

    fn fail_connects(servers: &mut Servers, index: usize, times: u32) -> Option<Moved> {
        (0..times).fold(None, |_, _| servers.connect_failed(index))
    }

    #[test]
    fn the_fifth_connect_failure_in_a_row_takes_a_server_out_and_a_connection_in_between_saves_it() {
        let mut servers = Servers::new(2, 2);
        assert_eq!(fail_connects(&mut servers, 0, 4), None);
        servers.connected(0);
        assert_eq!(fail_connects(&mut servers, 0, 4), None);
        assert_eq!(servers.connect_failed(0), Some(Moved::Out(Evidence::ConnectFailures(5))));
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
        expected[9] = Some(Moved::Back(Evidence::PassedProbes(3)));
        assert_eq!(moves, expected);
    }

    #[test]
    fn without_a_check_two_passes_in_a_row_bring_a_server_back() {
        let mut servers = Servers::new(1, 1);
        fail_connects(&mut servers, 0, 5);
        assert_eq!(servers.probed(0, true, None, NOW), None);
        assert_eq!(servers.probed(0, false, None, NOW), None);
        assert_eq!(servers.probed(0, true, None, NOW), None);
        assert_eq!(servers.probed(0, true, None, NOW), Some(Moved::Back(Evidence::PassedProbes(2))));
    }

    #[test]
    fn traffic_alone_never_brings_a_server_back() {
        let mut servers = Servers::new(1, 1);
        fail_connects(&mut servers, 0, 5);
        servers.connected(0);
        assert!(servers.all_out());
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
    fn the_gap_of_a_server_that_is_out_doubles_to_thirty_seconds_until_it_passes() {
        let mut servers = Servers::new(2, 2);
        fail_connects(&mut servers, 0, 5);
        let gaps: Vec<u64> = (0..7)
            .map(|_| {
                let gap = servers.gap(0.5).as_secs();
                servers.round_failed();
                gap
            })
            .collect();
        assert_eq!(gaps, [1, 2, 4, 8, 16, 30, 30]);
        servers.probed(0, true, None, NOW);
        assert_eq!(servers.gap(0.5), Duration::from_secs(1));
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
}
