//! Which of a backend's servers are up, as far as their own failures say, and how much of the traffic a recovered one is given. Pure, as the
//! [`breaker`], which knows only the backend as a whole.
//!
//! A server goes out after 5 connect failures in a row, after `fall` failed probes in a row, or, while another is well, after 5 failures in a row of any kind
//! (a timeout, a reset, 504; with refusals, 502 and 503, among them only after a second of that: one that is full refuses many in a moment). `rise` probes in
//! a row bring it back, and where it took no connections, also that it takes one; where it answers probes well and requests badly, each relapse holds it back
//! for twice as long. Its weight then grows with time, `max(10%, t / 30 s)`: its caches are cold and its processes few.
//!
//! One that is out is asked every tenth of the time that it is: whatever is restarted is back soon, and no outage lasts much longer for our not looking.

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
/// Failures in a row that take a server out while another is well.
pub(super) const FAILURES: u32 = 5;
/// Time that a row of failures lasts that has refusals in it.
const REFUSING: Duration = Duration::from_secs(1);
/// The longest time between two questions to a server that is out while others carry the backend, before jitter.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// All servers of one backend, by index.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<Server>,
}

#[derive(Debug, Clone, Default)]
struct Server {
    /// There is a server of this number.
    present: bool,
    out: Option<Out>,
    connect_failures: u32,
    /// Failures of any other kind, in a row, and when the first was.
    failures: u32,
    failing: Duration,
    /// Refusals are among them.
    refuses: bool,
    /// Times in a row that it failed its requests and came back, and had not its full weight before it failed them again.
    relapses: u32,
    failed_probes: u32,
    passed_probes: u32,
    recovered: Option<Duration>,
}

/// How a server is out.
#[derive(Debug, Clone, Copy)]
struct Out {
    since: Duration,
    /// Until then its probes count for nothing.
    held: Duration,
    /// It took no connections, which is all that speaks against it.
    unreachable: bool,
}

/// What a probe or a failure has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// It went out.
    Out(Evidence),
    /// It came back.
    Back(Return),
}

/// Why a server went out; printed, it completes "out after …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    ConnectFailures(u32),
    Failures(u32),
    FailedProbes(u32),
}

/// Why a server came back; printed, it completes "back after …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    PassedProbes(u32),
    /// It takes connections again.
    Connection,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailures(count) => write!(f, "{count} connect failures in a row"),
            Self::Failures(count) => write!(f, "{count} failures in a row"),
            Self::FailedProbes(count) => write!(f, "{count} failed probes in a row"),
        }
    }
}

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedProbes(count) => write!(f, "{count} probes passed in a row"),
            Self::Connection => f.write_str("it took a connection"),
        }
    }
}

impl Servers {
    /// So many servers, all up, and numbers for more, `room` in all.
    pub(super) fn new(count: usize, room: usize) -> Self {
        let server = |number| Server { present: number < count, ..Server::default() };
        Self { list: (0..room.max(count)).map(server).collect() }
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
        self.list.iter().enumerate().filter(|(_, server)| server.is_out()).map(|(index, _)| index)
    }

    /// Those that are out and may be asked.
    pub(super) fn askable(&self, now: Duration) -> impl Iterator<Item = usize> {
        self.out().filter(move |&index| self.list[index].out.is_some_and(|out| out.held <= now))
    }

    /// Those that are out for nothing but that they took no connections, without those that `avoid` names (bit by number).
    pub(super) fn unreachable(&self, avoid: u64) -> impl Iterator<Item = usize> {
        self.out().filter(move |&index| self.list[index].out.is_some_and(|out| out.unreachable) && avoid >> index & 1 == 0)
    }

    /// It answered, and well.
    pub(super) fn answered(&mut self, index: usize) {
        if let Some(server) = self.list.get_mut(index) {
            (server.connect_failures, server.failures, server.refuses) = (0, 0, false);
        }
    }

    /// It took no connection.
    pub(super) fn connect_failed(&mut self, index: usize, now: Duration) -> Option<Moved> {
        let server = self.list.get_mut(index)?;
        server.connect_failures = server.connect_failures.saturating_add(1);
        let failures = server.connect_failures;
        (failures >= CONNECT_FAILURES && self.take_out(index, true, now)).then_some(Moved::Out(Evidence::ConnectFailures(failures)))
    }

