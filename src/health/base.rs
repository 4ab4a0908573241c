//! How long a request of a class takes when nothing is in its way: what its latency is compared with. Pure.
//!
//! A class is learned from its first 50 good answers: the first few to finish are the fastest, so that fewer would make it look faster than it is. From
//! then on its base falls with every window that was faster by more than chance, and rises only in windows at little load (natural troughs): no probing, and no
//! taking of a queue for the normal state. Slowness that we do not cause is said by the [`limit`](super::limit).

use std::time::Duration;

/// Answers that a class is learned from.
pub(super) const LEARNED_FROM: usize = 50;
/// Answers of a class in one window that can move its base.
const MOVED_BY: usize = 10;
/// Part of the way to a window's median that the base goes.
const STEP: f32 = 0.1;
/// The same when the base was far too high: after an error, not after noise.
const LONG_STEP: f32 = 0.5;
/// Below this part of the base it was an error.
const FAR: f32 = 0.6;
/// A median within so many times the base of before means that a class that had become slower is so no longer.
const RESTORED: f32 = 1.1;
/// Windows after which slowness has lasted too long to be a cold start.
const KNOWN_BEFORE: u32 = 200;
/// Spread of the median of n answers, as a part of it, times the root of n: 1.25 sigma where latencies are lognormal with a usual sigma of 0.5. What is
/// faster by less is chance, and a base that fell with every chance would end up well below the truth.
pub(super) const NOISE: f32 = 0.63;
/// Latencies below this are taken for it: what our own threads and the kernel's add is no sign of load.
const GRAIN: f32 = 0.005;
/// Turns of our own event loop that a request may wait for without any doing of the backend's.
const TURNS: f32 = 3.0;

/// The base of one class, in seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    known: Option<f32>,
    /// What it was before the class became slower, and for how many windows more that is worth knowing.
    before: Option<(f32, u32)>,
    learning: Vec<f32>,
    /// Close to the slowest of a hundred, in seconds.
    slowest: f32,
}

impl Base {
    /// A base that held in an earlier run.
    pub(super) fn remembered(seconds: f32) -> Self {
        Self { known: (seconds.is_finite() && seconds > 0.0).then_some(seconds), ..Self::default() }
    }

    /// Seconds; none while it is being learned.
    pub(super) fn seconds(&self) -> Option<f32> {
        self.known
    }

    /// How long one of a hundred takes, as far as is known.
    pub(super) fn slowest(&self) -> Option<Duration> {
        (self.slowest > 0.0).then(|| Duration::from_secs_f32(self.slowest))
    }

    /// How many times its base this latency is, where nothing below `grain` can be told apart.
    pub(super) fn slowdown(&self, rtt: f32, grain: f32) -> Option<f32> {
        self.known.map(|base| rtt.max(grain) / base.max(grain))
    }

    /// A good answer of the class while it is being learned.
    pub(super) fn learn(&mut self, rtt: f32) {
        if self.known.is_some() {
            return;
        }
        self.learning.push(rtt);
        if self.learning.len() >= LEARNED_FROM {
            let mut learned = std::mem::take(&mut self.learning);
            self.known = Some(median(&mut learned));
            self.slowest = self.slowest.max(learned.iter().copied().fold(0.0, f32::max));
        }
    }

    /// A window's answers of the class; `trough` says that there was little load.
    pub(super) fn window(&mut self, rtts: &mut [f32], trough: bool) {
        let slow = high(rtts);
        self.slowest = slow.max(0.9 * self.slowest + 0.1 * slow);
        let Some(base) = self.known.filter(|_| rtts.len() >= MOVED_BY) else { return };
        let now = median(rtts);
        if let Some((before, windows)) = self.before.take() {
            if now < RESTORED * before {
                // As fast as it was: it is what it was, and needs no learning.
                self.known = Some(before);
                return;
            }
            self.before = windows.checked_sub(1).map(|left| (before, left));
        }
        let noise = (NOISE / (rtts.len() as f32).sqrt()).min(1.0);
        if now < base * (1.0 - noise) || trough {
            let step = if now < FAR * (1.0 - noise) * base { LONG_STEP } else { STEP };
            self.known = Some(base + step * (now - base));
        }
    }

    /// The class has become so many times as slow for good.
    pub(super) fn rescale(&mut self, factor: f64) {
        if factor > 1.0 {
            self.before = self.before.or(self.known.map(|base| (base, KNOWN_BEFORE)));
        }
        self.known = self.known.map(|base| base * factor as f32);
    }
}

