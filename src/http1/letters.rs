//! The letters of field names, which mean the same in any case (RFC 9110 section 5.1).

use http::{HeaderName, header};

/// Whether `came` spells a name, whose own letters are small.
pub(super) fn spells(mut came: &[u8], name: &str) -> bool {
    let mut name = name.as_bytes();
    if came.len() != name.len() {
        return false;
    }
    // The last eight bytes of what has more, then the others from the first one on: some are looked at twice, and none alone.
    let (Some(last), Some(name_last)) = (came.last_chunk(), name.last_chunk()) else {
        return match (ends(came), ends(name)) {
            (Some(came), Some(name)) => small(came) == u64::from_ne_bytes(name),
            _ => came.iter().zip(name).all(|(came, name)| came.to_ascii_lowercase() == *name),
        };
    };
    let mut same = small(*last) == u64::from_ne_bytes(*name_last);
    while same
        && came.len() > 8
        && let (Some((eight, rest)), Some((name_eight, name_rest))) = (came.split_first_chunk(), name.split_first_chunk())
    {
        same = small(*eight) == u64::from_ne_bytes(*name_eight);
        (came, name) = (rest, name_rest);
    }
    same
}

/// The first and the last four bytes of a few: all of them, and some twice.
fn ends(bytes: &[u8]) -> Option<[u8; 8]> {
    let ([a, b, c, d], [e, f, g, h]) = (*bytes.first_chunk()?, *bytes.last_chunk()?);
    Some([a, b, c, d, e, f, g, h])
}

/// Eight bytes at once, with small letters for capital ones.
const fn small(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let bytes = u64::from_ne_bytes(bytes);
    let low = bytes & (0x7f * EACH);
    // The highest bit of each byte says: at least an A; more than a Z; and ASCII.
    let (from_a, past_z, ascii) = (low + (0x80 - b'A' as u64) * EACH, low + (0x7f - b'Z' as u64) * EACH, !bytes);
    bytes | ((from_a & !past_z & ascii & (0x80 * EACH)) >> 2)
}

/// The name that these letters spell, if it is one of those that most messages have: to find one of them among all names there are costs several times more.
pub(super) fn known(came: &[u8]) -> Option<HeaderName> {
    let name = match (came.len(), came.first()? | 0x20) {
        (3, b'v') => header::VIA,
        (4, b'd') => header::DATE,
        (4, b'e') => header::ETAG,
        (4, b'h') => header::HOST,
        (4, b'v') => header::VARY,
        (6, b'a') => header::ACCEPT,
        (6, b'c') => header::COOKIE,
        (6, b'o') => header::ORIGIN,
        (6, b's') => header::SERVER,
        (7, b'r') => header::REFERER,
        (8, b'l') => header::LOCATION,
        (10, b'c') => header::CONNECTION,
        (10, b's') => header::SET_COOKIE,
        (10, b'u') => header::USER_AGENT,
        (12, b'c') => header::CONTENT_TYPE,
        (13, b'a') => header::AUTHORIZATION,
        (13, b'c') => header::CACHE_CONTROL,
        (13, b'i') => header::IF_NONE_MATCH,
        (13, b'l') => header::LAST_MODIFIED,
        (14, b'c') => header::CONTENT_LENGTH,
        (15, b'a') if came[7] | 0x20 == b'e' => header::ACCEPT_ENCODING,
        (15, b'a') => header::ACCEPT_LANGUAGE,
        (16, b'c') => header::CONTENT_ENCODING,
        (17, b'i') => header::IF_MODIFIED_SINCE,
        (17, b't') => header::TRANSFER_ENCODING,
        _ => return None,
    };
    spells(came, name.as_str()).then_some(name)
}

/// Writes a name in the letters of a message that says nothing about them: with capitals, as most servers of old expect.
pub(super) fn capitals(name: &HeaderName, out: &mut Vec<u8>) {
    let name = name.as_str();
    // Those that nearly every message gets on its way.
    let usual: Option<&[u8]> = match name {
        "via" => Some(b"Via"),
        "x-forwarded-for" => Some(b"X-Forwarded-For"),
        "x-forwarded-host" => Some(b"X-Forwarded-Host"),
        "x-forwarded-proto" => Some(b"X-Forwarded-Proto"),
        _ => None,
    };
    if let Some(usual) = usual {
        return out.extend_from_slice(usual);
    }
    let begin = out.len();
    out.extend_from_slice(name.as_bytes());
    let mut begins = true;
    for letter in &mut out[begin..] {
        if begins {
            letter.make_ascii_uppercase();
        }
        begins = *letter == b'-';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capital_and_small_letters_are_the_same_and_nothing_else_is() {
        let letters = b"x-some-letters-and-more";
        for (length, place) in [
            (1, 0),
            (3, 2),
            (4, 0),
            (4, 3),
            (5, 4),
            (7, 3),
            (7, 6),
            (8, 3),
            (9, 0),
            (14, 0),
            (14, 7),
            (14, 8),
            (14, 13),
            (16, 7),
            (17, 16),
            (23, 15),
        ] {
            for (came, name) in (0..=u8::MAX).flat_map(|came| (0..128).map(move |name: u8| (came, name.to_ascii_lowercase()))) {
                let (mut other, mut own) = (letters[..length].to_vec(), letters[..length].to_vec());
                (other[place], own[place]) = (came, name);
                let same = spells(&other, std::str::from_utf8(&own).unwrap());
                assert_eq!(same, came.to_ascii_lowercase() == name, "{came:#x} and {name:#x} at {place} of {length}");
            }
        }
        assert!(!spells(b"x-some-lettersx", "x-some-letters") && !spells(b"x-some-l", "x-some-letters") && spells(b"", ""));
    }

    #[test]
    fn a_name_that_is_known_is_the_one_that_would_be_found_among_all() {
        for name in
            ["Host", "content-LENGTH", "TRANSFER-encoding", "Accept-Language", "accept-Encoding", "VIA", "Set-Cookie", "If-Modified-Since"]
        {
            assert_eq!(known(name.as_bytes()), HeaderName::from_bytes(name.as_bytes()).ok(), "{name}");
        }
        for other in ["Hos", "Hosts", "Cost", "Content-Lengtj", "content_length", "Accept-encodinh", "", "-"] {
            assert_eq!(known(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn capitals_begin_every_word() {
        for (name, expected) in
            [("via", "Via"), ("x-forwarded-for", "X-Forwarded-For"), ("-x--y-", "-X--Y-"), ("x-1a", "X-1a"), ("_a", "_a")]
        {
            let mut out = b"> ".to_vec();
            capitals(&HeaderName::from_static(name), &mut out);
            assert_eq!(out, format!("> {expected}").as_bytes());
        }
    }
}
