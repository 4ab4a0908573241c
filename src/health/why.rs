//! Why a limit is what it is, in words.

use std::fmt;

/// Why the limit is what it is. Printed, it completes "limit 20: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is what the configuration says.
    Fixed,
    /// Nothing is known yet.
    Unknown,
    /// It was remembered from an earlier run.
    Remembered,
    /// The backend came back, and is tried with a few.
    Probing,
    /// It grows fast, as nothing is in its way.
    SlowStart,
    /// It grows.
    Growing,
    /// The traffic does not use it up.
    Enough,
    /// It is right, as far as can be seen.
    Settled,
    /// A queue stands at the backend.
    Queueing,
    /// The backend is more than twice as slow as it can be.
    Slow,
    /// The backend fails too often.
    Failing,
    /// Less concurrency did not make it faster, or refuse less: it has other reasons.
    NotOurs,
    /// It refuses although hardly anything is in flight, and is tried with more.
    Refusing,
    /// The backend came back slower than it was.
    SlowerBack,
    /// A quarter more is tried.
    Trial,
    /// A quarter more did not make it slower.
    TrialKept,
    /// A quarter more made it slower.
    TrialEnded,
}

impl Why {
    /// A sentence for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "as configured",
            Self::Unknown => "nothing is known yet",
            Self::Remembered => "remembered from an earlier run",
            Self::Probing => "the backend came back and is tried with a few",
            Self::SlowStart => "growing fast",
            Self::Growing => "growing",
            Self::Enough => "not used up",
            Self::Settled => "settled",
            Self::Queueing => "a queue stands at the backend",
            Self::Slow => "the backend is more than twice as slow as it can be",
            Self::Failing => "the backend fails too often",
            Self::NotOurs => "slower, or refusing, for reasons other than concurrency",
            Self::Refusing => "it refuses with little in flight, and is tried with more",
            Self::SlowerBack => "the backend came back slower than it was",
            Self::Trial => "trying a quarter more",
            Self::TrialKept => "a quarter more did not make it slower",
            Self::TrialEnded => "a quarter more made it slower",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
