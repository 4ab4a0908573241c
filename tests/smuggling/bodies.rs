//! Where a body ends.

use super::Doors;

#[tokio::test]
async fn a_length_stands_alone_and_is_a_number() {
    let attempts: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3.0\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3_0\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: \"3\"\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length:\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3;x\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 18446744073709551616\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length : 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n 0\r\n\r\nabc",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn a_length_never_stands_beside_a_coding() {
    let attempts: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\ncontent-length: x\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ];
    Doors::open().await.refuse(400, attempts).await;
}

#[tokio::test]
async fn a_coding_is_chunked_and_nothing_else() {
    let doors = Doors::open().await;
    let malformed: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chu\x0bnked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding\0: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    doors.refuse(400, malformed).await;
    let unknown: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    ];
    doors.refuse(501, unknown).await;
}

#[tokio::test]
async fn a_chunk_is_what_it_says_and_a_body_of_chunks_ends_once() {
    let bodies: &[&[u8]] = &[
        b"fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        b"10000000000000000\r\nx\r\n0\r\n\r\n",
        b"00000000000000001\r\nx\r\n0\r\n\r\n",
        b"+1\r\nx\r\n0\r\n\r\n",
        b"-1\r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b" 1\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1 2\r\nx\r\n0\r\n\r\n",
        b"1_0\r\nx\r\n0\r\n\r\n",
        b"\r\n1\r\nx\r\n0\r\n\r\n",
        b"g\r\nx\r\n0\r\n\r\n",
        b";a\r\nx\r\n0\r\n\r\n",
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"1\r\nx\rX0\r\n\r\n",
        b"1\r\nx\r\r\n0\r\n\r\n",
        b"1\rx\r\n0\r\n\r\n",
        b"1\r\nxy\r\n0\r\n\r\n",
        b"1\r\nx0\r\n\r\n",
        b"2\r\nx\r\n0\r\n\r\n",
        b"1\r\nx\r\n0\r\n\n",
        b"1\r\nx\r\n0\n\r\n",
        b"1\r\nx\r\n\r\n",
    ];
    Doors::open().await.break_off(bodies).await;
}

#[tokio::test]
async fn what_stands_behind_the_size_of_a_chunk_is_text_on_the_same_line() {
    let bodies: &[&[u8]] = &[
        b"1;a\nx\r\n0\r\n\r\n",
        b"1;\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"1;a\0\r\nx\r\n0\r\n\r\n",
        b"1;\x01\r\nx\r\n0\r\n\r\n",
        b"1 a\r\nx\r\n0\r\n\r\n",
        b"1,a\r\nx\r\n0\r\n\r\n",
        b"0;\n\r\n\r\n",
        b"1\r\nx\r\n0;a\nb\r\n\r\n",
    ];
    Doors::open().await.break_off(bodies).await;
}

#[tokio::test]
async fn what_stands_behind_the_last_chunk_are_fields() {
    let bodies: &[&[u8]] = &[
        b"1\r\nx\r\n0\r\nX : a\r\n\r\n",
        b"1\r\nx\r\n0\r\nX\r\n\r\n",
        b"1\r\nx\r\n0\r\n X: a\r\n\r\n",
        b"1\r\nx\r\n0\r\nX: a\nY: b\r\n\r\n",
        b"1\r\nx\r\n0\r\nX: a\n\r\n",
        b"1\r\nx\r\n0\r\nX: a\rY: b\r\n\r\n",
        b"1\r\nx\r\n0\r\nX: a\0\r\n\r\n",
        b"1\r\nx\r\n0\r\nX\0: a\r\n\r\n",
    ];
    Doors::open().await.break_off(bodies).await;
}
