//! Listeners, and whether their certificates could be used.

use crate::{
    config::{
        fault::Faults,
        file::{Certificate, Listener},
        read::At,
    },
    proxy::{self, CertificateFiles, ListenAddress, ListenerSettings},
};

/// The listeners that have an address, each with the place where it stands.
pub(super) fn settings(listeners: Vec<At<Listener>>, faults: &mut Faults) -> Vec<(At<ListenAddress>, ListenerSettings)> {
    let one = |listener: At<Listener>| {
        let Listener { address, tls } = listener.value;
        let certificates = tls.into_iter().flat_map(|tls| tls.value.0).filter_map(|at| certificate(at.value, faults)).collect();
        let address = address?;
        Some((address.clone(), ListenerSettings { address: address.value, tls: certificates }))
    };
    listeners.into_iter().filter_map(one).collect()
}

fn certificate(certificate: Certificate, faults: &mut Faults) -> Option<CertificateFiles> {
    let (cert, key) = certificate.cert_file.zip(certificate.key_file)?;
    let files = CertificateFiles { cert_file: cert.value, key_file: key.value };
    if let Err(error) = proxy::check_certificate(&files) {
        let of_key = error.is_of_key(&files);
        let (span, what) = if of_key { (key.span, "key_file") } else { (cert.span, "cert_file") };
        let fault = faults.add(span, format!("`tls.{what}` cannot be used"), error.to_string());
        fault.help("a relative path starts at the working directory; the file must be readable by the user that runs forebay");
    }
    Some(files)
}
