//! The story: what happens when, as parts of the whole time, so that ten seconds tell it as sixty do.

use std::time::Duration;

use super::{load::Rush, servers::Which};

/// Uploads of a rush: more than the admin server survives, and few enough for the proxy to work off soon.
const CROWD: u32 = 8;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue {
    /// Nothing; the load as it is.
    Calm,
    /// Everybody uploads at once.
    Rush(Rush),
    /// A server's machine dies.
    Crash(Which),
    /// Both die.
    CrashBoth,
}

/// One act of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// When it begins, from the start of the load.
    pub at: Duration,
    /// What is said.
    pub title: &'static str,
    /// What is done.
    pub cue: Cue,
}

/// The acts of a story of `total`, in order.
pub fn acts(total: Duration) -> [Act; 6] {
    let act = |part: f64, title, cue| Act { at: total.mul_f64(part), title, cue };
    [
        act(0.0, "healthy: every request is passed on", Cue::Calm),
        act(
            0.12,
            "without forebay: 8 partners upload to the admin server at once, directly",
            Cue::Rush(Rush { uploads: CROWD, around: true }),
        ),
        act(0.36, "the app server loses its power in the middle of its work", Cue::Crash(Which::App)),
        act(
            0.58,
            "with forebay: 8 partners upload through the proxy at once; it lets two at a time through",
            Cue::Rush(Rush { uploads: CROWD, around: false }),
        ),
        act(0.76, "both servers die at once", Cue::CrashBoth),
        act(0.92, "calm again: the rest of the queue is worked off beside the live traffic", Cue::Calm),
    ]
}

/// How long a server stays away after a crash, unless somebody brings it back.
pub fn away(total: Duration) -> Duration {
    total.mul_f64(0.12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crash_is_over_before_the_next_act_and_before_the_end() {
        for seconds in [10, 60, 3600] {
            let total = Duration::from_secs(seconds);
            let acts = acts(total);
            let ends = acts.iter().skip(1).map(|act| act.at).chain([total]);
            for (act, end) in acts.iter().zip(ends) {
                let trouble = if act.cue == Cue::Calm { Duration::ZERO } else { away(total) };
                assert!(act.at + trouble < end, "{} at {total:?}", act.title);
            }
        }
    }
}
