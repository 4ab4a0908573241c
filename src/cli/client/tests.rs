use std::io::Write;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

fn client(admin: &str) -> Client {
    Client::new(&Connect { admin: Some(admin.into()), token_file: None }, None).unwrap()
}

/// Answers one request with `answer`, and gives back what was asked.
async fn once(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let whole = |request: &[u8]| {
            let text = String::from_utf8_lossy(request).into_owned();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
            (body.len() >= length).then_some(text)
        };
        loop {
            if let Some(text) = whole(&request) {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return text;
            }
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
    });
    (address, asked)
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_read_whole() {
    let (address, asked) = once("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"a\":1}").await;
    let answer: Value = client(&address).post("/api/v1/x", &json!({"b": 2})).await.unwrap();
    assert_eq!(answer, json!({"a": 1}));
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /api/v1/x HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {address}\r\n")) && asked.contains("content-type: application/json\r\n"), "{asked}");
    assert!(asked.ends_with("{\"b\":2}"), "{asked}");
}

#[tokio::test]
async fn a_problem_is_told_in_its_own_words() {
    let body = r#"{"title":"Conflict","status":409,"detail":"the request is delivered"}"#;
    let answer = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak();
    let (address, _asked) = once(answer).await;
    let error = client(&address).get::<Value>("/x").await.unwrap_err();
    assert_eq!(error.to_string(), "forebay refused: the request is delivered (409 Conflict)");
}

#[tokio::test]
async fn whoever_is_not_a_forebay_is_called_so() {
    for answer in
        ["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "SSH-2.0-x\r\n\r\n"]
    {
        let (address, _asked) = once(answer).await;
        let error = client(&address).get::<Value>("/x").await.unwrap_err();
        assert!(matches!(error, ClientError::Stranger { .. }), "{answer}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_says_where_and_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(&address.to_string()).get::<Value>("/x").await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("no forebay answers at http://{address}: is it running? (Connection refused")), "{error}");
    assert!(error.contains("--admin URL"), "{error}");
}

#[test]
fn a_configured_token_goes_to_the_configured_address_alone() {
    let configured = admin::Settings { address: "0.0.0.0:9999".parse().unwrap(), token: Some("s3cret".into()) };
    let at = |admin: Option<&str>| {
        let client = Client::new(&Connect { admin: admin.map(Into::into), token_file: None }, Some(&configured)).unwrap();
        (client.address.to_string(), client.authorization.is_some())
    };
    assert_eq!(at(None), ("127.0.0.1:9999".into(), true));
    assert_eq!(at(Some("http://127.0.0.1:9999/")), ("127.0.0.1:9999".into(), true));
    assert_eq!(at(Some("http://elsewhere:9999")), ("elsewhere:9999".into(), false));
}

#[test]
fn a_token_file_is_read_without_its_newline() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, " s3cret").unwrap();
    let connect = |path: &std::path::Path| Connect { admin: None, token_file: Some(path.to_owned()) };
    let client = Client::new(&connect(file.path()), None).unwrap();
    assert_eq!((client.address.as_str(), client.authorization.unwrap().to_str().unwrap()), ("127.0.0.1:8081", "Bearer s3cret"));

    let missing = file.path().with_extension("missing");
    assert!(Client::new(&connect(&missing), None).unwrap_err().to_string().starts_with(missing.to_str().unwrap()));
}

#[test]
fn an_address_that_is_none_is_wrong_usage() {
    for text in ["", "http://", "not an address", "http://user@host", "http://host/path", "https://127.0.0.1:8081"] {
        let error = Client::new(&Connect { admin: Some(text.into()), token_file: None }, None).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::from(2), "{text}");
    }
}

#[test]
fn a_query_carries_any_name() {
    let parameters = [("state", Some("dead")), ("route", None), ("backend", Some("a b&c=d/é"))];
    assert_eq!(with_query("/x", &parameters), "/x?state=dead&backend=a%20b%26c%3Dd%2F%C3%A9");
    assert_eq!(with_query("/x", &[("route", None)]), "/x");
}
