//! The access log says of each request who sent it, what became of it and who answered, in the form that the operator chose.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;

use common::{
    backend::{self, Backend},
    client,
    program::Program,
    site::Site,
    within,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const REQUEST: &str = "POST /a%20b\"c?d HTTP/1.1\r\nHost: www.example.com\r\nX-Forwarded-For: 203.0.113.9\r\nAuthorization: Basic am9lOnNlY3JldA==\r\n\
                       Referer: http://r/\r\nUser-Agent: a\\b \u{e9}\r\nContent-Length: 2\r\n\r\nhi";

fn site(backend: &Backend, format: &str) -> Site {
    Site::spilling(backend.url(), "")
        .clients("trusted_proxies = [\"127.0.0.1\"]")
        .top(&format!("workers = 1\nlog = {{ access = \"./access.log\", access_format = \"{format}\" }}"))
}

/// The lines of each of these files, as soon as there are so many of all together.
async fn lines<const FILES: usize>(program: &Program, files: [&str; FILES], count: usize) -> [Vec<String>; FILES] {
    let whole = |file| {
        let text = fs::read_to_string(program.path(file)).unwrap();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect::<Vec<_>>()
    };
    let written = async {
        loop {
            let lines = files.map(whole);
            if lines.iter().map(Vec::len).sum::<usize>() >= count {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the lines of the access log", written).await
}

#[tokio::test]
async fn a_line_of_json_names_the_client_behind_the_proxy_and_the_server_that_answered() {
    let mut backend = Backend::start().await;
    let url = backend.url();
    let program = Program::start(&site(&backend, "json").to_string()).await;
    backend.next(backend::answer(201, &[], "made"));
    assert_eq!(client::fetch(program.proxy(), REQUEST).await.status, 201);
    backend.stop().await;
    let id = client::fetch(program.proxy(), REQUEST).await.id();
    assert_eq!(client::fetch(program.proxy(), client::get("/x")).await.status, 503);
    assert_eq!(client::fetch(program.proxy(), client::get(&format!("/.forebay/requests/{id}"))).await.status, 200);
    assert_eq!(client::fetch(program.proxy(), client::get("/.forebay/requests/1")).await.status, 404);
    assert_eq!(client::fetch(program.proxy(), "GET /\x01 HTTP/1.1\r\n\r\n").await.status, 400);
    let [lines] = lines(&program, ["access.log"], 6).await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [passed, spilled, refused, asked, unknown, unread] = lines.as_slice() else { panic!("{lines:?}") };
    for (field, expected) in [
        ("client", json!("203.0.113.9")),
        ("method", json!("POST")),
        ("target", json!("/a%20b\"c?d")),
        ("protocol", json!("HTTP/1.1")),
        ("host", json!("www.example.com")),
        ("user", json!("joe")),
        ("referer", json!("http://r/")),
        ("user_agent", json!("a\\b é")),
        ("status", json!(201)),
        ("bytes_sent", json!(4)),
        ("server", json!(url)),
        ("backend", json!("app")),
        ("route", json!("all")),
        ("outcome", json!("passed")),
    ] {
        assert_eq!(passed[field], expected, "{field}");
    }
    assert!(passed["server_seconds"].as_f64().unwrap() <= passed["duration_seconds"].as_f64().unwrap());
    assert_eq!((&spilled["status"], &spilled["outcome"], &spilled["id"]), (&json!(202), &json!("spilled"), &json!(id)));
    assert_eq!((&refused["status"], &refused["outcome"], &refused["server"]), (&json!(503), &json!("refused"), &json!(url)));
    assert_eq!((&unread["status"], &unread["outcome"], unread.get("method")), (&json!(400), &json!("refused"), None));
    assert_eq!((&asked["outcome"], &unknown["outcome"]), (&json!("answered"), &json!("refused")));
}

#[tokio::test]
async fn a_combined_line_is_that_of_nginx_and_a_rotated_file_is_left_alone() {
    let backend = Backend::start().await;
    let program = Program::start(&site(&backend, "combined").to_string()).await;
    client::fetch(program.proxy(), REQUEST).await;
    fs::rename(program.path("access.log"), program.path("access.log.1")).unwrap();
    program.signal(Signal::USR1);
    program.logged("the reopening", |line| line["message"] == "access log reopened").await;
    client::fetch(program.proxy(), "no request\r\n\r\n").await;
    client::fetch(program.proxy(), "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nReferer:\r\n\r\n").await;
    client::fetch(program.proxy(), client::get("/second")).await;
    let [rotated, new] = lines(&program, ["access.log.1", "access.log"], 4).await;
    assert!(new.last().unwrap().contains("\"GET /second HTTP/1.1\" 200 2 \"-\" \"-\"") && rotated.len() < 2, "{new:?} {rotated:?}");
    assert!(new.iter().any(|line| line.ends_with("] \"-\" 400 0 \"-\" \"-\"")), "{new:?}");
    assert!(new.iter().any(|line| line.contains("\"GET http://a.example/x?y HTTP/1.1\" 200 2 \"\" \"-\"")), "{new:?}");
    // The first line may have been under way when the file was opened anew.
    let first = rotated.iter().chain(&new).next().unwrap();
    let [before, _, after] = first.split(['[', ']']).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(before, "203.0.113.9 - joe ");
    assert_eq!(after, " \"POST /a%20b\\x22c?d HTTP/1.1\" 200 2 \"http://r/\" \"a\\x5Cb \\xC3\\xA9\"");
}
