//! Times, sizes and rates as nginx writes them, and as forebay does.

use std::time::Duration;

/// A time: `30`, `30s`, `1h 30m`, `500ms`. Months and years are those of nginx.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(rest.len());
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" | "" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "M" => 2_592_000_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        rest = rest[unit..].trim_start();
        whole = whole.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(whole)
}

/// A size in bytes: `1024`, `8k`, `10m`, `1g`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A rate as forebay writes it: `10r/s` is `10/s`.
pub(super) fn rate(text: &str) -> Option<String> {
    let (number, unit) = text.split_once("r/")?;
    let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "s" => Some(format!("{number}/s")),
        "m" => Some(format!("{number}/min")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_nginx() {
        for (text, millis) in [
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("x", None),
            ("5q", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text).map(|time| time.as_millis()), millis, "{text}");
        }
        for (text, bytes) in [
            ("1024", Some(1024)),
            ("8k", Some(8192)),
            ("10M", Some(10 << 20)),
            ("1g", Some(1 << 30)),
            ("m", None),
            ("", None),
            ("-1", None),
            ("é", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
        for (text, expected) in [("10r/s", Some("10/s")), ("30r/m", Some("30/min")), ("0r/s", None), ("10", None)] {
            assert_eq!(rate(text).as_deref(), expected, "{text}");
        }
    }
}
