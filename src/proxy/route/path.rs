//! Paths as they are matched: decoded, without empty and dot segments, as nginx's `$uri`.
//!
//! A route that keeps something from clients must not be got round by `//admin`, `/x/../admin` or `/%61dmin`, which many backends take for `/admin`. Only
//! the match is made with the normal form: a target that no route rewrites goes out byte for byte as it came.

use std::borrow::Cow;

/// A path in its normal form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Normal<'a> {
    pub(super) path: Cow<'a, [u8]>,
    /// Segments were left out, so that the path as it came has others than this one.
    pub(super) reduced: bool,
}

/// The normal form of a path; none when it leads above the root, or has a NUL in it, at which some backends take it to end.
pub(super) fn normal(path: &str) -> Option<Normal<'_>> {
    if is_plain(path.as_bytes()) {
        return Some(Normal { path: Cow::Borrowed(path.as_bytes()), reduced: false });
    }
    let decoded = decoded(path);
    if decoded.contains(&0) {
        return None;
    }
    reduce(&decoded).map(|(path, reduced)| Normal { path: Cow::Owned(path), reduced })
}

/// Whether a path is certainly in its normal form already, as nearly every path is: one look at each byte.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let plain = byte != b'%' && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        plain
    })
}

/// A path with its `%XX` undone (RFC 3986 section 2.1). What is no such triplet stays.
pub(crate) fn decoded(path: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut rest = path.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [high, low, after @ ..] if byte == b'%' => match digit(high).zip(digit(low)) {
                Some((high, low)) => {
                    // Two hexadecimal digits fit into a byte.
                    decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    rest = after;
                }
                None => decoded.push(byte),
            },
            _ => decoded.push(byte),
        }
    }
    decoded
}

/// Bytes of a path in the form in which they may stand in a request (RFC 3986 section 3.3).
pub(super) fn encoded(path: &[u8]) -> String {
    let mut encoded = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Leaves out empty segments and does what `.` and `..` say (RFC 3986 section 5.2.4), and whether there were any; none when `..` leads above the root.
fn reduce(path: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let (mut reduced, mut is_folder) = (false, false);
    let mut segments = path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        is_folder = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" => reduced |= !is_last,
            b"." => reduced = true,
            b".." => {
                reduced = true;
                kept.pop()?;
            }
            _ => kept.push(segment),
        }
    }
    let mut path = Vec::with_capacity(path.len());
    for segment in &kept {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if is_folder || kept.is_empty() {
        path.push(b'/');
    }
    Some((path, reduced))
}

/// Whether a request can have the path of a route in its normal form: otherwise the route would take nothing. The last segment of a prefix may go on.
pub(crate) fn can_be_matched(path: &str, exact: bool) -> bool {
    if decoded(path).contains(&0) {
        return false;
    }
    let whole = if exact { path } else { &path[..path.rfind('/').map_or(0, |slash| slash + 1)] };
    whole.is_empty() || reduce(&decoded(whole)).is_some_and(|(_, reduced)| !reduced)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is(path: &str) -> Option<(String, bool)> {
        normal(path).map(|normal| (String::from_utf8_lossy(&normal.path).into_owned(), normal.reduced))
    }

    #[test]
    fn a_path_is_matched_in_its_normal_form() {
        for (path, expected, reduced) in [
            ("/", "/", false),
            ("/a/b", "/a/b", false),
            ("/a/b/", "/a/b/", false),
            ("/.well-known/x", "/.well-known/x", false),
            ("/a.b/..c", "/a.b/..c", false),
            ("//admin", "/admin", true),
            ("/a//b///c", "/a/b/c", true),
            ("/a/./b", "/a/b", true),
            ("/a/.", "/a/", true),
            ("/x/../admin", "/admin", true),
            ("/a/b/..", "/a/", true),
            ("/a/..", "/", true),
            ("/%61dmin", "/admin", false),
            ("/x/%2e%2E/admin", "/admin", true),
            ("/a%2Fb", "/a/b", false),
            ("/100%", "/100%", false),
            ("/%zz%4", "/%zz%4", false),
            ("*", "*", false),
        ] {
            assert_eq!(is(path), Some((expected.into(), reduced)), "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_above_the_root_or_has_a_nul_has_no_normal_form() {
        for path in ["/..", "/../etc", "/a/../../b", "/%2e%2e/b", "/a/..%2f../b", "/a%00", "/%00/b"] {
            assert_eq!(normal(path), None, "{path}");
        }
    }

    #[test]
    fn a_route_that_no_request_could_take_is_known() {
        for (path, exact, can) in [
            ("/a/", false, true),
            ("/", true, true),
            ("/.", false, true),
            ("/..foo", false, true),
            ("/a//b", false, false),
            ("/a/../b", false, false),
            ("/a/.", true, false),
            ("//", false, false),
            ("/a/%2e%2e/b", true, false),
            ("/a%20b", true, true),
            ("/a%00", true, false),
        ] {
            assert_eq!(can_be_matched(path, exact), can, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(path in "(/[a.%2e/]{0,3}){1,6}") {
            if let Some(once) = normal(&path) {
                let again = encoded(&once.path);
                let twice = normal(&again);
                prop_assert_eq!(twice, Some(Normal { path: once.path, reduced: false }));
            }
        }

        #[test]
        fn what_is_encoded_is_decoded_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&encoded(&bytes)), bytes);
        }
    }
}
