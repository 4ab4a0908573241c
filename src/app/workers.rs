//! The threads that carry traffic.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use crate::{
    backend::SWEEP,
    proxy::{Connections, Door, Listener, Shared, Sockets, Worker},
    telemetry::ClientMetrics,
};

use super::StartError;

/// All worker threads.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    connections: Arc<Connections>,
    stop: watch::Sender<bool>,
    end: watch::Sender<bool>,
}

impl Workers {
    /// Starts `count` threads, each with a socket of every listener.
    pub(super) fn start(
        shared: &Shared,
        mut sockets: Vec<(Arc<Door>, Sockets)>,
        count: usize,
        metrics: ClientMetrics,
    ) -> Result<Self, StartError> {
        let connections = Arc::new(Connections::new(metrics));
        let (stop, stops) = watch::channel(false);
        let (end, ends) = watch::channel(false);
        let mut workers = Self { threads: Vec::with_capacity(count), connections, stop, end };
        for number in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
            let listeners = {
                // A tokio listener belongs to the runtime within which it is made.
                let _within = runtime.enter();
                let taken = sockets.iter_mut().filter_map(|(door, sockets)| Some(sockets.take()?.map(|listener| (door.clone(), listener))));
                taken.collect::<io::Result<Vec<_>>>().map_err(StartError::Thread)?
            };
            let traffic = carry(Worker::new(shared.clone()), listeners, workers.connections.clone(), stops.clone(), ends.clone());
            let named = thread::Builder::new().name(format!("worker-{number}"));
            workers.threads.push(named.spawn(move || runtime.block_on(traffic)).map_err(StartError::Thread)?);
        }
        Ok(workers)
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.open()
    }

    /// Takes no more connections and resolves when all have ended.
    pub(super) async fn drain(&self) {
        self.stop.send_replace(true);
        self.connections.drain();
        self.connections.all_closed().await;
    }

    /// Ends all threads, whatever they are doing.
    pub(super) fn end(&mut self) {
        self.stop.send_replace(true);
        self.end.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread had panicked");
            }
        }
    }
}

/// One thread's work, until `end`.
async fn carry(
    worker: Arc<Worker>,
    listeners: Vec<(Arc<Door>, Listener)>,
    connections: Arc<Connections>,
    stop: watch::Receiver<bool>,
    mut end: watch::Receiver<bool>,
) {
    for (door, listener) in listeners {
        tokio::spawn(worker.clone().listen(listener, door, connections.clone(), stop.clone()));
    }
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            _ = sweep.tick() => worker.sweep(),
            _ = end.changed() => return,
        }
    }
}
