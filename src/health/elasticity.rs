//! Whether latency follows our concurrency, by all windows of a descent of the limit together: the slope of `ln(slowdown)` over `ln(in flight)`. It is about 1
//! where what is in flight stands in a queue at the backend, and about 0 where that has become slower for other reasons. Pure.
//!
//! Medians of few requests are noisy, so that no two windows prove anything by themselves; the error of the slope is known, and is held against it.

use super::base::NOISE;

/// Slope, with its standard error on top, below which latency does not follow our concurrency.
const INELASTIC: f64 = 0.5;
/// Part of what was in flight before a descent to which it must have come for that to be a proof.
const PROOF: f64 = 0.5;
/// Part that is left of earlier windows with each that comes.
const FADES: f64 = 0.95;

/// Weighted sums over windows, by their requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    weight: f64,
    in_flight: f64,
    slowdown: f64,
    squares: f64,
    products: f64,
}

impl Evidence {
    /// A window of so many requests.
    pub(super) fn add(&mut self, slowdown: f64, in_flight: f64, requests: u32) {
        for sum in [&mut self.weight, &mut self.in_flight, &mut self.slowdown, &mut self.squares, &mut self.products] {
            *sum *= FADES;
        }
        let (x, a, weight) = (slowdown.max(1e-3).ln(), in_flight.max(1.0).ln(), f64::from(requests));
        self.weight += weight;
        self.in_flight += weight * a;
        self.slowdown += weight * x;
        self.squares += weight * a * a;
        self.products += weight * a * x;
    }

    /// The largest slope that is still likely: one standard error above the best guess. None while nothing has moved.
    pub(super) fn most(&self) -> Option<f64> {
        let spread = self.squares - self.in_flight * self.in_flight / self.weight;
        let slope = (self.products - self.in_flight * self.slowdown / self.weight) / spread;
        (spread > 1e-6).then(|| slope + f64::from(NOISE) / spread.sqrt())
    }

    /// Geometric mean of the slowdowns.
    pub(super) fn slowdown(&self) -> f64 {
        (self.slowdown / self.weight).exp()
    }
}

/// A limit that goes down: where it was, with how much in flight, and what the latency has made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descent {
    pub(super) limit: f64,
    pub(super) in_flight: f64,
    pub(super) evidence: Evidence,
}

impl Descent {
    pub(super) fn from(limit: f64, in_flight: f64) -> Self {
        Self { limit, in_flight, evidence: Evidence::default() }
    }

    /// Whether it has gone far enough, to so much in flight, and has made nothing faster.
    pub(super) fn is_in_vain(&self, in_flight: f64) -> bool {
        in_flight <= PROOF * self.in_flight && self.evidence.most().is_some_and(|most| most < INELASTIC)
    }
}

/// The same from one change alone: `ln(slowdown ratio) / ln(in flight ratio)`.
pub(super) fn elasticity(slowdown_ratio: f64, in_flight_ratio: f64) -> f64 {
    slowdown_ratio.ln() / in_flight_ratio.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(windows: &[(f64, f64)], requests: u32) -> Option<f64> {
        let mut evidence = Evidence::default();
        windows.iter().for_each(|&(slowdown, in_flight)| evidence.add(slowdown, in_flight, requests));
        evidence.most()
    }

    #[test]
    fn the_slope_is_what_latency_follows_of_concurrency_and_its_error_falls_with_the_requests() {
        let follows = [(4.0, 40.0), (3.0, 30.0), (2.0, 20.0), (1.0, 10.0)];
        let stays = [(2.5, 40.0), (2.5, 30.0), (2.5, 20.0), (2.5, 10.0)];
        assert!((1.0..1.05).contains(&most(&follows, 1_000).unwrap()));
        assert!((0.0..0.05).contains(&most(&stays, 1_000).unwrap()));
        let (few, many) = (most(&stays, 10).unwrap(), most(&stays, 1_000).unwrap());
        assert!((few / many - 10.0).abs() < 1e-6, "{few} {many}");
    }

    #[test]
    fn where_nothing_moved_nothing_is_known() {
        assert_eq!((most(&[], 100), most(&[(2.5, 10.0)], 100), most(&[(2.5, 10.0), (3.0, 10.0)], 100)), (None, None, None));
    }

    #[test]
    fn a_descent_is_in_vain_from_the_half_on_if_latency_stayed() {
        let mut descent = Descent::from(20.0, 20.0);
        [20.0, 15.0, 10.0].into_iter().for_each(|in_flight| descent.evidence.add(2.5, in_flight, 100));
        assert!(descent.is_in_vain(10.0) && !descent.is_in_vain(10.1));
        let mut helps = Descent::from(20.0, 20.0);
        [20.0, 15.0, 10.0].into_iter().for_each(|in_flight| helps.evidence.add(in_flight / 5.0, in_flight, 100));
        assert!(!helps.is_in_vain(10.0));
        assert!((descent.evidence.slowdown() - 2.5).abs() < 1e-9);
    }
}
