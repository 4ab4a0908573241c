//! The threads that carry traffic.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, watch};

use crate::{
    backend::SWEEP,
    proxy::{Connections, Door, Listening, Shared, Socket, Sockets, Worker},
    telemetry::ClientMetrics,
};

use super::StartError;

/// Listeners that may be on their way to a thread at a time.
const POST: usize = 16;

/// All worker threads.
pub(super) struct Workers {
    threads: Vec<(mpsc::Sender<Task>, JoinHandle<()>)>,
    connections: Arc<Connections>,
    end: watch::Sender<bool>,
}

/// What a thread is to listen on, until it is told to stop.
struct Task {
    door: Arc<Door>,
    socket: Socket,
    listening: Listening,
    stop: watch::Receiver<bool>,
}

impl Workers {
    /// Starts `count` threads, which have nothing to do yet.
    pub(super) fn start(shared: &Shared, count: usize, metrics: ClientMetrics) -> Result<Self, StartError> {
        let connections = Arc::new(Connections::new(metrics));
        let (end, ends) = watch::channel(false);
        let mut workers = Self { threads: Vec::with_capacity(count), connections, end };
        for number in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
            let (post, tasks) = mpsc::channel(POST);
            let traffic = carry(Worker::new(shared.clone()), tasks, ends.clone());
            let named = thread::Builder::new().name(format!("worker-{number}"));
            let thread = named.spawn(move || runtime.block_on(traffic)).map_err(StartError::Thread)?;
            workers.threads.push((post, thread));
        }
        Ok(workers)
    }

    /// Each thread takes connections from a socket of its own, until `stop` says so.
    pub(super) async fn listen(&self, door: &Arc<Door>, mut sockets: Sockets, stop: &watch::Sender<bool>) {
        for (post, _) in &self.threads {
            let Some(socket) = sockets.take() else { return };
            // A thread that has ended has panicked, which is told when it is joined.
            let _sent =
                post.send(Task { door: door.clone(), socket, listening: self.connections.listening(), stop: stop.subscribe() }).await;
        }
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.open()
    }

    /// Resolves when no connection is open, and none can come any more.
    pub(super) async fn all_closed(&self) {
        self.connections.all_closed().await;
    }

    /// Ends all threads, whatever they are doing.
    pub(super) fn end(&mut self) {
        self.end.send_replace(true);
        for (_, thread) in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread had panicked");
            }
        }
    }
}

/// One thread's work, until `end`.
async fn carry(worker: Arc<Worker>, mut tasks: mpsc::Receiver<Task>, mut end: watch::Receiver<bool>) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            Some(Task { door, socket, listening, stop }) = tasks.recv() => {
                tokio::spawn(worker.clone().listen(socket, door, listening, stop));
            }
            _ = sweep.tick() => worker.sweep(),
            _ = end.changed() => return,
        }
    }
}
