//! A backend of several servers, seen from outside: the trouble of one is nobody's, and all of them together are a backend that fails.

mod common;

use std::collections::BTreeSet;

use common::{
    backend::{self, Act, Backend, Step, Trigger},
    client::{self, Client},
    program::Program,
    site::Site,
};

const SPILL: &str = "[routes.spill]\norder_by = \"none\"";

/// Two servers, of which the first says `alive`.
async fn two() -> (Backend, Backend) {
    let (alive, other) = (Backend::start().await, Backend::start().await);
    alive.otherwise(|_| backend::answer(200, &[], "alive"));
    (alive, other)
}

/// Reads the request, and does no more.
fn silent() -> Act {
    vec![Step::Read, Step::Wait(Trigger::default())]
}

fn site(alive: &Backend, other: &Backend) -> Site {
    Site::of(&[alive.url(), other.url()]).route("marks", "/marks", SPILL).route("pages", "/", "")
}

#[tokio::test]
async fn one_dead_server_of_several_is_nobodys_trouble() {
    let (alive, mut dying) = two().await;
    let program = Program::start(&site(&alive, &dying).to_string()).await;
    let mut client = Client::connect(program.proxy()).await;
    while dying.requests().is_empty() {
        assert_eq!(client.exchange(client::get("/")).await.status, 200);
    }
    dying.stop().await;
    let served = async {
        loop {
            assert_eq!(client.exchange(client::get("/")).await.text(), "alive");
            assert_eq!(client.exchange(client::request("POST", "/marks", &[], "x")).await.text(), "alive", "no need to queue it");
            assert_eq!(client.exchange(client::request("POST", "/up", &[], "streams")).await.text(), "alive");
        }
    };
    let out = program.logged("the dead server to be out", |line| line["server"] == 1 && line["level"] == "WARN");
    tokio::select! {
        () = served => {}
        line = out => assert!(line["message"].as_str().unwrap().contains("server 1 is out"), "{line}"),
    }
    assert_eq!(program.status().await["backends"][0]["state"], "passing");
    dying.start_again().await;
    program.logged("the server to be back", |line| line["server"] == 1 && line["level"] == "INFO").await;
    assert_eq!(program.status().await["totals"]["accepted"], 0);
}

#[tokio::test]
async fn with_all_servers_dead_the_backend_sheds() {
    let (mut one, mut two) = two().await;
    let health = "health = { path = \"/healthz\", interval = \"1s\", timeout = \"1s\", fall = 3, rise = 2 }";
    let program = Program::start(&site(&one, &two).backend(health).to_string()).await;
    one.received(1).await;
    one.stop().await;
    two.stop().await;
    // Nobody sends anything: the check alone finds out.
    program.logged("the breaker to trip", |line| line["state"] == "shedding").await;
    let read = client::fetch(program.proxy(), client::get("/pages")).await;
    assert_eq!((read.status, read.field("proxy-status")), (503, Some("forebay; error=destination_unavailable; details=\"down\"")));
    let write = client::fetch(program.proxy(), client::request("POST", "/marks", &[], "x")).await;
    assert_eq!((write.status, &write.json()["reason"]), (202, &"down".into()));
    two.start_again().await;
    program.logged("the breaker to probe", |line| line["state"] == "probing").await;
    program.becomes(&write.id(), "delivered").await;
    assert!(two.requests().iter().any(|request| request.field("forebay-id") == Some(&write.id())));
    assert_eq!(client::fetch(program.proxy(), client::get("/pages")).await.status, 200);
}

#[tokio::test]
async fn a_read_whose_server_breaks_off_is_answered_by_another_and_a_write_is_not_sent_again() {
    for death in [backend::reset_after_reading(), vec![Step::Read, Step::Close]] {
        let (alive, dying) = two().await;
        dying.otherwise(move |_| death.clone());
        let program = Program::start(&site(&alive, &dying).to_string()).await;
        while dying.requests().is_empty() {
            for method in ["GET", "OPTIONS"] {
                assert_eq!(client::fetch(program.proxy(), client::request(method, "/", &[], "")).await.status, 200, "{method}");
            }
        }
        let mut sent = BTreeSet::new();
        let mut broken = 0;
        while broken == 0 {
            let target = format!("/up/{}", sent.len());
            broken += u32::from(client::fetch(program.proxy(), client::request("DELETE", &target, &[], "")).await.status == 502);
            sent.insert(target);
        }
        let seen: Vec<_> = [alive.requests(), dying.requests()].concat().into_iter().map(|request| request.target).collect();
        let writes: Vec<_> = seen.into_iter().filter(|target| target.starts_with("/up/")).collect();
        assert_eq!((writes.len(), writes.into_iter().collect()), (sent.len(), sent), "each of them once");
    }
}

