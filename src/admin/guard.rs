//! Who may ask.
//!
//! With a token, whoever bears it (RFC 6750 section 2.1). Without one the listener is on loopback, and everything that runs on this machine may ask, a
//! browser included; so a web page that the operator happens to look at must not ask in their name. Two things would let it:
//! - a form or a script that sends a request across sites: refused by its `Origin` or `Sec-Fetch-Site`, and since a form cannot send JSON, by its type;
//! - a name of the page's own that it points to 127.0.0.1 (DNS rebinding), which makes it same-origin: refused by its `Host`, which then is a
//!   domain name, and neither an address nor `localhost`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{AdminState, Problem};

/// Lets a request in, or says why not.
pub(super) async fn guard(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let admitted = admit(request.method(), request.headers(), state.view().token.as_deref());
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn admit(method: &Method, headers: &HeaderMap, token: Option<&str>) -> Result<(), Problem> {
    match token {
        Some(token) if !bears(headers, token) => {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this needs the bearer token of admin.token_file, as `Authorization: Bearer TOKEN`",
            ));
        }
        Some(_) => {}
        None if !asks_for_this_machine(headers) => {
            let detail = "without a token, only a Host that is an address or localhost is answered; set admin.token_file to use a name";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        None => {}
    }
    if crosses_sites(headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another site may not ask this"));
    }
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) && !is_json(headers) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be JSON, with `Content-Type: application/json`"));
    }
    Ok(())
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let Some((scheme, given)) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && same(given.trim_matches(' ').as_bytes(), token.as_bytes())
}

/// Compares in a time that depends on the lengths alone, so that an answer's time does not tell how much of a guess was right.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let differences = given.iter().zip(expected).fold(0, |differences, (a, b)| std::hint::black_box(differences | (a ^ b)));
    given.len() == expected.len() && differences == 0
}

/// Whether `Host` names this machine in a way that no stranger's DNS can. HTTP/1.0 without one is no browser.
fn asks_for_this_machine(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|value| {
        let Ok(authority) = Authority::try_from(value.as_bytes()) else { return false };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    })
}

fn crosses_sites(headers: &HeaderMap) -> bool {
    let fetch_site = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let origin = headers.get(ORIGIN).is_some_and(|origin| {
        let origin = Uri::try_from(origin.as_bytes()).ok();
        let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        // An opaque origin (`null`) has no authority, and is nobody's.
        match (origin.as_ref().filter(|origin| origin.scheme().is_some()).and_then(Uri::authority), host) {
            (Some(origin), Some(host)) => *origin != host,
            _ => true,
        }
    });
    fetch_site || origin
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, headers: &[(&'static str, &str)], token: Option<&str>) -> u16 {
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        admit(method, &headers, token).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn with_a_token_only_its_bearer_is_let_in() {
        let get = |headers: &[(&'static str, &str)]| status(&Method::GET, headers, Some("s3cret"));
        assert_eq!(get(&[("authorization", "Bearer s3cret")]), 200);
        assert_eq!(get(&[("authorization", "bearer  s3cret"), ("host", "forebay.example.com")]), 200);
        for wrong in ["Bearer s3creT", "Bearer s3cre", "Bearer s3crets", "Bearer", "Bearer ", "Basic s3cret", "s3cret"] {
            assert_eq!(get(&[("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(get(&[("host", "127.0.0.1:8081")]), 401);
    }

    #[test]
    fn without_a_token_a_rebound_name_is_refused() {
        let get = |host| status(&Method::GET, &[("host", host)], None);
        for ours in ["127.0.0.1:8081", "[::1]:8081", "localhost:8081", "LOCALHOST", "127.0.0.1"] {
            assert_eq!(get(ours), 200, "{ours}");
        }
        for theirs in ["evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example:8081", "", "a b"] {
            assert_eq!(get(theirs), 421, "{theirs}");
        }
        assert_eq!(status(&Method::GET, &[], None), 200);
        assert_eq!(status(&Method::GET, &[("host", "localhost"), ("host", "evil.example")], None), 421);
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let post = |extra: (&'static str, &str)| {
            status(&Method::POST, &[("host", "localhost:8081"), ("content-type", "application/json"), extra], None)
        };
        assert_eq!(post(("origin", "http://localhost:8081")), 200);
        assert_eq!(post(("sec-fetch-site", "same-origin")), 200);
        for origin in ["http://evil.example", "http://localhost:9999", "null", "localhost:8081", ""] {
            assert_eq!(post(("origin", origin)), 403, "{origin}");
        }
        assert_eq!(post(("sec-fetch-site", "cross-site")), 403);
        assert_eq!(post(("sec-fetch-site", "same-site")), 403);
    }

    #[test]
    fn a_write_must_be_json() {
        let post = |content_type| status(&Method::POST, &[("host", "localhost"), ("content-type", content_type)], None);
        assert_eq!(post("application/json"), 200);
        assert_eq!(post("Application/JSON; charset=utf-8"), 200);
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; a=application/json"] {
            assert_eq!(post(form), 415, "{form}");
        }
        assert_eq!(status(&Method::POST, &[("host", "localhost")], None), 415);
    }
}
