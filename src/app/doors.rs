//! The listeners: what each begins its connections with, and the certificates that have to be looked after.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    envelope::{Clock, Timestamp},
    proxy::{CertificateFiles, Door, ListenAddress, ListenerSettings, Refreshed, Shape, Sockets},
    telemetry::{CertificateGauges, Metrics},
};

use super::{StartError, inherited::Inherited, workers::Workers};

/// How often the files of certificates are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long the sockets of a listener that has gone may still be there.
const GONE: Duration = Duration::from_secs(2);
/// A certificate that ends sooner is worth a warning.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// All listeners.
pub(super) struct Doors {
    doors: Vec<Entry>,
    /// What was passed for some of them.
    inherited: Inherited,
    /// Ports of those that have gone, and when: their sockets are there for a moment longer.
    gone: Vec<(u16, Instant)>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// One listener.
struct Entry {
    /// Where it is by the configuration.
    address: ListenAddress,
    door: Arc<Door>,
    /// Its sockets, until it listens.
    sockets: Option<Sockets>,
    /// Where they are bound to a port.
    port: Option<u16>,
    /// They are not ours alone.
    is_passed: bool,
    stop: watch::Sender<bool>,
}

impl Entry {
    /// `ours`: ports on which we are listening already.
    fn open(listener: &ListenerSettings, inherited: &Inherited, workers: usize, ours: &[u16]) -> Result<Self, StartError> {
        let door = Arc::new(Door::open(listener)?);
        let shared = port(&listener.address).is_some_and(|port| ours.contains(&port));
        let passed = inherited.of(&listener.address).map_err(StartError::NoListener)?;
        let is_passed = passed.is_some();
        let sockets = Sockets::open(&listener.address, passed, workers, shared)?;
        let port = port(&sockets.address);
        Ok(Self { address: listener.address.clone(), door, sockets: Some(sockets), port, is_passed, stop: watch::channel(false).0 })
    }

    /// Takes no more connections, and has those that it has taken end after what they are doing.
    fn close(&self) {
        self.stop.send_replace(true);
        self.door.drain();
    }
}

fn port(address: &ListenAddress) -> Option<u16> {
    match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) => None,
    }
}

/// Other listeners, with everything done that could fail.
pub(super) struct Change(Vec<Changed>);

enum Changed {
    /// One that there is already, by its place, and what its connections will begin with, where that is something else.
    Kept(usize, Option<Shape>),
    New(Entry),
}

impl Doors {
    /// Reads the certificates of all listeners and binds their sockets, but for those that were `inherited`.
    pub(super) fn open(
        listeners: &[ListenerSettings],
        inherited: Inherited,
        workers: usize,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let open = |listener: &ListenerSettings| Entry::open(listener, &inherited, workers, &[]);
        let doors = listeners.iter().map(open).collect::<Result<_, _>>()?;
        let doors = Self { doors, inherited, gone: Vec::new(), metrics, clock };
        doors.look_at_ends();
        Ok(doors)
    }

