//! Collects a body as it arrives.

use std::{
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};

use super::{BodyFile, FileBody, PIECE, Payload, extend_crc, porters};
use crate::store::StoreError;

/// Bytes of a body with which the disk begins at a time: 8 MiB.
const BATCH: u64 = 8 * 1024 * 1024;

/// Makes spools.
#[derive(Debug, Clone)]
pub struct Spooler {
    /// The folder of spool files.
    folder: Arc<Path>,
    /// Bytes of one body that are kept in memory in any case before it moves to a file.
    threshold: usize,
    /// Bytes that bodies past the threshold may still take, all together.
    budget: Arc<AtomicUsize>,
}

impl Spooler {
    /// The threshold of the real engine: 64 KiB.
    pub const THRESHOLD: usize = 64 * 1024;

    /// The memory that the real engine gives to bodies past the threshold, all together: 64 MiB. A file costs a body of 1 MiB about as much CPU time as all
    /// the rest of its way through a proxy.
    pub const BUDGET: usize = 64 * 1024 * 1024;

    /// The largest body that the budget is spent on: 1 MiB. A larger one would take it from many.
    pub const LARGEST_IN_MEMORY: usize = 1024 * 1024;

    /// Spools that keep up to `threshold` bytes each in memory, and more of small ones while `budget` bytes last; the rest goes into files in `folder`.
    pub fn new(folder: impl AsRef<Path>, threshold: usize, budget: usize) -> Self {
        Self { folder: folder.as_ref().into(), threshold, budget: Arc::new(AtomicUsize::new(budget)) }
    }

    /// Begins a body, of `length` bytes where that is known.
    pub fn begin(&self, length: Option<u64>) -> Spool {
        Spool {
            spooler: self.clone(),
            length,
            len: 0,
            first: Bytes::new(),
            joined: BytesMut::new(),
            share: Share { budget: Arc::clone(&self.budget), bytes: 0 },
            file: None,
        }
    }
}

/// A body as it arrives. After an error, or when a `push` was dropped before it was done, there is nothing to do with it but drop it.
#[derive(Debug)]
pub struct Spool {
    spooler: Spooler,
    length: Option<u64>,
    len: u64,
    /// The only piece so far: most small bodies come as one, and are then never copied.
    first: Bytes,
    /// What has not been written to the file; all there is, while there is none.
    joined: BytesMut,
    /// What this body has taken of the budget.
    share: Share,
    pub(super) file: Option<Writing>,
}

/// A part of the budget. Dropping it gives it back.
#[derive(Debug)]
struct Share {
    budget: Arc<AtomicUsize>,
    bytes: usize,
}

/// A body in memory that is paid for out of the budget, to its last clone.
struct Paid {
    bytes: Bytes,
    _share: Share,
}

impl Share {
    /// Takes what is missing to `bytes`; false, and nothing taken, when there is not so much left.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.bytes);
        let taken = missing == 0 || self.budget.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(missing)).is_ok();
        if taken {
            self.bytes += missing;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.fetch_add(self.bytes, Relaxed);
    }
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Debug)]
pub(super) struct Writing {
    file: BodyFile,
    written: u64,
    /// Those of them that the disk has been told to begin with.
    begun: u64,
    crc: u32,
}

impl Writing {
    /// Has the disk begin with what has come: a sync at the end of a large body would find all of it still to be done, and its client would wait for that.
    fn keep_writing(&mut self) {
        if self.written - self.begun >= BATCH {
            self.file.begin_writing(self.begun, self.written - self.begun);
            self.begun = self.written;
        }
    }
}

