//! The task that asks servers whether they are well. It knows neither HTTP nor the backend: it is given a function that asks one server.
//!
//! No live request is ever used as a guinea pig. With a [`Check`](super::Check) the function asks for its path; without one it is expected to
//! send a request of our own that can do no harm (`HEAD /`) and to take every answer but 502, 503 and 504 for a pass. Nothing brings
//! a server or a backend back but this task: a [`Health`] without it sheds for ever once it has tripped.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending},
    stream::FuturesUnordered,
};

use super::Health;

/// Asks the server with this index; true is a pass. It must connect to the server even when its weight is 0.
pub type Probe = Arc<dyn Fn(usize) -> BoxFuture<'static, bool> + Send + Sync>;

/// Time for the whole answer to a probe without a configured check: a server that has just started is slow.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Time that a round gives its probes. One that hangs for longer keeps none of the others waiting, who may be back long since.
const ROUND: Duration = Duration::from_millis(200);

/// The probes that are under way.
#[derive(Default)]
struct Asking {
    answers: FuturesUnordered<BoxFuture<'static, (usize, bool)>>,
    /// Whom, bit by number.
    servers: u64,
}

/// Probes the servers of `health` as its state demands, until `shutdown` completes. One per backend at a time; after its end it may be started
/// anew.
pub async fn run(health: Arc<Health>, probe: Probe, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {}
        () = rounds(&health, &probe) => {}
    }
}

async fn rounds(health: &Health, probe: &Probe) {
    health.resume_rounds();
    let mut asking = Asking::default();
    loop {
        tokio::select! {
            biased;
            (server, passed) = asking.next() => {
                health.probed(server, passed);
                continue;
            }
            () = health.round_is_due() => {}
        }
        let Some(round) = health.start_round() else { continue };
        let asked = asking.ask(&round.servers, probe, round.timeout.unwrap_or(TIMEOUT));
        let answers = async {
            while asking.servers & asked != 0 {
                let (server, passed) = asking.next().await;
                health.probed(server, passed);
            }
        };
        let _: Result<(), _> = tokio::time::timeout(ROUND, answers).await;
        health.end_round();
    }
}

impl Asking {
    /// Asks those that are not being asked, and says who they are.
    fn ask(&mut self, servers: &[usize], probe: &Probe, timeout: Duration) -> u64 {
        let mut asked = 0;
        for &server in servers.iter().filter(|&&server| self.servers >> server & 1 == 0) {
            asked |= 1 << server;
            self.answers.push(tokio::time::timeout(timeout, probe(server)).map(move |passed| (server, passed.unwrap_or(false))).boxed());
        }
        self.servers |= asked;
        asked
    }

    /// The next answer; never comes where nobody is asked.
    async fn next(&mut self) -> (usize, bool) {
        let Some((server, passed)) = self.answers.next().await else { return pending().await };
        self.servers &= !(1 << server);
        (server, passed)
    }
}

#[cfg(test)]
mod tests;
