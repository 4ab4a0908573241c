//! How much is held of what may be held: exact however many come at once, since room is taken before anything is written.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Limit, Settings};

/// Room for queued and delivering requests.
#[derive(Debug)]
pub(super) struct Capacity {
    max_requests: u64,
    max_bytes: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    requests: u64,
    bytes: u64,
}

/// Room that was taken; given back when it is dropped before [`Reserved::keep`].
#[derive(Debug)]
pub(super) struct Reserved {
    capacity: Arc<Capacity>,
    bytes: u64,
    kept: bool,
}

impl Capacity {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self { max_requests: settings.max_requests, max_bytes: settings.max_bytes, used: Mutex::default() })
    }

    /// Whether one request of `bytes` has room now.
    pub(super) fn check(&self, bytes: u64) -> Result<(), Limit> {
        self.would_fit(*self.used.lock(), bytes)
    }

    /// Takes the room of one request of `bytes`.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reserved, Limit> {
        let mut used = self.used.lock();
        self.would_fit(*used, bytes)?;
        used.requests += 1;
        used.bytes += bytes;
        Ok(Reserved { capacity: Arc::clone(self), bytes, kept: false })
    }

    /// Takes room whether there is any or not: for what is on the disk already.
    pub(super) fn take(&self, bytes: u64) {
        let mut used = self.used.lock();
        used.requests += 1;
        used.bytes += bytes;
    }

    /// Gives back the room of one request of `bytes`.
    pub(super) fn release(&self, bytes: u64) {
        let mut used = self.used.lock();
        used.requests = used.requests.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(bytes);
    }

    /// Corrects what is used by the difference between two looks at what is held, as (requests, bytes).
    pub(super) fn correct(&self, was: (u64, u64), is: (u64, u64)) {
        let mut used = self.used.lock();
        used.requests = (used.requests + is.0).saturating_sub(was.0);
        used.bytes = (used.bytes + is.1).saturating_sub(was.1);
    }

    fn would_fit(&self, used: Used, bytes: u64) -> Result<(), Limit> {
        if used.requests >= self.max_requests {
            return Err(Limit::Requests(self.max_requests));
        }
        if used.bytes.saturating_add(bytes) > self.max_bytes {
            return Err(Limit::Bytes(self.max_bytes));
        }
        Ok(())
    }
}

impl Reserved {
    /// The request was stored: its room is given back by [`Capacity::release`].
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            self.capacity.release(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    #[test]
    fn what_was_reserved_and_not_kept_is_given_back() {
        let settings = Settings {
            path: PathBuf::new(),
            max_requests: 2,
            max_bytes: 10,
            min_free_disk: 0,
            keep_delivered: Duration::ZERO,
            keep_dead: Duration::ZERO,
        };
        let capacity = Capacity::new(&settings);
        let first = capacity.reserve(4).unwrap();
        assert_eq!(capacity.check(7), Err(Limit::Bytes(10)));
        let second = capacity.reserve(6).unwrap();
        assert_eq!(capacity.check(0), Err(Limit::Requests(2)));
        drop(first);
        second.keep();
        assert_eq!(capacity.check(4), Ok(()));
        capacity.release(6);
        assert_eq!(capacity.check(10), Ok(()));
    }
}
