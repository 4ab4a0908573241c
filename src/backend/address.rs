//! Where a server is.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// Address of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// Where.
    pub place: Place,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// What is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A fixed TCP address.
    Tcp(SocketAddr),
    /// A host name and port.
    Name(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl ServerAddress {
    /// A server that speaks plain HTTP.
    pub const fn plain(place: Place) -> Self {
        Self { place, tls: false }
    }

    /// A server that speaks HTTP over TLS.
    pub const fn secure(place: Place) -> Self {
        Self { place, tls: true }
    }

    /// What stands in `Host` where a request brings none.
    pub fn host(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            Place::Name(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The name or address that its certificate has to be for.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.ip().to_string(),
            Place::Name(host, _) => host.trim_end_matches('.').to_owned(),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.place {
            Place::Tcp(address) => write!(f, "{scheme}://{address}"),
            Place::Name(host, port) => write!(f, "{scheme}://{host}:{port}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
