//! Who a request comes from, and what the backend is told about it.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{CONNECTION, EXPECT, FORWARDED, HOST, MAX_FORWARDS, VIA},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use ipnet::IpNet;

use crate::{
    backend::headers::{host, remove_hop_by_hop},
    http1::OwnField,
};

use super::inspect::{Malformed, Seen, is_ours, remove_lookalikes};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
static VIA_1_0: OwnField = OwnField::new(VIA, "1.0 forebay", "Via: 1.0 forebay\r\n");
static VIA_1_1: OwnField = OwnField::new(VIA, "1.1 forebay", "Via: 1.1 forebay\r\n");
static VIA_2_0: OwnField = OwnField::new(VIA, "2.0 forebay", "Via: 2.0 forebay\r\n");
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");
/// Fields of this prefix are ours: a client's own are dropped at the door.
pub(super) const OUR_PREFIX: &str = "forebay-";

/// The peer of one connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    ip: IpAddr,
    /// Its address as `X-Forwarded-For` has it, made once per connection.
    ip_value: HeaderValue,
    /// Whether what it says about those before it is believed.
    trusted: bool,
    /// Whether it came by TLS.
    secure: bool,
}

impl Client {
    /// The client at the other end of a TCP connection; none for a unix socket, whose peer is on this machine.
    pub(super) fn new(peer: Option<SocketAddr>, trusted_proxies: &[IpNet], secure: bool) -> Self {
        let ip = peer.map_or(IpAddr::from([127, 0, 0, 1]), |peer| peer.ip().to_canonical());
        Self { ip, ip_value: text(ip), trusted: trusted_proxies.iter().any(|net| net.contains(&ip)), secure }
    }

    /// The address of the peer.
    pub(super) fn peer(&self) -> IpAddr {
        self.ip
    }

    /// The address that a request came from: the peer's, or behind trusted proxies the last one that no trusted proxy has.
    pub(super) fn address(&self, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
        if !self.trusted {
            return self.ip;
        }
        let is_stranger = |hop: &IpAddr| !trusted_proxies.iter().any(|net| net.contains(hop));
        let hops = |name| {
            headers.get_all(name).iter().rev().filter_map(|value: &HeaderValue| value.to_str().ok()).flat_map(|value| value.rsplit(','))
        };
        // The last hops are those that our own proxies have written; whatever cannot be read ends what is known.
        let first = if headers.contains_key(X_FORWARDED_FOR) {
            hops(X_FORWARDED_FOR).map_while(ip_of).find(is_stranger)
        } else {
            hops(FORWARDED).map_while(|hop| ip_of(forwarded_for(hop)?)).find(is_stranger)
        };
        first.unwrap_or(self.ip)
    }

    /// Whether a request was sent over TLS: to a trusted proxy that says so.
    pub(super) fn is_https(&self, headers: &HeaderMap) -> bool {
        match headers.get(X_FORWARDED_PROTO).filter(|_| self.trusted) {
            Some(proto) => proto.as_bytes().eq_ignore_ascii_case(b"https"),
            None => self.secure,
        }
    }

    /// Whether a request names an `https` resource and has come without TLS (RFC 9110 section 7.4).
    pub(super) fn is_insecure(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        uri.scheme() == Some(&Scheme::HTTPS) && !self.is_https(headers)
    }

    /// Makes the head of a client's request that of the request to the backend. `seen` is what [`inspect`](super::inspect::inspect) saw in it.
    pub(super) fn prepare(&self, parts: &mut Parts, seen: &Seen) -> Result<(), Malformed> {
        if parts.uri.authority().is_some() {
            to_origin_form(parts)?;
        }
        let headers = &mut parts.headers;
        if seen.hop_by_hop {
            remove_hop_by_hop(headers);
        } else if seen.plain_connection {
            headers.remove(CONNECTION);
        }
        if seen.expect {
            // We have asked for the body ourselves: nobody is left to wait for a 100.
            headers.remove(EXPECT);
        }
        if seen.ours {
            remove_ours(headers);
        }
        let scheme = if self.secure { HTTPS } else { HTTP };
        if self.trusted {
            headers.append(X_FORWARDED_FOR, self.ip_value.clone());
            headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
        } else {
            headers.insert(X_FORWARDED_FOR, self.ip_value.clone());
            headers.insert(X_FORWARDED_PROTO, scheme);
            if seen.forwarded {
                headers.remove(FORWARDED);
            }
        }
        let told = self.trusted && headers.contains_key(X_FORWARDED_HOST);
        if !told && let Some(host) = host(headers).cloned() {
            headers.insert(X_FORWARDED_HOST, host);
        }
        if seen.lookalike {
            remove_lookalikes(headers);
        }
        if let Some(left) = seen.max_forwards {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
        }
        headers.append(VIA, via(parts.version).value());
        parts.version = Version::HTTP_11;
        Ok(())
    }
}

/// The `Via` for a message that has come to us in that version (RFC 9110 section 7.6.3).
pub(super) fn via(received: Version) -> &'static OwnField {
    match received {
        Version::HTTP_10 => &VIA_1_0,
        Version::HTTP_2 => &VIA_2_0,
        _ => &VIA_1_1,
    }
}

