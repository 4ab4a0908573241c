//! A write that cannot be passed on now is durable before its client hears of it, and reaches the backend later exactly as it was sent.

mod common;

use common::{
    backend::{self, Backend, Trigger},
    client::{self, Client, Response},
    program::Program,
    site::Site,
};

/// Every write on `/` goes through the queue.
async fn always(backend: &Backend, spill: &str) -> Program {
    Program::start(&Site::spilling(backend.url(), &format!("when = \"always\"\n{spill}")).to_string()).await
}

async fn post(program: &Program, fields: &[&str], body: &[u8]) -> Response {
    client::fetch(program.proxy(), client::request("POST", "/orders?day=1", fields, body)).await
}

/// Writes until the backend, which is stopped, is known to be down.
async fn shed(program: &Program) {
    for _ in 0..5 {
        assert_eq!(post(program, &[], b"x").await.status, 202);
    }
    program.logged("the breaker to trip", |line| line["state"] == "shedding").await;
}

#[tokio::test]
async fn a_202_says_what_will_become_of_the_write() {
    let mut backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "max_age = \"1h\"").to_string()).await;
    // What is being delivered is ahead of nobody: nothing is.
    program.pause().await;
    backend.stop().await;
    let rescued = post(&program, &[], b"x").await;
    assert_eq!(rescued.field("proxy-status"), Some("forebay; error=connection_refused; details=\"rescued\""));
    shed(&program).await;
    let response = post(&program, &[], b"x").await;
    let id = response.id();
    let location = format!("/.forebay/requests/{id}");
    assert_eq!((response.status, response.field("location")), (202, Some(location.as_str())));
    assert!(response.field("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(response.field("proxy-status"), Some("forebay; error=destination_unavailable; details=\"down\""));
    assert_eq!((response.field("content-type"), response.field("cache-control")), (Some("application/json"), Some("no-store")));
    assert_eq!(response.field("preference-applied"), None);
    let body = response.json();
    let mut names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accepted_at", "estimated_delivery", "expires_at", "id", "location", "position", "reason", "state"]);
    assert_eq!(
        (&body["id"], &body["state"], &body["reason"], &body["location"]),
        (&id.into(), &"queued".into(), &"down".into(), &location.into())
    );
    assert_eq!(body["position"], 7);
    let moment = |name: &str| body[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(moment("expires_at").as_millisecond() - moment("accepted_at").as_millisecond(), 3_600_000);
    assert!(moment("estimated_delivery") >= moment("accepted_at"));
}

#[tokio::test]
async fn a_write_acknowledged_before_kill_9_is_delivered_after_it() {
    let mut backend = Backend::start().await;
    let mut program = Program::start(&Site::spilling(backend.url(), "").to_string()).await;
    backend.stop().await;
    let mut sent = Vec::new();
    for size in [0_usize, 1, 100_000, 5 << 20] {
        let body: Vec<u8> = (0..size).map(|index| (index / 7) as u8).collect();
        let response = post(&program, &[], &body).await;
        assert_eq!(response.status, 202);
        program.kill().await;
        sent.push((response.id(), body));
        program.run().await;
    }
    backend.start_again().await;
    for (id, _) in &sent {
        assert_eq!(program.becomes(id, "delivered").await["response"]["status"], 200);
    }
    let requests = backend.requests();
    for (id, body) in sent {
        let of_it: Vec<_> = requests.iter().filter(|request| request.field("forebay-id") == Some(&id)).collect();
        assert!(of_it.len() == 1 && of_it[0].body.content == body, "{id}");
    }
}

