//! A backend is never asked for a second thing on a connection that owes an answer (RFC 9112 section 9.3.2).

mod common;

use common::{
    backend::{self, Backend, Trigger},
    client::{self, Client},
    program::Program,
    site::Site,
};

#[tokio::test]
async fn a_backend_gets_no_request_on_a_connection_that_owes_an_answer() {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).to_string()).await;
    let held = Trigger::default();
    backend.next(backend::answer_when(&held, 200, &[], "first"));
    // All at once from one client, and others from one of its own. One thread has all connections to the backend.
    let mut pipelined = Client::connect(program.proxy()).await;
    pipelined.send([client::request("POST", "/1", &[], "x"), client::request("POST", "/2", &[], "x"), client::get("/3")].concat()).await;
    backend.received(1).await;
    for target in ["/4", "/5"] {
        assert_eq!(client::fetch(program.proxy(), client::get(target)).await.status, 200, "it is not behind the one that waits");
    }
    let seen =
        |backend: &Backend| -> Vec<_> { backend.requests().iter().map(|request| (request.connection, request.target.clone())).collect() };
    let before = seen(&backend);
    assert_eq!(before, [(0, "/1".into()), (1, "/4".into()), (1, "/5".into())], "another connection, and the rest of the pipeline waits");
    held.release();
    assert_eq!(pipelined.response().await.text(), "first");
    for _ in 0..2 {
        assert_eq!(pipelined.response().await.text(), "ok");
    }
    let after: Vec<_> = seen(&backend).into_iter().skip(before.len()).map(|(_, target)| target).collect();
    assert_eq!(after, ["/2", "/3"]);
}
