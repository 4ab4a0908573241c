//! A store that nobody runs, looked at without changing it.
//!
//! What an opening would change (a repair after a kill, what the journal has, the rows of an older format) is changed in memory alone, over the file as it is, so that also a store that a
//! kill left behind, or one on a disk that cannot be written, can be looked at.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::redb::{BackendError, Database, StorageBackend};
use parking_lot::Mutex;

use super::{
    disk::{Disk, LOCK, Segment, payload_folder},
    format,
    journal::Secret,
    open::{guarded, open_database, open_error},
    redo::{Redone, redo},
    segments::Readers,
    shared::Tuning,
};
use crate::{
    envelope::Timestamp,
    store::{BodyFile, OpenError},
};

/// A store on disk that is not run. As long as it is there, nobody can run it.
#[derive(Debug)]
pub struct ClosedStore {
    pub(super) path: PathBuf,
    pub(super) database: Database,
    pub(super) readers: Readers,
    pub(super) disk: Arc<dyn Disk>,
    /// The format that the file has.
    pub(super) format: u32,
    pub(super) secret: Secret,
    /// What only the journal had.
    pub(super) redone: Redone,
    /// What keeps others from running it; none where nobody ever has.
    _lock: Option<File>,
}

impl ClosedStore {
    /// Looks at the store at `path`. [`OpenError::InUse`] while a forebay runs it.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, OpenError> {
        let folder = payload_folder(path);
        for needed in [path, &folder] {
            if !needed.exists() {
                return Err(OpenError::Missing(needed.to_owned()));
            }
        }
        let lock = lock(path, &folder)?;
        let disk: Arc<dyn Disk> = Arc::new(ReadDisk { path: path.to_owned(), folder });
        let (database, format, secret, redone) = guarded(path, || {
            let (database, _) = open_database(&*disk, &Tuning::default(), path, false)?;
            let unreadable = |error| open_error(path, error);
            let none = || OpenError::Unreadable { path: path.to_owned(), why: "it has no format".to_owned() };
            let found = format::found(&database).map_err(unreadable)?.ok_or_else(none)?;
            format::prepare(&database, path, now)?;
            let secret = format::secret(&database).map_err(unreadable)?;
            let redone = redo(&database, &*disk, secret, u64::MAX).map_err(unreadable)?;
            Ok((database, found, secret, redone))
        })?;
        let readers = Readers::new(Arc::clone(&disk));
        Ok(Self { path: path.to_owned(), database, readers, disk, format, secret, redone, _lock: lock })
    }
}

fn lock(path: &Path, folder: &Path) -> Result<Option<File>, OpenError> {
    let place = folder.join(LOCK);
    let lock = match File::open(&place) {
        Ok(lock) => lock,
        // Who runs it has made it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path: place, source }),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: place, source }),
    }
}

/// The files of a store, for reading.
#[derive(Debug)]
struct ReadDisk {
    path: PathBuf,
    folder: PathBuf,
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the store is only looked at"))
}

impl Disk for ReadDisk {
    fn database(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Overlay::new(File::open(&self.path)?)?))
    }

    fn new_database(&self) -> io::Result<Box<dyn StorageBackend>> {
        refused()
    }

    fn replace_database(&self) -> io::Result<Option<String>> {
        refused()
    }

    fn database_len(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    fn create_segment(&self, _: &str, _: u64) -> io::Result<Arc<dyn Segment>> {
        refused()
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(ReadSegment(File::open(self.folder.join(name))?)))
    }

    fn keep_body(&self, _: &BodyFile, _: &str) -> io::Result<()> {
        refused()
    }

    fn open_body(&self, name: &str) -> io::Result<BodyFile> {
        BodyFile::open(&self.folder.join(name))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.retain(|name| name != LOCK);
        names.sort();
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        refused()
    }

    fn free(&self) -> io::Result<u64> {
        Ok(0)
    }
}

#[derive(Debug)]
struct ReadSegment(File);

impl Segment for ReadSegment {
    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }
}

/// Bytes of a page of an overlay.
const PAGE: u64 = 4096;

/// A file, and over it what was written since, in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// Up to here the file says what is under the pages; from here on there are zeros.
    under: u64,
    pages: HashMap<u64, Box<[u8; PAGE as usize]>, ahash::RandomState>,
}

impl Overlay {
    fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, over: Mutex::new(Over { len, under: len, pages: HashMap::default() }) })
    }

    /// What the file has at `offset`, up to where it counts.
    fn read_under(&self, under: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(under.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        self.file.read_exact_at(there, offset)
    }
}

/// The pages that some bytes lie in: number of the page, place in it, place among the bytes, and how many.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let place = (at % PAGE) as usize;
        let part = (PAGE as usize - place).min(len - done);
        let item = (at / PAGE, place, done, part);
        done += part;
        (part > 0).then_some(item)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock();
        if offset + out.len() as u64 > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_under(over.under, offset, out)?;
        for (page, place, from, len) in parts(offset, out.len()) {
            if let Some(page) = over.pages.get(&page) {
                out[from..from + len].copy_from_slice(&page[place..place + len]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over.lock();
        over.under = over.under.min(len);
        over.len = len;
        let last = len / PAGE;
        over.pages.retain(|page, _| *page <= last);
        if let Some(page) = over.pages.get_mut(&last) {
            page[(len % PAGE) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock();
        over.len = over.len.max(offset + data.len() as u64);
        for (number, place, from, len) in parts(offset, data.len()) {
            if !over.pages.contains_key(&number) {
                let mut page = Box::new([0; PAGE as usize]);
                self.read_under(over.under, number * PAGE, &mut *page)?;
                over.pages.insert(number, page);
            }
            if let Some(page) = over.pages.get_mut(&number) {
                page[place..place + len].copy_from_slice(&data[from..from + len]);
            }
        }
        Ok(())
    }

    // The lock of the folder has been taken already.

    fn try_lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_a_file_is_read_back_and_the_file_stays_as_it_was() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let overlay = Overlay::new(file.try_clone().unwrap()).unwrap();
        let mut expected = bytes.clone();
        let read = |overlay: &Overlay, len: usize| {
            let mut all = vec![9; len];
            overlay.read(0, &mut all).unwrap();
            all
        };
        for (offset, len) in [(4_090, 20), (0, 1), (9_990, 5_000)] {
            overlay.write(offset, &vec![0xee; len]).unwrap();
            let end = offset as usize + len;
            expected.resize(expected.len().max(end), 0);
            expected[offset as usize..end].fill(0xee);
            assert_eq!(read(&overlay, expected.len()), expected);
        }
        overlay.set_len(5_000).unwrap();
        overlay.set_len(12_000).unwrap();
        expected.truncate(5_000);
        expected.resize(12_000, 0);
        assert_eq!(read(&overlay, 12_000), expected);
        assert!(overlay.read(11_999, &mut [0; 2]).is_err());
        let mut now = vec![0; 10_000];
        file.read_exact_at(&mut now, 0).unwrap();
        assert_eq!(now, bytes);
    }
}
