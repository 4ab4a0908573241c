//! Looking at a request before anything is done about it, so that one that two readers could understand differently gets nowhere.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, MAX_FORWARDS, TRANSFER_ENCODING, VIA},
    request::Parts,
};

use crate::backend::headers::{may_be_hop_by_hop, names_no_field};

use super::client::{OUR_PREFIX, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// Times that a request may have come through a forebay: more is a circle, and no chain of proxies.
const MOST_ROUNDS: u32 = 10;

/// What is wrong with a request that parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// RFC 9112 section 3.2: a server must answer 400 to a request without exactly one `Host`, or with one that names no host.
    Host,
    /// RFC 9113 section 8.3.1: `Host` and `:authority` name two hosts.
    Authority,
    /// RFC 9112 section 6.3: two lengths are a smuggling attempt or a broken sender.
    Length,
    /// RFC 9113 section 8.2.1: a value has spaces around it.
    Padded,
    /// RFC 9113 section 8.1.1: it says that it has no body, and goes on all the same.
    Endless,
    /// Its target is in a form that only a forward proxy takes (`CONNECT`), or in none.
    Target,
    /// Its path leads above the root or has a NUL in it, which nobody means well.
    Path,
    /// RFC 9110 section 4.2.4: a name and password before the host serve nobody but who wants to mislead.
    UserInfo,
    /// RFC 9112 section 6.1: it has a transfer coding that we cannot undo, so that we could not tell the backend what the body is.
    Coding,
    /// RFC 9110 section 7.6.1: `Connection` names a field that is meant for the server, to have it taken out on the way.
    Connection,
    /// A field that a server which knows no hyphens takes for the length or the coding.
    Lookalike,
    /// RFC 9110 section 10.1.1: it expects something else than 100-continue.
    Expectation,
    /// RFC 9110 section 7.6.2: its `Max-Forwards` is no number.
    MaxForwards,
    /// RFC 9110 section 9.3.8: a `TRACE` would show the client what proxies have added.
    Trace,
    /// RFC 9110 section 7.4: it is for an `https` resource, and has come without TLS.
    Insecure,
    /// RFC 9110 section 7.6.3: it has come through here before.
    Loop,
}

impl Malformed {
    /// What is wrong, in words.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "an HTTP/1.1 request needs exactly one Host field, with a host name or address and perhaps a port",
            Self::Authority => "the request names one host in Host and another in :authority",
            Self::Length => "the request has more than one Content-Length",
            Self::Padded => "a field of HTTP/2 has spaces before or behind its value",
            Self::Endless => "the request says that its body is empty, and does not end",
            Self::Target => "the request target must be a path",
            Self::Path => "the path of the request leads above the root, or has a NUL in it",
            Self::UserInfo => "the request target must not have a user name",
            Self::Coding => "the only transfer coding that is understood here is chunked",
            Self::Connection => "Connection names a field that is meant for the server, or is no list of names",
            Self::Lookalike => "the request has a field that can be taken for its length or its transfer coding",
            Self::Expectation => "the only expectation that can be met here is 100-continue",
            Self::MaxForwards => "Max-Forwards must be a number",
            Self::Trace => "TRACE is not served here",
            Self::Insecure => "what is asked for by https is not served without TLS",
            Self::Loop => "the request goes round in circles: a backend of this proxy leads back to it",
        }
    }

    /// The status that says so.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Coding | Self::Trace => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Insecure => StatusCode::MISDIRECTED_REQUEST,
            Self::Loop => StatusCode::BAD_GATEWAY,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Its error type (RFC 9209 section 2.3).
    pub(super) const fn error(self) -> &'static str {
        match self {
            Self::Loop => "proxy_loop_detected",
            Self::Trace => "http_request_denied",
            _ => "http_request_error",
        }
    }
}

