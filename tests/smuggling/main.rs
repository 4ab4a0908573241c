//! No request that a backend could read differently from us gets through: the bytes of each attempt, what its sender hears, and that no backend
//! hears anything. What is sent on, live or replayed, is built from parsed parts, so that it looks as if a careful client had sent it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod fields;
mod lines;
mod rebuilt;
mod streams;

use common::{
    backend::Backend,
    client::{self, Client},
    program::Program,
    site::Site,
};

/// What an attacker would like to be taken for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// The proxy in its two manners: one whose route streams, and one whose route may spill.
struct Doors {
    backend: Backend,
    programs: [Program; 2],
}

impl Doors {
    async fn open() -> Self {
        let backend = Backend::start().await;
        let passing = Program::start(&Site::passing(backend.url()).to_string()).await;
        let spilling = Program::start(&Site::spilling(backend.url(), "").to_string()).await;
        Self { backend, programs: [passing, spilling] }
    }

    /// Each of these, with a request behind it that must not come to life, gets this status and the connection closes; at the backend nothing
    /// arrives. At once or in single bytes, that makes no difference. An honest client is served afterwards.
    async fn refuse(&self, status: u16, attempts: &[&[u8]]) {
        for program in &self.programs {
            for attempt in attempts {
                let bytes = [attempt, SMUGGLED.as_bytes()].concat();
                for piece in [bytes.len(), 1] {
                    let what = format!("{:?} in pieces of {piece}", String::from_utf8_lossy(attempt));
                    let mut client = Client::connect(program.proxy()).await;
                    for piece in bytes.chunks(piece) {
                        // It may be told no before it has said all.
                        if client.try_send(piece).await.is_err() {
                            break;
                        }
                    }
                    let response = client.try_response().await.unwrap_or_else(|error| panic!("{error}: {what}"));
                    assert_eq!((response.status, response.interim), (status, vec![]), "{what}");
                    client.closed().await;
                }
            }
            assert_eq!(client::fetch(program.proxy(), client::get("/honest")).await.status, 200);
        }
        self.heard_nothing_but_honesty();
    }

    /// Each of these bodies breaks a rule after it has begun: whoever streams it does not take it for whole, and nothing comes to life behind it.
    async fn break_off(&self, bodies: &[&[u8]]) {
        for program in &self.programs {
            for body in bodies {
                let what = String::from_utf8_lossy(body).into_owned();
                let mut client = Client::connect(program.proxy()).await;
                let head = &b"POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"[..];
                client.send([head, body, SMUGGLED.as_bytes()].concat()).await;
                assert_eq!(client.response().await.status, 400, "{what:?}");
                client.closed().await;
            }
            assert_eq!(client::fetch(program.proxy(), client::get("/honest")).await.status, 200);
        }
        self.heard_nothing_but_honesty();
    }

    fn heard_nothing_but_honesty(&self) {
        for request in self.backend.requests() {
            let whole = request.body.complete;
            assert!(request.target == "/honest" || (request.target == "/upload" && !whole), "{request:?}");
        }
    }
}