/// Seconds below which latencies cannot be told apart while a turn of our own event loop takes so long.
pub(super) fn grain(lag: Duration) -> f32 {
    GRAIN + TURNS * lag.as_secs_f32()
}

/// The middle one; sorts a little. Zero for none.
pub(super) fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The 99th percentile, the largest of few.
fn high(values: &mut [f32]) -> f32 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    *values.select_nth_unstable_by(last - last / 100, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(seconds: f32) -> Base {
        Base::remembered(seconds)
    }

    fn near(left: f32, right: f32) -> bool {
        (left - right).abs() < 1e-5
    }

    #[test]
    fn a_class_is_known_from_its_fiftieth_answer_on_by_the_median_of_all_fifty() {
        let mut base = Base::default();
        (1..50).for_each(|millis| base.learn(millis as f32 / 1000.0));
        assert_eq!((base.seconds(), base.slowdown(1.0, GRAIN)), (None, None));
        base.learn(0.05);
        assert_eq!(base.seconds(), Some(0.025));
        base.learn(9.0);
        assert_eq!(base.seconds(), Some(0.025), "it has been learned");
    }

    #[test]
    fn a_base_falls_with_windows_that_are_faster_by_more_than_chance_and_rises_in_troughs_alone() {
        for (answers, median, trough, expected) in [
            // Of ten answers a fifth less may be chance, of a hundred one in sixteen.
            (10, 0.079, false, 0.0979),
            (10, 0.081, false, 0.1),
            (100, 0.093, false, 0.0993),
            (100, 0.094, false, 0.1),
            (10, 0.12, false, 0.1),
            (10, 0.12, true, 0.102),
            (10, 0.081, true, 0.0981),
            // Far below it was an error; of ten answers that begins at 0.48.
            (10, 0.049, false, 0.0949),
            (10, 0.04, false, 0.07),
            (100, 0.055, false, 0.0775),
        ] {
            let mut base = known(0.1);
            base.window(&mut vec![median; answers], trough);
            assert!(near(base.seconds().unwrap(), expected), "{answers} {median} {trough}: {:?}", base.seconds());
        }
    }

    #[test]
    fn a_class_that_had_become_slower_and_is_as_fast_as_before_has_the_base_of_before() {
        let mut base = known(0.1);
        base.rescale(2.0);
        base.rescale(1.5);
        assert!(near(base.seconds().unwrap(), 0.3));
        base.window(&mut [0.111; 10], false);
        assert!(near(base.seconds().unwrap(), 0.2055), "faster, and not yet as fast");
        base.window(&mut [0.109; 10], false);
        assert!(near(base.seconds().unwrap(), 0.1));
        base.window(&mut [0.109; 10], false);
        assert!(near(base.seconds().unwrap(), 0.1), "it is a base like any other again");
        base.rescale(2.0);
        (0..=KNOWN_BEFORE).for_each(|_| base.window(&mut [0.2; 10], false));
        base.window(&mut [0.109; 10], false);
        assert!(near(base.seconds().unwrap(), 0.1909), "what was so long ago is no measure");
    }

    #[test]
    fn fewer_than_ten_answers_move_no_base() {
        let mut base = known(0.1);
        base.window(&mut [0.01; 9], true);
        assert_eq!(base.seconds(), Some(0.1));
    }

    #[test]
    fn microseconds_are_no_slowdown_nor_is_what_our_own_threads_are_late_by() {
        let slowdown = |base, rtt, late| known(base).slowdown(rtt, grain(Duration::from_millis(late)));
        assert_eq!(slowdown(0.000_2, 0.004, 0), Some(1.0));
        assert_eq!(slowdown(0.000_2, 0.010, 0), Some(2.0));
        assert_eq!(slowdown(0.1, 0.25, 0), Some(2.5));
        assert_eq!(slowdown(0.000_2, 0.035, 10), Some(1.0));
        assert_eq!(slowdown(0.000_2, 0.070, 10), Some(2.0));
        assert_eq!(slowdown(0.1, 0.25, 10), Some(2.5));
    }

    #[test]
    fn the_slowest_is_seen_at_once_and_forgotten_slowly() {
        let mut base = known(0.1);
        base.window(&mut [0.2; 10], false);
        assert!(near(base.slowest, 0.2));
        base.window(&mut [0.1; 10], false);
        assert!(near(base.slowest, 0.19));
        assert_eq!(high(&mut std::array::from_fn::<_, 200, _>(|at| at as f32)), 198.0);
    }

    #[test]
    fn nonsense_is_not_remembered() {
        for seconds in [f32::NAN, -1.0, 0.0, f32::INFINITY] {
            assert_eq!(known(seconds).seconds(), None);
        }
    }
}
