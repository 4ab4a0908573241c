//! The task that asks servers whether they are well. It knows neither HTTP nor the backend: it is given a function that asks one server.
//!
//! No live request is ever used as a guinea pig. With a [`Check`](super::Check) the function asks for its path; without one it is expected to
//! send a request of our own that can do no harm (`HEAD /`) and to take every answer but 502, 503 and 504 for a pass. Nothing brings
//! a server or a backend back but this task: a [`Health`] without it sheds for ever once it has tripped.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};

use super::Health;

/// Asks the server with this index; true is a pass. It must connect to the server even when its weight is 0.
pub type Probe = Arc<dyn Fn(usize) -> BoxFuture<'static, bool> + Send + Sync>;

/// Time for the whole answer to a probe without a configured check: a server that has just started is slow.
pub const TIMEOUT: Duration = Duration::from_secs(5);

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
    loop {
        health.round_is_due().await;
        let Some(round) = health.start_round() else { continue };
        let timeout = round.timeout.unwrap_or(TIMEOUT);
        join_all(round.servers.into_iter().map(|server| async move {
            let passed = tokio::time::timeout(timeout, probe(server)).await.unwrap_or(false);
            health.probed(server, passed);
        }))
        .await;
        health.end_round();
    }
}

#[cfg(test)]
mod tests;
