//! Calls of gRPC. None is ever queued: its client waits for the one answer that the server gives, knows no 202, and may be told something before it has said all.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};

use super::{body::ClientBody, proxy_status::PROXY_STATUS};
use crate::http1::ResponseOf;

/// The media type, also the start of that of gRPC-Web.
const GRPC: &[u8] = b"application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What follows the media type where a request is a call.
fn suffix<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let media = (method == Method::POST).then(|| headers.get(CONTENT_TYPE)).flatten()?.as_bytes();
    let (start, rest) = media.split_at_checked(GRPC.len())?;
    start.eq_ignore_ascii_case(GRPC).then_some(rest)
}

/// Whether a request is a call of gRPC or gRPC-Web.
pub(super) fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    suffix(method, headers).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'-')))
}

/// Whether its client looks for the outcome in `grpc-status`, and takes another status of HTTP for a fault. One of gRPC-Web is content with that.
pub(super) fn reads_status(head: &Parts) -> bool {
    head.version == Version::HTTP_2
        && suffix(&head.method, &head.headers).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// An answer of our own as such a client reads it: 200, and all that there is to say in the head (Trailers-Only, "gRPC over HTTP2").
pub(super) fn tell(response: &mut ResponseOf<ClientBody>) {
    response.body.empty();
    let (status, headers) = (std::mem::replace(&mut response.head.status, StatusCode::OK), response.head.fields_mut());
    let why = headers.get(PROXY_STATUS).and_then(|value| value.to_str().ok()).unwrap_or("forebay");
    let message = HeaderValue::try_from(format!("{status}: {}", why.replace('%', "%25")));
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from_static(code(status)));
    message.into_iter().for_each(|message| drop(headers.insert(MESSAGE, message)));
}

/// The status of gRPC. `UNAVAILABLE` only where the server certainly has not seen the call: clients make such a call again by themselves.
fn code(status: StatusCode) -> &'static str {
    const UNKNOWN: &str = "2";
    const DEADLINE_EXCEEDED: &str = "4";
    const RESOURCE_EXHAUSTED: &str = "8";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    match status {
        StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => DEADLINE_EXCEEDED,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => UNIMPLEMENTED,
        StatusCode::BAD_REQUEST => INTERNAL,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_media_type() {
        let call = |media: &'static str| is_call(&Method::POST, &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]));
        for media in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8", "application/grpc-web+json"] {
            assert!(call(media), "{media}");
        }
        for media in ["application/json", "application/grp", "application/grpcx", "text/plain", ""] {
            assert!(!call(media), "{media}");
        }
        assert!(!is_call(&Method::PUT, &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))])));
    }

    #[test]
    fn a_client_is_told_to_come_again_only_where_nothing_can_have_been_executed() {
        let codes = [503, 502, 504, 429, 404, 400].map(|status| code(StatusCode::from_u16(status).unwrap()));
        assert_eq!(codes, ["14", "2", "4", "8", "12", "13"]);
    }
}
