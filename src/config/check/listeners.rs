//! Listeners, and whether their certificates could be used.

use ipnet::IpNet;

use crate::{
    config::{
        fault::Faults,
        file::{self, Certificate, Listener},
        read::At,
        values::Switch,
    },
    proxy::{self, CertificateFiles, ListenAddress, ListenerSettings, ProxyProtocol},
};

/// The listeners that have an address, each with the place where it stands. `trusted` are those whom all listeners believe.
pub(super) fn settings(
    listeners: Vec<At<Listener>>,
    trusted: &[At<IpNet>],
    faults: &mut Faults,
) -> Vec<(At<ListenAddress>, ListenerSettings)> {
    let one = |listener: At<Listener>| {
        let Listener { address, tls, proxy_protocol } = listener.value;
        let certificates = tls.into_iter().flat_map(|tls| tls.value.0).filter_map(|at| certificate(at.value, faults)).collect();
        let address = address?;
        let proxy_protocol = said_by(proxy_protocol, &address.value, trusted, faults);
        Some((address.clone(), ListenerSettings { address: address.value, tls: certificates, proxy_protocol }))
    };
    listeners.into_iter().filter_map(one).collect()
}

/// Who says on whose behalf a connection comes. Somebody has to be, or nobody would be let in.
fn said_by(
    said: At<Switch<file::ProxyProtocol>>,
    address: &ListenAddress,
    trusted: &[At<IpNet>],
    faults: &mut Faults,
) -> Option<ProxyProtocol> {
    let Switch::On(file::ProxyProtocol { from, others }) = said.value else { return None };
    let from: Vec<_> = from.as_ref().map_or(trusted, |from| &from.value).iter().map(|at| at.value).collect();
    let is_told = faults.list.iter().any(|fault| fault.span.iter().any(|at| said.span.iter().any(|said| said.contains(&at.start))));
    if from.is_empty() && matches!(address, ListenAddress::Tcp(_)) && !is_told {
        let fault = faults.add(said.span, "`proxy_protocol` is on, and nobody may speak it", "whose heads are to be believed?");
        fault.help("name the load balancer in `clients.trusted_proxies`, or write `proxy_protocol = { from = [\"10.0.0.0/8\"] }`");
    }
    Some(ProxyProtocol { from, others: others.value })
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
