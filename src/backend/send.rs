//! One request to one server, on a kept connection or a new one.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header::HOST};
use hyper::body::Incoming;

use super::{
    Backend, ErrorKind, Pool, Reply, RequestBody, ResponseBody, ResponseTimeout, SendError, Switched,
    again::Spare,
    body::{self, TimedOut},
    connect, headers,
    pool::{Connection, Shelf},
};

/// What became of a request on one connection.
enum Sent {
    /// The head of its answer is here.
    Answered(Response<Incoming>),
    /// It came back unsent, and why: from a kept connection, because that has died idle.
    Unsent(Request<RequestBody>, String),
    /// It may be sent once more: the kept connection died with it, and executing it twice does no harm.
    Again(Request<RequestBody>),
    Failed(ErrorKind, String),
}

impl Backend {
    /// Sends a request to the less loaded of two servers that are up and waits for the head of the response.
    ///
    /// The request's hop-by-hop fields must be gone already. Its body goes out as it comes; connect and response timeouts are ours. A kept connection
    /// that had died idle costs no request: what comes back unsent, and what is idempotent and may be executed twice, goes out on another one.
    pub async fn send(&self, pool: &Pool, request: Request<RequestBody>) -> Result<Reply, SendError> {
        self.send_avoiding(0, pool, request).await
    }

    /// As [`send`](Self::send), but not to the servers that `avoid` names: its bit `n` stands for server number `n`.
    pub async fn send_avoiding(&self, avoid: u64, pool: &Pool, mut request: Request<RequestBody>) -> Result<Reply, SendError> {
        let Some(load) = self.servers.choose(avoid) else {
            let detail = format!("no server of backend {} is up", self.name);
            return Err(SendError { kind: ErrorKind::NoServer, maybe_sent: false, server: None, detail, unsent: Some(Box::new(request)) });
        };
        let server = load.server();
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::try_from(self.settings.servers[server].host())
        {
            // A client of HTTP/1.0 need not send one; we speak HTTP/1.1, where it must stand (RFC 9112 section 3.2).
            request.headers_mut().insert(HOST, host);
        }
        let timeout = request.extensions().get().map_or(self.settings.response_timeout, |ResponseTimeout(own)| *own);
        let shelf = pool.shelf(self.generation, server);
        // Once something has been sent, no later failure makes that undone.
        let mut sent_before = false;
        // A connection that is to become a tunnel is not kept anyway.
        let switching = request.body().protocols().is_some();
        let failed = |kind, detail| SendError { kind, maybe_sent: true, server: Some(server), detail, unsent: None };
        let not_sent = |sent_before, kind, detail, request| SendError {
            maybe_sent: sent_before,
            unsent: (!sent_before).then(|| Box::new(request)),
            ..failed(kind, detail)
        };
        loop {
            let kept = if sent_before || switching { None } else { take(&shelf).await };
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => match connect::open(&self.settings.servers[server], &self.settings).await {
                    Ok(connection) => connection,
                    Err((kind, detail)) => return Err(not_sent(sent_before, kind, detail, request)),
                },
            };
            match try_on(&mut connection, request, reused, timeout).await {
                Sent::Answered(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let switched = Some(Switched(hyper::upgrade::on(&mut response)));
                    let response = response.map(|incoming| ResponseBody::switched(incoming, load));
                    return Ok(Reply { response, switched, server });
                }
                Sent::Answered(response) => {
                    if !reused {
                        connection.heed(response.headers());
                    }
                    let response = response.map(|incoming| ResponseBody::new(incoming, connection, shelf, load));
                    return Ok(Reply { response, switched: None, server });
                }
                Sent::Unsent(back, _) if reused => request = back,
                Sent::Unsent(back, detail) => return Err(not_sent(sent_before, ErrorKind::Reset, detail, back)),
                Sent::Again(again) => {
                    sent_before = true;
                    request = again;
                }
                Sent::Failed(kind, detail) => return Err(failed(kind, detail)),
            }
        }
    }
}

/// Sends a request on a connection that was used before, or not.
async fn try_on(connection: &mut Connection, request: Request<RequestBody>, reused: bool, timeout: Duration) -> Sent {
    let spare = if reused { Spare::of(&request, &connection.written) } else { None };
    let (pace, asked) = (request.body().pace(), request.body().protocols());
    let attempt = connection.sender.try_send_request(request);
    let mut error = match body::with_response_timeout(attempt, timeout, pace).await {
        Ok(Ok(response)) => {
            return match headers::fault_of(&response, asked.as_ref()) {
                None => Sent::Answered(response),
                Some(fault) => Sent::Failed(ErrorKind::BadResponse, format!("the response cannot be understood: {fault}")),
            };
        }
        Ok(Err(error)) => error,
        Err(TimedOut { body_done: true }) => return Sent::Failed(ErrorKind::Timeout, format!("no response within {timeout:?}")),
        Err(TimedOut { body_done: false }) => {
            return Sent::Failed(ErrorKind::RequestStalled, format!("the request body stalled for {timeout:?}"));
        }
    };
    if let Some(back) = error.take_message() {
        return Sent::Unsent(back, connect::chain(error.error()));
    }
    let error = error.into_error();
    match (body::kind_of(&error), spare.and_then(Spare::take)) {
        (ErrorKind::Reset, Some(again)) => Sent::Again(again),
        (kind, _) => Sent::Failed(kind, connect::chain(&error)),
    }
}

/// A kept connection, if there is one.
async fn take(shelf: &Arc<Shelf>) -> Option<Connection> {
    loop {
        let taken = shelf.take()?;
        if !taken.rested {
            return Some(taken.connection);
        }
        // Its end may have come without our having looked. To yield is to look: the runtime asks its sockets before it goes on here.
        tokio::task::yield_now().await;
        if taken.connection.sender.is_ready() {
            return Some(taken.connection);
        }
    }
}
