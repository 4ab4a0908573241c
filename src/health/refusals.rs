//! A backend that refuses at once what it has no room for, or whatever it is asked on one of its routes. Latency says nothing of it: all that it takes is as fast
//! as ever.
//!
//! Where it begins to have enough is remembered: without that the limit would grow into the refusals again and again. Where they go on when next to nothing is
//! in flight, it is tried whether more gets done with more in flight. If so, how much that is does not make them: they are put up with, or a route that is
//! out of order would slow all others down.

use std::time::Duration;

use super::{
    limit::{LEAST, LONGEST_TRIAL_WAIT, TRIAL_WAIT},
    samples::Seen,
};

/// Bad requests that a window needs before they count.
const LEAST_BAD: u32 = 3;
/// Windows with refusals near the least limit, and the time for which they go on, before more is tried.
const WINDOWS: u32 = 5;
const SPAN: Duration = Duration::from_secs(2);
/// So many times the least limit is near it.
const NEAR: f64 = 3.0;
/// The time for which more is tried, and how many times as much must get done then.
const TRIAL: Duration = Duration::from_secs(1);
const MORE: f64 = 1.3;
/// For so long what was found holds, and for twice as long each time that it is found again.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_PATIENCE: Duration = Duration::from_secs(3600);

/// What is known of a backend's refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    ceiling: Option<Ceiling>,
    /// The limit before the first of the cuts that have followed one another.
    before: f64,
    /// Windows near the least limit that were refused, less those that were not.
    windows: u32,
    /// What got done in them, or in the trial.
    done: Done,
    /// What got done in a second before the trial that is under way.
    trial: Option<f64>,
    found: Option<Found>,
}

/// What is in flight when a backend has enough, and for how long the limit stays below it.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    in_flight: f64,
    until: Duration,
    wait: Duration,
}

/// Good requests since some moment.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    since: Duration,
    requests: u32,
}

/// What a trial has found, and for how long that holds.
#[derive(Debug, Clone, Copy)]
struct Found {
    are_ours: bool,
    until: Duration,
    patience: Duration,
}

/// What follows from the refusals in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// Less is to be in flight.
    Cut,
    /// It is tried with this limit.
    Try(f64),
    /// It was tried in vain: this limit again.
    Back(f64),
    /// They are put up with, under this limit.
    Endure(f64),
}

impl Refusals {
    /// A window has closed under this limit, with so many in flight.
    pub(super) fn window(&mut self, seen: &Seen, limit: f64, now: Duration) -> Turn {
        let is_failing = seen.bad >= LEAST_BAD && seen.bad * 10 > seen.requests;
        let are_all = seen.refused == seen.bad;
        if let Some(before) = self.trial {
            self.done.add(seen);
            return self.tried(before, limit, !is_failing || are_all, now);
        }
        if !is_failing {
            self.windows = self.windows.saturating_sub(1);
            return Turn::None;
        }
        let known = self.found.filter(|found| now < found.until);
        if are_all && known.is_some_and(|found| !found.are_ours) {
            return Turn::None;
        }
        if self.ceiling.is_none_or(|ceiling| now >= ceiling.until + ceiling.wait) {
            self.before = limit;
        }
        self.ceiling = Some(Ceiling::found(limit.min(seen.in_flight), self.ceiling, now));
        if limit > NEAR * LEAST || !are_all || known.is_some() {
            self.windows = 0;
            return Turn::Cut;
        }
        if seen.requests == seen.bad {
            return Turn::Cut;
        }
        if self.windows == 0 {
            self.done = Done { since: now, requests: 0 };
        } else {
            self.done.add(seen);
        }
        self.windows += 1;
        if self.windows < WINDOWS || now.saturating_sub(self.done.since) < SPAN || self.before <= limit {
            return Turn::Cut;
        }
        self.trial = Some(self.done.per_second(now));
        self.done = Done { since: now, requests: 0 };
        Turn::Try(self.before)
    }

