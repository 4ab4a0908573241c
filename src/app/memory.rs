//! What was learned of the backends' loads, and what an operator said of them, kept over a restart: a restart during an outage must not begin with a guess,
//! and one during a repair must not begin to replay.
//!
//! One small JSON file beside the store, `<store.path>.limits`, replaced as a whole by a rename. It is written by a blocking thread every now and then,
//! before an operator is answered, and at the end, never on the way of a request. A file that is damaged, or missing, costs nothing but the learning.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{health::Memory, store::sync_parent};

/// Time between two looks at whether anything has changed.
pub(super) const INTERVAL: Duration = Duration::from_secs(15);

/// What the file holds: of every backend, by name.
pub(super) type Memories = BTreeMap<String, Known>;

/// What is kept of one backend.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(flatten)]
    pub(super) memory: Memory,
    /// Whether an operator has stopped its replay.
    #[serde(default)]
    pub(super) paused: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    backends: Memories,
}

const VERSION: u32 = 1;

/// The file, and what was last written to it.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    written: Memories,
}

impl Keeper {
    /// The file beside this store, and what an earlier run left in it.
    pub(super) fn open(store: &Path) -> (Self, Memories) {
        let mut path = store.as_os_str().to_owned();
        path.push(".limits");
        let path = PathBuf::from(path);
        let known = read(&path);
        (Self { path, written: known.clone() }, known)
    }

    /// Writes what differs from what was written last; blocks no thread of the runtime. False after an error, which is logged: it is tried again the next time.
    pub(super) async fn keep(&mut self, memories: Memories) -> bool {
        if memories == self.written {
            return true;
        }
        let (path, file) = (self.path.clone(), File { version: VERSION, backends: memories });
        let written = tokio::task::spawn_blocking(move || write(&path, &file).map(|()| file.backends)).await;
        match written {
            Ok(Ok(memories)) => {
                tracing::debug!("what was said and learned of the backends is kept");
                self.written = memories;
                return true;
            }
            Ok(Err(error)) => tracing::warn!(file = %self.path.display(), %error, "the limits of the backends could not be kept"),
            Err(error) => tracing::error!(%error, "the thread that keeps the limits of the backends had panicked"),
        }
        false
    }
}

fn read(path: &Path) -> Memories {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Memories::new(),
        Err(error) => return ignored(path, &error.to_string()),
    };
    match serde_json::from_slice::<File>(&text) {
        Ok(File { version: VERSION, backends }) => backends,
        Ok(File { version, .. }) => ignored(path, &format!("version {version} is not known")),
        Err(error) => ignored(path, &error.to_string()),
    }
}

fn ignored(path: &Path, why: &str) -> Memories {
    tracing::warn!(file = %path.display(), why, "what was learned of the backends' limits cannot be read; learning anew");
    Memories::new()
}

/// Synced before it is renamed, so that a power cut leaves the old one or the new one; and its name is, so that what an operator was told has been kept is.
fn write(path: &Path, file: &File) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut new = fs::File::create(&beside)?;
    new.write_all(&serde_json::to_vec(file)?)?;
    new.sync_data()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Mode, Remembered};

    fn memories() -> Memories {
        let bases = vec![Remembered { route: "marks".into(), safe: false, seconds: 0.08 }];
        BTreeMap::from([("app".to_owned(), Known { memory: Memory { limit: Some(32.0), bases, mode: Mode::Spill }, paused: true })])
    }

    #[tokio::test]
    async fn what_was_kept_is_known_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("forebay.redb");
        let (mut keeper, known) = Keeper::open(&store);
        assert_eq!(known, Memories::new());
        keeper.keep(memories()).await;
        assert_eq!(Keeper::open(&store).1, memories());
    }

    #[tokio::test]
    async fn a_damaged_file_is_ignored_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("forebay.redb");
        let file = folder.path().join("forebay.redb.limits");
        for damage in ["", "{\"version\":1,\"back", "\u{0}\u{0}\u{0}", "{\"version\":2,\"backends\":{}}", "[]"] {
            fs::write(&file, damage).unwrap();
            let (mut keeper, known) = Keeper::open(&store);
            assert_eq!(known, Memories::new(), "{damage:?}");
            keeper.keep(memories()).await;
            assert_eq!(Keeper::open(&store).1, memories(), "{damage:?}");
        }
    }
}
