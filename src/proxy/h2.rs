//! A request of HTTP/2 becomes one that is written as HTTP/1.1 has it, before anybody looks at it: with `Host`, a target that is a path, and one `Cookie`.
//!
//! What a message of HTTP/2 must not have (names with capitals, `Connection` and its like, other pseudo-fields, a length that is not that of its body) the
//! library has refused before (RFC 9113 section 8.2).

use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{COOKIE, HOST},
    request::Parts,
    uri::PathAndQuery,
};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{exchange::Link, inspect::Malformed};
use crate::{backend::Incoming, http2::is_padded};

/// Whether a body is said to be empty and yet has not ended, which only HTTP/2 can say. A server of HTTP/1.1 would take its request for whole at once.
pub(super) fn says_nothing(body: &Incoming) -> bool {
    body.size_hint().exact() == Some(0) && !body.is_end_stream()
}

/// Waits for the end of such a body.
pub(super) async fn hear(body: &mut Incoming, link: &Link) -> Result<(), Malformed> {
    let patience = link.worker.shared.site.load().clients.idle_timeout;
    let heard = async {
        while let Some(frame) = body.frame().await {
            frame.ok()?;
        }
        Some(())
    };
    // Boxed, as all that few requests need.
    Box::pin(timeout(patience, heard)).await.ok().flatten().ok_or(Malformed::Endless)
}

/// What the library has let pass is refused here. RFC 9113 section 8.3.1: an intermediary makes `Host` of `:authority`; a `Host` that says something else is a trap for one of two readers.
pub(super) fn settle(head: &mut Parts) -> Result<(), Malformed> {
    if head.method == Method::CONNECT {
        return Err(Malformed::Target);
    }
    if is_padded(&head.headers) {
        return Err(Malformed::Padded);
    }
    if let Some(authority) = head.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Malformed::UserInfo);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Malformed::Target)?;
        if head.headers.get_all(HOST).iter().any(|said| !said.as_bytes().eq_ignore_ascii_case(host.as_bytes())) {
            return Err(Malformed::Authority);
        }
        head.headers.insert(HOST, host);
    } else if !head.headers.contains_key(HOST) {
        return Err(Malformed::Host);
    }
    let target = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    head.uri = Uri::from(target);
    join_cookies(&mut head.headers);
    Ok(())
}

/// RFC 9113 section 8.2.3: a client may send each pair of its cookie as a field of its own; HTTP/1.1 has one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn settled(request: http::request::Builder) -> Result<Request<()>, Malformed> {
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        settle(&mut head).map(|()| Request::from_parts(head, ()))
    }

    #[test]
    fn the_authority_becomes_the_host_and_the_target_a_path() {
        let request = settled(Request::get("https://shop.example:8443/a?b=c")).unwrap();
        assert_eq!(
            (request.uri().to_string(), &request.headers()[HOST]),
            ("/a?b=c".into(), &HeaderValue::from_static("shop.example:8443"))
        );
        let request = settled(Request::get("https://shop.example").header(HOST, "SHOP.example")).unwrap();
        assert_eq!((request.uri().to_string(), request.headers().get_all(HOST).iter().count()), ("/".into(), 1));
        let request = settled(Request::get("/a").header(HOST, "shop.example")).unwrap();
        assert_eq!(request.headers()[HOST], "shop.example");
    }

    #[test]
    fn a_request_that_two_readers_could_take_for_different_hosts_is_refused() {
        let two = Request::get("https://a/").header(HOST, "b");
        assert_eq!(settled(two).unwrap_err(), Malformed::Authority);
        let two = Request::get("https://a/").header(HOST, "a").header(HOST, "b");
        assert_eq!(settled(two).unwrap_err(), Malformed::Authority);
        assert_eq!(settled(Request::get("/")).unwrap_err(), Malformed::Host);
        assert_eq!(settled(Request::get("https://user@a/")).unwrap_err(), Malformed::UserInfo);
        assert_eq!(settled(Request::connect("a:443")).unwrap_err(), Malformed::Target);
    }

    #[test]
    fn a_value_with_spaces_around_it_is_refused_and_one_with_spaces_within_is_not() {
        for (value, is_good) in [(" a", false), ("a\t", false), (" ", false), ("", true), ("a \tb", true)] {
            assert_eq!(settled(Request::get("https://a/").header("x-a", value)).is_ok(), is_good, "{value:?}");
        }
    }

    #[test]
    fn the_crumbs_of_a_cookie_become_one_field() {
        let request = settled(Request::get("https://a/").header(COOKIE, "a=1").header(COOKIE, "b=2").header(COOKIE, "c=3")).unwrap();
        assert_eq!(request.headers().get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
