//! What a client sees of a backend that answers wrongly, by half, or with more than was asked for; and that the next request is none the worse for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod early;
mod heads;
mod interim;
mod surplus;

use std::io;

use common::{
    backend::{Act, Backend, Step, bytes},
    client::{self, Client, Response},
    program::Program,
    site::Site,
};

/// A backend and a proxy whose one route streams.
struct Stage {
    backend: Backend,
    program: Program,
}

impl Stage {
    async fn set() -> Self {
        let backend = Backend::start().await;
        let program = Program::start(&Site::passing(backend.url()).backend("response_timeout = \"2s\"").to_string()).await;
        Self { backend, program }
    }

    /// What a client gets, and how the same connection goes on for it: two good answers, or its end, and then two good ones on another.
    async fn play(&self, act: Act, request: impl AsRef<[u8]>) -> io::Result<Response> {
        self.backend.next(act);
        let mut client = Client::connect(self.program.proxy()).await;
        client.send(request).await;
        let response = client.try_response().await;
        if !response.as_ref().is_ok_and(|response| response.complete) {
            client.closed().await;
            client = Client::connect(self.program.proxy()).await;
        }
        for _ in 0..2 {
            let next = client.exchange(client::get("/next")).await;
            assert_eq!((next.status, next.text(), next.complete), (200, "ok", true), "the next request is fine");
        }
        response
    }

    async fn get(&self, act: Act) -> io::Result<Response> {
        self.play(act, client::get("/")).await
    }

    /// Each of these answers is none: the client gets 502, and the connection to the backend is not used again.
    async fn refuse(&self, answers: &[&[u8]]) {
        for answer in answers {
            let what = String::from_utf8_lossy(answer).into_owned();
            let before = self.backend.connections();
            let response = self.get(bytes(answer)).await.unwrap();
            let error = response.field("proxy-status").map(str::to_owned);
            assert_eq!((response.status, error.as_deref()), (502, Some("forebay; error=http_protocol_error")), "{what:?}");
            // The next one may still have found the connection of the one before, but not this one's.
            assert!(self.backend.connections() > before, "{what:?}");
        }
    }
}

/// Sends these bytes and closes.
fn then_close(answer: impl AsRef<[u8]>) -> Act {
    vec![Step::Read, Step::Write(answer.as_ref().to_vec()), Step::Close]
}

/// Sends these bytes and resets.
fn then_reset(answer: impl AsRef<[u8]>) -> Act {
    vec![Step::Read, Step::Write(answer.as_ref().to_vec()), Step::Reset]
}
