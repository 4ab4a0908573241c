//! Request lines, and how lines end.

use super::Doors;

#[tokio::test]
async fn a_line_ends_with_carriage_return_and_line_feed_and_nothing_else() {
    let attempts: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: test\n\n",
        b"GET / HTTP/1.1\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: 1\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\rHost: test\r\r",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\rY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\r \r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: test\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\n\r\rX: \r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn a_line_that_is_not_the_first_of_a_connection_is_held_to_the_same() {
    use super::{common::client, *};
    let doors = Doors::open().await;
    for program in &doors.programs {
        for first in [
            client::get("/honest"),
            client::request("POST", "/honest", &[], "a\nb\n"),
            b"POST /honest HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4;x=\"y\"\r\na\nb\n\r\n0\r\nX-Sum: 1\r\n\r\n"
                .to_vec(),
        ] {
            let mut client = Client::connect(program.proxy()).await;
            client.send([&first[..], b"GET /bare HTTP/1.1\r\nHost: test\nX: 1\r\n\r\n"].concat()).await;
            assert_eq!(client.response().await.status, 200);
            assert_eq!(client.response().await.status, 400, "after {:?}", String::from_utf8_lossy(&first));
            client.closed().await;
        }
    }
    doors.heard_nothing_but_honesty();
}

#[tokio::test]
async fn a_request_line_has_three_parts_with_one_space_between_them() {
    let attempts: &[&[u8]] = &[
        b"GET  / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /  HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /\tHTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /\x0bHTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: test\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1 x\r\nHost: test\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / \r\nHost: test\r\n\r\n",
        b"/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / http/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: test\r\n\r\n",
        b"GET / HTTP/01.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: test\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: test\r\n\r\n",
        b"GET / ICY/1.1\r\nHost: test\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn a_method_is_a_token() {
    let attempts: &[&[u8]] = &[
        b"G@T / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"\"GET\" / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET\0 / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"G\xc3\x89T / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET: / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn a_target_is_a_path_of_printable_characters_without_a_fragment() {
    let attempts: &[&[u8]] = &[
        b"GET /a#b HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /#/../admin HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /?a#b HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET #b HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET http://test/a#b HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET a/b HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET test HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET \\ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: test\r\n\r\n",
        b"OPTIONS ** HTTP/1.1\r\nHost: test\r\n\r\n",
        b"OPTIONS *?x HTTP/1.1\r\nHost: test\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn an_absolute_target_names_a_host_by_http_and_no_user() {
    let attempts: &[&[u8]] = &[
        b"GET http://user:pass@test/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET http://test@evil/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET ftp://test/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET file:///etc/passwd HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET http:///a HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET http://te,st/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET http:/test/ HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET http://test/a HTTP/1.1\r\n\r\n",
        b"GET http://test/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}
