//! The program's courier: a backend, and idle connections of replay's own.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;

use crate::backend::{Backend, Pool, RequestBody, SendError, headers::remove_hop_by_hop};

use super::courier::{Answered, Courier, Outgoing};

/// Sends through `backend`.
pub(super) struct Wire {
    backend: Arc<Backend>,
    pool: Pool,
}

impl Wire {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        Self { backend, pool: Pool::default() }
    }
}

impl Courier for Wire {
    fn send(&self, request: Request<Outgoing>) -> BoxFuture<'_, Result<Answered, SendError>> {
        let request = request.map(|body| match body {
            Outgoing::Memory(bytes) => RequestBody::full(bytes),
            Outgoing::Stored(body) => RequestBody::boxed(body),
        });
        Box::pin(async move {
            // Replay sweeps too seldom for the pool's clock, and can afford a look at the real one.
            self.pool.tick();
            let reply = self.backend.send(&self.pool, request).await?;
            let mut response = Response::from(reply.response.map(|body| body.map_err(|_| ()).boxed_unsync()));
            remove_hop_by_hop(response.headers_mut());
            Ok(Answered { response, server: reply.server })
        })
    }

    fn sweep(&self) {
        self.pool.sweep();
    }
}
