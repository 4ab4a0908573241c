//! How many connections each client has.

use std::net::IpAddr;

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;

/// Locks among which clients are spread.
const SHARDS: usize = 16;

/// The open connections of each client that has any.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    hasher: RandomState,
    shards: [Mutex<AHashMap<IpAddr, u32>>; SHARDS],
}

impl Crowd {
    fn shard(&self, client: IpAddr) -> &Mutex<AHashMap<IpAddr, u32>> {
        &self.shards[self.hasher.hash_one(client) as usize % SHARDS]
    }

    /// One more connection of a client; false when it has as many as it may.
    pub(super) fn enter(&self, client: IpAddr, most: u32) -> bool {
        let mut clients = self.shard(client).lock();
        let count = clients.entry(client).or_default();
        let may = *count < most;
        *count += u32::from(may);
        may
    }

    /// One of its connections has ended.
    pub(super) fn leave(&self, client: IpAddr) {
        let mut clients = self.shard(client).lock();
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_as_many_as_it_may_and_is_forgotten_with_its_last() {
        let crowd = Crowd::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert!(crowd.enter(one, 2) && crowd.enter(one, 2));
        assert!(!crowd.enter(one, 2) && crowd.enter(other, 2));
        crowd.leave(one);
        assert!(crowd.enter(one, 2) && !crowd.enter(one, 2));
        for client in [one, one, other] {
            crowd.leave(client);
        }
        assert!(crowd.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
