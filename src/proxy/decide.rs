//! Pass, queue or refuse: the one decision that forebay exists for, as a plain function of what is known.

use http::HeaderMap;

use crate::{
    envelope::Reason,
    health::{Mode, NoSeat, State},
};

use super::settings::When;

/// What the client said about being queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    /// `Prefer: respond-async` (RFC 7240 section 4.1).
    pub(super) queue: bool,
    /// `Forebay-Spill: never`.
    pub(super) never_queue: bool,
}

impl Wishes {
    /// What the fields of a request say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        // Nearly no request has either; a look at the names is cheaper than two look-ups.
        if !headers.keys().any(|name| matches!(name.as_str(), "prefer" | "forebay-spill")) {
            return Self::default();
        }
        let says = |name: &str, word: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(elements).any(|element| is_bare(element, word))
        };
        Self { queue: says("prefer", "respond-async"), never_queue: says("forebay-spill", "never") }
    }
}

/// The elements of a list (RFC 9110 section 5.6.1); a comma within quotes ends none.
fn elements(list: &str) -> impl Iterator<Item = &str> {
    let mut within_quotes = false;
    let mut escaped = false;
    list.split(move |letter| {
        let ends = letter == ',' && !within_quotes;
        within_quotes ^= letter == '"' && !escaped;
        escaped = letter == '\\' && within_quotes && !escaped;
        ends
    })
}

/// Whether a list element is this word, parameters aside: no value, or an empty one, which is the same (RFC 7240 section 2).
fn is_bare(element: &str, word: &str) -> bool {
    let first = element.split(';').next().unwrap_or_default();
    let (name, value) = first.split_once('=').unwrap_or((first, ""));
    name.trim().eq_ignore_ascii_case(word) && matches!(value.trim(), "" | "\"\"")
}

/// What to do with a whole write on a spill route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Ask for a seat and send it.
    Pass,
    /// Make it durable and say 202.
    Queue(Reason),
    /// Say 503, and why it was not passed.
    Refuse(Reason),
}

/// Decides over a write that may be queued. `stands_behind` when an earlier one of its ordering key is pending; `mode` and `state` are the backend's.
pub(super) fn decide(when: When, wishes: Wishes, stands_behind: bool, (mode, state): (Mode, State)) -> Decision {
    let reason = if wishes.queue {
        Reason::Asked
    } else if when == When::Always {
        Reason::Always
    } else if mode == Mode::Spill {
        Reason::Mode
    } else if state == State::Shedding {
        Reason::Down
    } else if stands_behind {
        // Even a healthy backend must not see it before the earlier ones of its key.
        Reason::Order
    } else {
        return Decision::Pass;
    };
    if wishes.never_queue { Decision::Refuse(reason) } else { Decision::Queue(reason) }
}

/// Why a write that found no seat is queued.
pub(super) fn reason_of(no_seat: NoSeat) -> Reason {
    match no_seat {
        NoSeat::Shedding => Reason::Down,
        NoSeat::Full => Reason::Overload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Wishes = Wishes { queue: false, never_queue: false };

    #[test]
    fn every_combination_is_decided_as_the_contract_says() {
        use Mode::{Auto, Pass, Spill};
        use State::{Passing, Probing, Shedding};
        let ask = Wishes { queue: true, ..NONE };
        let never = Wishes { never_queue: true, ..NONE };
        for (when, wishes, behind, mode, state, expected) in [
            (When::Needed, NONE, false, Auto, Passing, Decision::Pass),
            (When::Needed, NONE, false, Auto, Probing, Decision::Pass),
            (When::Needed, NONE, false, Auto, Shedding, Decision::Queue(Reason::Down)),
            (When::Needed, NONE, true, Auto, Passing, Decision::Queue(Reason::Order)),
            (When::Needed, NONE, true, Auto, Shedding, Decision::Queue(Reason::Down)),
            (When::Needed, ask, false, Auto, Passing, Decision::Queue(Reason::Asked)),
            (When::Always, NONE, false, Auto, Passing, Decision::Queue(Reason::Always)),
            (When::Always, never, false, Auto, Passing, Decision::Refuse(Reason::Always)),
            (When::Needed, never, false, Auto, Passing, Decision::Pass),
            (When::Needed, never, true, Auto, Passing, Decision::Refuse(Reason::Order)),
            (When::Needed, never, false, Auto, Shedding, Decision::Refuse(Reason::Down)),
            (When::Needed, NONE, false, Spill, Passing, Decision::Queue(Reason::Mode)),
            (When::Needed, NONE, true, Spill, Shedding, Decision::Queue(Reason::Mode)),
            (When::Needed, ask, false, Spill, Passing, Decision::Queue(Reason::Asked)),
            (When::Always, NONE, false, Spill, Passing, Decision::Queue(Reason::Always)),
            (When::Needed, never, false, Spill, Passing, Decision::Refuse(Reason::Mode)),
            (When::Needed, NONE, false, Pass, Passing, Decision::Pass),
            (When::Needed, NONE, true, Pass, Passing, Decision::Queue(Reason::Order)),
        ] {
            assert_eq!(decide(when, wishes, behind, (mode, state)), expected, "{when:?} {wishes:?} behind={behind} {mode:?} {state:?}");
        }
    }

    #[test]
    fn a_wish_is_read_as_its_grammar_says() {
        for (value, queue) in [
            ("respond-async", true),
            ("Respond-Async; x=y", true),
            ("wait=10, respond-async", true),
            ("respond-async=\"\"", true),
            ("handling=\"a, respond-async\"", false),
            ("handling=\"a\\\", respond-async\"", false),
            ("respond-async=no", false),
            ("return=minimal", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("prefer"), value.parse().unwrap())]);
            assert_eq!(Wishes::of(&headers), Wishes { queue, never_queue: false }, "{value}");
        }
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("forebay-spill"), "never".parse().unwrap())]);
        assert!(Wishes::of(&headers).never_queue);
    }
}