/// An address as text. That of IPv4 is written here, into one piece of memory that all who name it share: by way of `Display` it would cost more than all else that
/// is made for a connection.
fn text(ip: IpAddr) -> HeaderValue {
    let IpAddr::V4(ip) = ip else { return HeaderValue::from_str(&ip.to_string()).unwrap_or(UNKNOWN) };
    let mut text = Dotted { bytes: [0; 15], length: 0 };
    for octet in ip.octets() {
        if text.length > 0 {
            text.put(b'.');
        }
        if octet >= 100 {
            text.put(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.put(b'0' + octet / 10 % 10);
        }
        text.put(b'0' + octet % 10);
    }
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).unwrap_or(UNKNOWN)
}

/// The text of an IPv4 address.
struct Dotted {
    bytes: [u8; 15],
    length: u8,
}

impl Dotted {
    fn put(&mut self, byte: u8) {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }
}

impl AsRef<[u8]> for Dotted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The address of one hop of `X-Forwarded-For`; some write its port too.
fn ip_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse().ok().map(|hop: SocketAddr| hop.ip()))
}

/// The node of one element of `Forwarded` (RFC 7239 section 4): `for=192.0.2.43`, `For="[2001:db8::17]:4711"`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, node)| node.trim().trim_matches('"'))
}

/// RFC 9112 section 3.2.2: the authority of an absolute target replaces `Host`.
fn to_origin_form(parts: &mut Parts) -> Result<(), Malformed> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default().to_owned());
    let target = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let host = authority.and_then(|authority| HeaderValue::from_str(&authority).ok()).ok_or(Malformed::Target)?;
    parts.headers.insert(HOST, host);
    parts.uri = Uri::from(target);
    Ok(())
}

