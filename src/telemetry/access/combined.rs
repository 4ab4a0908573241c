//! nginx's `combined`, byte for byte:
//!
//! ```text
//! $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
//! ```
//!
//! The time is in UTC, whatever the zone of the machine: readers of logs take the offset that stands beside it.

use std::io::Write;

use super::AccessEntry;

/// Writes a line without its end.
pub(super) fn write(entry: &AccessEntry<'_>, line: &mut Vec<u8>) {
    // Nothing fails that writes into memory.
    let _ = write!(line, "{} - ", entry.client);
    escaped(entry.user, line);
    line.extend_from_slice(b" [");
    let millis = i64::try_from(entry.at.as_millis()).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let _ = write!(line, "{}", moment.strftime("%d/%b/%Y:%H:%M:%S +0000"));
    line.extend_from_slice(b"] \"");
    for (place, part) in [entry.method, entry.target, entry.protocol].into_iter().flatten().enumerate() {
        line.extend_from_slice(if place == 0 { b"" } else { b" " });
        escaped(Some(part.as_bytes()), line);
    }
    if entry.method.is_none() {
        line.push(b'-');
    }
    let _ = write!(line, "\" {} {} \"", entry.status, entry.bytes_sent);
    escaped(entry.referer, line);
    line.extend_from_slice(b"\" \"");
    escaped(entry.user_agent, line);
    line.push(b'"');
}

/// A client's bytes as nginx writes them (`escape=default`): quotes, backslashes and what is not visible ASCII as `\xHH`; `-` for
/// what was not there.
fn escaped(bytes: Option<&[u8]>, line: &mut Vec<u8>) {
    for &byte in bytes.unwrap_or(b"-") {
        if matches!(byte, b'"' | b'\\') || !(b' '..=b'~').contains(&byte) {
            let _ = write!(line, "\\x{byte:02X}");
        } else {
            line.push(byte);
        }
    }
}
