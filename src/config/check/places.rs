//! Addresses that are in each other's way.

use std::net::SocketAddr;

use crate::{
    backend::{Place, ServerAddress},
    config::{fault::Faults, file::Backend, read::At},
    envelope::Name,
    proxy::ListenAddress,
};

/// Two listeners at one address.
pub(super) fn listeners(listeners: &[At<ListenAddress>], faults: &mut Faults) {
    for (index, later) in listeners.iter().enumerate() {
        if let Some(earlier) = listeners[..index].iter().find(|earlier| collide(&earlier.value, &later.value)) {
            let title = format!("two listeners take the address {}", later.value);
            faults.add(later.span.clone(), title, "taken already").also(earlier.span.clone(), format!("by {}", earlier.value));
        }
    }
}

/// The admin listener at the address of another.
pub(super) fn admin(admin: &At<SocketAddr>, listeners: &[At<ListenAddress>], faults: &mut Faults) {
    let address = ListenAddress::Tcp(admin.value);
    if let Some(listener) = listeners.iter().find(|listener| collide(&listener.value, &address)) {
        let title = format!("`admin.address` {} is the address of a listener too", admin.value);
        // The one that was written is underlined when the other is a default.
        let (span, also) = if admin.span.is_some() { (&admin.span, &listener.span) } else { (&listener.span, &admin.span) };
        let fault = faults.add(span.clone(), title, "admin and clients need an address each");
        fault.also(also.clone(), "the other one").help("give one of them another port");
    }
}

/// Servers that are ourselves: a request would go round until it times out.
pub(super) fn loops(backends: &[(At<Name>, Backend)], listeners: &[At<ListenAddress>], admin: SocketAddr, faults: &mut Faults) {
    for server in backends.iter().filter_map(|(_, backend)| backend.servers.as_ref()).flat_map(|servers| &servers.value) {
        let listener = listeners.iter().find(|listener| leads_to(&server.value, &listener.value));
        if let Some(listener) = listener {
            let title = format!("the server {} is forebay itself", server.value);
            faults.add(server.span.clone(), title, "requests would go round and round").also(listener.span.clone(), "it listens here");
        } else if leads_to(&server.value, &ListenAddress::Tcp(admin)) {
            let title = format!("the server {} is forebay's own admin listener", server.value);
            faults.add(server.span.clone(), title, "`admin.address` is here");
        }
    }
}

/// Whether both cannot be listened on. Port 0 is another port each time.
fn collide(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            let any = |one: &SocketAddr, other: &SocketAddr| one.ip().is_unspecified() && one.is_ipv4() == other.is_ipv4();
            a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || any(a, b) || any(b, a))
        }
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
        _ => false,
    }
}

/// Whether a connection to `server` certainly comes to `listener`. Another machine's port at an unspecified listener's number is not ours.
fn leads_to(server: &ServerAddress, listener: &ListenAddress) -> bool {
    match (&server.place, listener) {
        (Place::Tcp(server), ListenAddress::Tcp(listener)) => {
            let here = server.ip() == listener.ip() || (listener.ip().is_unspecified() && server.ip().is_loopback());
            server.port() == listener.port() && (here || server.ip().is_unspecified())
        }
        (Place::Name(name, port), ListenAddress::Tcp(listener)) => {
            name == "localhost" && *port == listener.port() && (listener.ip().is_loopback() || listener.ip().is_unspecified())
        }
        (Place::Unix(server), ListenAddress::Unix(listener)) => server == listener,
        _ => false,
    }
}