/// What one pass over the names tells: a look-up of each field that is nearly never there would cost more.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hosts: u32,
    bad_host: bool,
    lengths: u32,
    codings: u32,
    unknown_coding: bool,
    connection: bool,
    /// `Connection`, and it says no more than whether there is to be another request.
    pub(super) plain_connection: bool,
    bad_expectation: bool,
    bad_lookalike: bool,
    rounds: u32,
    /// For how many proxies more an OPTIONS is meant (RFC 9110 section 7.6.2).
    pub(super) max_forwards: Option<u64>,
    /// One that belongs to the client's own connection, but for that.
    pub(super) hop_by_hop: bool,
    pub(super) expect: bool,
    pub(super) forwarded: bool,
    pub(super) ours: bool,
    /// A field that a server which knows no hyphens takes for one that we write.
    pub(super) lookalike: bool,
    prefer: bool,
    /// `Accept` names HTML.
    pub(super) html: bool,
}

impl Seen {
    fn look(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            let text = name.as_str();
            match (text.len(), text.as_bytes().first()) {
                (4, Some(b'h')) if *name == HOST => {
                    seen.hosts += 1;
                    seen.bad_host |= !is_host(value.as_bytes());
                }
                (14, Some(b'c')) => match *name == CONTENT_LENGTH {
                    true => seen.lengths += 1,
                    false => seen.bad_lookalike |= looks_like(name, &CONTENT_LENGTH),
                },
                (6, Some(b'e')) if *name == EXPECT => {
                    seen.expect = true;
                    seen.bad_expectation |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
                }
                (6, Some(b'a')) if *name == ACCEPT => seen.html |= value.as_bytes().windows(5).any(|word| word == b"/html"),
                (6, Some(b'p')) => seen.prefer |= text == "prefer",
                (3, Some(b'v')) if *name == VIA => seen.rounds += u32::from(value.as_bytes().ends_with(b" forebay")),
                (9, Some(b'f')) if *name == FORWARDED => seen.forwarded = true,
                (17, Some(b't')) => match *name == TRANSFER_ENCODING {
                    true => seen.coding(value),
                    false => seen.bad_lookalike |= looks_like(name, &TRANSFER_ENCODING),
                },
                (15..=17, Some(b'x')) => seen.lookalike |= FORWARDED_BY_US.iter().any(|ours| looks_like(name, ours)),
                (_, Some(b'f')) => seen.ours |= is_ours(name),
                (10, Some(b'c')) if *name == CONNECTION => match names_no_field(value) {
                    true => seen.plain_connection = true,
                    false => (seen.connection, seen.hop_by_hop) = (true, true),
                },
                _ => seen.hop_by_hop |= may_be_hop_by_hop(name),
            }
        }
        seen
    }

    fn coding(&mut self, value: &HeaderValue) {
        self.hop_by_hop = true;
        self.codings += 1;
        self.unknown_coding |= !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    }

    /// Whether the client may have said something about being queued.
    pub(super) fn may_wish(&self) -> bool {
        self.prefer || self.ours
    }

    fn fault(&self, version: Version, headers: &HeaderMap) -> Option<Malformed> {
        let faults = [
            (self.hosts > 1 || self.bad_host || (self.hosts == 0 && version == Version::HTTP_11), Malformed::Host),
            (self.lengths > 1, Malformed::Length),
            (self.codings > 1 || self.unknown_coding, Malformed::Coding),
            (self.bad_lookalike, Malformed::Lookalike),
            (self.bad_expectation, Malformed::Expectation),
            (self.rounds > MOST_ROUNDS, Malformed::Loop),
            (self.connection && !is_sound_connection(headers), Malformed::Connection),
        ];
        faults.into_iter().find_map(|(found, what)| found.then_some(what))
    }
}

/// Looks at a request.
pub(super) fn inspect(head: &Parts) -> Result<Seen, Malformed> {
    let mut seen = Seen::look(&head.headers);
    if let Some(fault) = seen.fault(head.version, &head.headers) {
        return Err(fault);
    }
    target(&head.method, &head.uri)?;
    match head.method {
        Method::TRACE => return Err(Malformed::Trace),
        Method::OPTIONS => seen.max_forwards = max_forwards(&head.headers)?,
        _ => {}
    }
    Ok(seen)
}

