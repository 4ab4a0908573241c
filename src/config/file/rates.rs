//! How often a client may ask: keys of `[clients]` and of routes.

use super::*;
use crate::envelope::order::Rule;

/// Requests at once.
const MOST: u32 = 10_000_000;

/// The keys.
#[derive(Debug)]
pub(in crate::config) struct Rates {
    pub rate: Option<At<Rate>>,
    pub burst: Option<At<u32>>,
    pub rate_by: Option<At<Vec<At<Rule>>>>,
}

impl Rates {
    /// Those of a table where `rate` is about this.
    pub(super) fn keys(table: &mut Table<'_>, rate: &'static str) -> Self {
        Self {
            rate: table.maybe(key("rate", rate)),
            burst: table.maybe(
                key("burst", "Requests that a client may make at once after a silence; then `rate` holds. Default: as many as in the time of `rate`.")
                    .range(1, MOST),
            ),
            rate_by: table.maybe(
                key(
                    "rate_by",
                    "What makes a client one for `rate`: the first of these that its request has, as for `order_by`, and else its address (of IPv6 the /64). \
                     Default: the address.",
                )
                .not_empty(),
            ),
        }
    }
}
