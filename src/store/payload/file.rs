//! One file that holds one body: without a name while the body arrives, so that a crash leaves nothing behind, and with one once it is stored.

use std::{
    fs::{File, OpenOptions},
    io,
    num::NonZeroU64,
    ops::Deref,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Advice, AtFlags, CWD, Mode, OFlags, fadvise, linkat},
    io::Errno,
};

/// Names of files that hold a body under way where the file system has no files without names. None outlives the process that made it.
pub(crate) const TEMPORARY_PREFIX: &str = "spool-";

/// An open body file.
#[derive(Debug)]
pub struct BodyFile {
    file: File,
    /// The name that goes away with this value, where one was needed.
    temporary: Option<PathBuf>,
}

impl BodyFile {
    /// A new, empty file in `folder`, readable and writable.
    pub fn create(folder: &Path) -> io::Result<Self> {
        match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
            Ok(descriptor) => Ok(Self { file: descriptor.into(), temporary: None }),
            // What kernels and file systems without O_TMPFILE answer, see open(2).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::create_named(folder),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn create_named(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::now_v7().simple()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { file, temporary: Some(path) })
    }

    /// A stored body.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, temporary: None })
    }

    /// Has the system begin to write these bytes to the disk, and does not wait for that. It is a hint, and lost where the system does not take it.
    pub(super) fn begin_writing(&self, offset: u64, len: u64) {
        // On Linux that is how `DONTNEED` begins; what it would drop from memory are pages that need no writing any more, and those are none of them.
        let _hint = fadvise(&self.file, offset, NonZeroU64::new(len), Advice::DontNeed);
    }

    /// Makes the bytes durable and gives the file the name `path`, without copying where the system can. The folder is the caller's to sync.
    pub fn persist(&self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let linked = match &self.temporary {
            Some(temporary) => std::fs::hard_link(temporary, path),
            None => self.link(path),
        };
        match linked {
            // No /proc, or a body that was stored before and let go: a file cannot get a name a second time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.copy(path),
            result => result,
        }
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        let magic = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, magic, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    }

    fn copy(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let target = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut piece = vec![0; super::PIECE];
        let mut offset = 0;
        loop {
            match self.file.read_at(&mut piece, offset) {
                Ok(0) => return target.sync_all(),
                Ok(read) => {
                    target.write_all_at(&piece[..read], offset)?;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Deref for BodyFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            // Where it fails, the sweep at the next start removes it.
            let _ = std::fs::remove_file(path);
        }
    }
}
