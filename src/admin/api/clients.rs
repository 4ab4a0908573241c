//! Clients, as the status shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Clients and what was refused them, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Connections that are open.
    pub connections: u64,
    /// The most that may be.
    pub max_connections: u64,
    /// Connections that were turned away, by why.
    pub refused: BTreeMap<String, u64>,
    /// Requests of who asked too often.
    pub rate_limited: u64,
}
