//! Which server gets the next request: the less loaded of two chosen at random.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001: nearly as even as asking all, without every thread
//! running to the same one. Each is chosen as often as its weight says, and load is requests in flight over weight, so that a recovered server is eased in, however
//! many requests there are at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

/// The servers of one backend.
#[derive(Debug)]
pub(super) struct Servers {
    in_flight: Arc<[AtomicU32]>,
    /// Numbers that have ever been a server's are smaller.
    used: AtomicUsize,
    weights: Arc<[AtomicU32]>,
}

/// One request in flight at a server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Load {
    in_flight: Arc<[AtomicU32]>,
    server: usize,
}

impl Servers {
    /// So many servers, and numbers for as many as have a weight.
    pub(super) fn new(count: usize, weights: Arc<[AtomicU32]>) -> Self {
        Self { in_flight: weights.iter().map(|_| AtomicU32::new(0)).collect(), used: AtomicUsize::new(count), weights }
    }

    /// There may be servers of all smaller numbers from now on.
    pub(super) fn use_up_to(&self, used: usize) {
        self.used.store(used, Ordering::Relaxed);
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn load(&self, server: usize) -> u32 {
        self.in_flight.get(server).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// A server that is up and not among those to `avoid` (bit by number), and the request counted against it; none when all are out.
    pub(super) fn choose(&self, avoid: u64) -> Option<Load> {
        let server = if self.in_flight.len() == 1 { self.fit(0, avoid).then_some(0)? } else { self.less_loaded_of_two(avoid)? };
        self.in_flight[server].fetch_add(1, Ordering::Relaxed);
        Some(Load { in_flight: self.in_flight.clone(), server })
    }

    /// Whether [`choose`](Self::choose) would find one.
    pub(super) fn any_up(&self, avoid: u64) -> bool {
        (0..self.used()).any(|server| self.fit(server, avoid))
    }

    fn fit(&self, server: usize, avoid: u64) -> bool {
        self.weight(server) > 0 && avoid >> server & 1 == 0
    }

    fn less_loaded_of_two(&self, avoid: u64) -> Option<usize> {
        let first = self.any_by_weight(avoid)?;
        let Some(second) = self.any_by_weight(avoid | 1 << first) else { return Some(first) };
        Some(if self.cost(first) <= self.cost(second) { first } else { second })
    }

    /// One of those that are up, as often as its weight says.
    fn any_by_weight(&self, avoid: u64) -> Option<usize> {
        let up = || (0..self.used()).filter(|&server| avoid >> server & 1 == 0).map(|server| (server, self.weight(server)));
        let total: u32 = up().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = fastrand::u32(..total);
        let chosen = up().find(|(_, weight)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        // A weight may have fallen since they were added up; then the first that is up.
        chosen.or_else(|| up().find(|(_, weight)| *weight > 0)).map(|(server, _)| server)
    }

    /// Load per weight, scaled so that one request at full weight costs 100.
    fn cost(&self, server: usize) -> u64 {
        u64::from(self.load(server)) * 10_000 / u64::from(self.weight(server).max(1))
    }

    fn weight(&self, server: usize) -> u32 {
        self.weights.get(server).map_or(0, |weight| weight.load(Ordering::Relaxed))
    }
}

impl Load {
    pub(super) fn server(&self) -> usize {
        self.server
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.in_flight[self.server].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(weights: &[u32]) -> Servers {
        Servers::new(weights.len(), weights.iter().map(|&weight| AtomicU32::new(weight)).collect())
    }

    #[test]
    fn a_server_that_is_out_gets_nothing() {
        let servers = servers(&[0, 100, 0]);
        let loads: Vec<_> = (0..50).filter_map(|_| servers.choose(0)).collect();
        assert_eq!(loads.len(), 50);
        assert_eq!(servers.load(1), 50);
    }

    #[test]
    fn nothing_is_chosen_when_all_are_out() {
        assert!(servers(&[0, 0]).choose(0).is_none());
        assert!(servers(&[0]).choose(0).is_none());
    }

    #[test]
    fn a_server_to_be_avoided_gets_nothing() {
        let servers = servers(&[100, 100, 0]);
        assert_eq!(servers.choose(0b01).map(|load| load.server()), Some(1));
        assert!(servers.choose(0b11).is_none() && !servers.any_up(0b11) && servers.any_up(0b10));
    }

    #[test]
    fn two_servers_share_the_load_to_within_one_request() {
        let servers = servers(&[100, 100]);
        let loads: Vec<_> = (0..101).filter_map(|_| servers.choose(0)).collect();
        assert!(servers.load(0).abs_diff(servers.load(1)) <= 1);
        drop(loads);
        assert_eq!(servers.load(0) + servers.load(1), 0);
    }

    #[test]
    fn a_server_is_eased_in_also_where_there_is_one_request_at_a_time() {
        fastrand::seed(1);
        let servers = servers(&[100, 10, 100]);
        let mut requests = [0_u32; 3];
        for _ in 0..10_000 {
            requests[servers.choose(0).unwrap().server()] += 1;
        }
        assert!((400..=560).contains(&requests[1]), "{requests:?}");
        assert!(requests[0].abs_diff(requests[2]) < 500, "{requests:?}");
    }

    #[test]
    fn a_server_of_a_tenth_of_the_weight_gets_a_tenth_of_the_load() {
        let servers = servers(&[10, 100]);
        let _loads: Vec<_> = (0..110).filter_map(|_| servers.choose(0)).collect();
        assert!((9..=11).contains(&servers.load(0)), "{}", servers.load(0));
    }
}