fn remove_ours(headers: &mut HeaderMap) {
    let ours: Vec<_> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{super::inspect::inspect, *};

    fn prepared(peer: &str, trusted: &[&str], request: http::request::Builder) -> Result<Parts, Malformed> {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let request = request.body(()).unwrap();
        let mut parts = request.into_parts().0;
        let seen = inspect(&parts)?;
        Client::new(Some(peer.parse().unwrap()), &trusted, false).prepare(&mut parts, &seen)?;
        Ok(parts)
    }

    fn all(parts: &Parts, name: &str) -> Vec<String> {
        parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn an_address_is_written_as_everybody_writes_it() {
        let addresses = ["0.0.0.0", "1.20.255.9", "10.99.100.101", "192.0.2.110", "255.255.255.255", "2001:db8::1", "::"];
        for address in addresses {
            assert_eq!(text(address.parse().unwrap()), address);
        }
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 7, octet, 200]);
            assert_eq!(text(address), address.to_string());
        }
    }

    #[test]
    fn a_client_cannot_forge_where_it_comes_from() {
        let request = Request::post("/a").header("host", "h").header("x-forwarded-for", "1.2.3.4").header("forebay-attempt", "9");
        let parts = prepared("192.0.2.1:5", &[], request).unwrap();
        assert_eq!(all(&parts, "x-forwarded-for"), ["192.0.2.1"]);
        assert_eq!(all(&parts, "x-forwarded-host"), ["h"]);
        assert!(!parts.headers.contains_key("forebay-attempt"));
        let lookalikes = Request::post("/a").header("host", "h").header("x_forwarded-for", "1.2.3.4").header("forebay_id", "9");
        let parts = prepared("192.0.2.1:5", &[], lookalikes).unwrap();
        assert!(parts.headers.keys().all(|name| !name.as_str().contains('_')), "{:?}", parts.headers);
    }

    #[test]
    fn what_a_client_says_of_its_own_connection_goes_no_further() {
        for said in [&["close"][..], &["Keep-Alive"], &["close", "keep-alive"], &["close", "x-private"], &["x-private, close"]] {
            let request = Request::get("/").header("host", "h").header("x-private", "1");
            let request = said.iter().fold(request, |request, said| request.header("connection", *said));
            let parts = prepared("192.0.2.1:5", &[], request).unwrap();
            assert!(!parts.headers.contains_key("connection"), "{said:?}");
            assert_eq!(parts.headers.contains_key("x-private"), !said.concat().contains("private"), "{said:?}");
        }
    }

    #[test]
    fn of_what_a_stranger_says_about_itself_nothing_is_left() {
        let forged = Request::options("/a").header("host", "h").header("x-forwarded-host", "bank").header("x-forwarded-proto", "https");
        let forged = forged.header("forwarded", "for=1.2.3.4;proto=https").header("max-forwards", "3");
        let parts = prepared("[::ffff:192.0.2.1]:5", &["10.0.0.0/8"], forged).unwrap();
        for (name, told) in
            [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "h"), ("x-forwarded-proto", "http"), ("max-forwards", "2")]
        {
            assert_eq!(all(&parts, name), [told], "{name}");
        }
        assert!(!parts.headers.contains_key("forwarded"));
        let says_https = HeaderMap::from_iter([(X_FORWARDED_PROTO, HTTPS)]);
        let is_https = |peer: &str| Client::new(Some(peer.parse().unwrap()), &["10.0.0.0/8".parse().unwrap()], false).is_https(&says_https);
        assert!(!is_https("192.0.2.1:5") && is_https("10.1.1.1:5"));
    }

    #[test]
    fn a_trusted_proxy_is_believed_about_those_before_it() {
        let trusted = ["10.0.0.0/8"];
        let request = Request::get("/")
            .header("host", "h")
            .header("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.1.1.1")
            .header("x-forwarded-proto", "https");
        let parts = prepared("10.0.0.1:5", &trusted, request).unwrap();
        assert_eq!(all(&parts, "x-forwarded-for"), ["6.6.6.6, 192.0.2.7, 10.1.1.1", "10.0.0.1"]);
        assert_eq!(all(&parts, "x-forwarded-proto"), ["https"]);
        let nets: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let client = Client::new(Some("10.0.0.1:5".parse().unwrap()), &nets, false);
        assert_eq!(client.address(&parts.headers, &nets), "192.0.2.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_its_host_wins() {
        let request = Request::get("http://real.example:81/a?b=c").header("host", "forged");
        let parts = prepared("192.0.2.1:5", &[], request).unwrap();
        assert_eq!((parts.uri.to_string(), all(&parts, "host")), ("/a?b=c".into(), vec!["real.example:81".into()]));
    }

    #[test]
    fn the_client_is_the_last_hop_that_no_trusted_proxy_has() {
        let nets: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        for (name, value, expected) in [
            ("x-forwarded-for", "192.0.2.7", "192.0.2.7"),
            ("x-forwarded-for", "6.6.6.6, 192.0.2.7:1234, 10.1.1.1", "192.0.2.7"),
            ("x-forwarded-for", "[2001:db9::1]:80, 2001:db8::1", "2001:db9::1"),
            ("x-forwarded-for", "192.0.2.7, unknown, 10.1.1.1", "10.0.0.1"),
            ("x-forwarded-for", "10.1.1.1", "10.0.0.1"),
            ("forwarded", "for=192.0.2.7;proto=https;by=10.0.0.9", "192.0.2.7"),
            ("forwarded", "For=6.6.6.6, proto=http; for=\"[2001:db9::1]:4711\" , for=10.2.2.2", "2001:db9::1"),
            ("forwarded", "for=192.0.2.7, for=_hidden", "10.0.0.1"),
            ("forwarded", "proto=https", "10.0.0.1"),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            let address = |peer: &str| Client::new(Some(peer.parse().unwrap()), &nets, false).address(&headers, &nets).to_string();
            assert_eq!(address("10.0.0.1:5"), expected, "{name}: {value}");
            assert_eq!(address("192.0.2.99:5"), "192.0.2.99", "a stranger is not believed");
        }
    }

    #[test]
    fn fuzz_a_head_that_is_let_through_says_only_what_is_true_of_its_way() {
        let seeds: [&[u8]; 2] = [
            b"/a?b\nhost: a\nx-forwarded-for: 6.6.6.6, 10.0.0.2\nforwarded: for=\"[2001:db8::1]:1\";proto=https, for=_x\nconnection: TE, x-a\nte: trailers",
            b"http://h:81/a\nhost: other\nx_forwarded_for: 1.1.1.1\nforebay_id: 1\nvia: 1.1 forebay\nprefer: wait=1\nexpect: 100-continue\nmax-forwards: 1",
        ];
        let words: [&[u8]; 8] = [
            b"\nhost: ",
            b"\nconnection: host",
            b"\nforebay-id: 1",
            b"\nx-forwarded-for: ",
            b",",
            b"\"",
            b"[::1]:",
            b"\ntransfer-encoding: chunked",
        ];
        crate::fuzz::run(&seeds, &words, |bytes| {
            let mut lines = bytes.split(|byte| *byte == b'\n');
            let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return false };
            let mut request = Request::builder().method("OPTIONS").uri(uri);
            for line in lines {
                let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
                request = request.header(name, value.strip_prefix(b": ").unwrap_or(value));
            }
            let Ok((head, ())) = request.body(()).map(Request::into_parts) else { return false };
            let Ok(seen) = inspect(&head) else { return false };
            let nets: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
            for (peer, trusted) in [("192.0.2.1:5", false), ("10.0.0.1:5", true)] {
                let client = Client::new(Some(peer.parse().unwrap()), &nets, false);
                assert!(client.trusted == trusted && (trusted || client.address(&head.headers, &nets) == client.ip));
                let mut parts = head.clone();
                if client.prepare(&mut parts, &seen).is_err() {
                    continue;
                }
                assert!(parts.uri.authority().is_none());
                assert!(parts.headers.get_all(HOST).iter().count() <= 1 && !parts.headers.keys().any(is_ours));
                let ways: Vec<_> = parts.headers.get_all(X_FORWARDED_FOR).iter().collect();
                assert_eq!(*ways[ways.len() - 1], client.ip_value);
                assert!(trusted || ways.len() == 1, "{ways:?}");
            }
            true
        });
    }
}
