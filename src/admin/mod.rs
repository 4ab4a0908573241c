//! The operator's door: health, metrics, status and dead letters, on a listener of its own.

use std::net::SocketAddr;

/// Where the admin listener is and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its address.
    pub address: SocketAddr,
    /// The bearer token, read from `token_file`; without one every peer is let in, which only a loopback address may do.
    pub token: Option<String>,
}
