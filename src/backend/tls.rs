//! TLS to servers: whose certificate is believed, what we show of ourselves, and errors that say what to do.

use std::{
    error::Error,
    fmt::{self, Write},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ErrorKind, ServerAddress};

/// What the ALPN of HTTP/2 is (RFC 9113 section 3.1), and of HTTP/1.1 (RFC 7301 section 6).
const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// What webpki calls a server that shows the certificate of an authority as its own.
const AUTHORITY_ITSELF: &str = "CaUsedAsEndEntity";
/// Time between two complaints.
const SILENCE: Duration = Duration::from_secs(30);

/// SHA-256 of a certificate, or of its public key (`SubjectPublicKeyInfo`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Whom we believe and who we are, towards the servers of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// The authorities that may have signed the servers' certificates, PEM; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Certificates or keys one of which a server must have. Without `ca_file` that is all that is asked of it.
    pub pins: Vec<Fingerprint>,
    /// The name that their certificates are for, in place of the one in the address.
    pub server_name: Option<String>,
    /// Our own certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why TLS to servers cannot be set up. The text of each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or holds nothing of what it should.
    #[error("{}: {why}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no authorities to trust.
    #[error("this system has no certificates of authorities (on Debian, install `ca-certificates`): {0}")]
    NoRoots(String),
    /// It is no name.
    #[error("`{0}` is neither a host name nor an IP address")]
    Name(String),
    /// TLS itself refuses.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

/// TLS towards the servers of one backend.
#[derive(Clone)]
pub struct Tls {
    settings: TlsSettings,
    /// What all of its files held, so that a reload notices other contents.
    seen: Vec<Fingerprint>,
    server_name: Option<ServerName<'static>>,
    /// Offers HTTP/2 and HTTP/1.1, only HTTP/2, only HTTP/1.1.
    any: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// What is offered to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Any,
    H2,
    Http1,
}

impl Tls {
    /// Reads the files.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let mut seen = Vec::new();
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let chain = chain(&settings, &provider, &mut seen)?;
        let judge = Judge { chain, known: seen.clone(), pins: settings.pins.clone(), provider };
        // "Dangerous" is what may be done with it: this one asks for at least a pin or a chain to a trusted authority.
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(judge));
        let config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificates = certificates(certificate, &mut seen)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, format!("no private key is in it: {error}")))?;
                builder.with_client_auth_cert(certificates, key)?
            }
        };
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        let server_name = settings.server_name.clone().map(|name| ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name)));
        Ok(Self {
            server_name: server_name.transpose()?,
            any: offering(&[H2, HTTP_1_1]),
            h2: offering(&[H2]),
            http1: offering(&[HTTP_1_1]),
            seen,
            settings,
        })
    }

    /// Speaks TLS on a connection to `address`; true when HTTP/2 was agreed on.
    pub(super) async fn connect(
        &self,
        address: &ServerAddress,
        offer: Offer,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, bool), (ErrorKind, String)> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(address.name()).map_err(|_| (ErrorKind::Tls, TlsError::Name(address.name()).to_string()))?,
        };
        let config = match offer {
            Offer::Any => &self.any,
            Offer::H2 => &self.h2,
            Offer::Http1 => &self.http1,
        };
        let stream = TlsConnector::from(config.clone()).connect(name.clone(), stream).await.map_err(|error| explained(&error, &name))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        if offer == Offer::H2 && !h2 {
            let why = "it does not offer HTTP/2 (ALPN `h2`): write `protocol = \"auto\"` or \"http/1.1\"";
            return Err((ErrorKind::Tls, why.into()));
        }
        Ok((stream, h2))
    }
}

/// What is wrong with TLS to a backend's servers, told to whoever runs it, and not for every request.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Option<Instant>>);

