//! Ordering keys: which requests must reach the backend one after the other.

use std::{
    fmt,
    hash::Hasher,
    net::{IpAddr, Ipv4Addr},
};

use http::{HeaderMap, HeaderName, Uri, header::COOKIE};
use siphasher::sip::SipHasher13;

/// A backend and one value of what its route orders by, as 64 bits.
///
/// Two values that share a hash only wait for one another needlessly. The hash is stored, so it must be the same in every version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(u64);

impl OrderKey {
    /// The key of `value`, found by `rule`, at `backend`.
    pub fn new(backend: &str, rule: &Rule, value: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        let (kind, name) = rule.parts();
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        for part in [backend, kind, name].map(str::as_bytes).into_iter().chain([value]) {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        Self(hasher.finish())
    }

    /// The key that [`as_u64`](Self::as_u64) gave.
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The stored form.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrderKey({:016x})", self.0)
    }
}

/// One place in a request where an ordering key may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `header:NAME`: the value of a header field.
    Header(HeaderName),
    /// `client-ip`: the address of the client, behind trusted proxies the one that they name.
    ClientIp,
    /// `path`: the path of the request, without its query.
    Path,
    /// `query:NAME`: the first query parameter of that name, as it stands (not decoded).
    Query(String),
    /// `cookie:NAME`: the value of a cookie.
    Cookie(String),
}

impl Rule {
    /// What stands before the colon, and after it.
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Header(name) => ("header", name.as_str()),
            Self::ClientIp => ("client-ip", ""),
            Self::Path => ("path", ""),
            Self::Query(name) => ("query", name),
            Self::Cookie(name) => ("cookie", name),
        }
    }
}

/// What a rule may look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The request target.
    pub uri: &'a Uri,
    /// The request's header fields.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client_ip: IpAddr,
}

/// The ordering key of a request: that of the first rule that finds a value; none when none does.
pub fn key(backend: &str, rules: &[Rule], subject: Subject<'_>) -> Option<OrderKey> {
    rules.iter().find_map(|rule| match rule {
        Rule::Header(name) => subject.headers.get(name).map(|value| OrderKey::new(backend, rule, value.as_bytes())),
        Rule::ClientIp => Some(of_address(backend, rule, subject.client_ip)),
        Rule::Path => Some(OrderKey::new(backend, rule, subject.uri.path().as_bytes())),
        Rule::Query(name) => query(subject.uri, name).map(|value| OrderKey::new(backend, rule, value.as_bytes())),
        Rule::Cookie(name) => cookie(subject.headers, name).map(|value| OrderKey::new(backend, rule, value)),
    })
}

fn of_address(backend: &str, rule: &Rule, address: IpAddr) -> OrderKey {
    match address {
        IpAddr::V4(address) => {
            let (text, length) = dotted(address);
            OrderKey::new(backend, rule, &text[..length])
        }
        IpAddr::V6(address) => OrderKey::new(backend, rule, address.to_string().as_bytes()),
    }
}

/// An address as people write it, and how long that is. Every write has one, and the formatter of the standard library takes ten times as long.
fn dotted(address: Ipv4Addr) -> ([u8; 16], usize) {
    let (mut text, mut length) = ([0; 16], 0);
    for octet in address.octets() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let zeros = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        for digit in &digits[zeros..] {
            text[length] = b'0' + digit;
            length += 1;
        }
        text[length] = b'.';
        length += 1;
    }
    // But for the dot behind the last.
    (text, length - 1)
}

fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b';'))
        .filter_map(|pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|&byte| byte == b'=')?;
            Some((&pair[..equals], &pair[equals + 1..]))
        })
        .find_map(|(key, value)| (key == name.as_bytes()).then_some(value))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, "") => f.write_str(kind),
            (kind, name) => write!(f, "{kind}:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rules: &[Rule], uri: &str, headers: &[(&'static str, &'static str)]) -> Option<OrderKey> {
        let headers = headers.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let subject = Subject { uri: &uri.parse().unwrap(), headers: &headers, client_ip: Ipv4Addr::LOCALHOST.into() };
        key("app", rules, subject)
    }

    #[test]
    fn the_first_rule_that_finds_a_value_decides() {
        let auth = Rule::Header(http::header::AUTHORIZATION);
        let rules = [auth.clone(), Rule::ClientIp];
        assert_eq!(find(&rules, "/", &[("authorization", "Bearer 7")]), Some(OrderKey::new("app", &auth, b"Bearer 7")));
        assert_eq!(find(&rules, "/", &[]), Some(OrderKey::new("app", &Rule::ClientIp, b"127.0.0.1")));
        assert_eq!(find(&[auth], "/", &[]), None);
        assert_eq!(find(&[], "/", &[]), None);
    }

    #[test]
    fn every_place_of_a_key_is_found() {
        let value = Some(OrderKey::new("app", &Rule::Query("id".into()), b"7"));
        assert_eq!(find(&[Rule::Query("id".into())], "/a?x=1&id=7&id=8", &[]), value);
        assert_eq!(find(&[Rule::Query("id".into())], "/a?idx=7", &[]), None);
        let value = Some(OrderKey::new("app", &Rule::Cookie("s".into()), b"x=y"));
        assert_eq!(find(&[Rule::Cookie("s".into())], "/", &[("cookie", "ss=1; s=x=y")]), value);
        assert_eq!(find(&[Rule::Path], "/a?q=1", &[]), find(&[Rule::Path], "/a?q=2", &[]));
    }

    #[test]
    fn an_address_is_written_as_it_always_was() {
        for address in ["0.0.0.0", "9.10.99.100", "127.0.0.1", "255.255.255.255", "192.0.2.7", "100.101.110.200"] {
            let (text, length) = dotted(address.parse().unwrap());
            assert_eq!(&text[..length], address.as_bytes());
        }
    }

    #[test]
    fn the_stored_hash_never_changes() {
        assert_eq!(OrderKey::new("app", &Rule::ClientIp, b"127.0.0.1").as_u64(), 0x347a_0dee_9462_9c2b);
    }

    #[test]
    fn the_same_value_at_two_backends_is_two_keys() {
        assert_ne!(OrderKey::new("a", &Rule::Path, b"/x"), OrderKey::new("b", &Rule::Path, b"/x"));
    }
}