    /// A window of a trial; `are_all`: nothing worse than refusals was in it.
    fn tried(&mut self, before: f64, limit: f64, are_all: bool, now: Duration) -> Turn {
        if are_all && now.saturating_sub(self.done.since) < TRIAL {
            return Turn::Try(limit);
        }
        let are_ours = !are_all || self.done.per_second(now) < MORE * before;
        let patience = match self.found {
            Some(found) if now < found.until + found.patience => (2 * found.patience).min(LONGEST_PATIENCE),
            Some(_) | None => PATIENCE,
        };
        self.found = Some(Found { are_ours, until: now + patience, patience });
        (self.trial, self.windows) = (None, 0);
        if are_ours {
            return Turn::Back(LEAST);
        }
        self.ceiling = None;
        Turn::Endure(limit)
    }

    /// The most that a limit may be now, if this is more.
    pub(super) fn hold(&self, limit: f64, now: Duration) -> Option<f64> {
        let ceiling = self.ceiling.filter(|ceiling| now < ceiling.until)?;
        let most = ceiling.in_flight.ceil() - 1.0;
        (limit > most).then_some(most)
    }
}

impl Done {
    fn add(&mut self, seen: &Seen) {
        self.requests = self.requests.saturating_add(seen.requests - seen.bad);
    }

    fn per_second(self, now: Duration) -> f64 {
        f64::from(self.requests) / now.saturating_sub(self.since).as_secs_f64().max(0.001)
    }
}

