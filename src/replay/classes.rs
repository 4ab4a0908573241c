//! Routes whose requests are so much longer than others that a few of them fill a backend.
//!
//! A spreadsheet that takes two seconds holds a seat as long as a hundred marks. Such routes together get a quarter of the backend's limit in replay, or what
//! is short would wait behind what is long.

use std::time::Duration;

use ahash::AHashMap;

use crate::envelope::Name;

/// So many times the time of a usual request makes a route heavy.
const TIMES: f64 = 4.0;
/// What takes less is never heavy.
const LEAST: Duration = Duration::from_millis(250);
/// One in so many of the backend's seats, at least one, is for heavy routes.
const ONE_IN: u32 = 4;
/// Weight of a new sample.
const GAIN: f64 = 0.1;

/// The routes of a backend as replay sees them.
#[derive(Debug, Default)]
pub(super) struct Classes(AHashMap<Name, Class>);

#[derive(Debug, Default)]
struct Class {
    in_flight: u32,
    /// Smoothed, in seconds.
    took: Option<f64>,
}

impl Classes {
    pub(super) fn began(&mut self, route: &Name) {
        self.0.entry(Name::clone(route)).or_default().in_flight += 1;
    }

    /// An attempt has ended; `took` is its time to the headers of the answer, if there was one.
    pub(super) fn ended(&mut self, route: &Name, took: Option<Duration>) {
        let class = self.0.entry(Name::clone(route)).or_default();
        class.in_flight = class.in_flight.saturating_sub(1);
        if let Some(took) = took.map(|took| took.as_secs_f64()) {
            class.took = Some(class.took.map_or(took, |known| known + GAIN * (took - known)));
        }
    }

    /// The heavy routes, if all that they may have is taken, or is once `claiming` more requests, which may all be theirs, have begun. `usual` is the median time
    /// of all requests of the backend.
    pub(super) fn full(&self, usual: Option<Duration>, limit: u32, claiming: u32) -> Vec<Name> {
        let Some(usual) = usual else { return Vec::new() };
        let heavy = (usual.as_secs_f64() * TIMES).max(LEAST.as_secs_f64());
        let heavy = || self.0.iter().filter(move |(_, class)| class.took.is_some_and(|took| took > heavy));
        let in_flight: u32 = heavy().map(|(_, class)| class.in_flight).sum();
        let share = (limit / ONE_IN).max(1);
        if in_flight.saturating_add(claiming) < share {
            return Vec::new();
        }
        heavy().map(|(name, _)| Name::clone(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Option<Duration> = Some(Duration::from_millis(80));

    fn classes(uploads: u32, marks: u32) -> Classes {
        let mut classes = Classes::default();
        for (route, took, in_flight) in [("uploads", 2000, uploads), ("marks", 80, marks), ("slow-marks", 240, 9)] {
            let route = Name::from(route);
            classes.began(&route);
            classes.ended(&route, Some(Duration::from_millis(took)));
            (0..in_flight).for_each(|_| classes.began(&route));
        }
        classes
    }

    #[test]
    fn heavy_routes_get_a_quarter_of_the_limit_and_light_ones_all() {
        // in flight of the heavy one, claims under way, limit: full?
        for (uploads, claiming, limit, full) in
            [(0, 0, 16, false), (3, 0, 16, false), (4, 0, 16, true), (2, 1, 16, false), (2, 2, 16, true), (0, 0, 2, false), (1, 0, 2, true)]
        {
            let expected: &[Name] = if full { &["uploads".into()] } else { &[] };
            assert_eq!(classes(uploads, 50).full(USUAL, limit, claiming), expected, "{uploads} {claiming} {limit}");
        }
    }

    #[test]
    fn what_is_as_long_as_all_others_or_is_short_or_unknown_is_not_heavy() {
        assert!(classes(9, 0).full(Some(Duration::from_secs(2)), 16, 0).is_empty());
        assert!(classes(9, 0).full(None, 16, 0).is_empty());
        let mut short = Classes::default();
        short.began(&"x".into());
        short.ended(&"x".into(), Some(Duration::from_millis(250)));
        short.began(&"unknown".into());
        short.ended(&"unknown".into(), None);
        assert!(short.full(Some(Duration::from_millis(1)), 1, 9).is_empty());
    }

    #[test]
    fn a_route_that_gets_faster_is_heavy_no_longer() {
        let mut classes = classes(0, 0);
        for _ in 0..30 {
            classes.began(&"uploads".into());
            classes.ended(&"uploads".into(), Some(Duration::from_millis(80)));
        }
        assert!(classes.full(USUAL, 1, 9).is_empty());
    }
}
