//! HTTP/2 on the wire (RFC 9113), by the `h2` library: its streams as requests and answers with bodies.
//!
//! [`server`] is one connection of a client, [`client`] one to a server. What a message of HTTP/2 must not have (names with capitals, `Connection` and its like, other pseudo-fields, a length
//! that is not that of its body) the library refuses (section 8.2), but for what [`is_padded`] is for. What a message means is for others to say.

pub mod client;
mod incoming;
mod outgoing;
mod pulse;
pub mod server;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, TRANSFER_ENCODING, UPGRADE},
};

pub use incoming::Incoming;

/// What stands for one connection, which HTTP/2 does not have in a message (RFC 9113 section 8.2.2). Beside these `TE`, but for `trailers` in a request.
const OF_CONNECTION: [HeaderName; 5] =
    [CONNECTION, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];

fn strip(headers: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
}

/// Whether a value has spaces around it, which makes its message malformed (RFC 9113 section 8.2.1): the library lets it pass.
pub fn is_padded(headers: &HeaderMap) -> bool {
    headers.values().any(is_padded_value)
}

fn is_padded_value(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// Takes such spaces away from what a server says: who speaks HTTP/1.1 would read it without them, and servers are old. A client that sends them is refused.
fn trim(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if is_padded_value(value)
            && let Ok(mut trimmed) = HeaderValue::from_bytes(value.as_bytes().trim_ascii())
        {
            trimmed.set_sensitive(value.is_sensitive());
            *value = trimmed;
        }
    }
}
