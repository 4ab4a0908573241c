//! redb's file, whose room is written before it is needed.
//!
//! redb makes its file longer without writing to it, and takes pages from the new room as it needs them. The first write to such a page makes the file system
//! find room for it, which then costs every sync a commit of the journal besides the write. So the first write into a
//! piece of new room fills the piece with zeros, and the syncs after it have nothing to wait for but their own bytes.

use std::{collections::HashSet, fs::File, io, os::unix::fs::FileExt};

use ::redb::{BackendError, StorageBackend, backends::FileBackend};
use parking_lot::Mutex;
use rustix::fs::SeekFrom;

/// Bytes of a piece.
const PIECE: u64 = 1024 * 1024;

static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];

#[derive(Debug)]
pub(super) struct AheadFile {
    inner: FileBackend,
    file: File,
    /// Pieces that were never written to, by number.
    untouched: Mutex<HashSet<u64, ahash::RandomState>>,
}

impl AheadFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let untouched = untouched(&file)?;
        let inner = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
        Ok(Self { inner, file, untouched: Mutex::new(untouched) })
    }

    /// Fills the pieces that bytes from `offset` on are in, where they are new.
    fn fill(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut untouched = self.untouched.lock();
        if untouched.is_empty() {
            return Ok(());
        }
        for piece in offset / PIECE..=(offset + len.max(1) - 1) / PIECE {
            if untouched.contains(&piece) {
                self.file.write_all_at(&ZEROS, piece * PIECE)?;
                untouched.remove(&piece);
            }
        }
        Ok(())
    }
}

/// The whole pieces of a file that lie in holes. On a file system that does not tell, there are none.
fn untouched(file: &File) -> io::Result<HashSet<u64, ahash::RandomState>> {
    let len = file.metadata()?.len();
    let mut pieces = HashSet::default();
    let mut hole = 0;
    loop {
        // No data from here to the end is an error of its own.
        let data = rustix::fs::seek(file, SeekFrom::Data(hole)).unwrap_or(len).min(len);
        pieces.extend(hole.div_ceil(PIECE)..data / PIECE);
        if data == len {
            return Ok(pieces);
        }
        hole = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(len).min(len);
    }
}

type Bound = std::ops::Bound<u64>;

impl StorageBackend for AheadFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let was = self.inner.len()?;
        self.inner.set_len(len)?;
        let mut untouched = self.untouched.lock();
        // A piece that the old end was in has bytes, and one that the new end is in would be made longer.
        untouched.retain(|piece| (piece + 1) * PIECE <= len);
        untouched.extend(was.div_ceil(PIECE)..len / PIECE);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fill(offset, data.len() as u64)?;
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound, end: Bound) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound, end: Bound) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_the_rest_is_zero() {
        let file = tempfile::tempfile().unwrap();
        let ahead = AheadFile::new(file.try_clone().unwrap()).unwrap();
        ahead.set_len(5 * PIECE + 7).unwrap();
        assert_eq!(ahead.untouched.lock().len(), 5);
        ahead.write(3 * PIECE - 2, b"four").unwrap();
        assert_eq!(ahead.untouched.lock().len(), 3);
        ahead.write(3 * PIECE, b"xx").unwrap();
        ahead.write(5 * PIECE + 1, b"end").unwrap();
        let mut read = [1; 6];
        ahead.read(3 * PIECE - 3, &mut read).unwrap();
        assert_eq!(&read, b"\0foxx\0");
        ahead.close().unwrap();
        drop(ahead);
        let ahead = AheadFile::new(file).unwrap();
        ahead.write(0, b"first").unwrap();
        ahead.read(3 * PIECE - 3, &mut read).unwrap();
        assert_eq!(&read, b"\0foxx\0", "nothing that was there is written over after a reopen");
        ahead.set_len(2 * PIECE).unwrap();
        ahead.set_len(4 * PIECE).unwrap();
        ahead.write(3 * PIECE, b"xx").unwrap();
        ahead.read(3 * PIECE - 3, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0xx\0");
    }
}
