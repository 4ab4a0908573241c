//! TLS before a backend of tests: certificates made on the spot, and a door that takes TLS off and carries what is within to a plain server.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub struct Identity {
    /// As it stands in a file.
    pub certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// One that nobody trusts yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for these names.
    pub fn sign(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names).signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }

    /// Writes its certificate to a file.
    pub fn write(&self, file: &Path) {
        std::fs::write(file, self.certificate.pem()).unwrap();
    }
}

impl Identity {
    /// A certificate that nobody but itself has signed.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: params(names).self_signed(&key).unwrap(), key }
    }

    /// The same as `openssl req -x509` makes it: it could sign others, too.
    pub fn self_signed_by_openssl(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// Writes certificate and key to two files.
    pub fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, self.certificate.pem()).unwrap();
        std::fs::write(key, self.key.serialize_pem()).unwrap();
    }
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
}

/// A door that speaks TLS. It closes when it is dropped.
pub struct Door {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Door {
    /// Shows `identity` and carries what comes to one of `servers`, by the protocol that was agreed on (ALPN); the first where none was.
    pub async fn open(identity: &Identity, servers: &[(&str, SocketAddr)]) -> Self {
        Self::asking(identity, servers, None).await
    }

    /// The same for clients that show a certificate of that authority.
    pub async fn asking(identity: &Identity, servers: &[(&str, SocketAddr)], of: Option<&Authority>) -> Self {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match of {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
            }
        };
        let chain: Vec<CertificateDer<'static>> = vec![identity.certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap()).unwrap();
        config.alpn_protocols = servers.iter().map(|(protocol, _)| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let servers: Vec<_> = servers.iter().map(|&(protocol, address)| (protocol.as_bytes().to_vec(), address)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, servers) = (acceptor.clone(), servers.clone());
                tokio::spawn(async move {
                    // A handshake that fails is what some tests are about.
                    let Ok(mut outer) = acceptor.accept(stream).await else { return };
                    let agreed = outer.get_ref().1.alpn_protocol().unwrap_or_default();
                    let server = servers.iter().find(|(protocol, _)| protocol == agreed).unwrap_or(&servers[0]).1;
                    let mut inner = TcpStream::connect(server).await.unwrap();
                    let _ = copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        Self { address, task }
    }

    /// Its URL, with a host name.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}