impl Complaints {
    pub(super) fn tell(&self, kind: ErrorKind, backend: &str, detail: &str) {
        if !matches!(kind, ErrorKind::Tls | ErrorKind::Certificate) {
            return;
        }
        let mut last = self.0.lock();
        if last.is_none_or(|last| last.elapsed() >= SILENCE) {
            *last = Some(Instant::now());
            tracing::warn!(backend, "there is no TLS with a server: {detail}");
        }
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.seen) == (&other.settings, &other.seen)
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// What certificates have to lead to; none where a pin is enough.
fn chain(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    seen: &mut Vec<Fingerprint>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(file) => {
            for certificate in certificates(file, seen)? {
                roots.add(certificate).map_err(|error| wrong(file, format!("a certificate in it cannot be used: {error}")))?;
            }
        }
        None if !settings.pins.is_empty() => return Ok(None),
        None => {
            let found = rustls_native_certs::load_native_certs();
            // One that cannot be used is no reason to do without the others.
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(TlsError::NoRoots(found.errors.first().map_or_else(String::new, ToString::to_string)));
            }
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    verifier.map(Some).map_err(|error| TlsError::NoRoots(error.to_string()))
}

fn certificates(file: &Path, seen: &mut Vec<Fingerprint>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| wrong(file, format!("it cannot be read as PEM: {error}")))?;
    if all.is_empty() {
        return Err(wrong(file, "no certificate is in it (`-----BEGIN CERTIFICATE-----`)".into()));
    }
    seen.extend(all.iter().map(|certificate| Fingerprint::of(certificate)));
    Ok(all)
}

fn wrong(file: &Path, why: String) -> TlsError {
    TlsError::File { file: file.to_owned(), why }
}

/// What failed, and what to do about it.
fn explained(error: &io::Error, name: &ServerName<'_>) -> (ErrorKind, String) {
    let name = name.to_str();
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        let hint = if error.kind() == io::ErrorKind::UnexpectedEof {
            " (does it speak TLS at all? Then write `https://`, else `http://`)"
        } else {
            ""
        };
        return (ErrorKind::Tls, format!("the TLS handshake broke off: {error}{hint}"));
    };
    let text = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "no authority that is trusted here has signed its certificate: name its authority's in `tls.ca_file`, or pin this one with `tls.pin`".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            format!("its certificate is not for `{name}`: say in `tls.server_name` for which name it is")
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => "its certificate has expired".into(),
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ours))) => ours.to_string(),
        rustls::Error::InvalidMessage(_) => format!("it does not speak TLS ({error}): write `http://`, if that is right"),
        rustls::Error::AlertReceived(alert) => format!("it refused our handshake ({alert:?}): does it want a certificate (`tls.cert_file`), or older TLS than 1.2?"),
        other => other.to_string(),
    };
    let kind = if matches!(error, rustls::Error::InvalidCertificate(_)) { ErrorKind::Certificate } else { ErrorKind::Tls };
    (kind, text)
}

/// Decides whether a server is believed.
#[derive(Debug)]
struct Judge {
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates to which it has to lead, where they come from a file.
    known: Vec<Fingerprint>,
    pins: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let found = [Fingerprint::of(certificate), Fingerprint::of(&key)];
        Ok(self.pins.iter().any(|pin| found.contains(pin)))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.pins.is_empty() && !self.is_pinned(end_entity)? {
            let error = NotPinned(Fingerprint::of(end_entity));
            return Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))));
        }
        match &self.chain {
            Some(chain) => match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                // A server that shows the very certificate that is trusted, as OpenSSL's `req -x509` makes it: one that may sign others, which a server's own
                // need not. Its time has been looked at by then, its name has not.
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                    if other.to_string() == AUTHORITY_ITSELF && self.known.contains(&Fingerprint::of(end_entity)) =>
                {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                    Ok(ServerCertVerified::assertion())
                }
                verdict => verdict,
            },
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// A server with another certificate than those that are pinned.
#[derive(Debug)]
struct NotPinned(Fingerprint);

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "neither its certificate nor its key is pinned; if you trust it, add the certificate's SHA-256 to `tls.pin`: \"{}\"",
            self.0
        )
    }
}

impl Error for NotPinned {}

impl Fingerprint {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(fingerprint)
    }

    /// From 64 hexadecimal digits, with or without colons between pairs, as `openssl x509 -noout -fingerprint -sha256` prints them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut fingerprint = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(fingerprint))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"').and_then(|()| fmt::Display::fmt(self, f)).and_then(|()| f.write_char('"'))
    }
}
