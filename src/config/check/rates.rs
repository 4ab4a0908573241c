//! How often a client may ask.

use std::num::NonZeroU32;

use super::routes;
use crate::{
    config::{fault::Faults, file::Rates, read::At},
    envelope::order::Rule,
    proxy::RateLimit,
};

/// The limit of the table `path`, if it has one.
pub(super) fn limit(rates: Rates, path: &str, faults: &mut Faults) -> Option<RateLimit> {
    let Rates { rate, burst, rate_by } = rates;
    let Some(rate) = rate else {
        let others = [("burst", burst.and_then(|burst| burst.span)), ("rate_by", rate_by.and_then(|by| by.span))];
        for (name, span) in others.into_iter().filter(|(_, span)| span.is_some()) {
            let fault =
                faults.add(span, format!("`{path}.{name}` without `{path}.rate`"), "it says how a rate is meant, and there is none");
            fault.help("write a rate such as `rate = \"100/s\"`, or remove the key").absence = true;
        }
        return None;
    };
    let burst = burst.and_then(|burst| NonZeroU32::new(burst.value)).unwrap_or(rate.value.count);
    let by: Vec<At<Rule>> = rate_by.map_or_else(Vec::new, |by| by.value);
    routes::places(&by, &format!("{path}.rate_by"), faults);
    Some(RateLimit { rate: rate.value, burst, by: by.into_iter().map(|at| at.value).collect() })
}
