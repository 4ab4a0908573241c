//! What becomes of a live write on a spill route whose attempt fails: it is queued where it certainly was not executed, or may be executed twice; otherwise its
//! client is told the truth.

mod common;

use common::{
    backend::{self, Act, Backend, Step, Trigger},
    client::{self, Response},
    program::Program,
    site::Site,
};

/// A route for each kind of delivery, whose answers have this time to come.
fn site(backend: &Backend, response_timeout: &str) -> String {
    let site = Site::of(&[backend.url()])
        .backend(&format!("response_timeout = \"{response_timeout}\""))
        .route("again", "/again", "[routes.spill]\norder_by = \"none\"\ndelivery = \"at-least-once\"")
        .route("once", "/once", "[routes.spill]\norder_by = \"none\"\ndelivery = \"at-most-once\"");
    site.to_string()
}

async fn start(backend: &Backend) -> Program {
    Program::start(&site(backend, "1h")).await
}

async fn send(program: &Program, method: &str, path: &str) -> Response {
    client::fetch(program.proxy(), client::request(method, path, &[], "order")).await
}

/// What a backend did to one live write, and what its client has to get on a route that allows a second attempt, and on one that does not.
struct Case {
    act: Act,
    again: u16,
    once: u16,
    /// The start of `Proxy-Status` where it was queued.
    why: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |act, again, once, why| Case { act, again, once, why };
    let answered = |status| backend::answer(status, &[], "theirs");
    let mut cases = vec![
        case(backend::reset_after_reading(), 202, 502, "forebay; error=connection_terminated; details=\"rescued\""),
        case(backend::bytes("garbage\r\n\r\n"), 202, 502, "forebay; error=http_protocol_error; details=\"rescued\""),
        case(answered(429), 202, 202, "forebay; error=destination_unavailable; received-status=429; details=\"rescued\""),
        case(answered(503), 202, 202, "forebay; error=destination_unavailable; received-status=503; details=\"rescued\""),
        case(answered(502), 202, 502, "forebay; error=destination_unavailable; received-status=502; details=\"rescued\""),
        case(answered(504), 202, 504, "forebay; error=destination_unavailable; received-status=504; details=\"rescued\""),
    ];
    // The application's own answers are its own, its failures included.
    cases.extend(
        [200, 201, 302, 400, 401, 404, 408, 409, 422, 423, 425, 500, 501, 505, 507]
            .map(|status| case(answered(status), status, status, "")),
    );
    cases
}

#[tokio::test]
async fn a_failed_attempt_is_rescued_where_its_route_and_method_allow_it() {
    for Case { act, again, once, why } in cases() {
        let backend = Backend::start().await;
        let program = start(&backend).await;
        for (method, path, expected) in sent(again, once) {
            backend.next(act.clone());
            let response = send(&program, method, path).await;
            assert_eq!(response.status, expected, "{method} {path} after {act:?}");
            if expected == 202 {
                assert_eq!(response.field("proxy-status"), Some(why), "{method} {path}");
                is_delivered(&program, &response).await;
            }
        }
    }
}

/// What is sent, and the status that it has to get. PUT and DELETE may be sent again on any route (RFC 9110 section 9.2.2).
fn sent(again: u16, once: u16) -> [(&'static str, &'static str, u16); 4] {
    [("POST", "/again", again), ("POST", "/once", once), ("PUT", "/once", again), ("DELETE", "/once", again)]
}

async fn is_delivered(program: &Program, rescued: &Response) {
    let delivered = program.becomes(&rescued.id(), "delivered").await;
    assert_eq!((&delivered["reason"], &delivered["attempts"]), (&"rescued".into(), &1.into()), "the live attempt is not counted");
}

