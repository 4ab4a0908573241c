//! What a client can learn and do about its queued write.

mod common;

use common::{
    backend::{self, Backend, Step, Trigger},
    client::{self, Client, Response},
    program::Program,
    site::Site,
    wire::values,
};

async fn queueing(backend: &Backend) -> Program {
    Program::start(&Site::spilling(backend.url(), "when = \"always\"").to_string()).await
}

async fn post(program: &Program) -> String {
    client::fetch(program.proxy(), client::request("POST", "/", &[], "x")).await.id()
}

async fn ask(program: &Program, method: &str, id: &str, rest: &str) -> Response {
    client::fetch(program.proxy(), format!("{method} /.forebay/requests/{id}{rest} HTTP/1.1\r\nHost: test\r\n\r\n")).await
}

#[tokio::test]
async fn a_write_is_followed_from_queued_to_delivered() {
    let mut backend = Backend::start().await;
    let program = Program::start(&Site::spilling(backend.url(), "").to_string()).await;
    backend.stop().await;
    let id = post(&program).await;
    let queued = program.outcome(&id).await;
    assert_eq!((&queued["id"], &queued["reason"], queued.get("response")), (&id.as_str().into(), &"rescued".into(), None));
    assert!(queued["state"] == "queued" || queued["state"] == "delivering");
    let none_yet = ask(&program, "GET", &id, "/response").await;
    assert_eq!(none_yet.status, 404);

    let trigger = Trigger::default();
    backend.next(backend::answer_when(&trigger, 201, &["Location: /orders/7"], "made"));
    backend.start_again().await;
    backend.received(1).await;
    let delivering = program.outcome(&id).await;
    assert_eq!(delivering["state"], "delivering");
    assert!(delivering["attempts"].as_u64().unwrap() >= 1);
    trigger.release();
    let delivered = program.becomes(&id, "delivered").await;
    assert_eq!(delivered["response"]["status"], 201);
}

#[tokio::test]
async fn the_kept_response_is_exactly_what_the_backend_answered() {
    let backend = Backend::start().await;
    let program = queueing(&backend).await;
    backend.next(backend::bytes(
        "HTTP/1.1 207 Multi\r\nX-oDD: 1\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: X-Hop\r\n\
         X-Hop: 1\r\nContent-Type: text/plain; charset=latin1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\0\r\n2\r\n\r\n\r\n0\r\n\r\n",
    ));
    let id = post(&program).await;
    program.becomes(&id, "delivered").await;
    let response = ask(&program, "GET", &id, "/response").await;
    assert_eq!((response.status, &response.body[..]), (207, &b"a\0\r\n"[..]));
    let mut fields: Vec<_> = response.fields.iter().filter(|(name, _)| name != "Content-Length").collect();
    fields.sort();
    let expected = [
        ("Content-Type", "text/plain; charset=latin1"),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Set-Cookie", "b=2"),
        ("X-oDD", "1"),
        ("set-cookie", "a=1"),
    ];
    let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    assert_eq!(fields, expected.iter().collect::<Vec<_>>());
    let head = {
        let mut client = Client::connect(program.proxy()).await;
        client.send(format!("HEAD /.forebay/requests/{id}/response HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        client.response_to_head().await
    };
    assert_eq!((head.status, head.field("content-length")), (207, Some("4")));

    // Larger than what is kept in memory.
    let large = "y".repeat(300_000);
    backend.next(backend::answer(200, &[], &large));
    let id = post(&program).await;
    program.becomes(&id, "delivered").await;
    assert!(ask(&program, "GET", &id, "/response").await.text() == large);
}

#[tokio::test]
async fn an_answer_without_a_body_is_kept_without_one() {
    let backend = Backend::start().await;
    let program = queueing(&backend).await;
    backend.next(backend::bytes("HTTP/1.1 204 No Content\r\n\r\n"));
    let id = post(&program).await;
    program.becomes(&id, "delivered").await;
    let response = ask(&program, "GET", &id, "/response").await;
    assert_eq!((response.status, values(&response.fields, "content-length").count()), (204, 0));
}

#[tokio::test]
async fn a_refused_write_is_dead_and_says_what_the_backend_answered() {
    let backend = Backend::start().await;
    let program = queueing(&backend).await;
    backend.next(backend::answer(422, &[], "no such item"));
    let id = post(&program).await;
    let dead = program.becomes(&id, "dead").await;
    assert_eq!((&dead["reason"], &dead["response"]["status"], &dead["attempts"]), (&"refused".into(), &422.into(), &1.into()));
    let response = ask(&program, "GET", &id, "/response").await;
    assert_eq!((response.status, response.text()), (422, "no such item"));
}

#[tokio::test]
async fn a_queued_write_can_be_withdrawn_once() {
    let mut backend = Backend::start().await;
    let program = Program::start(
        &Site::of(&[backend.url()]).route("all", "/", "[routes.spill]\norder_by = [\"path\"]\nwhen = \"always\"").to_string(),
    )
    .await;
    let trigger = Trigger::default();
    backend.next(vec![Step::Read, Step::Wait(trigger.clone()), Step::Write(backend::response(200, &[], ""))]);
    let first = post(&program).await;
    backend.received(1).await;
    let second = post(&program).await;
    assert_eq!(ask(&program, "DELETE", &first, "").await.status, 409, "it is being delivered");
    assert_eq!(ask(&program, "DELETE", &second, "").await.status, 204);
    assert_eq!(program.outcome(&second).await["state"], "cancelled");
    assert_eq!(ask(&program, "DELETE", &second, "").await.status, 409);
    trigger.release();
    program.becomes(&first, "delivered").await;
    assert_eq!(ask(&program, "DELETE", &first, "").await.status, 409);
    let totals = &program.status().await["totals"];
    assert_eq!((&totals["accepted"], &totals["delivered"], &totals["cancelled"]), (&2.into(), &1.into(), &1.into()));
    backend.stop().await;
    assert_eq!(backend.requests().len(), 1, "a cancelled write is never sent");
}

#[tokio::test]
async fn nobody_finds_a_request_without_its_whole_identity() {
    let backend = Backend::start().await;
    let program = queueing(&backend).await;
    let id = post(&program).await;
    program.becomes(&id, "delivered").await;
    let other = post(&program).await;
    assert_eq!(id.as_bytes()[14], b'7', "a UUID of version 7");
    assert_ne!(id[19..], other[19..], "what follows the time is random");
    let last = if id.ends_with('0') { "1" } else { "0" };
    let near = format!("{}{last}", &id[..35]);
    for unknown in [near.as_str(), "1", "", "..", &id[..35], &id.replace('-', "")] {
        let response = ask(&program, "GET", unknown, "").await;
        assert_eq!((response.status, response.field("content-type")), (404, Some("application/problem+json")), "{unknown}");
        assert_eq!(ask(&program, "DELETE", unknown, "").await.status, 404, "{unknown}");
    }
    let reserved = client::fetch(program.proxy(), client::get("/.forebay/")).await;
    assert_eq!(reserved.status, 404);
    assert!(backend.received(2).await.iter().all(|request| request.target == "/"), "our own paths never reach a backend");
    let response = ask(&program, "PUT", &id, "").await;
    assert_eq!((response.status, response.field("allow")), (405, Some("GET, HEAD, DELETE")));
}
