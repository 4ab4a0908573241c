//! The load: partners who upload spreadsheets, drivers who send marks, and somebody who asks for parcels, each with a keep-alive connection.
//!
//! Everybody behaves as the real ones do. A driver sends one mark at a time and the same mark again, under the same `Idempotency-Key`, until somebody
//! has acknowledged it. A partner who is refused sees an error page and knows; nobody promised that upload anything.

mod senders;

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::journal::Journal;
use senders::Upload;

pub use senders::{mark_request, upload_request};

/// How much load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Where the proxy listens.
    pub proxy: SocketAddr,
    /// Where the admin server listens, for those who go around the proxy.
    pub admin: SocketAddr,
    /// Drivers; each sends a mark in every `mark_interval`.
    pub drivers: u32,
    /// Time between two marks of one driver.
    pub mark_interval: Duration,
    /// Partners; each uploads in every `upload_interval`.
    pub partners: u32,
    /// Time between two uploads of one partner.
    pub upload_interval: Duration,
    /// Orders in one upload.
    pub orders: usize,
    /// Time between two reads; there is one reader.
    pub read_interval: Duration,
    /// How long anybody waits for an answer.
    pub patience: Duration,
    /// How long a driver waits before trying again.
    pub pause: Duration,
}

impl Settings {
    /// What two cores carry without strain: 60 marks, 1.5 uploads and 5 reads a second.
    pub fn gentle(proxy: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            proxy,
            admin,
            drivers: 30,
            mark_interval: Duration::from_millis(500),
            partners: 6,
            upload_interval: Duration::from_secs(4),
            orders: 200,
            read_interval: Duration::from_millis(200),
            patience: Duration::from_secs(20),
            pause: Duration::from_secs(1),
        }
    }
}

/// A number of partners who all upload at this very moment, besides the regular load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rush {
    /// How many.
    pub uploads: u32,
    /// Whether they go straight to the admin server, past the proxy.
    pub around: bool,
}

/// The load, running on a thread of its own.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    rushes: mpsc::Sender<Rush>,
    done: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts it.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(settings: Settings, journal: Arc<Journal>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopping) = watch::channel(false);
        let (rushes, asked) = mpsc::channel(8);
        let (finished, done) = oneshot::channel();
        let run = move || {
            runtime.block_on(send(settings, journal, stopping, asked));
            finished.send(()).ok();
        };
        let thread = std::thread::Builder::new().name("load".into()).spawn(run)?;
        Ok(Self { stop, rushes, done, thread: Some(thread) })
    }

    /// Lets a rush loose. One that comes while eight are waiting already is dropped.
    pub fn rush(&self, rush: Rush) {
        self.rushes.try_send(rush).ok();
    }

    /// Nobody begins anything any more.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until everybody has his answer, or has lost patience. Call [`stop`](Self::stop) before.
    pub async fn finished(&mut self) {
        // An error means that the thread is gone, which is finished too.
        (&mut self.done).await.ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Sends until it is told to stop and everything under way has been answered.
pub async fn send(settings: Settings, journal: Arc<Journal>, mut stopping: watch::Receiver<bool>, mut rushes: mpsc::Receiver<Rush>) {
    let mut senders = JoinSet::new();
    for number in 1..=settings.drivers {
        senders.spawn(senders::driver(number, settings, Arc::clone(&journal), stopping.clone()));
    }
    for number in 1..=settings.partners {
        senders.spawn(senders::partner(number, settings, Arc::clone(&journal), stopping.clone()));
    }
    senders.spawn(senders::reader(settings, Arc::clone(&journal), stopping.clone()));

    let mut rush_number = 0;
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => break,
            Some(_) = senders.join_next() => {}
            Some(rush) = rushes.recv() => {
                rush_number += 1;
                for visitor in 1..=rush.uploads {
                    let upload = Upload::new(format!("R{rush_number}-{visitor:03}"), settings.orders, rush.around);
                    senders.spawn(senders::visitor(upload, settings, Arc::clone(&journal)));
                }
            }
        }
    }
    while senders.join_next().await.is_some() {}
}

/// Resolves when the load is to stop, at once when it already is.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that whoever could say so is gone.
    stopping.wait_for(|stop| *stop).await.ok();
}