#[tokio::test]
async fn what_a_backend_keeps_silent_about_is_rescued_likewise() {
    let backend = Backend::start().await;
    let program = Program::start(&site(&backend, "200ms")).await;
    // What is sent again has to be answered, and gets the time for it.
    program.pause().await;
    let mut rescued = Vec::new();
    for (method, path, expected) in sent(202, 504) {
        backend.next(vec![Step::Read, Step::Wait(Trigger::default())]);
        let response = send(&program, method, path).await;
        assert_eq!(response.status, expected, "{method} {path}");
        let details = if expected == 202 { "; details=\"rescued\"" } else { "" };
        assert_eq!(response.field("proxy-status"), Some(&*format!("forebay; error=http_response_timeout{details}")), "{method} {path}");
        rescued.extend(Some(response).filter(|_| expected == 202));
    }
    program.reload(&site(&backend, "1h")).await;
    program.resume().await;
    for response in rescued {
        is_delivered(&program, &response).await;
    }
}

#[tokio::test]
async fn what_was_certainly_not_sent_is_queued_on_every_route() {
    let mut backend = Backend::start().await;
    let program = start(&backend).await;
    // Attempts from the queue would fail too, and all together be enough to tell that the backend is down.
    program.pause().await;
    backend.stop().await;
    let mut ids = Vec::new();
    for (method, path) in [("POST", "/again"), ("POST", "/once"), ("PUT", "/once")] {
        let response = send(&program, method, path).await;
        assert_eq!(response.field("proxy-status"), Some("forebay; error=connection_refused; details=\"rescued\""));
        ids.push(response.id());
    }
    backend.start_again().await;
    program.resume().await;
    for id in ids {
        program.becomes(&id, "delivered").await;
    }
    assert_eq!(backend.requests().iter().filter(|request| request.method != "HEAD").count(), 3);
}

#[tokio::test]
async fn a_reset_of_an_unread_request_is_not_taken_for_never_sent() {
    let backend = Backend::start().await;
    let program = start(&backend).await;
    backend.next(backend::reset_unread());
    assert_eq!(send(&program, "POST", "/once").await.status, 502, "the bytes had left us");
    assert_eq!(program.status().await["totals"]["accepted"], 0);
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn a_500_is_rescued_once_the_backend_fails_as_a_whole() {
    let backend = Backend::start().await;
    let program = start(&backend).await;
    backend.otherwise(|request| if request.method == "HEAD" { backend::answer(503, &[], "") } else { backend::answer(500, &[], "") });
    for _ in 0..20 {
        let response = send(&program, "POST", "/again").await;
        assert!(matches!(response.status, 500 | 202), "{}", response.status);
    }
    program.logged("the breaker to trip", |line| line["state"] == "shedding").await;
    assert_eq!(send(&program, "POST", "/again").await.status, 202);
}

#[tokio::test]
async fn a_replay_that_fails_is_tried_again_or_given_up_as_its_route_says() {
    // What the backend does to the first attempt, the route, and how it has to end.
    let cases: [(Act, &str, &str, &str); 8] = [
        (backend::answer(500, &[], ""), "/again", "delivered", "asked"),
        (backend::answer(500, &[], ""), "/once", "dead", "outcome-unknown"),
        (backend::reset_after_reading(), "/again", "delivered", "asked"),
        (backend::reset_after_reading(), "/once", "dead", "outcome-unknown"),
        (backend::answer(503, &["Retry-After: 1"], ""), "/once", "delivered", "asked"),
        (backend::answer(401, &[], ""), "/again", "dead", "auth-expired"),
        (backend::answer(302, &["Location: /login"], ""), "/again", "dead", "auth-expired"),
        (backend::answer(404, &[], ""), "/again", "dead", "refused"),
    ];
    let backend = Backend::start().await;
    let program = start(&backend).await;
    for (act, path, state, reason) in cases {
        backend.next(act.clone());
        let queued = client::fetch(program.proxy(), client::request("POST", path, &["Prefer: respond-async"], "order")).await;
        let outcome = program.becomes(&queued.id(), state).await;
        let attempts = if state == "delivered" { 2 } else { 1 };
        assert_eq!((&outcome["reason"], &outcome["attempts"]), (&reason.into(), &attempts.into()), "{path} after {act:?}");
    }
    let numbers = |request: &backend::Recorded| request.field("forebay-attempt").map(str::to_owned);
    let last: Vec<_> = backend.requests().iter().filter_map(numbers).collect();
    assert_eq!(last.iter().filter(|number| *number == "2").count(), 3);
}
