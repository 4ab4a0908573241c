use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn durations_mean_what_they_say() {
    let table = [
        ("250ms", ms(250)),
        ("0s", ms(0)),
        ("30s", ms(30_000)),
        ("5m", ms(300_000)),
        ("24h", ms(86_400_000)),
        ("7d", ms(604_800_000)),
        ("1_500ms", ms(1_500)),
        ("007s", ms(7_000)),
    ];
    for (text, span) in table {
        assert_eq!(parse_duration(text), Ok(span), "{text}");
    }
}

#[test]
fn sizes_are_binary_and_nginx_letters_too() {
    let table = [
        ("0", 0),
        ("1024", 1024),
        ("1_000", 1000),
        ("12B", 12),
        ("64KiB", 65_536),
        ("10MiB", 10_485_760),
        ("8GiB", 8_589_934_592),
        ("1TiB", 1_099_511_627_776),
        ("64k", 65_536),
        ("64K", 65_536),
        ("10m", 10_485_760),
        ("10M", 10_485_760),
        ("1g", 1_073_741_824),
        ("1G", 1_073_741_824),
    ];
    for (text, bytes) in table {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn rates_mean_what_they_say() {
    let table = [("50/s", 50, 1_000), ("600/min", 600, 60_000), ("10/h", 10, 3_600_000), ("1_000/s", 1_000, 1_000)];
    for (text, count, per) in table {
        assert_eq!(parse_rate(text), Ok(Rate { count: NonZeroU32::new(count).unwrap(), per: ms(per) }), "{text}");
    }
}

#[test]
fn what_is_near_is_answered_with_what_to_write() {
    let durations = [
        ("30", "the unit is missing; write \"30s\" for seconds or \"30ms\" for milliseconds"),
        ("30 s", "there is a space before the unit; write \"30s\""),
        ("5min", "`min` is not a unit; write \"5m\""),
        ("2w", "`w` is not a unit; write \"14d\" for days"),
        ("5S", "`S` is not a unit; write \"5s\""),
        ("5x", "`x` is not a unit; a duration is a whole number and one of ms, s, m, h, d"),
        ("1.5s", "only whole numbers are understood; write it in a smaller unit, as 1500ms for 1.5s"),
        ("1h30m", "`h30m` is not a unit; a duration is a whole number and one of ms, s, m, h, d"),
        ("", "the text is empty"),
        ("s", "it must begin with a number"),
        ("-1s", "it cannot be negative"),
        ("1__0s", "`_` may only stand between two digits"),
        ("_1s", "`_` may only stand between two digits"),
        ("1_s", "`_` may only stand between two digits"),
        ("99999999999999999999s", "the number is too large"),
        ("999999999999999999d", "the number is too large"),
    ];
    for (text, message) in durations {
        assert_eq!(parse_duration(text).unwrap_err().to_string(), message, "{text}");
    }
    let sizes = [
        ("10MB", "`MB` is not a unit; write \"10MiB\"; sizes are binary, 1 KiB is 1024 bytes"),
        ("10 MiB", "there is a space before the unit; write \"10MiB\""),
        ("10mb/s", "`mb/s` is not a unit; a size is a whole number and one of B, KiB, MiB, GiB, TiB (or k, m, g as in nginx)"),
        ("17000000TiB", "the number is too large"),
    ];
    for (text, message) in sizes {
        assert_eq!(parse_size(text).unwrap_err().to_string(), message, "{text}");
    }
    let rates = [
        ("50", "the time is missing; a rate is a whole number and one of /s, /min, /h, such as \"50/s\""),
        ("50/m", "`m` is not a unit; write \"50/min\""),
        ("0/s", "a rate of 0 would never send anything"),
        ("5000000000/s", "the number is too large"),
    ];
    for (text, message) in rates {
        assert_eq!(parse_rate(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn what_is_shown_reads_back() {
    for (millis, text) in [(0, "0s"), (1, "1ms"), (1_500, "1500ms"), (60_000, "1m"), (86_400_000, "1d"), (90_000_000, "25h")] {
        assert_eq!(show_duration(ms(millis)), text);
        assert_eq!(parse_duration(text), Ok(ms(millis)));
    }
    for (bytes, text) in [(0, "0B"), (1_000, "1000B"), (65_536, "64KiB"), (1 << 40, "1TiB"), (3 << 29, "1536MiB")] {
        assert_eq!(show_size(bytes), text);
        assert_eq!(parse_size(text), Ok(bytes));
    }
    for text in ["50/s", "600/min", "10/h"] {
        assert_eq!(show_rate(parse_rate(text).unwrap()), text);
    }
}
