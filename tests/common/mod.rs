//! What the end-to-end tests share: an evil backend, a client that sends exactly what it is told, and the program itself.
//!
//! Nothing here knows the crate: the tests see the program as its users do, through sockets, files, signals and logs. Nothing sleeps;
//! whatever waits, waits for an event, and [`within`] turns an event that never comes into a failure that says which.

#![allow(dead_code, unreachable_pub, reason = "each test file compiles all of the kit and uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests fails the test")]

pub mod act;
pub mod backend;
pub mod client;
pub mod frames;
pub mod h2;
pub mod h2_server;
pub mod open;
pub mod program;
pub mod secure;
pub mod site;
pub mod tls;
pub mod wire;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Far more than anything here takes: it ends a test that hangs, and decides nothing else.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `event` gives. Panics with `what` when it does not come.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Bytes in which no two neighbourhoods look alike.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

/// Reads a head and not a byte more.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.unwrap());
    }
    head
}
