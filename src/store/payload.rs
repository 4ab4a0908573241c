//! Bodies on their way in and out of the store.
//!
//! A body that is to be queued, or that must be whole before it is sent, is collected by a [`Spool`]: in memory up to a threshold, then in
//! an unlinked file of the payload folder (nothing to sweep after a crash), so that memory stays flat at any size. What comes out is a
//! [`Payload`], which can be read any number of times, sent live, and given to [`Store::append`](super::Store::append) without being copied.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::StoreError;

/// A whole body.
#[derive(Debug, Clone)]
pub struct Payload(Source);

#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    /// A spooled file, or a range of a stored one.
    File(Arc<std::fs::File>),
}

impl Payload {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, where they are in memory.
    pub fn as_memory(&self) -> Option<&Bytes> {
        match &self.0 {
            Source::Memory(bytes) => Some(bytes),
            Source::File(_) => None,
        }
    }

    /// A reader from the beginning. Readers are independent of one another.
    pub fn reader(&self) -> PayloadReader {
        todo!()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Source::Memory(bytes))
    }
}

/// Reads a payload in pieces of up to 256 KiB, off the calling thread where the disk may be slow.
#[derive(Debug)]
pub struct PayloadReader;

impl PayloadReader {
    /// The next piece; none at the end. [`StoreError::Damaged`] when the whole does not match its checksum, at the latest in place of the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        todo!()
    }
}

/// Makes spools.
#[derive(Debug, Clone)]
pub struct Spooler {
    /// The folder of spool files.
    pub folder: PathBuf,
    /// Bytes of one body that are kept in memory before it moves to a file.
    pub threshold: usize,
}

impl Spooler {
    /// Begins a body.
    pub fn begin(&self) -> Spool {
        todo!()
    }
}

/// A body as it arrives.
#[derive(Debug)]
pub struct Spool;

impl Spool {
    /// Adds bytes. Does not touch the disk before the threshold is passed; past it, writes happen off the calling thread.
    pub async fn push(&mut self, _bytes: Bytes) -> Result<(), StoreError> {
        todo!()
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// The body is whole.
    pub async fn finish(self) -> Result<Payload, StoreError> {
        todo!()
    }
}
