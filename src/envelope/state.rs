//! The states of a request, the moves between them, and the reasons that users read.

/// Declares an enum whose variants have one fixed name each, used in JSON, headers, metrics and on disk.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name that users see.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// Where an accepted request is in its life.
    State {
        /// Durable, waiting for its turn or for its next attempt.
        Queued = "queued",
        /// An attempt is under way.
        Delivering = "delivering",
        /// The backend took it.
        Delivered = "delivered",
        /// Given up; kept for an operator.
        Dead = "dead",
        /// Withdrawn by its sender or an operator before it was delivered.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether a request may move from this state to `next`. A dead one may be queued again by a redrive; a delivering one is
    /// queued again when its attempt failed.
    pub const fn may_become(self, next: Self) -> bool {
        use State::{Cancelled, Dead, Delivered, Delivering, Queued};
        matches!((self, next), (Queued, Delivering | Dead | Cancelled) | (Delivering, Queued | Delivered | Dead) | (Dead, Queued))
    }

    /// Whether nothing more happens to the request by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead | Self::Cancelled)
    }
}

named! {
    /// Why a write went into the queue.
    Reason {
        /// The backend is not passing: every server is out, or its breaker sheds.
        Down = "down",
        /// No seat was free within the wait, at the backend or in the route's own limit.
        Overload = "overload",
        /// An earlier write with the same ordering key is still queued.
        Order = "order",
        /// The live attempt failed, and the route allows another.
        Rescued = "rescued",
        /// The client asked (`Prefer: respond-async`).
        Asked = "asked",
        /// An operator put the backend into spill mode.
        Mode = "mode",
        /// The route says `when = "always"`.
        Always = "always",
    }
}

named! {
    /// Why a request was given up.
    DeadReason {
        /// The backend answered with a status that a retry does not mend.
        Refused = "refused",
        /// 401, 403, 419 or a redirect to a login: what the request carried has expired.
        AuthExpired = "auth-expired",
        /// Every attempt failed.
        AttemptsExhausted = "attempts-exhausted",
        /// Older than the route's `max_age`.
        Expired = "expired",
        /// It may have been executed, and its route forbids to send it again.
        OutcomeUnknown = "outcome-unknown",
        /// The backend went down with it, twice.
        Poison = "poison",
        /// Its stored bytes do not match their checksum.
        Damaged = "damaged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_itself() {
        for &state in State::ALL {
            assert_eq!(State::from_name(state.as_str()), Some(state));
        }
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(reason));
        }
        for &reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_name(reason.as_str()), Some(reason));
        }
        assert_eq!(State::from_name("lost"), None);
    }

    #[test]
    fn nothing_leaves_delivered_or_cancelled() {
        for &next in State::ALL {
            assert!(!State::Delivered.may_become(next));
            assert!(!State::Cancelled.may_become(next));
        }
    }
}
