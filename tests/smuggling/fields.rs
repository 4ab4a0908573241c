//! Fields: their syntax, `Host`, `Connection`, `Expect`.

use super::Doors;

#[tokio::test]
async fn a_field_is_a_token_a_colon_and_printable_text_on_one_line() {
    let attempts: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\n X: a\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\t: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX Y: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX(Y: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX\0: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX\x1f: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX\xc3\xa9: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\x01b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\x0bb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\x7fb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\x08\x08\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn there_is_one_host_and_it_names_a_host() {
    let attempts: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nhOST: other\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: test\r\nHost: other\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test/a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: http://test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test:port\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test:1:2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: te\xc3\xa9st\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test#a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \"test\"\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn connection_takes_away_nothing_that_is_meant_for_the_server() {
    let attempts: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close, Host\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nConnection: Content-Length\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Authorization\r\nAuthorization: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, cookie\r\nCookie: x=1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: X-Forwarded-For\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nConnection: x-forwarded-proto\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Forebay-Id\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Via\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close, X-Private, \xc3\xa9\r\nX-Private: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close X-Private\r\nX-Private: 1\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn nothing_looks_like_a_length_or_a_coding_and_is_none() {
    let attempts: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: test\r\nContent_Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent_Length: 5\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer_Encoding: chunked\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn an_expectation_that_cannot_be_met_is_said_to_fail() {
    let attempts: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue, 100-continue\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nExpect: x\r\nContent-Length: 0\r\n\r\n",
    ];
    Doors::open().await.refuse(417, attempts).await;
}

#[tokio::test]
async fn a_trace_shows_nobody_what_proxies_add() {
    Doors::open().await.refuse(501, &[b"TRACE / HTTP/1.1\r\nHost: test\r\nCookie: a=b\r\n\r\n"]).await;
}

#[tokio::test]
async fn what_asks_for_an_upgrade_stays_a_request_and_what_follows_it_too() {
    use super::{common::client::Client, *};
    let doors = Doors::open().await;
    for program in &doors.programs {
        let mut client = Client::connect(program.proxy()).await;
        // What follows is sent before anybody has agreed to anything.
        client
            .send("GET /honest HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET /smuggled HTTP/1.1\nHost: test\n\n")
            .await;
        assert_eq!(client.response().await.status, 200);
        assert_eq!(client.response().await.status, 400);
        client.closed().await;
    }
    doors.heard_nothing_but_honesty();
}
