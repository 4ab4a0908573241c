//! A queue or a disk that is full refuses what would have to be queued, says so, loses nothing, and lets everything else pass.

mod common;

use common::{
    backend::{self, Backend, Trigger},
    client,
    program::Program,
    site::Site,
};

fn site(backend: &Backend, store: &str) -> Site {
    let always = "[routes.spill]\nwhen = \"always\"\norder_by = \"none\"";
    let needed = "[routes.spill]\norder_by = \"none\"";
    Site::of(&[backend.url()]).store(store).route("always", "/always", always).route("needed", "/needed", needed).route("reads", "/", "")
}

#[tokio::test]
async fn a_full_queue_refuses_with_503_and_traffic_goes_on() {
    let backend = Backend::start().await;
    let program = Program::start(&site(&backend, "min_free_disk = \"1KiB\"\nmax_requests = 2").to_string()).await;
    let trigger = Trigger::default();
    let held = trigger.clone();
    backend.otherwise(move |request| match request.target.as_str() {
        "/always" => backend::answer_when(&held, 200, &[], ""),
        _ => backend::answer(200, &[], "live"),
    });
    let write = client::request("POST", "/always", &[], "x");
    let mut accepted = Vec::new();
    for _ in 0..2 {
        accepted.push(client::fetch(program.proxy(), &write).await.id());
    }
    let refused = client::fetch(program.proxy(), &write).await;
    assert_eq!((refused.status, refused.field("content-type")), (503, Some("application/problem+json")));
    assert_eq!(refused.field("proxy-status"), Some("forebay; error=proxy_internal_error; details=\"max_requests\""));
    assert!(refused.field("retry-after").is_some() && refused.text().contains("store.max_requests"), "{}", refused.text());
    assert_eq!(refused.json()["reason"], "max_requests");
    assert_eq!(client::fetch(program.proxy(), &write).await.status, 503);
    let store = program.status().await["store"].clone();
    assert_eq!(
        (&store["requests"], &store["max_requests"], &store["refusals"]["max_requests"]["requests"]),
        (&2.into(), &2.into(), &2.into())
    );
    assert_eq!(program.stderr().matches("what is new is refused").count(), 1, "one line, however many it refuses");
    for live in [client::get("/"), client::request("POST", "/needed", &[], "x")] {
        assert_eq!(client::fetch(program.proxy(), live).await.text(), "live");
    }
    trigger.release();
    for id in accepted {
        program.becomes(&id, "delivered").await;
    }
    assert_eq!(client::fetch(program.proxy(), &write).await.status, 202, "there is room again");
}

#[tokio::test]
async fn a_full_disk_refuses_with_503_and_traffic_goes_on() {
    let mut backend = Backend::start().await;
    let program = Program::start(&site(&backend, "min_free_disk = \"1024TiB\"").to_string()).await;
    let mut client = client::Client::connect(program.proxy()).await;
    // Refused before the body is asked for.
    client.send("POST /always HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n").await;
    let refused = client.response().await;
    assert_eq!((refused.status, &refused.interim[..]), (503, &[][..]));
    assert!(refused.text().contains("store.min_free_disk"), "{}", refused.text());
    assert_eq!(refused.json()["reason"], "min_free_disk");
    assert_eq!(refused.field("proxy-status"), Some("forebay; error=proxy_internal_error; details=\"min_free_disk\""));
    for live in
        [client::get("/"), client::request("POST", "/needed", &[], "x"), client::request("POST", "/needed", &[], "x".repeat(1 << 20))]
    {
        assert_eq!(client::fetch(program.proxy(), live).await.status, 200);
    }
    backend.stop().await;
    let lost_backend = client::fetch(program.proxy(), client::request("POST", "/needed", &[], "x")).await;
    assert_eq!((lost_backend.status, lost_backend.field("forebay-id")), (503, None), "never a 202 for what is not durable");
    assert_eq!(program.status().await["totals"]["accepted"], 0);
}
