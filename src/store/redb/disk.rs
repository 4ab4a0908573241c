//! The seam to the disk: all that the engine asks of it, small enough for a test to fail the nth operation or to lose what was not synced.

use std::{
    fmt::Debug,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ::redb::{StorageBackend, backends::FileBackend};
use parking_lot::Mutex;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use crate::store::{BodyFile, OpenError, Settings, TEMPORARY_PREFIX};

/// Where the engine keeps its bytes: one database, and a folder of segments and body files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// The bytes under redb. Called again after an error, once the one before was closed.
    fn database(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// A new, empty database beside that one.
    fn new_database(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Has the new database, which was closed, take the place of the other, at once and for good. Where that one is kept; none where there was none.
    fn replace_database(&self) -> io::Result<Option<String>>;

    /// Bytes of the file under redb; [`NotFound`](io::ErrorKind::NotFound) where there is none.
    fn database_len(&self) -> io::Result<u64>;

    /// A new segment file of `len` bytes, which need not be zero. Its name lasts from the next [`sync_folder`](Self::sync_folder) on.
    fn create_segment(&self, name: &str, len: u64) -> io::Result<Arc<dyn Segment>>;

    /// A segment that is there.
    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn Segment>>;

    /// Makes a spooled body durable and gives it a name, which lasts from the next [`sync_folder`](Self::sync_folder) on.
    fn keep_body(&self, file: &BodyFile, name: &str) -> io::Result<()>;

    /// A body that was kept.
    fn open_body(&self, name: &str) -> io::Result<BodyFile>;

    /// Removes a segment or a body. What is open stays readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Names of everything in the folder.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes the names in the folder durable.
    fn sync_folder(&self) -> io::Result<()>;

    /// Bytes that are free on the file system.
    fn free(&self) -> io::Result<u64>;

    /// Lets another process have it; called last.
    fn release(&self) {}
}

/// A file of records.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a segment is empty")]
pub trait Segment: Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes` from `offset`.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;

    /// Its length in bytes, what is reserved included.
    fn len(&self) -> io::Result<u64>;

    /// Gives back what is reserved past `len`.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// The real thing.
#[derive(Debug)]
pub(super) struct FileDisk {
    path: PathBuf,
    folder: PathBuf,
    /// Held as long as the store is open, across reopens of the database.
    lock: Mutex<Option<File>>,
}

pub(super) const LOCK: &str = "lock";

/// From this length on, giving back the blocks of a file may take long.
const LARGE: u64 = 16 * 1024 * 1024;

fn close_elsewhere(file: File) {
    // Where no thread is to be had, the file is closed here.
    let _ = std::thread::Builder::new().name("store-unlink".to_owned()).spawn(move || drop(file));
}

impl FileDisk {
    /// Makes the folders, takes the lock, and removes what spools of an earlier program left: from now on there are some of ours.
    pub(super) fn open(settings: &Settings) -> Result<Self, OpenError> {
        let folder = payload_folder(&settings.path);
        let lock_path = folder.join(LOCK);
        let lock = make_folders(&folder)
            .and_then(|()| OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path))
            .map_err(|source| OpenError::Io { path: folder.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {
                let disk = Self { path: settings.path.clone(), folder, lock: Mutex::new(Some(lock)) };
                disk.sweep_spools().map_err(|source| OpenError::Io { path: disk.folder.clone(), source })?;
                Ok(disk)
            }
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(settings.path.clone())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path: lock_path, source }),
        }
    }
}

impl FileDisk {
    fn sweep_spools(&self) -> io::Result<()> {
        let spools = self.list()?.into_iter().filter(|name| name.starts_with(TEMPORARY_PREFIX));
        spools.for_each(|name| {
            if let Err(error) = self.remove(&name) {
                tracing::warn!(file = name, %error, "a body that was under way when forebay ended could not be removed");
            }
        });
        Ok(())
    }
}

/// Makes a folder and those above it that are missing, durably.
fn make_folders(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    std::fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// Makes a name in a folder durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// The folder of payloads beside the database at `path`.
pub(in crate::store) fn payload_folder(path: &Path) -> PathBuf {
    beside(path, ".payloads")
}

/// Where a link leads to, whether anything is there or not: what takes a place by its name must not take the link's.
fn real(path: &Path) -> PathBuf {
    let mut real = path.to_owned();
    // As many as the system follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(target) = std::fs::read_link(&real) else { break };
        real = real.parent().unwrap_or(Path::new("")).join(target);
    }
    real
}

/// A path with more behind its name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// What the name of a database ends with that is not whole yet.
const NEW: &str = ".new";

impl Disk for FileDisk {
    fn database(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn new_database(&self) -> io::Result<Box<dyn StorageBackend>> {
        let path = beside(&real(&self.path), NEW);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn replace_database(&self) -> io::Result<Option<String>> {
        let path = real(&self.path);
        let mut names = (1..).map(|number| beside(&path, &format!(".damaged-{number}")));
        let kept = path.exists().then(|| names.find(|path| !path.exists()).unwrap_or_default());
        if let Some(kept) = &kept {
            // By a second name of its own, so that there is no moment without a database.
            std::fs::hard_link(&path, kept).or_else(|_| std::fs::copy(&path, kept).map(drop))?;
        }
        std::fs::rename(beside(&path, NEW), &path)?;
        sync_parent(&path)?;
        Ok(kept.map(|kept| kept.display().to_string()))
    }

    fn database_len(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    fn create_segment(&self, name: &str, len: u64) -> io::Result<Arc<dyn Segment>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.folder.join(name))?;
        match fallocate(&file, FallocateFlags::empty(), 0, len) {
            // File systems that cannot reserve grow the file as it is written.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => {
                let _ = self.remove(name);
                return Err(error.into());
            }
        }
        file.sync_all()?;
        Ok(Arc::new(FileSegment(file)))
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(FileSegment(OpenOptions::new().read(true).write(true).open(self.folder.join(name))?)))
    }

    fn keep_body(&self, file: &BodyFile, name: &str) -> io::Result<()> {
        file.persist(&self.folder.join(name))
    }

    fn open_body(&self, name: &str) -> io::Result<BodyFile> {
        BodyFile::open(&self.folder.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.folder.join(name);
        // While it is open its name goes at once, and its blocks go when it is closed, which nobody here waits for.
        let file = File::open(&path).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() >= LARGE));
        std::fs::remove_file(path)?;
        file.into_iter().for_each(close_elsewhere);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn release(&self) {
        self.lock.lock().take();
    }
}

#[derive(Debug)]
struct FileSegment(File);

impl Segment for FileSegment {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The file under a database, until that is let go.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    file: Box<dyn StorageBackend>,
    is_let_go: AtomicBool,
}

impl DatabaseFile {
    pub(super) fn new(file: Box<dyn StorageBackend>) -> Self {
        Self { file, is_let_go: AtomicBool::new(false) }
    }

    /// Takes nothing more. A database that is dropped brings to the disk what it was told to keep in memory, and after a failure that is not what the journal has.
    pub(super) fn let_go(&self) {
        self.is_let_go.store(true, Relaxed);
    }

    pub(super) fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn to_write(&self) -> io::Result<&dyn StorageBackend> {
        if self.is_let_go.load(Relaxed) { Err(io::Error::other("the database was let go")) } else { Ok(&*self.file) }
    }
}

/// redb takes a backend by its type; ours is chosen at run time.
#[derive(Debug)]
pub(super) struct AnyBackend(pub(super) Arc<DatabaseFile>);

type Bound = std::ops::Bound<u64>;

impl StorageBackend for AnyBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.to_write()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.to_write()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.to_write()?.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound, end: Bound) -> Result<bool, ::redb::BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound, end: Bound) -> Result<(), ::redb::BackendError> {
        self.0.file.unlock_range(start, end)
    }
}
