//! The servers of a backend, each in a slot with a number: what is counted of a server, and its health, goes by that number.
//!
//! A host name can stand for many servers, which come and go: each of its addresses is one. An address keeps its slot for as long as its name leads
//! to it, so that what is known of it stays; a slot whose address has gone may later be another one's. Looking names up is not done here.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::{Place, ServerAddress};

/// Most servers of a backend: a bit of a word stands for each.
pub(super) const MOST: usize = 64;

/// A server: what the configuration calls it, and where it is, if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: ServerAddress,
    /// Its address, where a name stood for it. Before a name was first looked up, it is looked up with each connection.
    pub(super) at: Option<SocketAddr>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            None => self.address.fmt(f),
            Some(at) => write!(f, "{} ({})", self.address, at.ip()),
        }
    }
}

/// A name of the configuration that is to be looked up again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName {
    /// Which of the configured servers it is.
    pub index: usize,
    /// The name.
    pub host: String,
    /// The port of all its servers.
    pub port: u16,
}

/// A server that has come or gone with what its name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// A new one. `first`: it was there when its name was first looked up, so that it may well have been at work for long.
    Appeared {
        /// Its number.
        server: usize,
        /// See above.
        first: bool,
    },
    /// One less.
    Vanished {
        /// Its number, which may become another one's.
        server: usize,
    },
    /// There is no room for this one: 64 is the most.
    NoRoom(SocketAddr),
}

/// All slots of one backend.
#[derive(Debug)]
pub(super) struct Slots {
    configured: Box<[ServerAddress]>,
    list: Box<[Slot]>,
    /// Those that have ever been taken are the first ones.
    used: AtomicUsize,
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Slot {
    server: ArcSwapOption<Server>,
    /// Which of the configured servers it belongs to, and how often it has been taken by another address.
    index: AtomicUsize,
    turns: AtomicUsize,
}

/// How many slots the servers of this configuration need.
pub(super) fn room(servers: &[ServerAddress]) -> usize {
    if servers.iter().any(is_followed) { MOST } else { servers.len() }
}

/// Whether a server's name is looked up again and again. `localhost` never changes, and stands for one server, which listens on one of its addresses.
fn is_followed(server: &ServerAddress) -> bool {
    matches!(&server.place, Place::Name(host, _) if host != "localhost" && !host.ends_with(".localhost"))
}

impl Slots {
    pub(super) fn new(servers: &[ServerAddress]) -> Self {
        let list: Box<[Slot]> = std::iter::repeat_with(Slot::default).take(room(servers)).collect();
        for (index, (slot, address)) in list.iter().zip(servers).enumerate() {
            slot.take(index, Server { address: address.clone(), at: None });
        }
        Self { configured: servers.into(), list, used: AtomicUsize::new(servers.len()), changing: Mutex::default() }
    }

    /// The server in a slot.
    pub(super) fn get(&self, server: usize) -> Option<Arc<Server>> {
        self.list.get(server)?.server.load_full()
    }

    /// What tells its connections from those to an earlier server of the same slot.
    pub(super) fn key(&self, server: usize) -> usize {
        server + MOST * self.list.get(server).map_or(0, |slot| slot.turns.load(Relaxed))
    }

    /// The slots that have ever been taken: those with smaller numbers.
    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The names that are to be looked up.
    pub(super) fn names(servers: &[ServerAddress]) -> Vec<ServerName> {
        let names = servers.iter().enumerate().filter(|(_, server)| is_followed(server));
        names
            .filter_map(|(index, server)| match &server.place {
                Place::Name(host, port) => Some(ServerName { index, host: host.clone(), port: *port }),
                Place::Tcp(_) | Place::Unix(_) => None,
            })
            .collect()
    }

    /// The name of the configured server number `index` stands for these addresses now, at least one.
    pub(super) fn found(&self, index: usize, addresses: &[SocketAddr]) -> Vec<Shift> {
        let _one_at_a_time = self.changing.lock();
        let mine: Vec<(usize, Arc<Server>)> = self.taken().filter(|(slot, _)| self.list[*slot].index.load(Relaxed) == index).collect();
        let Some(address) = self.configured.get(index).cloned() else { return Vec::new() };
        let free: Vec<usize> = (0..self.list.len()).filter(|&slot| self.list[slot].server.load().is_none()).rev().collect();
        let mut freed = Vec::new();
        let first = mine.iter().any(|(_, server)| server.at.is_none());
        let mut missing = addresses.iter().filter(|address| !mine.iter().any(|(_, server)| server.at == Some(**address)));
        let mut shifts = Vec::new();
        for (slot, server) in &mine {
            match server.at {
                Some(at) if addresses.contains(&at) => {}
                // It has been connected to by its name until now.
                None => {
                    self.list[*slot].server.store(missing.next().map(|&at| Arc::new(Server { address: address.clone(), at: Some(at) })))
                }
                Some(_) => {
                    self.list[*slot].server.store(None);
                    freed.push(*slot);
                    shifts.push(Shift::Vanished { server: *slot });
                }
            }
        }
        // Those that have become free just now are the last to be taken: what is under way there is counted for another one then.
        let mut free = [freed, free].concat();
        for &at in missing {
            let Some(slot) = free.pop() else {
                shifts.push(Shift::NoRoom(at));
                continue;
            };
            self.list[slot].take(index, Server { address: address.clone(), at: Some(at) });
            self.used.fetch_max(slot + 1, Relaxed);
            shifts.push(Shift::Appeared { server: slot, first });
        }
        shifts
    }

