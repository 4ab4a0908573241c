//! A disk that fails at the nth operation, and that loses what was not synced when its power goes.
//!
//! Database and segments live in memory; spooled bodies are real files, since that is how they arrive.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use forebay::store::{
    BodyFile,
    redb::{Disk, Segment},
};
use redb::StorageBackend;

#[derive(Debug, Clone)]
pub(crate) struct FakeDisk {
    state: Arc<Mutex<State>>,
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) files: HashMap<String, Image>,
    /// Operations that changed or synced something.
    operations: u64,
    fail: Fail,
    pub(crate) free: u64,
    /// Bytes that all files together may have.
    pub(crate) capacity: Option<usize>,
    /// No name can be made or removed; what is open can be written.
    pub(crate) read_only: bool,
}

impl State {
    fn check_capacity(&self) -> io::Result<()> {
        let used = self.files.values().map(|image| image.now.len()).sum::<usize>();
        if self.capacity.is_some_and(|capacity| used > capacity) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn check_names(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fail {
    #[default]
    Never,
    /// At this operation alone.
    Once(u64),
    /// From this operation on.
    From(u64),
    /// At this operation alone, and not with an error but with a panic of whoever asked.
    Panic(u64),
    /// Everything: there is no disk any more.
    Gone,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Image {
    /// As it is read.
    pub(crate) now: Vec<u8>,
    /// As it would be after a loss of power, apart from `unsynced`.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Whether the name itself would survive.
    named: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl Change {
    /// As much of it as came to the disk before the power went, sector by sector.
    fn torn(&self, random: u64) -> Self {
        match self {
            Self::Write(offset, data) => {
                let sectors = data.len() / SECTOR;
                Self::Write(*offset, data[..random as usize % (sectors + 1) * SECTOR].to_vec())
            }
            other => other.clone(),
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len as usize, 0),
            Self::Write(offset, data) => {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
        }
    }
}

impl Image {
    /// Bytes that have long been there.
    pub(crate) fn durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, unsynced: Vec::new(), named: true }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

pub(crate) const DATABASE: &str = "database";

const NEW_DATABASE: &str = "database.new";
pub(crate) const DAMAGED_DATABASE: &str = "database.damaged";

impl FakeDisk {
    pub(crate) fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        Self { state: Arc::new(Mutex::new(State { free: u64::MAX, ..State::default() })), folder }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn fail(&self, fail: Fail) {
        self.state().fail = fail;
    }

    /// The process is killed: what it wrote is there, synced or not. Nothing more comes from it.
    pub(crate) fn kill(&self) -> Self {
        self.after(|image, _| Some(Image { durable: image.durable.clone(), unsynced: image.unsynced.clone(), ..image.clone() }))
    }

    /// The power goes: of what was not synced, some is there, some in part, and some is not, as `seed` has it.
    pub(crate) fn lose_power(&self, seed: u64) -> Self {
        self.after(|image, name| {
            if !image.named && name != DATABASE {
                return None;
            }
            let mut random = seed ^ name.len() as u64;
            let mut bytes = image.durable.clone();
            for change in &image.unsynced {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match random >> 62 {
                    0 => change.apply(&mut bytes),
                    1 => change.torn(random >> 32).apply(&mut bytes),
                    _ => {}
                }
            }
            Some(Image { now: bytes.clone(), durable: bytes, unsynced: Vec::new(), named: true })
        })
    }

    fn after(&self, survive: impl Fn(&Image, &str) -> Option<Image>) -> Self {
        let mut state = self.state();
        state.fail = Fail::Gone;
        let files = state.files.iter().filter_map(|(name, image)| Some((name.clone(), survive(image, name)?))).collect();
        let state = State { files, free: state.free, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), folder: self.folder.clone() }
    }

    pub(crate) fn segments(&self) -> Vec<String> {
        let mut names: Vec<_> = self.state().files.keys().filter(|name| *name != DATABASE).cloned().collect();
        names.sort();
        names
    }

    fn act<T>(&self, name: &str, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.operations += 1;
        let fails = match state.fail {
            Fail::Never => false,
            Fail::Panic(at) if state.operations == at => {
                drop(state);
                panic!("a panic that is part of the test");
            }
            Fail::Panic(_) => false,
            Fail::Once(at) => state.operations == at,
            Fail::From(at) => state.operations >= at,
            Fail::Gone => true,
        };
        if fails {
            return Err(io::Error::other(format!("the disk failed at operation {} on {name}", state.operations)));
        }
        act(&mut state)
    }

    fn look<T>(&self, name: &str, look: impl FnOnce(&Image) -> io::Result<T>) -> io::Result<T> {
        let state = self.state();
        if state.fail == Fail::Gone {
            return Err(io::Error::other("the disk is gone"));
        }
        look(state.files.get(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?)
    }
}

/// What lies in a new segment.
pub(crate) fn junk(offset: usize) -> u8 {
    (offset * 13) as u8
}

impl Disk for FakeDisk {
    fn database(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.act(DATABASE, |state| state.files.get(DATABASE).map(drop).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))?;
        Ok(Box::new(FakeFile { disk: self.clone(), name: DATABASE.into() }))
    }

    fn new_database(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.act(NEW_DATABASE, |state| {
            state.files.insert(NEW_DATABASE.into(), Image { named: true, ..Image::default() });
            Ok(())
        })?;
        Ok(Box::new(FakeFile { disk: self.clone(), name: NEW_DATABASE.into() }))
    }

    fn replace_database(&self) -> io::Result<Option<String>> {
        self.act(DATABASE, |state| {
            let new = state.files.remove(NEW_DATABASE).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let old = state.files.insert(DATABASE.into(), new);
            Ok(old.map(|old| {
                state.files.insert(DAMAGED_DATABASE.into(), old);
                DAMAGED_DATABASE.into()
            }))
        })
    }

    fn database_len(&self) -> io::Result<u64> {
        self.look(DATABASE, |image| Ok(image.now.len() as u64))
    }

    fn create_segment(&self, name: &str, len: u64) -> io::Result<Arc<dyn Segment>> {
        self.act(name, |state| {
            state.check_names()?;
            // What lies in a new file is not known; a reader must never take it for a record.
            let junk: Vec<u8> = (0..len as usize).map(junk).collect();
            state.files.insert(name.into(), Image { now: junk.clone(), durable: junk, unsynced: Vec::new(), named: false });
            state.check_capacity().inspect_err(|_| drop(state.files.remove(name)))
        })?;
        Ok(Arc::new(FakeFile { disk: self.clone(), name: name.into() }))
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        self.look(name, |_| Ok(()))?;
        Ok(Arc::new(FakeFile { disk: self.clone(), name: name.into() }))
    }

    fn keep_body(&self, file: &BodyFile, name: &str) -> io::Result<()> {
        self.act(name, |state| state.check_names())?;
        file.persist(&self.folder.join(name))
    }

    fn open_body(&self, name: &str) -> io::Result<BodyFile> {
        BodyFile::open(&self.folder.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let folder = self.folder.clone();
        self.act(name, |state| {
            state.check_names()?;
            if state.files.remove(name).is_some() { Ok(()) } else { std::fs::remove_file(folder.join(name)) }
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.segments();
        for entry in std::fs::read_dir(&self.folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.act("folder", |state| {
            state.files.values_mut().for_each(|image| image.named = true);
            Ok(())
        })
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.state().free)
    }
}

#[derive(Debug)]
struct FakeFile {
    disk: FakeDisk,
    name: String,
}

impl FakeFile {
    fn change(&self, change: Change) -> io::Result<()> {
        self.disk.act(&self.name, |state| {
            // A file that was removed while it is open can still be written.
            let before = state.files.get(&self.name).map_or(0, |image| image.now.len());
            if let Some(image) = state.files.get_mut(&self.name) {
                image.change(change);
            }
            let full = state.check_capacity();
            // What found no room is not there; what went into room that was there is.
            if full.is_err()
                && let Some(image) = state.files.get_mut(&self.name)
                && image.now.len() > before
            {
                image.change(Change::Len(before as u64));
                return full;
            }
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.look(&self.name, |image| {
            let start = offset as usize;
            let bytes = image.now.get(start..start + out.len()).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync_now(&self) -> io::Result<()> {
        let result = self.disk.act(&self.name, |state| {
            if let Some(image) = state.files.get_mut(&self.name) {
                image.sync();
            }
            Ok(())
        });
        // As Linux has it: after a failed sync, what was to be synced counts as clean, and a later sync does not bring it to the disk.
        if result.is_err()
            && let Some(image) = self.disk.state().files.get_mut(&self.name)
        {
            image.unsynced.clear();
        }
        result
    }
}

impl Segment for FakeFile {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(&self.name, |image| Ok(image.now.len() as u64))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len))
    }
}

impl StorageBackend for FakeFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.look(&self.name, |image| Ok(image.now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}
