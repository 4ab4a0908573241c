use super::*;

fn accept(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))])
}

#[test]
fn a_browser_gets_a_page_and_a_program_gets_json() {
    assert!(wants_html(&accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")));
    for program in ["*/*", "application/json", "application/json, text/html", ""] {
        assert!(!wants_html(&accept(program)), "{program}");
    }
}

#[test]
fn retry_after_is_whole_seconds_and_never_zero() {
    assert_eq!(seconds(Duration::ZERO), "1");
    assert_eq!(seconds(Duration::from_millis(2001)), "3");
}

#[test]
fn a_failed_attempt_is_answered_by_what_is_known_of_it() {
    use ErrorKind::{BadResponse, Connect, ConnectTimeout, NoServer, RequestBody, RequestStalled, RequestTooLarge, Reset, Timeout};
    for (kind, maybe_sent, status) in [
        (NoServer, false, 503),
        (Connect, false, 503),
        (ConnectTimeout, false, 503),
        (Reset, false, 503),
        (Reset, true, 502),
        (Connect, true, 502),
        (BadResponse, true, 502),
        (Timeout, true, 504),
        (RequestBody, true, 400),
        (RequestStalled, true, 408),
        (RequestTooLarge, true, 413),
    ] {
        let error = SendError { kind, maybe_sent, server: None, detail: String::new(), spare: None };
        let response = send_failed(&error, false, Duration::from_secs(7), false);
        assert_eq!(response.status().as_u16(), status, "{kind:?}");
        let field = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(field("retry-after"), (status == 503).then_some("7"), "{kind:?}");
        assert_eq!(field("connection"), kind.is_of_the_request().then_some("close"), "{kind:?}");
        assert_eq!(field("content-type"), Some("application/problem+json"), "{kind:?}");
        // A read that broke off may be made again without harm, so its client is told when.
        let of_a_read = if matches!(kind, Reset | Connect) { 503 } else { status };
        assert_eq!(send_failed(&error, true, Duration::from_secs(7), false).status().as_u16(), of_a_read, "{kind:?}");
    }
}

#[test]
fn the_title_of_a_problem_is_the_phrase_of_its_status() {
    for (status, title) in [
        (StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large"),
        (StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable Content"),
        (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
    ] {
        let problem: serde_json::Value = serde_json::from_slice(problem_bytes(false, status, "", None).body()).unwrap();
        assert_eq!(problem["title"], title);
    }
}
