//! One certificate: read from its two files, with the names that it is for and its end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    Error, InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject},
    },
    sign::CertifiedKey,
};
use x509_cert::{
    Certificate as Parsed,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Where a certificate lies. Both files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The certificate, and behind it those that lead to its root.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Why a certificate cannot be used. The text says in which file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} {what}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, beginning with a verb.
        what: String,
    },
    /// Each is well, but not together.
    #[error("{key} is not the key of the certificate in {cert}", key = .0.key_file.display(), cert = .0.cert_file.display())]
    NotAPair(CertificateFiles),
}

impl CertificateError {
    /// Whether it is the key's file that has to be looked at.
    pub fn is_of_key(&self, files: &CertificateFiles) -> bool {
        match self {
            Self::Unreadable { path, .. } | Self::Content { path, .. } => *path == files.key_file,
            Self::NotAPair(_) => true,
        }
    }
}

/// A certificate that can be shown to clients.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The host names that it is for, in lowercase; `*.` before one stands for one more label.
    pub(super) names: Vec<String>,
    /// When it ends, in seconds since 1970; none where it cannot be read.
    pub(super) expires_at: Option<u64>,
}

impl Certificate {
    /// Reads both files.
    pub(super) fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let chain = chain(&files.cert_file)?;
        let key = key(&files.key_file)?;
        let (names, expires_at) = described(&chain[0]);
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::NotAPair(files.clone()),
            Error::InvalidCertificate(error) => content(&files.cert_file, format!("holds a certificate that cannot be used: {error}")),
            error => content(&files.key_file, format!("holds a key that cannot be used: {error}")),
        })?;
        Ok(Self { key: Arc::new(key), names, expires_at })
    }
}

/// A file as it was when it was looked at: it has changed when any of this has. Links are followed, since some secrets are put in place by a new link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

/// Both files as they were. A file that is not there is a state like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamps(Option<Stamp>, Option<Stamp>);

impl Stamps {
    pub(super) fn of(files: &CertificateFiles) -> Self {
        Self(stamp(&files.cert_file), stamp(&files.key_file))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), bytes: metadata.len(), inode: metadata.ino() })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err(content(path, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(content(path, format!("is not PEM: {error}"))),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
        match error {
            PemError::NoItemsFound if encrypted => {
                let shown = path.display();
                content(path, format!("holds an encrypted key: take its passphrase away with: openssl pkey -in {shown} -out {shown}.plain"))
            }
            PemError::NoItemsFound => content(path, "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"),
            error => content(path, format!("is not PEM: {error}")),
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.into(), source })
}

fn content(path: &Path, what: impl Into<String>) -> CertificateError {
    CertificateError::Content { path: path.into(), what: what.into() }
}

/// Names and end. Clients check them and we do not, so that what is strange there is no reason to refuse the certificate.
fn described(leaf: &CertificateDer<'_>) -> (Vec<String>, Option<u64>) {
    let Ok(parsed) = Parsed::from_der(leaf) else { return (Vec::new(), None) };
    let parsed = parsed.tbs_certificate();
    let alternatives = parsed.get_extension::<SubjectAltName>().ok().flatten();
    let names = alternatives.into_iter().flat_map(|(_, names)| names.0).filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    (names.collect(), Some(parsed.validity().not_after.to_unix_duration().as_secs()))
}