impl Ceiling {
    /// Where there was one `before`, and the limit has gone there again since, it is left alone for twice as long.
    fn found(in_flight: f64, before: Option<Self>, now: Duration) -> Self {
        let wait = match before {
            Some(before) if now < before.until => before.wait,
            Some(before) if now < before.until + before.wait => (2 * before.wait).min(LONGEST_TRIAL_WAIT),
            Some(_) | None => TRIAL_WAIT,
        };
        Self { in_flight, until: now + wait, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn seen(requests: u32, refused: u32) -> Seen {
        let in_flight = LEAST;
        Seen { requests, bad: refused, refused, slowdown: None, in_flight, most_in_flight: 0, rejected: 0, replayed: false }
    }

    fn found_at(in_flight: f64) -> Refusals {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.window(&Seen { in_flight, ..seen(10, 5) }, 20.0, NOW), Turn::Cut);
        refusals
    }

    #[test]
    fn more_than_a_tenth_and_three_are_a_cut() {
        for (requests, bad, turn) in [(20, 3, Turn::Cut), (20, 2, Turn::None), (40, 4, Turn::None), (3, 3, Turn::Cut), (2, 2, Turn::None)] {
            assert_eq!(Refusals::default().window(&seen(requests, bad), 20.0, NOW), turn, "{bad} of {requests}");
        }
    }

    #[test]
    fn a_limit_stays_below_what_was_too_much_for_five_seconds_and_then_grows_on() {
        let refusals = found_at(6.5);
        assert_eq!((refusals.hold(7.0, NOW), refusals.hold(6.0, NOW)), (Some(6.0), None));
        assert_eq!(refusals.hold(7.0, NOW + Duration::from_millis(4_999)), Some(6.0));
        assert_eq!(refusals.hold(7.0, NOW + Duration::from_secs(5)), None);
        assert_eq!(found_at(6.0).hold(5.5, NOW), Some(5.0), "6 were too many");
    }

    #[test]
    fn each_time_that_it_is_found_again_it_holds_for_twice_as_long_up_to_a_minute() {
        let (mut now, mut ceiling) = (NOW, Ceiling::found(8.0, None, NOW));
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                now = ceiling.until;
                ceiling = Ceiling::found(8.0, Some(ceiling), now);
                ceiling.wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
        let sooner = Ceiling::found(4.0, Some(ceiling), now);
        assert_eq!((sooner.wait.as_secs(), sooner.in_flight), (60, 4.0), "what fails on the way up is no trial");
        assert_eq!(Ceiling::found(8.0, Some(ceiling), ceiling.until + ceiling.wait).wait, TRIAL_WAIT);
    }

    /// The turns of windows that follow one another every half second from `from` on, as long as `window` gives one.
    fn turns(refusals: &mut Refusals, from: Duration, window: impl Fn(Turn) -> Option<(Seen, f64)>) -> (Vec<Turn>, Duration) {
        let (mut turns, mut now) = (Vec::new(), from);
        while let Some((seen, limit)) = window(turns.last().copied().unwrap_or(Turn::None)) {
            turns.push(refusals.window(&seen, limit, now));
            now += Duration::from_millis(500);
        }
        (turns, now)
    }

    /// A third is refused, whatever the limit is; while more is tried, `more` times as much gets done. What came of it, and when.
    fn trial(refusals: &mut Refusals, more: u32, from: Duration) -> (Vec<Turn>, Duration) {
        refusals.window(&seen(30, 10), 40.0, from);
        turns(refusals, from, |last| match last {
            Turn::None | Turn::Cut => Some((seen(30, 10), LEAST)),
            Turn::Try(limit) => Some((seen(30 * more, 10 * more), limit)),
            Turn::Back(_) | Turn::Endure(_) => None,
        })
    }

    #[test]
    fn refusals_beside_which_more_gets_done_with_more_in_flight_are_put_up_with_and_for_longer_each_time() {
        let mut refusals = Refusals::default();
        let (turns, now) = trial(&mut refusals, 3, NOW);
        let tried = Turn::Try(40.0);
        assert_eq!(turns, [Turn::Cut, Turn::Cut, Turn::Cut, Turn::Cut, tried, tried, Turn::Endure(40.0)]);
        let end = now - Duration::from_millis(500) + PATIENCE;
        assert_eq!(refusals.window(&seen(30, 29), 40.0, end - Duration::from_millis(1)), Turn::None);
        assert_eq!(refusals.window(&Seen { refused: 9, ..seen(30, 10) }, 40.0, now), Turn::Cut, "one of them is a timeout");
        let (turns, now) = trial(&mut refusals, 3, end);
        assert_eq!(turns.last(), Some(&Turn::Endure(40.0)));
        assert_eq!(refusals.window(&seen(30, 10), 40.0, now + Duration::from_secs(119)), Turn::None);
    }

    #[test]
    fn those_beside_which_no_more_gets_done_are_not_and_it_is_not_tried_again_soon() {
        let mut refusals = Refusals::default();
        let (tried, now) = trial(&mut refusals, 1, NOW);
        assert_eq!(tried.last(), Some(&Turn::Back(LEAST)));
        for second in 0..59 {
            assert_eq!(refusals.window(&seen(30, 10), LEAST, now + Duration::from_secs(second)), Turn::Cut);
        }
        let (again, _) = trial(&mut refusals, 1, now + PATIENCE);
        assert!(again.contains(&Turn::Try(40.0)));
    }

    #[test]
    fn nothing_is_tried_where_nothing_gets_done_or_something_worse_than_refusals_is_seen() {
        for window in [seen(30, 30), Seen { refused: 9, ..seen(30, 10) }] {
            let mut refusals = Refusals::default();
            refusals.window(&seen(30, 10), 40.0, NOW);
            for second in 1..50 {
                assert_eq!(refusals.window(&window, LEAST, NOW + Duration::from_secs(second)), Turn::Cut);
            }
        }
        let mut refusals = Refusals::default();
        refusals.window(&seen(30, 10), 40.0, NOW);
        let (turns, _) = turns(&mut refusals, NOW, |last| match last {
            Turn::None | Turn::Cut => Some((seen(30, 10), LEAST)),
            Turn::Try(limit) => Some((Seen { refused: 0, ..seen(90, 30) }, limit)),
            Turn::Back(_) | Turn::Endure(_) => None,
        });
        assert_eq!(turns.last(), Some(&Turn::Back(LEAST)), "timeouts end a trial at once");
    }
}
