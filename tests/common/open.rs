//! How many connections are open, and when there are none.

use std::sync::Arc;

use tokio::sync::watch;

/// A count of what is open.
#[derive(Debug, Clone, Default)]
pub struct Open(Arc<watch::Sender<usize>>);

/// One that is open until it is dropped.
#[derive(Debug)]
pub struct One(Open);

impl Open {
    /// One more.
    pub fn another(&self) -> One {
        self.0.send_modify(|count| *count += 1);
        One(self.clone())
    }

    /// Resolves when none is open.
    pub async fn none(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}
