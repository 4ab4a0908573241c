//! Stopping: what the signals mean.
//!
//! TERM and INT begin a stop: no new connections, what is in flight is finished, nothing new is claimed from the queue. A second one, or the deadline, ends
//! it at once; that is safe, since what is durable stays durable. HUP asks for a reload, USR1 for log files to be opened anew, as with nginx.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Stop (TERM, INT).
    Stop,
    /// Read the configuration again, and open log files anew (HUP).
    Reload,
    /// Open log files anew (USR1).
    Reopen,
}

/// The signals that we listen to.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
}

impl Signals {
    /// Listens from now on. Must be called within a runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Asked {
        poll_fn(|cx| {
            if self.term.poll_recv(cx).is_ready() || self.int.poll_recv(cx).is_ready() {
                Poll::Ready(Asked::Stop)
            } else if self.hup.poll_recv(cx).is_ready() {
                Poll::Ready(Asked::Reload)
            } else {
                self.usr1.poll_recv(cx).map(|_| Asked::Reopen)
            }
        })
        .await
    }
}
