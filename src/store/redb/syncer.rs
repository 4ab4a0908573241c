//! A thread that waits for the disk, so that the writer need not: it changes the rows while the payloads they refer to are being synced.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use super::disk::Segment;

type Reply = mpsc::SyncSender<io::Result<()>>;

/// The thread, begun with the first sync; it ends with this handle.
#[derive(Debug, Default)]
pub(super) struct Syncer(Option<mpsc::SyncSender<(Arc<dyn Segment>, Reply)>>);

impl Syncer {
    /// Begins to sync a segment. What comes out is whether it succeeded.
    pub(super) fn begin(&mut self, segment: &Arc<dyn Segment>) -> mpsc::Receiver<io::Result<()>> {
        let (reply, result) = mpsc::sync_channel(1);
        if self.0.is_none() {
            self.0 = start();
        }
        let asked = self.0.as_ref().is_some_and(|asks| asks.send((Arc::clone(segment), reply.clone())).is_ok());
        if !asked {
            // No thread to be had: the caller waits here.
            self.0 = None;
            let _ = reply.send(segment.sync());
        }
        result
    }
}

fn start() -> Option<mpsc::SyncSender<(Arc<dyn Segment>, Reply)>> {
    let (asks, asked) = mpsc::sync_channel::<(Arc<dyn Segment>, Reply)>(1);
    let work = move || {
        while let Ok((segment, reply)) = asked.recv() {
            // Who has gone away need not know.
            let _ = reply.send(segment.sync());
        }
    };
    thread::Builder::new().name("store-sync".to_owned()).spawn(work).ok().map(|_| asks)
}
