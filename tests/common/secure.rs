//! TLS as a client sees it: certificates for tests, and connections that trust them.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::within;

/// A certificate that signs itself, and its key, both PEM.
pub struct Certificate {
    pub pem: String,
    pub key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// A new one for these names.
    pub fn of(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Self { pem: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
    }

    /// Puts it into `STEM.crt` and `STEM.key`.
    pub fn write(&self, folder: &Path, stem: &str) {
        fs::write(folder.join(format!("{stem}.crt")), &self.pem).unwrap();
        fs::write(folder.join(format!("{stem}.key")), &self.key).unwrap();
    }

    /// Shakes hands over a connection to the server `name`, which must show exactly this certificate, over one of these protocols.
    pub async fn over(&self, stream: TcpStream, name: &'static str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        within("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream)).await
    }

    /// The same over a connection of its own.
    pub async fn connect(&self, address: SocketAddr, name: &'static str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?, name, protocols).await
    }
}
