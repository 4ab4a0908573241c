//! Durations, sizes and rates as operators write them.
//!
//! One number and one unit, nothing in between: `250ms`, `64KiB`, `600/min`. What is near but not right is answered with the text to write
//! instead. Whether a value makes sense where it stands is not known here.

use std::{fmt, num::NonZeroU32, time::Duration};

use crate::envelope::Rate;

/// Pattern of a duration (ECMA 262 regular expression, as JSON Schema wants it).
pub const DURATION_PATTERN: &str = "^[0-9]+(_[0-9]+)*(ms|s|m|h|d)$";
/// Pattern of a size.
pub const SIZE_PATTERN: &str = "^[0-9]+(_[0-9]+)*(B|KiB|MiB|GiB|TiB|k|K|m|M|g|G)?$";
/// Pattern of a rate.
pub const RATE_PATTERN: &str = "^[0-9]+(_[0-9]+)*/(s|min|h)$";

/// Units of time in milliseconds, largest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of size in bytes, largest first, then nginx's letters, which are binary too.
const SIZES: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("k", 1 << 10),
    ("K", 1 << 10),
    ("m", 1 << 20),
    ("M", 1 << 20),
    ("g", 1 << 30),
    ("G", 1 << 30),
];
/// Spans of a rate in milliseconds.
const SPANS: [(&str, u64); 3] = [("s", 1_000), ("min", 60_000), ("h", 3_600_000)];

/// Why a text is not what it should be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong with it, in a few words.
    pub why: String,
    /// What to do about it.
    pub help: Option<String>,
    /// It is right, but this version does not do it.
    pub later: bool,
}

impl Wrong {
    /// Wrong, for a reason that says it all.
    pub fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), help: None, later: false }
    }

    /// The same with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Right, but not built.
    pub fn later(why: impl Into<String>) -> Self {
        Self { why: why.into(), help: None, later: true }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl std::error::Error for Wrong {}

/// A duration: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Result<Duration, Wrong> {
    let (number, unit) = split(text)?;
    let units = "a duration is a whole number and one of ms, s, m, h, d";
    if unit.is_empty() {
        return Err(Wrong::because("the unit is missing").help(format!("write \"{text}s\" for seconds or \"{text}ms\" for milliseconds")));
    }
    let Some(&(_, millis)) = TIMES.iter().find(|(name, _)| *name == unit) else {
        let near = match unit.to_ascii_lowercase().trim() {
            "sec" | "secs" | "second" | "seconds" | "s" => "s",
            "min" | "mins" | "minute" | "minutes" => "m",
            "hour" | "hours" | "hr" | "hrs" | "h" => "h",
            "day" | "days" | "d" => "d",
            "msec" | "millis" | "milliseconds" | "ms" => "ms",
            "w" | "week" | "weeks" => return Err(unknown_unit(unit).help(format!("write \"{}d\" for days", number.saturating_mul(7)))),
            _ => return Err(unknown_unit(unit).help(units)),
        };
        return Err(unknown_unit(unit).help(format!("write \"{number}{near}\"")));
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(too_large)
}

/// A size in bytes: a whole number and a binary unit. `10m` is 10 MiB, as in nginx.
pub fn parse_size(text: &str) -> Result<u64, Wrong> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Ok(number);
    }
    let Some(&(_, bytes)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let near = match unit.to_ascii_lowercase().trim() {
            "b" | "byte" | "bytes" => "B",
            "kb" | "kib" | "k" => "KiB",
            "mb" | "mib" | "m" => "MiB",
            "gb" | "gib" | "g" => "GiB",
            "tb" | "tib" | "t" => "TiB",
            _ => return Err(unknown_unit(unit).help("a size is a whole number and one of B, KiB, MiB, GiB, TiB (or k, m, g as in nginx)")),
        };
        return Err(unknown_unit(unit).help(format!("write \"{number}{near}\"; sizes are binary, 1 KiB is 1024 bytes")));
    };
    number.checked_mul(bytes).ok_or_else(too_large)
}

/// A rate: a whole number from 1 and `/s`, `/min` or `/h`.
pub fn parse_rate(text: &str) -> Result<Rate, Wrong> {
    let form = "a rate is a whole number and one of /s, /min, /h, such as \"50/s\"";
    let (number, rest) = split(text)?;
    let Some(span) = rest.strip_prefix('/') else {
        return Err(Wrong::because("the time is missing").help(form));
    };
    let Some(&(_, millis)) = SPANS.iter().find(|(name, _)| *name == span) else {
        let near = match span.to_ascii_lowercase().trim() {
            "sec" | "second" | "s" => "s",
            "m" | "minute" | "min" => "min",
            "hour" | "h" => "h",
            _ => return Err(unknown_unit(span).help(form)),
        };
        return Err(unknown_unit(span).help(format!("write \"{number}/{near}\"")));
    };
    let count = u32::try_from(number).map_err(|_| too_large())?;
    let count = NonZeroU32::new(count).ok_or_else(|| Wrong::because("a rate of 0 would never send anything"))?;
    Ok(Rate { count, per: Duration::from_millis(millis) })
}

/// The duration in its largest whole unit: what [`parse_duration`] reads back. Grain: one millisecond.
pub fn show_duration(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    match TIMES.iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0s".into(),
    }
}

/// The size in its largest whole unit: what [`parse_size`] reads back.
pub fn show_size(bytes: u64) -> String {
    match SIZES.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0B".into(),
    }
}

/// The rate as [`parse_rate`] reads it.
pub fn show_rate(rate: Rate) -> String {
    let millis = rate.per.as_millis();
    match SPANS.iter().find(|(_, span)| u128::from(*span) == millis) {
        Some((name, _)) => format!("{}/{name}", rate.count),
        None => format!("{}/{}", rate.count, show_duration(rate.per)),
    }
}

/// The number in front, with `_` between its digits as TOML allows it, and what follows.
fn split(text: &str) -> Result<(u64, &str), Wrong> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if text.trim().is_empty() {
        return Err(Wrong::because("the text is empty"));
    }
    if digits.is_empty() {
        let why = if rest.starts_with('-') { "it cannot be negative" } else { "it must begin with a number" };
        return Err(Wrong::because(why));
    }
    if rest.starts_with(['.', ',']) {
        return Err(Wrong::because("only whole numbers are understood").help("write it in a smaller unit, as 1500ms for 1.5s"));
    }
    if rest.starts_with(char::is_whitespace) && !rest.trim().is_empty() {
        return Err(Wrong::because("there is a space before the unit").help(format!("write \"{digits}{}\"", rest.trim())));
    }
    let misplaced = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if misplaced {
        return Err(Wrong::because("`_` may only stand between two digits"));
    }
    digits.replace('_', "").parse().map(|number| (number, rest)).map_err(|_| too_large())
}

fn unknown_unit(unit: &str) -> Wrong {
    Wrong::because(format!("`{unit}` is not a unit"))
}

fn too_large() -> Wrong {
    Wrong::because("the number is too large")
}

#[cfg(test)]
mod tests;