/// Whether it is for the server as a whole (RFC 9110 section 7.1).
pub(super) fn is_asterisk(uri: &Uri) -> bool {
    uri.path() == "*"
}

fn target(method: &Method, uri: &Uri) -> Result<(), Malformed> {
    match (uri.scheme_str(), uri.authority()) {
        _ if *method == Method::CONNECT => Err(Malformed::Target),
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => Err(Malformed::UserInfo),
        (Some("http" | "https"), Some(authority)) if is_host(authority.as_str().as_bytes()) => Ok(()),
        // Over HTTP/2 there may be a query alone, of which the library says that its path is `/`.
        (None, None) if uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/')) => Ok(()),
        (None, None) if is_asterisk(uri) && *method == Method::OPTIONS => Ok(()),
        _ => Err(Malformed::Target),
    }
}

fn max_forwards(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.as_bytes().iter().all(u8::is_ascii_digit) => {
            value.to_str().ok().and_then(|value| value.parse().ok()).map(Some).ok_or(Malformed::MaxForwards)
        }
        (Some(_), _) => Err(Malformed::MaxForwards),
    }
}

/// The letters of names and of IPv4 addresses, looked up once for each byte of each request's `Host`.
static OF_NAMES: [bool; 256] = {
    let mut of_names = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        // Not past a byte.
        let letter = byte as u8;
        of_names[byte] = letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'.' | b'_' | b'~' | b'%');
        byte += 1;
    }
    of_names
};

/// Whether it is a host and perhaps a port (RFC 9110 section 7.2), of the letters that names and addresses have: the punctuation that
/// RFC 3986 also allows in a registered name stands in no name that a server has, and servers differ about what it means.
fn is_host(value: &[u8]) -> bool {
    let (host, rest) = match value.first() {
        Some(b'[') => {
            let Some(end) = value.iter().position(|byte| *byte == b']') else { return false };
            let (address, rest) = value.split_at(end + 1);
            let address = &address[1..end];
            let is_address = !address.is_empty() && address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            (is_address, rest)
        }
        _ => {
            let end = value.iter().position(|byte| !OF_NAMES[usize::from(*byte)]).unwrap_or(value.len());
            (true, &value[end..])
        }
    };
    host && match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether `Connection` is a list of names of which none is meant for the server (RFC 9110 section 7.6.1): were they taken out as it asks, it would
/// see another request than we did, one without its credentials or from nowhere.
fn is_sound_connection(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().all(|value| value.as_bytes().split(|byte| *byte == b',').all(is_option))
}

fn is_option(option: &[u8]) -> bool {
    let option = option.trim_ascii();
    // An empty member of a list is no member (RFC 9110 section 5.6.1).
    option.is_empty() || HeaderName::from_bytes(option).is_ok_and(|name| !is_end_to_end(name.as_str()))
}

fn is_end_to_end(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "idempotency-key",
        "max-forwards",
        "origin",
        "prefer",
        "range",
        "referer",
        "user-agent",
        "via",
    ];
    const PREFIXES: &[&str] = &["accept", "content-", OUR_PREFIX, "if-", "sec-", "x-forwarded-", "x-real-"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

const FORWARDED_BY_US: [HeaderName; 3] = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];

/// Whether a server that writes all names with `_`, as CGI does, would take `name` for `known`.
pub(in crate::proxy) fn looks_like(name: &HeaderName, known: &HeaderName) -> bool {
    let (name, known) = (name.as_str().as_bytes(), known.as_str().as_bytes());
    name.len() == known.len()
        && name != known
        && name.iter().zip(known).all(|(byte, of_known)| byte == of_known || (*byte == b'_' && *of_known == b'-'))
}

/// Whether a field has a name of ours, also for a server that writes all names with `_`.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes().split_at_checked(OUR_PREFIX.len()), Some((b"forebay-" | b"forebay_", _)))
}

/// Takes out what a server that writes all names with `_` would take for what we write.
#[cold]
pub(super) fn remove_lookalikes(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().filter(|name| FORWARDED_BY_US.iter().any(|ours| looks_like(name, ours))).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
