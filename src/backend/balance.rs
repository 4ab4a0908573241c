//! Which server gets the next request: the less loaded of two chosen at random.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001: nearly as even as asking all, without every thread
//! running to the same one. Load is requests in flight over weight, so that a recovered server is eased in.

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
        let up = || (0..self.used()).filter(|&server| self.fit(server, avoid));
        let count = up().count();
        if count < 2 {
            return up().next();
        }
        let first = fastrand::usize(..count);
        let second = (first + 1 + fastrand::usize(..count - 1)) % count;
        // A server may have gone out since the count; then the other one, or the first that is up.
        match (up().nth(first), up().nth(second)) {
            (Some(a), Some(b)) => Some(if self.cost(a) <= self.cost(b) { a } else { b }),
            (found, other) => found.or(other).or_else(|| up().next()),
        }
    }

    /// Load per weight, scaled so that one request at full weight costs 100.
    fn cost(&self, server: usize) -> u64 {
        let in_flight = u64::from(self.load(server)) + 1;
        in_flight * 10_000 / u64::from(self.weight(server).max(1))
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
    fn a_server_of_a_tenth_of_the_weight_gets_a_tenth_of_the_load() {
        let servers = servers(&[10, 100]);
        let _loads: Vec<_> = (0..110).filter_map(|_| servers.choose(0)).collect();
        assert!((9..=11).contains(&servers.load(0)), "{}", servers.load(0));
    }
}
