//! HTTP/2 to servers: requests in its form, and what its errors say about whether a request was processed.

use http::{
    Request, Uri,
    header::{CONNECTION, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::RequestBody;

/// Puts a request into the form that HTTP/2 has (RFC 9113 section 8.3.1): `Host` becomes the authority of its target.
pub(super) fn dressed(mut request: Request<RequestBody>, tls: bool) -> Request<RequestBody> {
    // Among others it names TE, which is meant for the next hop and has to stay (section 8.2.2).
    request.headers_mut().remove(CONNECTION);
    let host = request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none()
        && let Some(host) = host
    {
        request.headers_mut().remove(HOST);
        parts.authority = Some(host);
        parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

/// Whether the server has said that it did not process the request: it refused the stream, or said farewell before it (RFC 9113 section 8.7).
pub(super) fn was_not_processed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_authority_in_the_target() {
        for target in ["/a?b=c", "/", "*"] {
            let request = Request::builder()
                .method(if target == "*" { "OPTIONS" } else { "GET" })
                .uri(target)
                .header("host", "shop.example:81")
                .header("connection", "TE")
                .header("te", "trailers")
                .body(RequestBody::empty())
                .unwrap();
            let dressed = dressed(request, true);
            assert_eq!((dressed.uri().scheme_str(), dressed.uri().authority().unwrap().as_str()), (Some("https"), "shop.example:81"));
            assert_eq!(dressed.headers().len(), 1, "only TE is left");
            assert_eq!(dressed.uri().path_and_query().unwrap().as_str(), target);
        }
    }
}