#[tokio::test]
async fn a_replayed_write_is_the_one_that_was_sent() {
    let backend = Backend::start().await;
    let program = always(&backend, "").await;
    let head = "POST /a//b?c=%20d HTTP/1.1\r\nHost: Shop.Example:81\r\nX-oDD: caf\u{e9}\r\nx-odd: 2\r\nSOAPAction: \"x\"\r\nForebay-Attempt: 9\r\n\
                Connection: X-Hop\r\nX-Hop: 1\r\nVia: 1.0 fred\r\nIdempotency-Key: mine\r\nExpect: 100-continue\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 9\r\n\r\n");
    let id = client::fetch(program.proxy(), chunked).await.id();
    program.becomes(&id, "delivered").await;
    let request = &backend.received(1).await[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/a//b?c=%20d"));
    assert_eq!((&request.body.content[..], &request.body.trailers[..]), (&b"abcd"[..], &[("X-Sum".to_owned(), b"9".to_vec())][..]));
    let odd: Vec<_> = request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-odd")).collect();
    assert_eq!(odd, [&("X-oDD".to_owned(), "caf\u{e9}".into()), &("x-odd".to_owned(), b"2".to_vec())]);
    assert!(request.has_letters("SOAPAction") && request.has_letters("Host"));
    for (name, value) in [
        ("host", Some("Shop.Example:81")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-host", Some("Shop.Example:81")),
        ("x-forwarded-proto", Some("http")),
        ("idempotency-key", Some("mine")),
        ("forebay-id", Some(id.as_str())),
        ("forebay-attempt", Some("1")),
        ("forebay-reason", Some("always")),
        ("via", Some("1.0 fred")),
        ("connection", None),
        ("x-hop", None),
        ("expect", None),
        ("content-length", None),
    ] {
        assert_eq!(request.field(name), value, "{name}");
    }
    assert!(request.fields.contains(&("Via".to_owned(), b"1.1 forebay".to_vec())));
    assert!(request.field("forebay-accepted-at").unwrap().parse::<jiff::Timestamp>().is_ok());

    let id = post(&program, &[], b"plain").await.id();
    program.becomes(&id, "delivered").await;
    let request = &backend.received(2).await[1];
    assert_eq!((request.field("content-length"), request.field("idempotency-key")), (Some("5"), Some(format!("\"{id}\"").as_str())));
}

#[tokio::test]
async fn with_always_each_write_is_queued_and_each_read_passes() {
    let backend = Backend::start().await;
    let program = always(&backend, "methods = [\"POST\", \"DELETE\"]").await;
    let response = post(&program, &[], b"x").await;
    assert_eq!(response.field("proxy-status"), Some("forebay; error=proxy_internal_response; details=\"always\""));
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 200);
    assert_eq!(client::fetch(program.proxy(), client::request("DELETE", "/", &[], "")).await.status, 202);
    assert_eq!(client::fetch(program.proxy(), client::request("PUT", "/", &[], "x")).await.status, 200, "not one of its methods");
    backend.received(4).await;
}

#[tokio::test]
async fn a_client_that_asks_to_be_queued_is_told_that_it_was() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "").route("plain", "/plain", "").to_string()).await;
    let response = post(&program, &["Prefer: wait=5, respond-async"], b"x").await;
    assert_eq!((response.status, response.field("preference-applied")), (202, Some("respond-async")));
    assert_eq!(response.json()["reason"], "asked");
    program.becomes(&response.id(), "delivered").await;
    for fields in [&["Prefer: return=minimal"][..], &[]] {
        let response = post(&program, fields, b"x").await;
        assert_eq!((response.status, response.field("preference-applied")), (200, None));
    }
    let on_a_route_that_never_spills = client::request("POST", "/plain", &["Prefer: respond-async"], "x");
    let response = client::fetch(program.proxy(), on_a_route_that_never_spills).await;
    assert_eq!((response.status, response.field("preference-applied")), (200, None));
}

#[tokio::test]
async fn a_client_that_asks_never_to_be_queued_gets_503_instead() {
    let mut backend = Backend::start().await;
    let program =
        Program::start(&Site::spilling(backend.url(), "").route("always", "/always", "[routes.spill]\nwhen = \"always\"").to_string())
            .await;
    let never = ["Forebay-Spill: never"];
    assert_eq!(post(&program, &never, b"x").await.status, 200, "where it can be passed it is");
    let on_always = client::fetch(program.proxy(), client::request("POST", "/always", &never, "x")).await;
    assert_eq!(
        (on_always.status, on_always.field("proxy-status")),
        (503, Some("forebay; error=proxy_internal_response; details=\"always\""))
    );
    backend.stop().await;
    let refused = post(&program, &never, b"x").await;
    assert_eq!((refused.status, refused.field("proxy-status")), (503, Some("forebay; error=connection_refused")));
    assert!(refused.field("retry-after").is_some());
    shed(&program).await;
    let refused = post(&program, &never, b"x").await;
    assert_eq!((refused.status, refused.field("proxy-status")), (503, Some("forebay; error=destination_unavailable; details=\"down\"")));
    assert_eq!((refused.field("content-type"), refused.field("forebay-id")), (Some("application/problem+json"), None));
    assert_eq!(program.status().await["totals"]["accepted"], 5);
}