impl Spool {
    /// Adds bytes. Does not touch the disk while the body may stay in memory; past that, writes happen off the calling thread.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let was_empty = self.len == 0;
        self.len += bytes.len() as u64;
        if self.file.is_none() && self.may_stay_in_memory() {
            if was_empty {
                self.first = bytes;
            } else {
                self.join_first();
                self.joined.extend_from_slice(&bytes);
            }
            return Ok(());
        }
        self.join_first();
        // One piece stays in memory, and never grows beyond its size.
        if self.file.is_none() || (!self.joined.is_empty() && self.joined.len() + bytes.len() > PIECE) {
            self.write_joined().await?;
        }
        if bytes.len() > PIECE {
            return self.write(bytes).await.map(drop);
        }
        self.joined.reserve(PIECE.saturating_sub(self.joined.len()));
        self.joined.extend_from_slice(&bytes);
        Ok(())
    }

    /// Where what is still to come of the body may be put, at the end, by whoever has it; none where it has to be [pushed](Self::push). It has room for all of a
    /// body whose length was known: to say [that something was put there](Self::placed) costs no copy, as a push does.
    pub fn place(&mut self) -> Option<&mut BytesMut> {
        let has_room = self.file.is_none() && self.share.bytes > 0 && self.length.is_some_and(|length| self.share.bytes as u64 >= length);
        if !has_room {
            return None;
        }
        self.join_first();
        Some(&mut self.joined)
    }

    /// Counts what was put into the [place](Self::place) of the body.
    pub fn placed(&mut self) {
        self.len = self.joined.len() as u64;
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Those of them that are on the disk.
    pub fn written(&self) -> u64 {
        self.file.as_ref().map_or(0, |writing| writing.written)
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The body is whole.
    pub async fn finish(mut self) -> Result<Payload, StoreError> {
        if self.file.is_none() {
            let bytes = if self.joined.is_empty() { self.first } else { self.joined.freeze() };
            let paid = self.share.bytes > 0;
            return Ok(Payload::from(if paid { Bytes::from_owner(Paid { bytes, _share: self.share }) } else { bytes }));
        }
        self.write_joined().await?;
        match self.file {
            Some(Writing { file, written, crc, .. }) => Ok(Payload::from_file(FileBody { file, len: written, crc, owner: None })),
            None => Err(StoreError::failed("an earlier write of this body failed")),
        }
    }

    /// Whether the body, as far as it has come, has a place in memory; takes it.
    fn may_stay_in_memory(&mut self) -> bool {
        if self.len <= self.spooler.threshold as u64 {
            return true;
        }
        // The whole of a body of known length at once, so that it is neither moved to a file later nor copied as it grows.
        let wanted = self.length.unwrap_or(self.len).max(self.len);
        let Some(wanted) = usize::try_from(wanted).ok().filter(|&wanted| wanted <= Spooler::LARGEST_IN_MEMORY) else { return false };
        let wanted = if self.length.is_some() { wanted } else { wanted.next_multiple_of(Spooler::THRESHOLD) };
        let grown = self.share.grow_to(wanted);
        if grown && self.length.is_some() {
            self.joined.reserve(wanted.saturating_sub(self.joined.len()));
        }
        grown
    }

    fn join_first(&mut self) {
        let first = std::mem::take(&mut self.first);
        self.joined.extend_from_slice(&first);
    }

    async fn write_joined(&mut self) -> Result<(), StoreError> {
        let joined = std::mem::take(&mut self.joined);
        let mut written = self.write(joined).await?;
        written.clear();
        if written.capacity() <= PIECE {
            self.joined = written;
        }
        Ok(())
    }

    /// Writes bytes behind those in the file, and gives them back: their memory serves for the next.
    async fn write<B: AsRef<[u8]> + Send + 'static>(&mut self, bytes: B) -> Result<B, StoreError> {
        let (file, folder) = (self.file.take(), self.spooler.folder.clone());
        // What is in the file takes no memory.
        self.share = Share { budget: Arc::clone(&self.spooler.budget), bytes: 0 };
        let writing = porters::carry(move || {
            let mut writing = match file {
                Some(writing) => writing,
                None => Writing { file: BodyFile::create(&folder).map_err(StoreError::failed)?, written: 0, begun: 0, crc: 0 },
            };
            let piece = bytes.as_ref();
            writing.file.write_all_at(piece, writing.written).map_err(StoreError::failed)?;
            writing.written += piece.len() as u64;
            writing.crc = extend_crc(writing.crc, piece);
            writing.keep_writing();
            Ok((writing, bytes))
        });
        let (writing, bytes) = writing.await?;
        self.file = Some(writing);
        Ok(bytes)
    }
}
