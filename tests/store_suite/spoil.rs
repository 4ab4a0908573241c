//! What happens to a disk from outside: it fills up, takes no new name, and what lies on it changes or is gone.

use std::path::Path;

use crate::disk::{DATABASE, FakeDisk, Image, junk};

impl FakeDisk {
    /// Takes in the database at `path`, and the segments beside it, which then lie here and no longer there.
    pub(crate) fn take_in(&self, path: &Path) {
        let take = |name: &str, path: &Path| {
            let bytes = std::fs::read(path).unwrap();
            self.state().files.insert(name.to_owned(), Image::durable(bytes));
            std::fs::remove_file(path).unwrap();
        };
        take(DATABASE, path);
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("segment-") {
                take(&name, &entry.path());
            }
        }
    }

    pub(crate) fn set_free(&self, free: u64) {
        self.state().free = free;
    }

    /// Has it hold no more than `bytes` beyond what is there; none for no limit.
    pub(crate) fn set_room(&self, bytes: Option<usize>) {
        let mut state = self.state();
        let used = state.files.values().map(|image| image.now.len()).sum::<usize>();
        state.capacity = bytes.map(|bytes| used + bytes);
    }

    pub(crate) fn len_of_database(&self) -> usize {
        self.state().files.get(DATABASE).map_or(0, |image| image.now.len())
    }

    /// Inverts one bit of every segment byte that `pick` picks, by segment name and offset.
    pub(crate) fn flip(&self, pick: impl Fn(&str, usize) -> bool) -> usize {
        let mut flipped = 0;
        for (name, image) in &mut self.state().files {
            for offset in 0..image.now.len() {
                if name != DATABASE && pick(name, offset) {
                    image.now[offset] ^= 1;
                    flipped += 1;
                }
            }
        }
        flipped
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.state().files[name].now.clone()
    }

    /// Up to where a segment has been written.
    pub(crate) fn written(&self, name: &str) -> usize {
        let bytes = self.bytes(name);
        (0..bytes.len()).rev().find(|&offset| bytes[offset] != junk(offset)).map_or(0, |last| last + 1)
    }

    /// Inverts one bit of the database.
    pub(crate) fn flip_database(&self, offset: usize, bit: u8) {
        self.state().files.get_mut(DATABASE).unwrap().now[offset] ^= 1 << bit;
    }

    /// Inverts all of the database.
    pub(crate) fn ruin_database(&self) {
        self.state().files.get_mut(DATABASE).unwrap().now.iter_mut().for_each(|byte| *byte = !*byte);
    }

    /// Has the folder take no new name and let none go; files that are open can still be written.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// Somebody removes a file.
    pub(crate) fn lose(&self, name: &str) {
        assert!(self.state().files.remove(name).is_some(), "{name} is there");
    }

    /// Somebody makes a file shorter.
    pub(crate) fn cut(&self, name: &str, len: usize) {
        let mut state = self.state();
        let image = state.files.get_mut(name).unwrap();
        assert!(len < image.now.len(), "{name} has {} bytes", image.now.len());
        image.now.truncate(len);
    }
}
