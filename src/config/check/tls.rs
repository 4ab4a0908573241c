//! TLS to servers, and what is spoken with them.

use crate::{
    backend::{Protocol, ServerAddress, Tls, TlsError, TlsSettings},
    config::{fault::Faults, file, read::At},
    envelope::Name,
};

/// TLS for those of a backend's servers that speak it; none when none does, or a fault was noted.
pub(super) fn settings(
    name: &Name,
    servers: &At<Vec<At<ServerAddress>>>,
    protocol: &At<Protocol>,
    tls: Option<At<file::Tls>>,
    faults: &mut Faults,
) -> Option<Tls> {
    fits(name, servers, protocol, faults);
    let secure = servers.value.iter().any(|server| server.value.tls);
    let span = tls.as_ref().map_or_else(|| servers.span.clone(), |tls| tls.span.clone());
    if let Some(tls) = tls.as_ref().filter(|_| !secure && !servers.value.is_empty()) {
        let title = format!("`backends.{name}.tls` is for `https://` servers, and there is none");
        faults.add(tls.span.clone(), title, "nothing would use it").help("write `https://` in `servers`, or remove the table");
    }
    let settings = tls.map_or_else(|| Some(TlsSettings::default()), |tls| said(name, tls.value, faults))?;
    if !secure {
        return None;
    }
    let failed = |error: TlsError| {
        let title = format!("TLS to the servers of `backends.{name}` cannot be set up");
        let fault = faults.add(span, title, error.to_string());
        if matches!(error, TlsError::NoRoots(_)) {
            fault.help("or name the authority that signed the servers' certificates in `tls.ca_file`, or pin them with `tls.pin`");
        }
    };
    Tls::new(settings).map_err(failed).ok()
}

/// Whether the servers can speak what is asked for.
fn fits(name: &Name, servers: &At<Vec<At<ServerAddress>>>, protocol: &At<Protocol>, faults: &mut Faults) {
    let (tls, help) = match protocol.value {
        Protocol::H2 => (false, "without TLS write `protocol = \"h2c\"`"),
        Protocol::H2c => (true, "with TLS write `protocol = \"h2\"`"),
        Protocol::Auto | Protocol::Http1 => return,
    };
    if let Some(server) = servers.value.iter().find(|server| server.value.tls == tls) {
        let title = format!("`backends.{name}.protocol` does not fit the server {}", server.value);
        let label = if tls { "h2c is HTTP/2 without TLS" } else { "h2 is agreed on within TLS" };
        faults.add(protocol.span.clone(), title, label).also(server.span.clone(), "this server").help(help);
    }
}

fn said(name: &Name, tls: file::Tls, faults: &mut Faults) -> Option<TlsSettings> {
    let file::Tls { ca_file, pin, server_name, cert_file, key_file } = tls;
    let identity = match (cert_file, key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
        (one, other) => {
            let (missing, span) = if one.is_some() { ("key_file", one) } else { ("cert_file", other) };
            let title = format!("`backends.{name}.tls` has no `{missing}`");
            faults.add(span.and_then(|at| at.span), title, "a certificate and its key go together");
            return None;
        }
    };
    Some(TlsSettings {
        ca_file: ca_file.map(|at| at.value),
        pins: pin.map_or_else(Vec::new, |pins| pins.value.into_iter().map(|at| at.value).collect()),
        server_name: server_name.map(|at| at.value),
        identity,
    })
}