    /// It took a connection, and failed the request, or refused it. Where no other server is well, it is the backend that fails, which is the breaker's matter.
    pub(super) fn failed(&mut self, index: usize, refused: bool, now: Duration) -> Option<Moved> {
        let server = self.list.get_mut(index)?;
        if server.failures == 0 {
            server.failing = now;
        }
        server.connect_failures = 0;
        server.failures = server.failures.saturating_add(1);
        server.refuses |= refused;
        let failures = server.failures;
        // One that is given little of the traffic, since it is just back, is hardly full.
        let may_be_full = server.refuses && !server.is_eased_in(now) && now.saturating_sub(server.failing) < REFUSING;
        let is_long = failures >= FAILURES && !may_be_full;
        let another_is_well = self.any_is_well(1 << index);
        (is_long && another_is_well && self.take_out(index, false, now)).then_some(Moved::Out(Evidence::Failures(failures)))
    }

    /// Whether one is well that `avoid` does not name (bit by number).
    pub(super) fn any_is_well(&self, avoid: u64) -> bool {
        (0..).zip(&self.list).any(|(index, server)| avoid >> index & 1 == 0 && server.is_well())
    }

    /// It took a connection, and is out.
    pub(super) fn reached(&mut self, index: usize, now: Duration) -> Option<Moved> {
        let server = self.list.get_mut(index).filter(|server| server.out.is_some_and(|out| out.unreachable))?;
        server.bring_back(now);
        Some(Moved::Back(Return::Connection))
    }

    /// Whether any server that is up has failed the last that was asked of it.
    pub(super) fn any_fails(&self) -> bool {
        self.list.iter().any(|server| server.is_up() && !server.is_well())
    }

    /// Whether every server that is up fails to connect now.
    pub(super) fn all_fail_to_connect(&self) -> bool {
        self.list.iter().all(|server| !server.is_up() || server.connect_failures > 0)
    }

    /// A probe of it has ended.
    pub(super) fn probed(&mut self, index: usize, passed: bool, check: Option<&Check>, now: Duration) -> Option<Moved> {
        let (fall, rise) = check.map_or((FALL, PROBE_PASSES), |check| (check.fall, check.rise));
        let server = self.list.get_mut(index).filter(|server| server.present && server.out.is_none_or(|out| out.held <= now))?;
        if !passed {
            server.passed_probes = 0;
            server.failed_probes = server.failed_probes.saturating_add(1);
            let failed = server.failed_probes;
            return (failed >= fall && self.take_out(index, false, now)).then_some(Moved::Out(Evidence::FailedProbes(failed)));
        }
        server.failed_probes = 0;
        server.passed_probes = server.passed_probes.saturating_add(1);
        let passes = server.passed_probes;
        if server.out.is_none() || passes < rise {
            return None;
        }
        server.bring_back(now);
        Some(Moved::Back(Return::PassedProbes(passes)))
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
        self.list.iter().any(|server| server.is_out() && server.passed_probes > 0)
    }

    /// The backend sheds: from now on only new probes count.
    pub(super) fn forget(&mut self) {
        for server in &mut self.list {
            (server.connect_failures, server.failures, server.refuses) = (0, 0, false);
            server.passed_probes = 0;
            server.failed_probes = 0;
            if let Some(out) = &mut server.out {
                out.held = Duration::ZERO;
            }
        }
    }

    /// Time until the servers that are out are to be asked, while others carry the backend; none when all are up. `random` is in 0..1.
    pub(super) fn gap(&self, now: Duration, random: f64) -> Option<Duration> {
        let gap = |out: Out| {
            let tenth = now.saturating_sub(out.since) / 10;
            out.held.saturating_sub(now).max(breaker::jittered(tenth.clamp(breaker::QUICK_GAP, LONGEST_GAP), random))
        };
        let soonest = self.list.iter().filter(|server| server.present).filter_map(|server| server.out).map(gap).min()?;
        Some(if self.any_returns() { breaker::confirming_gap(random) } else { soonest })
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
        self.list.iter().any(|server| server.is_up() && server.is_eased_in(now))
    }

    fn take_out(&mut self, index: usize, unreachable: bool, now: Duration) -> bool {
        let server = &mut self.list[index];
        if !server.is_up() {
            return false;
        }
        let relapses = if server.failures >= FAILURES && server.is_eased_in(now) { server.relapses.saturating_add(1) } else { 0 };
        let held = if relapses == 0 { now } else { now + breaker::doubled(relapses - 1) };
        *server = Server { present: true, out: Some(Out { since: now, held, unreachable }), relapses, ..Server::default() };
        true
    }
}

impl Server {
    fn is_up(&self) -> bool {
        self.present && self.out.is_none()
    }

    fn is_out(&self) -> bool {
        self.present && self.out.is_some()
    }

    fn is_well(&self) -> bool {
        self.is_up() && self.connect_failures == 0 && self.failures == 0
    }

    fn is_eased_in(&self, now: Duration) -> bool {
        self.recovered.is_some_and(|at| now.saturating_sub(at) < RAMP)
    }

    fn bring_back(&mut self, now: Duration) {
        self.out = None;
        self.recovered = Some(now);
    }
}

#[cfg(test)]
mod tests;