    /// Where those listen that do not take connections yet, with the ports that the system chose.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.doors.iter().filter_map(|entry| Some(&entry.sockets.as_ref()?.address))
    }

    /// Lets those take connections that do not yet.
    pub(super) async fn listen(&mut self, workers: &Workers) {
        for entry in &mut self.doors {
            if let Some(sockets) = entry.sockets.take() {
                tracing::info!(address = %sockets.address, role = "proxy", "listening");
                workers.listen(&entry.door, sockets, &entry.stop).await;
            }
        }
    }

    /// Takes no more connections anywhere, and has all end after what they are doing.
    pub(super) fn close(&self) {
        self.doors.iter().for_each(Entry::close);
    }

    /// Gets ready for other listeners: those at an address that there is already stay, others are bound.
    pub(super) fn prepare(&self, listeners: &[ListenerSettings], workers: usize) -> Result<Change, StartError> {
        let gone = self.gone.iter().filter(|(_, at)| at.elapsed() < GONE).map(|(port, _)| *port);
        let ours: Vec<u16> = self.doors.iter().filter_map(|entry| entry.port).chain(gone).collect();
        let mut left: Vec<_> = self.doors.iter().enumerate().collect();
        let changed = listeners.iter().map(|listener| {
            let there = left.iter().position(|(_, entry)| entry.address == listener.address);
            Ok(match there.map(|place| left.remove(place)) {
                Some((place, entry)) => Changed::Kept(place, entry.door.prepare(listener)?),
                None => Changed::New(Entry::open(listener, &self.inherited, workers, &ours)?),
            })
        });
        changed.collect::<Result<_, StartError>>().map(Change)
    }

    /// Takes them over. Those that are gone take no more connections, and what they have taken ends in peace.
    pub(super) async fn replace(&mut self, Change(changed): Change, workers: &Workers) {
        let mut old: Vec<_> = std::mem::take(&mut self.doors).into_iter().map(Some).collect();
        for changed in changed {
            match changed {
                Changed::New(entry) => self.doors.push(entry),
                Changed::Kept(place, shape) => {
                    let Some(entry) = old.get_mut(place).and_then(Option::take) else { continue };
                    if let Some(shape) = shape {
                        entry.door.change(shape);
                    }
                    self.doors.push(entry);
                }
            }
        }
        // First, for between the two nobody would listen where they overlap.
        self.listen(workers).await;
        self.gone.retain(|(_, at)| at.elapsed() < GONE);
        for entry in old.into_iter().flatten() {
            entry.close();
            self.gone.extend(entry.port.map(|port| (port, Instant::now())));
            tracing::info!(address = %entry.address, "no longer listening: the configuration has dropped the listener");
            if let ListenAddress::Unix(path) = &entry.address
                && !entry.is_passed
            {
                // Nobody answers there any more.
                let _removed = std::fs::remove_file(path);
            }
        }
        self.look_at_ends();
    }

    /// Warns of certificates that end soon, and counts all.
    fn look_at_ends(&self) {
        for state in self.doors.iter().flat_map(|entry| entry.door.certificates()) {
            self.warn_of_end(&state.files, state.expires_at);
        }
        self.count();
    }

    /// Looks at the files of the certificates; with `now`, also at those that were in vain before.
    pub(super) async fn refresh(&self, now: bool) {
        let doors: Vec<_> = self.doors.iter().map(|entry| entry.door.clone()).collect();
        if doors.iter().all(|door| door.certificates().is_empty()) {
            return;
        }
        let looked = tokio::task::spawn_blocking(move || doors.iter().flat_map(|door| door.refresh(now)).collect::<Vec<_>>());
        let Ok(refreshed) = looked.await else { return };
        if refreshed.is_empty() {
            return;
        }
        for refreshed in refreshed {
            match refreshed {
                Refreshed::Renewed(files, expires_at) => {
                    tracing::info!(certificate = %files.cert_file.display(), expires_at, "a new certificate is in force");
                    self.warn_of_end(&files, expires_at);
                }
                Refreshed::Kept(files, error) => {
                    tracing::error!(certificate = %files.cert_file.display(), "the new certificate cannot be used, the old one stays in force: {error}");
                }
            }
        }
        self.count();
    }

    fn count(&self) {
        let gauges = self.doors.iter().flat_map(|entry| entry.door.certificates()).map(|state| CertificateGauges {
            file: state.files.cert_file.to_string_lossy().as_ref().into(),
            expires_at: state.expires_at,
            current: state.current,
        });
        self.metrics.certificates(gauges.collect());
    }

    fn warn_of_end(&self, files: &CertificateFiles, expires_at: Option<u64>) {
        let Some(expires_at) = expires_at else { return };
        let left = Timestamp::from_millis(expires_at.saturating_mul(1000)).since(self.clock.now());
        if left < SOON {
            tracing::warn!(certificate = %files.cert_file.display(), hours_left = left.as_secs() / 3600, "a certificate ends soon");
        }
    }
}
