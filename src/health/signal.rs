//! What the end of a request says about the health of the server that it was at.

use std::sync::atomic::Ordering::Acquire;

use tokio::time::Instant;

use super::{Health, State};

/// How a request at a server went, as far as its health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Any answer that shows a working application: 1xx to 4xx (429 included), 501, 505.
    Success,
    /// The application's own 500.
    ApplicationError,
    /// An answer that nobody worked on it: 502, 503. There is no room, or nothing behind the one who answers.
    Refusal,
    /// 504, a timeout after something was sent, a reset.
    Failure,
    /// No connection: refused, unreachable, connect timeout, no name, no TLS.
    ConnectFailure,
}

impl Signal {
    /// What a status says about the health of the server that gave it: the one translation, so that live traffic and replay cannot differ.
    pub const fn of_status(status: u16) -> Self {
        match status {
            502 | 503 => Self::Refusal,
            504 => Self::Failure,
            501 | 505 | ..=499 => Self::Success,
            _ => Self::ApplicationError,
        }
    }
}

impl Health {
    /// The servers that are out for nothing but that they took no connections, without those that `avoid` names: its bit `n` stands for server number `n`. To be asked
    /// where no other server takes one, before anybody is told that.
    pub fn unreachable(&self, avoid: u64) -> Vec<usize> {
        self.policy.lock().servers().unreachable(avoid).collect()
    }

    /// Whether a server that `avoid` does not name has failed nothing that it was last asked for.
    pub fn any_is_well(&self, avoid: u64) -> bool {
        self.policy.lock().servers().any_is_well(avoid)
    }

    /// Server number `server`, which took no connections, takes one.
    pub fn reached(&self, server: usize) {
        self.change(|policy, now, random| policy.reached(server, now, random));
    }

    /// Told how a request at server number `server` went.
    pub fn report(&self, server: usize, signal: Signal) {
        self.report_at(server, signal, Instant::now());
    }

    /// Told how a request failed at a server that another one is given now: it says nothing about the backend.
    pub fn report_server(&self, server: usize, signal: Signal) {
        self.change(|policy, now, random| policy.server_failed(server, signal, now, random));
    }

    /// The same by who has looked at the clock.
    pub fn report_at(&self, server: usize, signal: Signal, now: Instant) {
        let calm = signal == Signal::Success && self.state() == State::Passing && !self.suspicious.load(Acquire);
        if calm && self.tally.add(now - self.start) {
            return;
        }
        self.change(|policy, now, random| policy.signal(server, signal, now, random));
    }
}
