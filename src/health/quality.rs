//! What the end of a request says about how much its backend can take.

/// How a dispatch ended, as far as the limit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// An answer of the usual kind: its latency counts.
    Good,
    /// Timeout, 504: the backend had enough.
    Bad,
    /// 429, 502, 503: it had enough, or whatever was asked is out of order. Its latency does not count: a fast 503 is no sign of health.
    Refused,
    /// This server took no connection, or broke it. Bad, unless the others go on as if nothing had happened: then it is that server's own trouble, and no load.
    Lost(usize),
    /// Any other answer (4xx, 500, 501, 505), or an end that is the client's doing: says nothing. A backend refuses far faster than it works,
    /// so that a minute of 401s would teach a base that no work can keep.
    Neither,
}

impl Quality {
    /// What a status says. The one translation, for live traffic and replay.
    pub const fn of_status(status: u16) -> Self {
        match status {
            ..=399 => Self::Good,
            429 | 502 | 503 => Self::Refused,
            504 => Self::Bad,
            _ => Self::Neither,
        }
    }

    /// What no answer from that server says.
    pub const fn of_failure(server: usize, timed_out: bool) -> Self {
        if timed_out { Self::Bad } else { Self::Lost(server) }
    }
}
