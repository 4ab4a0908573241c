//! Why the store refuses, and why it cannot be opened.

use std::{fmt::Display, path::PathBuf, sync::Arc};

use crate::envelope::{RequestId, State};

/// Which limit refuses a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// `max_requests` is reached.
    #[error("the queue holds {0} requests, as many as `store.max_requests` allows")]
    Requests(u64),
    /// `max_bytes` would be passed.
    #[error("the queue holds as many bytes as `store.max_bytes` allows ({0})")]
    Bytes(u64),
    /// Less than `min_free_disk` is free.
    #[error("less than `store.min_free_disk` ({0} bytes) is free on the disk")]
    FreeDisk(u64),
}

impl Limit {
    /// Its key in the configuration, which is also the word for it in answers, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests(_) => "max_requests",
            Self::Bytes(_) => "max_bytes",
            Self::FreeDisk(_) => "min_free_disk",
        }
    }
}

/// Why the store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A limit of the configuration: nothing new is accepted, nothing old is dropped.
    #[error(transparent)]
    Full(#[from] Limit),
    /// The disk or the database failed; the store retries by itself.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
    /// The stored bytes of a request do not match their checksum.
    #[error("the stored bytes of request {0} are damaged")]
    Damaged(RequestId),
    /// No such request, or it is no longer kept.
    #[error("no such request")]
    NotFound,
    /// It is not in a state in which that can be done.
    #[error("the request is {0}")]
    WrongState(State),
    /// It has yet to read what it holds.
    #[error("the store is still being opened")]
    Opening,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// One word for a program: the limit that refused, or what else it was.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Full(limit) => limit.as_str(),
            Self::Failed(_) => "store_failed",
            Self::Damaged(_) => "damaged",
            Self::NotFound => "not_found",
            Self::WrongState(_) => "wrong_state",
            Self::Opening => "store_opening",
            Self::Closed => "store_closed",
        }
    }

    /// [`StoreError::Failed`] for what `error` says.
    pub(super) fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string().into())
    }
}

/// Why a store could not be opened. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another running forebay; stop it, or give this one its own `store.path`")]
    InUse(PathBuf),
    /// There is none.
    #[error("{0} does not exist: there is no store; `store.path` of the configuration, or --data, says where it is")]
    Missing(PathBuf),
    /// It cannot be made, read or written.
    #[error("{path}: {source}; the folder must exist on a writable disk and belong to the user that runs forebay")]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It was written by a newer program.
    #[error("{path} has format {found}, this forebay knows formats up to {known}; run the newer forebay that wrote it")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// It is not a store, or it is damaged beyond its own repair.
    #[error("{path} cannot be read as a store: {why}; move it away to start with an empty queue, and keep it for repair")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
}
