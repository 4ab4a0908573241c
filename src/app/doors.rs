//! The listeners: what each begins its connections with, and the certificates that have to be looked after.

use std::{sync::Arc, time::Duration};

use crate::{
    envelope::{Clock, Timestamp},
    proxy::{CertificateFiles, Door, ListenerSettings, Refreshed},
    telemetry::{CertificateGauges, Metrics},
};

use super::StartError;

/// How often the files of certificates are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// A certificate that ends sooner is worth a warning.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// All listeners.
pub(super) struct Doors {
    doors: Vec<Arc<Door>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Doors {
    /// Reads the certificates of all listeners.
    pub(super) fn open(listeners: &[ListenerSettings], metrics: Arc<Metrics>, clock: Clock) -> Result<Self, StartError> {
        let doors = listeners.iter().map(|listener| Ok(Arc::new(Door::open(listener)?))).collect::<Result<_, StartError>>()?;
        let doors = Self { doors, metrics, clock };
        for state in doors.doors.iter().flat_map(|door| door.certificates()) {
            doors.warn_of_end(&state.files, state.expires_at);
        }
        doors.count();
        Ok(doors)
    }

    /// In the order of the configuration.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Door>> {
        self.doors.iter()
    }

    /// Looks at the files of the certificates; with `now`, also at those that were in vain before.
    pub(super) async fn refresh(&self, now: bool) {
        if self.doors.iter().all(|door| door.certificates().is_empty()) {
            return;
        }
        let doors = self.doors.clone();
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
        let gauges = self.doors.iter().flat_map(|door| door.certificates()).map(|state| CertificateGauges {
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