    /// All servers with their numbers.
    pub(super) fn taken(&self) -> impl Iterator<Item = (usize, Arc<Server>)> {
        self.list.iter().enumerate().filter_map(|(number, slot)| Some((number, slot.server.load_full()?)))
    }
}

impl Slot {
    fn take(&self, index: usize, server: Server) {
        self.index.store(index, Relaxed);
        self.turns.fetch_add(1, Relaxed);
        self.server.store(Some(Arc::new(server)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn addresses(lasts: impl IntoIterator<Item = u8>) -> Vec<SocketAddr> {
        lasts.into_iter().map(at).collect()
    }

    /// A fixed server and a name.
    fn slots() -> Slots {
        Slots::new(&[ServerAddress::plain(Place::Tcp(at(1))), ServerAddress::plain(Place::Name("app.internal".into(), 80))])
    }

    fn now(slots: &Slots) -> Vec<(usize, Option<SocketAddr>)> {
        slots.taken().map(|(slot, server)| (slot, server.at)).collect()
    }

    #[test]
    fn every_address_of_a_name_is_a_server_and_keeps_its_number() {
        let slots = slots();
        assert_eq!(now(&slots), [(0, None), (1, None)], "until it is looked up it is one");
        let shifts = slots.found(1, &addresses([11, 12, 13]));
        assert_eq!(shifts, [2, 3].map(|server| Shift::Appeared { server, first: true }));
        assert_eq!(now(&slots), [(0, None), (1, Some(at(11))), (2, Some(at(12))), (3, Some(at(13)))]);
        let keys = [1, 2, 3].map(|slot| slots.key(slot));
        assert_eq!(slots.found(1, &addresses([13, 12, 11])), [], "order is nothing");
        assert_eq!(slots.found(1, &addresses([11, 13])), [Shift::Vanished { server: 2 }]);
        assert_eq!(slots.found(1, &addresses([11, 13, 14])), [Shift::Appeared { server: 2, first: false }]);
        let keys_now = [1, 2, 3].map(|slot| slots.key(slot));
        assert!(keys_now[1] != keys[1] && keys_now[0] == keys[0] && keys_now[2] == keys[2], "kept connections lead to the old one");
        assert_eq!(slots.used(), 4);
    }

    #[test]
    fn a_number_is_not_given_away_in_the_moment_in_which_it_becomes_free() {
        let slots = slots();
        slots.found(1, &addresses([11]));
        let shifts = slots.found(1, &addresses([12]));
        assert_eq!(shifts, [Shift::Vanished { server: 1 }, Shift::Appeared { server: 2, first: false }]);
    }

    #[test]
    fn sixty_four_is_the_most_and_the_others_are_told() {
        let slots = slots();
        let shifts = slots.found(1, &addresses(10..80));
        assert_eq!(shifts.iter().filter(|shift| matches!(shift, Shift::NoRoom(_))).count(), 70 - 63);
        assert_eq!(slots.taken().count(), MOST);
    }

    #[test]
    fn a_name_is_never_lost_however_many_servers_there_are() {
        let slots = slots();
        slots.found(1, &addresses(10..73));
        let shifts = slots.found(1, &addresses(100..163));
        assert_eq!(shifts.iter().filter(|shift| matches!(shift, Shift::Appeared { .. })).count(), 63, "all are others now");
        let name = |host: &str| ServerAddress::plain(Place::Name(host.into(), 80));
        let two = Slots::new(&[name("big.internal"), name("one.internal")]);
        two.found(0, &addresses(10..80));
        assert_eq!(two.found(1, &addresses([1])), [], "it has had its slot from the beginning");
        let shifts = two.found(1, &addresses([2]));
        assert_eq!(shifts, [Shift::Vanished { server: 1 }, Shift::Appeared { server: 1, first: false }]);
        two.found(1, &[]);
        two.found(0, &addresses([10]));
        assert!(matches!(two.found(1, &addresses([3])).as_slice(), [Shift::Appeared { first: false, .. }]), "it comes back");
    }

    #[test]
    fn what_never_changes_is_not_looked_up() {
        let servers = ["localhost", "app.localhost", "app.internal"].map(|host| ServerAddress::plain(Place::Name(host.into(), 80)));
        assert_eq!(Slots::names(&servers), [ServerName { index: 2, host: "app.internal".into(), port: 80 }]);
        assert_eq!((room(&servers), room(&servers[..2])), (MOST, 2));
    }
}
