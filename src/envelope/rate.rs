//! So many in a span of time.

use std::{num::NonZeroU32, time::Duration};

/// So many per span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In what time.
    pub per: Duration,
}
