//! Collects a body as it arrives.

use std::{os::unix::fs::FileExt, path::PathBuf};

use bytes::{Bytes, BytesMut};

use super::{BodyFile, FileBody, PIECE, Payload, extend_crc, off_thread};
use crate::store::StoreError;

/// Makes spools.
#[derive(Debug, Clone)]
pub struct Spooler {
    /// The folder of spool files.
    pub folder: PathBuf,
    /// Bytes of one body that are kept in memory before it moves to a file.
    pub threshold: usize,
}

impl Spooler {
    /// The threshold of the real engine: 64 KiB.
    pub const THRESHOLD: usize = 64 * 1024;

    /// Begins a body.
    pub fn begin(&self) -> Spool {
        Spool { spooler: self.clone(), len: 0, first: Bytes::new(), joined: BytesMut::new(), file: None }
    }
}

/// A body as it arrives. After an error, or when a `push` was dropped before it was done, there is nothing to do with it but drop it.
#[derive(Debug)]
pub struct Spool {
    spooler: Spooler,
    len: u64,
    /// The only piece so far: most small bodies come as one, and are then never copied.
    first: Bytes,
    /// What has not been written to the file; all there is, while there is none.
    joined: BytesMut,
    file: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    file: BodyFile,
    written: u64,
    crc: u32,
}

impl Spool {
    /// Adds bytes. Does not touch the disk before the threshold is passed; past it, writes happen off the calling thread.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let was_empty = self.len == 0;
        self.len += bytes.len() as u64;
        if self.file.is_none() && self.len <= self.spooler.threshold as u64 {
            if was_empty {
                self.first = bytes;
            } else {
                self.join_first();
                self.joined.extend_from_slice(&bytes);
            }
            return Ok(());
        }
        self.join_first();
        if bytes.len() >= PIECE {
            self.write_joined().await?;
            return self.write(bytes).await;
        }
        self.joined.extend_from_slice(&bytes);
        if self.file.is_none() || self.joined.len() >= PIECE {
            self.write_joined().await?;
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The body is whole.
    pub async fn finish(mut self) -> Result<Payload, StoreError> {
        if self.file.is_none() {
            let bytes = if self.joined.is_empty() { self.first } else { self.joined.freeze() };
            return Ok(Payload::from(bytes));
        }
        self.write_joined().await?;
        match self.file {
            Some(Writing { file, written, crc }) => Ok(Payload::from_file(FileBody { file, len: written, crc, owner: None })),
            None => Err(StoreError::failed("an earlier write of this body failed")),
        }
    }

    fn join_first(&mut self) {
        let first = std::mem::take(&mut self.first);
        self.joined.extend_from_slice(&first);
    }

    async fn write_joined(&mut self) -> Result<(), StoreError> {
        let joined = std::mem::take(&mut self.joined).freeze();
        self.write(joined).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let (file, folder) = (self.file.take(), self.spooler.folder.clone());
        let writing = off_thread(move || {
            let mut writing = match file {
                Some(writing) => writing,
                None => Writing { file: BodyFile::create(&folder).map_err(StoreError::failed)?, written: 0, crc: 0 },
            };
            writing.file.write_all_at(&bytes, writing.written).map_err(StoreError::failed)?;
            writing.written += bytes.len() as u64;
            writing.crc = extend_crc(writing.crc, &bytes);
            Ok(writing)
        });
        self.file = Some(writing.await?);
        Ok(())
    }
}