#[tokio::test]
async fn a_browser_gets_a_page_that_follows_its_write() {
    let backend = Backend::start().await;
    let program = always(&backend, "").await;
    let page = post(&program, &["Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"], b"x").await;
    assert_eq!((page.status, page.field("content-type")), (202, Some("text/html; charset=utf-8")));
    assert!(page.text().contains(page.field("location").unwrap()));
    let json = post(&program, &["Accept: application/json, text/html"], b"x").await;
    assert_eq!(json.field("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_client_that_knows_no_202_sees_what_its_route_says() {
    let backend = Backend::start().await;
    let program = always(&backend, "accepted = { status = 200, content_type = \"text/xml\", body = \"<ok/>\" }").await;
    let response = post(&program, &["Accept: text/html"], b"x").await;
    assert_eq!((response.status, response.field("content-type"), response.text()), (200, Some("text/xml"), "<ok/>"));
    assert_eq!(
        (response.field("location"), response.field("retry-after")),
        (None, None),
        "a 2xx with a Location would mean something else"
    );
    program.becomes(&response.id(), "delivered").await;
}

#[tokio::test]
async fn two_at_a_time_of_a_route_and_the_rest_waits_in_the_queue() {
    let backend = Backend::start().await;
    let site = Site::of(&[backend.url()])
        .route("uploads", "/uploads", "concurrency = 2\n[routes.spill]\norder_by = \"none\"")
        .route("all", "/", "");
    let program = Program::start(&site.to_string()).await;
    let trigger = Trigger::default();
    let held = trigger.clone();
    backend.otherwise(move |request| match request.target.as_str() {
        "/uploads" => backend::answer_when(&held, 200, &[], "done"),
        _ => backend::answer(200, &[], "read"),
    });
    let upload = client::request("POST", "/uploads", &[], "sheet");
    let mut live = [Client::connect(program.proxy()).await, Client::connect(program.proxy()).await];
    for client in &mut live {
        client.send(&upload).await;
    }
    backend.received(2).await;
    let mut queued = Vec::new();
    for _ in 0..3 {
        let response = client::fetch(program.proxy(), &upload).await;
        assert_eq!(response.field("proxy-status"), Some("forebay; error=connection_limit_reached; details=\"overload\""));
        queued.push(response.id());
    }
    assert_eq!(client::fetch(program.proxy(), client::get("/")).await.text(), "read", "other routes do not wait");
    assert_eq!(backend.requests().iter().filter(|request| request.target == "/uploads").count(), 2);
    trigger.release();
    for client in &mut live {
        assert_eq!(client.response().await.text(), "done");
    }
    for id in queued {
        program.becomes(&id, "delivered").await;
    }
    assert!(backend.busiest() <= 3, "two uploads and the read, but {}", backend.busiest());
}

#[tokio::test]
async fn a_later_write_of_one_sender_does_not_overtake_an_earlier_one() {
    let backend = Backend::start().await;
    let site = Site::of(&[backend.url()]).route("all", "/", "[routes.spill]\norder_by = [\"header:x-sender\"]");
    let program = Program::start(&site.to_string()).await;
    let trigger = Trigger::default();
    let first = backend::answer_when(&trigger, 200, &[], "");
    backend.next(first);
    let earlier = post(&program, &["X-Sender: a", "Prefer: respond-async"], b"1").await.id();
    backend.received(1).await;
    let later = post(&program, &["X-Sender: a"], b"2").await;
    assert_eq!(later.field("proxy-status"), Some("forebay; error=proxy_internal_response; details=\"order\""));
    assert_eq!(post(&program, &["X-Sender: b"], b"3").await.status, 200, "another sender passes");
    trigger.release();
    program.becomes(&earlier, "delivered").await;
    program.becomes(&later.id(), "delivered").await;
    let bodies: Vec<_> = backend.requests().into_iter().map(|request| request.body.content).collect();
    assert_eq!(bodies, [b"1", b"3", b"2"]);
}
