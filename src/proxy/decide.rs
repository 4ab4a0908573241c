//! Pass, queue or refuse: the one decision that forebay exists for, as a plain function of what is known.

use crate::{
    envelope::Reason,
    health::{NoSeat, State},
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

/// Decides over a write that may be queued. `stands_behind` when an earlier one of its ordering key is pending.
pub(super) fn decide(when: When, wishes: Wishes, stands_behind: bool, state: State) -> Decision {
    let reason = if wishes.queue {
        Reason::Asked
    } else if when == When::Always {
        Reason::Always
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
        use State::{Passing, Probing, Shedding};
        let ask = Wishes { queue: true, ..NONE };
        let never = Wishes { never_queue: true, ..NONE };
        for (when, wishes, behind, state, expected) in [
            (When::Needed, NONE, false, Passing, Decision::Pass),
            (When::Needed, NONE, false, Probing, Decision::Pass),
            (When::Needed, NONE, false, Shedding, Decision::Queue(Reason::Down)),
            (When::Needed, NONE, true, Passing, Decision::Queue(Reason::Order)),
            (When::Needed, NONE, true, Shedding, Decision::Queue(Reason::Down)),
            (When::Needed, ask, false, Passing, Decision::Queue(Reason::Asked)),
            (When::Always, NONE, false, Passing, Decision::Queue(Reason::Always)),
            (When::Always, never, false, Passing, Decision::Refuse(Reason::Always)),
            (When::Needed, never, false, Passing, Decision::Pass),
            (When::Needed, never, true, Passing, Decision::Refuse(Reason::Order)),
            (When::Needed, never, false, Shedding, Decision::Refuse(Reason::Down)),
        ] {
            assert_eq!(decide(when, wishes, behind, state), expected, "{when:?} {wishes:?} behind={behind} {state:?}");
        }
    }
}
