//! Bodies on their way in and out of the store.
//!
//! A body that is to be queued, or that must be whole before it is sent, is collected by a [`Spool`]: in memory up to a threshold, then in
//! an unlinked file of the payload folder (nothing to sweep after a crash), so that memory stays flat at any size. What comes out is a
//! [`Payload`], which can be read any number of times, sent live, and given to [`Store::append`](super::Store::append) without being copied.
//!
//! Where stored bytes lie on disk, and how they come back as a payload, is the engine's business.

mod body;
mod file;
mod porters;
mod spool;
#[cfg(test)]
mod tests;

use std::{io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;

use super::StoreError;
use crate::envelope::RequestId;

pub use body::PayloadBody;
pub use file::BodyFile;
pub(super) use file::TEMPORARY_PREFIX;
pub use spool::{Spool, Spooler};

/// Most bytes that one piece of a body in a file has: large enough that a thread hop per piece costs little, small enough to hold many, since a body on its way has one or two of them in memory.
const PIECE: usize = 64 * 1024;

/// A whole body. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Payload(Source);

#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    File(Arc<FileBody>),
}

/// A body that lies in a file of its own.
#[derive(Debug)]
pub(super) struct FileBody {
    pub(super) file: BodyFile,
    pub(super) len: u64,
    /// CRC-32 (IEEE) of the bytes as they came.
    pub(super) crc: u32,
    /// Whose body it is, once it is stored.
    pub(super) owner: Option<RequestId>,
}

impl Payload {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(body) => body.len,
        }
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
        PayloadReader { source: self.0.clone(), offset: 0, crc: 0, ended: self.is_empty() }
    }

    /// Hands over every byte, piece by piece, on a thread that may wait for the disk. [`io::ErrorKind::InvalidData`] where they do not match their checksum.
    pub(super) fn each(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let body = match &self.0 {
            Source::Memory(bytes) => return take(bytes),
            Source::File(body) => body,
        };
        if body.file.metadata()?.len() != body.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut offset, mut crc) = (0, 0);
        let mut piece = vec![0; PIECE];
        while offset < body.len {
            let len = usize::try_from(body.len - offset).unwrap_or(usize::MAX).min(PIECE);
            body.file.read_exact_at(&mut piece[..len], offset)?;
            crc = extend_crc(crc, &piece[..len]);
            take(&piece[..len])?;
            offset += len as u64;
        }
        if crc == body.crc { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Reads all of it, to see whether it is as it came.
    pub(super) fn check(&self) -> io::Result<()> {
        self.each(|_| Ok(()))
    }

    pub(super) fn from_file(body: FileBody) -> Self {
        Self(Source::File(Arc::new(body)))
    }

    pub(super) fn as_file(&self) -> Option<&Arc<FileBody>> {
        match &self.0 {
            Source::Memory(_) => None,
            Source::File(body) => Some(body),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Source::Memory(bytes))
    }
}

/// Reads a payload: one in memory as one piece, one in a file in pieces of up to 64 KiB, off the calling thread.
#[derive(Debug)]
pub struct PayloadReader {
    source: Source,
    offset: u64,
    crc: u32,
    ended: bool,
}

impl PayloadReader {
    /// The next piece; none at the end. [`StoreError::Damaged`] when the whole does not match its checksum, in place of the last
    /// piece at the latest: who stops at an error has never taken damaged bytes for whole ones. Nothing follows an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        if self.ended {
            return None;
        }
        // Should this future be dropped while it waits, the reader has ended rather than skipped a piece.
        self.ended = true;
        let body = match &self.source {
            Source::Memory(bytes) => return Some(Ok(bytes.clone())),
            Source::File(body) => Arc::clone(body),
        };
        let (offset, crc) = (self.offset, self.crc);
        // Made here, where it will be let go: an allocator that keeps memory for each thread would otherwise keep some for each thread that reads.
        let piece = vec![0; usize::try_from(body.len - offset).unwrap_or(usize::MAX).min(PIECE)];
        let (piece, crc) = match porters::carry(move || read_piece(&body, offset, crc, piece)).await {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        self.offset += piece.len() as u64;
        self.crc = crc;
        self.ended = self.offset == self.len();
        Some(Ok(piece))
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        if self.ended { 0 } else { self.len() - self.offset }
    }

    fn len(&self) -> u64 {
        match &self.source {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(body) => body.len,
        }
    }
}

fn read_piece(body: &FileBody, offset: u64, crc: u32, mut piece: Vec<u8>) -> Result<(Bytes, u32), StoreError> {
    let left = body.len - offset;
    let damaged = || match body.owner {
        Some(id) => StoreError::Damaged(id),
        None => StoreError::failed("a spooled body changed on the disk"),
    };
    if let Err(error) = body.file.read_exact_at(&mut piece, offset) {
        // A file that is shorter than it was is damage; anything else may pass.
        return Err(if error.kind() == std::io::ErrorKind::UnexpectedEof { damaged() } else { StoreError::failed(error) });
    }
    let crc = extend_crc(crc, &piece);
    if piece.len() as u64 == left && crc != body.crc {
        return Err(damaged());
    }
    Ok((piece.into(), crc))
}

/// CRC-32 of what `crc` covers and then `bytes`; that of nothing is 0.
pub(super) fn extend_crc(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

/// Does what may wait for the disk on a thread that may.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::failed(error)))
}
