//! Fields that must not cross a proxy.

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

use crate::http1::{AnswerHead, HOP_BY_HOP};

/// Removes them from the head of an answer, where `TE` says nothing.
pub fn remove_hop_by_hop_of(answer: &mut AnswerHead) {
    answer.leave_connection(remove_from_answer);
}

fn remove_from_answer(fields: &mut HeaderMap) {
    remove_hop_by_hop(fields);
    if fields.remove(TE).is_some() {
        fields.remove(CONNECTION);
    }
}

/// Removes the fields that belong to one connection only (RFC 9110 section 7.6.1): those that `Connection` names, `Connection` itself, and those
/// that are known to be hop-by-hop although nobody names them. `TE: trailers` is kept: we pass trailers on (section 10.1.4).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // One look at the names is cheaper than a look-up of each field that is nearly never there.
    let present = headers.keys().filter(|name| may_be_hop_by_hop(name)).fold(0, |present, name| present | bit_of(name));
    if present == 0 {
        return;
    }
    if present & OF_CONNECTION != 0 {
        remove_named_by_connection(headers);
    }
    for (place, name) in HOP_BY_HOP.iter().enumerate() {
        if present >> place & 1 != 0 {
            headers.remove(name);
        }
    }
    if present & OF_TE != 0 {
        keep_trailers(headers);
    }
}

/// What `Host` says. Most requests begin with it: to look there first costs less than to look it up.
pub fn host(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.iter().next().filter(|(name, _)| **name == HOST).map(|(_, host)| host).or_else(|| headers.get(HOST))
}

/// False for certain when it is not one of those below, by length and first letter.
pub fn may_be_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    matches!((name.len(), name.first()), (10, Some(b'c' | b'k')) | (16 | 18 | 19, Some(b'p')) | (2 | 17, Some(b't')) | (7, Some(b'u')))
}

/// The bits of those that go whatever they say, by their place; TE has one too.
const OF_CONNECTION: u32 = 1;
const OF_TE: u32 = 1 << 7;

fn bit_of(name: &HeaderName) -> u32 {
    if *name == TE { OF_TE } else { HOP_BY_HOP.iter().position(|known| known == name).map_or(0, |place| 1 << place) }
}

#[cold]
fn keep_trailers(headers: &mut HeaderMap) {
    if let Some(te) = headers.remove(TE)
        && te.to_str().is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        // It is meant for the next hop only, which has to be told so.
        headers.insert(CONNECTION, HeaderValue::from_static("TE"));
    }
}

/// True for what most values of `Connection` say.
pub fn names_no_field(connection: &HeaderValue) -> bool {
    let value = connection.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    if headers.get_all(CONNECTION).iter().all(names_no_field) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // "Connection: close, host" must not take away what the request cannot be understood without.
        .filter(|name| !matches!(*name, http::header::HOST | http::header::CONTENT_LENGTH))
        .collect();
    for name in named {
        if name != TE {
            headers.remove(name);
        }
    }
}

/// What makes the end of a backend's response uncertain, so that another reader could take the rest for the answer to another request (RFC 9112
/// sections 6.1 and 6.3): more than one length, a length beside chunks, a coding that is not just `chunked`. Also an upgrade to a protocol that is not
/// among those that were `asked` for.
pub fn fault_of(status: StatusCode, headers: &HeaderMap, asked: Option<&HeaderValue>) -> Option<&'static str> {
    let (mut lengths, mut codings) = (0, 0);
    for (name, value) in headers {
        match (name.as_str().len(), name.as_str().as_bytes().first()) {
            (14, Some(b'c')) if *name == CONTENT_LENGTH => {
                lengths += 1;
                if value.as_bytes().contains(&b',') {
                    return Some("its Content-Length is a list");
                }
            }
            (17, Some(b't')) if *name == TRANSFER_ENCODING => {
                codings += 1;
                if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Some("its transfer coding is not chunked");
                }
            }
            _ => {}
        }
    }
    match (lengths, codings) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {
            (!switches_as_asked(headers, asked)).then_some("it switches to a protocol that was not asked for")
        }
        (0 | 1, 0) | (0, 1) => None,
        (_, 0) => Some("it has more than one Content-Length"),
        (0, _) => Some("it has more than one Transfer-Encoding"),
        (_, _) => Some("it has a Content-Length beside its Transfer-Encoding"),
    }
}

fn switches_as_asked(headers: &HeaderMap, asked: Option<&HeaderValue>) -> bool {
    let text = |value: &'_ HeaderValue| value.to_str().map(str::to_ascii_lowercase).unwrap_or_default();
    let asked = asked.map(text).unwrap_or_default();
    let chosen: Vec<String> = headers.get_all(UPGRADE).iter().map(text).collect();
    !chosen.is_empty() && chosen.iter().all(|chosen| asked.split(',').any(|asked| asked.trim() == chosen.trim()))
}

#[cfg(test)]
mod tests;
