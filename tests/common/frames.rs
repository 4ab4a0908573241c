//! Frames of HTTP/2 as bytes, for what no library would write (RFC 9113 section 4.1).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a client says first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Fields as literals that are not remembered (RFC 7541 section 6.2.2), in the order that they have.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let one = |(name, value): &(&str, &str)| [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat();
    fields.iter().flat_map(one).collect()
}

/// The head and the payload of the next frame.
pub async fn heard(stream: &mut TcpStream) -> io::Result<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
    stream.read_exact(&mut payload).await?;
    Ok((head, payload))
}

/// A server that says for request number `n` (from 0), on its stream, what `answer` has; how many it has had.
pub async fn serving(answer: impl Fn(usize, u8) -> Vec<u8> + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let asked_here = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            while let Ok((head, _)) = heard(&mut stream).await {
                let said = match head[3] {
                    HEADERS => answer(asked_here.fetch_add(1, SeqCst), head[8]),
                    SETTINGS if head[4] == 0 => frame(SETTINGS, ACK, 0, &[]),
                    _ => continue,
                };
                // It is gone when the program is.
                let _said = stream.write_all(&said).await;
            }
        }
    });
    (url, asked)
}
