//! TLS towards clients: certificates, which of them a client is shown, and taking over new ones while connections go on.
//!
//! The names that a certificate is for are its own (`subjectAltName`); a client that asks for none of them, or names no host, is shown the first.
//! New files are taken over by a swap of what the resolver shows, so that tickets of resumed sessions stay valid.

mod certificate;

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use certificate::{Certificate, Stamps};

pub use certificate::{CertificateError, CertificateFiles};

/// HTTP/2 first: a client that offers both gets it (RFC 7301 section 3.2).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What one listener needs for TLS.
pub(super) struct Tls {
    /// For every connection.
    pub(super) config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// What is known of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// Where it lies.
    pub files: CertificateFiles,
    /// When the one in force ends, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// Whether what lies there now is in force.
    pub current: bool,
}

/// What a look at the files has brought.
#[derive(Debug)]
pub enum Refreshed {
    /// A new certificate is in force.
    Renewed(CertificateFiles, Option<u64>),
    /// What lies there cannot be used: the old one stays in force.
    Kept(CertificateFiles, CertificateError),
}

impl Tls {
    /// Reads all certificates; at least one.
    pub(super) fn load(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pairs = files.iter().map(|files| Pair::load(files, &provider)).collect::<Result<Vec<_>, _>>()?;
        let shown = ArcSwap::from_pointee(Shown::of(&pairs));
        let certificates = Arc::new(Certificates { shown, pairs: Mutex::new(pairs), provider: provider.clone() });
        // The provider has both versions of TLS that are safe; a list that it did not know would be the only error here.
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(files, &error))?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificates.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Tickets, whose keys all threads share, in place of a cache of sessions behind a lock.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| unusable(files, &error))?;
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// Looks at the files. With `now`, each is read again; else those that have changed, once two looks in a row find them alike: a pair is
    /// written one file after the other. Blocks.
    pub(super) fn refresh(&self, now: bool) -> Vec<Refreshed> {
        self.certificates.refresh(now)
    }

    /// All certificates.
    pub(super) fn states(&self) -> Vec<CertificateState> {
        self.certificates.pairs.lock().iter().map(Pair::state).collect()
    }
}

/// Whether such a pair could be used, without using it: for a configuration that is only checked.
pub fn check(files: &CertificateFiles) -> Result<(), CertificateError> {
    Certificate::load(files, &aws_lc_rs::default_provider()).map(drop)
}

fn unusable(files: &[CertificateFiles], error: &rustls::Error) -> CertificateError {
    let path = files.first().map(|files| files.cert_file.clone()).unwrap_or_default();
    CertificateError::Content { path, what: format!("cannot be used: {error}") }
}

/// A certificate, and its files as they were.
struct Pair {
    files: CertificateFiles,
    certificate: Certificate,
    /// The files that were read last, into `certificate` or in vain.
    read: Stamps,
    /// The files at the last look.
    seen: Stamps,
    /// Whether they were read in vain.
    stale: bool,
}

impl Pair {
    fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        // Before they are read: what changes meanwhile is seen at the next look.
        let stamps = Stamps::of(files);
        let certificate = Certificate::load(files, provider)?;
        Ok(Self { files: files.clone(), certificate, read: stamps, seen: stamps, stale: false })
    }

    fn state(&self) -> CertificateState {
        CertificateState { files: self.files.clone(), expires_at: self.certificate.expires_at, current: !self.stale }
    }

    fn refresh(&mut self, now: bool, provider: &CryptoProvider) -> Option<Refreshed> {
        let stamps = Stamps::of(&self.files);
        let settled = std::mem::replace(&mut self.seen, stamps) == stamps;
        if stamps == self.read && !(now && self.stale) || !(settled || now) {
            return None;
        }
        self.read = stamps;
        match Certificate::load(&self.files, provider) {
            Ok(certificate) => {
                self.stale = false;
                self.certificate = certificate;
                Some(Refreshed::Renewed(self.files.clone(), self.certificate.expires_at))
            }
            Err(error) => {
                self.stale = true;
                Some(Refreshed::Kept(self.files.clone(), error))
            }
        }
    }
}

/// The certificates of one listener.
struct Certificates {
    shown: ArcSwap<Shown>,
    pairs: Mutex<Vec<Pair>>,
    provider: Arc<CryptoProvider>,
}

impl Certificates {
    fn refresh(&self, now: bool) -> Vec<Refreshed> {
        let mut pairs = self.pairs.lock();
        let refreshed: Vec<_> = pairs.iter_mut().filter_map(|pair| pair.refresh(now, &self.provider)).collect();
        if refreshed.iter().any(|refreshed| matches!(refreshed, Refreshed::Renewed(..))) {
            self.shown.store(Arc::new(Shown::of(&pairs)));
        }
        refreshed
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.load().choose(hello.server_name(), |key| key.key.choose_scheme(hello.signature_schemes()).is_some())
    }
}

/// Which certificates there are for a name. Several, where they have keys of several kinds.
struct Shown {
    by_name: AHashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Shown {
    fn of(pairs: &[Pair]) -> Self {
        let mut by_name: AHashMap<String, Vec<Arc<CertifiedKey>>> = AHashMap::new();
        for pair in pairs {
            for name in &pair.certificate.names {
                by_name.entry(name.clone()).or_default().push(pair.certificate.key.clone());
            }
        }
        Self { by_name, all: pairs.iter().map(|pair| pair.certificate.key.clone()).collect() }
    }

    /// The first one for this name that the client can verify; else the first one that it can verify.
    fn choose(&self, name: Option<&str>, suits: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let suiting = |keys: &Vec<Arc<CertifiedKey>>| keys.iter().find(|key| suits(key)).cloned();
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_ref().and_then(|name| self.by_name.get(name)).and_then(suiting);
        // A wildcard stands for exactly one label (RFC 9525 section 6.3).
        let wildcard = || self.by_name.get(&format!("*.{}", name.as_ref()?.split_once('.')?.1)).and_then(suiting);
        exact.or_else(wildcard).or_else(|| suiting(&self.all))
    }
}

#[cfg(test)]
mod tests;
