//! The requests of one HTTP/2 connection, each in a task of its own, which ends with the connection.

use std::{future::Future, sync::Arc};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Runs the requests of one connection. A task that waits to send what nobody will take would keep the seat of its request for ever, were it left to find out by
/// itself; what must be seen to its end all the same goes on elsewhere ([`Committed`](super::watch::Committed)).
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<JoinSet<()>>>);

impl Streams {
    /// The connection is over.
    pub(super) fn end(&self) {
        self.0.lock().abort_all();
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async {
            stream.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_request_holds_is_let_go_when_its_connection_ends_whatever_it_waits_for() {
        let streams = Streams::default();
        let (held, let_go) = oneshot::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let nested = streams.clone();
        streams.execute(async move {
            let _held = (held, nested);
            let _ = begun.send(());
            std::future::pending::<()>().await;
        });
        has_begun.await.unwrap();
        streams.end();
        let let_go = tokio::time::timeout(Duration::from_secs(10), let_go).await;
        assert!(let_go.is_ok_and(|let_go| let_go.is_err()), "dropped");
    }
}
