//! A histogram whose observation is two atomic additions.
//!
//! The one of `prometheus-client` takes a mutex at each observation, which all worker threads would meet at.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Bounds for durations, in microseconds: from half a millisecond, which a proxied request takes at the least, to a minute.
const DURATIONS: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
    60_000_000,
];

/// Bounds for the number of operations that ride in one commit.
const BATCHES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Bounds for ratios of an estimate to the truth, in thousandths: 1 is right, 2 is twice as much.
const RATIOS: &[u64] = &[100, 250, 500, 667, 800, 909, 1_000, 1_100, 1_250, 1_500, 2_000, 4_000, 10_000];

/// Counts of observations by size. Clones share them.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Observed units in one unit of the exposition.
    scale: f64,
    /// Upper bounds, inclusive, ascending.
    bounds: &'static [u64],
    /// Observations between two bounds (not cumulative), and last those above all of them.
    counts: Box<[AtomicU64]>,
    /// Sum of the observations. In microseconds it overflows after half a million years of request time.
    sum: AtomicU64,
}

impl Histogram {
    fn new(scale: f64, bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { scale, bounds, counts, sum: AtomicU64::new(0) }))
    }

    /// Of durations, exposed in seconds.
    pub fn of_durations() -> Self {
        Self::new(1e6, DURATIONS)
    }

    /// Of batch sizes, exposed as they are.
    pub fn of_batches() -> Self {
        Self::new(1.0, BATCHES)
    }

    /// Of how an estimate compares with the truth.
    pub fn of_ratios() -> Self {
        Self::new(1e3, RATIOS)
    }

    /// Counts one ratio, at a grain of a thousandth.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float that is no such number becomes the nearest that is"
    )]
    pub fn observe_ratio(&self, ratio: f64) {
        // Beyond a million nobody reads it, and the sum would lose the others.
        self.observe((ratio.min(1e6) * 1e3).round() as u64);
    }

    /// Counts one duration, at microsecond grain.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one value, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|&bound| bound < value);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let inner = &*self.0;
        let sum = inner.sum.load(Ordering::Relaxed) as f64 / inner.scale;
        let bounds = inner.bounds.iter().map(|&bound| bound as f64 / inner.scale).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(&inner.counts).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        // The count is that of the buckets as they were read, so that the two agree while others go on counting.
        let count = buckets.iter().map(|&(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn exposition(histogram: Histogram) -> String {
        let mut registry = Registry::default();
        registry.register("h", "Help", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_bound_is_inclusive_and_buckets_are_cumulative() {
        let histogram = Histogram::of_durations();
        for micros in [500, 501, 1_000, 61_000_000] {
            histogram.observe_duration(Duration::from_micros(micros));
        }
        let text = exposition(histogram);
        for line in
            ["h_bucket{le=\"0.0005\"} 1", "h_bucket{le=\"0.001\"} 3", "h_bucket{le=\"60.0\"} 3", "h_bucket{le=\"+Inf\"} 4", "h_count 4"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("h_sum 61.002001\n"), "{text}");
    }

    #[test]
    fn observations_from_many_threads_are_all_counted() {
        let histogram = Histogram::of_batches();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|value| histogram.observe(value)));
            }
        });
        let text = exposition(histogram);
        assert!(text.contains("h_count 4000\n"), "{text}");
        assert!(text.contains(&format!("h_sum {}.0\n", 4 * 999 * 1_000 / 2)), "{text}");
    }
}
