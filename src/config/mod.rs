//! What the operator wants: `config.toml`, checked, as the settings of every room.
//!
//! A file goes through three steps, and every step goes on after a fault, so that one run shows them all:
//! [`read`] walks the TOML by the shape that [`mod@file`] declares (types, units, ranges, unknown keys), [`check`] turns the shape into settings and
//! names what cannot be together, [`fault`] shows what was found at its place. The shape is declared once: the [`mod@schema`] is the same walk without a document.
//!
//! Opening listeners, stores and logs is left to the rooms that own them; here only the token file and certificates are read, the latter to be forgotten again.

mod check;
mod fault;
mod file;
#[cfg(test)]
mod fuzz;
mod read;
mod schema;
mod source;
pub mod units;
mod values;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::level_filters::LevelFilter;

use crate::{
    admin, backend,
    envelope::Name,
    health, proxy, replay, store,
    telemetry::{AccessFormat, AccessTarget},
};

pub use fault::Report;
pub use schema::schema;
pub use source::{Flags, Source, SourceError};

/// Everything that forebay is told, checked: what is here can be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Threads that carry traffic; at least 1.
    pub workers: usize,
    /// The proxy's part.
    pub proxy: proxy::Settings,
    /// The admin listener's part.
    pub admin: admin::Settings,
    /// The store's part.
    pub store: store::Settings,
    /// The backends, in the order of the file; at least one. Every route leads to one of them.
    pub backends: Vec<BackendConfig>,
    /// What is logged, and where.
    pub log: LogSettings,
    /// How long requests that are under way may still take after TERM.
    pub drain_timeout: Duration,
}

/// One backend, as the rooms that deal with it see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// Its name, unique.
    pub name: Name,
    /// Where it is.
    pub backend: backend::Settings,
    /// When it may be sent anything.
    pub health: health::Settings,
    /// How its queue is replayed.
    pub replay: replay::Settings,
}

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe event that is logged to stderr.
    pub level: LevelFilter,
    /// Where the access log goes.
    pub access: AccessTarget,
    /// How its lines look.
    pub access_format: AccessFormat,
}

/// Why there is no configuration. The text of each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It was read, and has faults.
    #[error(transparent)]
    Invalid(Box<Report>),
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Source::file(path).load()
    }

    /// Checks a text as if it were the file `origin`.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        check::document(origin, text, |_, _| {})
    }

    /// The configuration without a file: everything goes to `backend` (a URL), writes spill into a store in the folder `data`, and clients are
    /// awaited at `listen`. Else the defaults of the file hold.
    pub fn quick(backend: &str, listen: &str, data: &Path) -> Result<Self, ConfigError> {
        Source::quick(backend, listen, data).load()
    }
}