#[tokio::test]
async fn a_read_that_breaks_two_servers_breaks_no_third() {
    let servers = [Backend::start().await, Backend::start().await, Backend::start().await];
    servers.iter().for_each(|server| server.otherwise(|_| backend::reset_after_reading()));
    let urls: Vec<_> = servers.iter().map(Backend::url).collect();
    let program = Program::start(&Site::of(&urls).route("all", "/", "").to_string()).await;
    let read = client::fetch(program.proxy(), client::get("/")).await;
    assert_eq!((read.status, servers.iter().map(|server| server.requests().len()).sum::<usize>()), (503, 2));
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_known_for_that_also_where_another_broke_the_request_off_before() {
    let (breaking, mut gone) = two().await;
    breaking.otherwise(|_| backend::reset_after_reading());
    let program = Program::start(&site(&breaking, &gone).to_string()).await;
    gone.stop().await;
    for _ in 0..5 {
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 503);
    }
    program.logged("that it is out", |line| line["message"] == "backend app: server 1 is out after 5 connect failures in a row").await;
}

#[tokio::test]
async fn a_read_that_its_server_does_not_answer_in_time_is_answered_by_one_that_is_well() {
    let (alive, hung) = two().await;
    hung.otherwise(|_| silent());
    let program = Program::start(&site(&alive, &hung).backend("response_timeout = \"2s\"").to_string()).await;
    while hung.requests().is_empty() {
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.text(), "alive");
    }
}

#[tokio::test]
async fn where_no_server_answers_in_time_none_is_asked_twice_as_often() {
    let servers = [Backend::start().await, Backend::start().await];
    servers.iter().for_each(|server| server.otherwise(|_| silent()));
    let urls: Vec<_> = servers.iter().map(Backend::url).collect();
    let program = Program::start(&Site::of(&urls).backend("response_timeout = \"100ms\"").route("all", "/", "").to_string()).await;
    let asked = || servers.iter().map(|server| server.requests().len()).sum::<usize>();
    for total in [2, 3, 4] {
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.status, 504);
        assert_eq!(asked(), total);
    }
}

#[tokio::test]
async fn a_server_that_fails_whatever_it_is_given_goes_out_while_another_is_well() {
    for (sickness, refuses) in [(backend::reset_after_reading(), false), (backend::answer(503, &[], "sick"), true)] {
        let (alive, sick) = two().await;
        let well = sickness.clone();
        sick.otherwise(move |_| well.clone());
        let program = Program::start(&site(&alive, &sick).to_string()).await;
        let post = || client::fetch(program.proxy(), client::request("POST", "/up", &[], "x"));
        let load = async {
            loop {
                post().await;
            }
        };
        let out = program.logged("the sick server to be out", |line| line["server"] == 1 && line["level"] == "WARN");
        tokio::select! {
            () = load => {}
            line = out => assert!(line["message"].as_str().unwrap().ends_with("failures in a row"), "{line}"),
        }
        assert_eq!(program.status().await["backends"][0]["state"], "passing");
        for _ in 0..20 {
            assert_eq!(post().await.status, 200);
        }
        let given = sick.requests().iter().filter(|request| request.method == "POST").count();
        assert!(given == 5 || refuses, "{given}: one that refuses is given a second, since it may be full for a moment");
        sick.otherwise(|_| backend::answer(200, &[], "cured"));
        program.logged("the server to be back", |line| line["server"] == 1 && line["level"] == "INFO").await;
    }
}

#[tokio::test]
async fn servers_that_are_restarted_one_right_after_the_other_refuse_nobody() {
    let (mut one, mut two) = two().await;
    // A check that looks so seldom that it sees nothing of all this.
    let health = "health = { path = \"/\", interval = \"1h\", timeout = \"1s\", fall = 1000, rise = 1 }";
    let program = Program::start(&site(&one, &two).backend(health).to_string()).await;
    let mut client = Client::connect(program.proxy()).await;
    for round in 1..=3 {
        for (number, server) in [&mut two, &mut one].into_iter().enumerate() {
            server.stop().await;
            let out = format!("server {} is out after 5 connect failures in a row", 1 - number);
            while program.stderr().matches(&out).count() < round {
                assert_eq!(client.exchange(client::get("/")).await.status, 200, "{}", program.stderr());
            }
            server.start_again().await;
        }
    }
    assert_eq!(program.stderr().matches("is back after it took a connection").count(), 5);
}
