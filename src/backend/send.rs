//! One request to one server, on a kept connection or a new one.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header::HOST};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::timeout;

use super::{
    Backend, ErrorKind, Pool, Reply, RequestBody, ResponseBody, ResponseTimeout, SendError, Switched,
    again::Spare,
    body::{self, TimedOut},
    connect::{self, Opened},
    h2, headers,
    pool::{Connection, Shelf},
};

/// Times that a server may say of one request that it did not process it, before that is taken for its answer.
const MOST_REFUSALS: u32 = 3;

/// What became of a request on one connection.
enum Sent {
    /// The head of its answer is here.
    Answered(Response<Incoming>),
    /// It came back unsent, and why: from a kept connection, because that has died idle, or because its server said that it did not process it.
    Unsent(Request<RequestBody>, String),
    /// It was not processed, but its body is gone.
    Refused(String),
    /// It may be sent once more: the kept connection died with it, and executing it twice does no harm.
    Again(Request<RequestBody>),
    Failed(ErrorKind, String),
}

/// How a request is sent.
#[derive(Clone, Copy)]
struct How {
    timeout: Duration,
    /// On a connection that was used before.
    reused: bool,
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
            && let Some(host) = self.slots.get(server).and_then(|server| HeaderValue::try_from(server.address.host()).ok())
        {
            // A client of HTTP/1.0 need not send one; we speak HTTP/1.1, where it must stand (RFC 9112 section 3.2).
            request.headers_mut().insert(HOST, host);
        }
        let own_timeout = request.extensions().get().map(|ResponseTimeout(own)| *own);
        let timeout = own_timeout.unwrap_or(self.settings.response_timeout);
        let shelf = pool.shelf(self.generation, self.slots.key(server));
        // Once something has been sent, no later failure makes that undone.
        let mut sent_before = false;
        let mut refusals = 0;
        let failed = |kind, detail| SendError { kind, maybe_sent: true, server: Some(server), detail, unsent: None };
        let not_sent = |sent_before, kind, detail, request: Option<Request<_>>| SendError {
            maybe_sent: sent_before,
            unsent: request.filter(|_| !sent_before).map(Box::new),
            ..failed(kind, detail)
        };
        loop {
            let whole = request.body().protocols().is_some();
            let (mut connection, reused) = match self.connection(&shelf, server, whole, sent_before).await {
                Ok(found) => found,
                Err((kind, detail)) => return Err(not_sent(sent_before, kind, detail, Some(request))),
            };
            match try_on(&mut connection, request, How { timeout, reused }).await {
                Sent::Answered(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let switched = Some(Switched(hyper::upgrade::on(&mut response)));
                    let response = response.map(|incoming| ResponseBody::switched(incoming, load));
                    return Ok(Reply { response, switched, server });
                }
                Sent::Answered(response) => {
                    let response = response.map(|incoming| ResponseBody::new(incoming, connection, shelf, load));
                    return Ok(Reply { response, switched: None, server });
                }
                Sent::Unsent(back, _) if reused && refusals < MOST_REFUSALS => {
                    refusals += u32::from(matches!(connection, Connection::Stream(_)));
                    request = back;
                }
                Sent::Unsent(back, detail) => return Err(not_sent(sent_before, ErrorKind::Reset, detail, Some(back))),
                Sent::Refused(detail) => return Err(not_sent(sent_before, ErrorKind::Reset, detail, None)),
                Sent::Again(again) => {
                    sent_before = true;
                    request = again;
                }
                Sent::Failed(kind, detail) => return Err(failed(kind, detail)),
            }
        }
    }

    /// A connection to send a request on, and whether it was used before. `whole`: it has to be one of HTTP/1.1, and is not kept. `new`: no kept one.
    async fn connection(
        &self,
        shelf: &Arc<Shelf>,
        server: usize,
        whole: bool,
        new: bool,
    ) -> Result<(Connection, bool), (ErrorKind, String)> {
        if !whole
            && !new
            && let Some(kept) = take(shelf).await
        {
            return Ok((kept, true));
        }
        let settings = &self.settings;
        let Some(server) = self.slots.get(server) else { return Err((ErrorKind::Connect, "the server has gone".into())) };
        // Where many share a connection, one opens it for all.
        let turn = if whole || !(shelf.is_shared() || settings.protocol.is_shared()) {
            None
        } else {
            let waited = timeout(settings.connect_timeout, shelf.opening.lock()).await;
            let turn = waited
                .map_err(|_| (ErrorKind::ConnectTimeout, format!("{server}: no connection within {:?}", settings.connect_timeout)))?;
            if !new && let Some(kept) = take(shelf).await {
                return Ok((kept, true));
            }
            Some(turn)
        };
        let opened =
            connect::open(&server, settings, whole).await.inspect_err(|(kind, detail)| self.complaints.tell(*kind, &self.name, detail))?;
        let connection = match opened {
            Opened::Http1(connection) => Connection::Whole(connection),
            Opened::Http2(sender, most) => Connection::Stream(shelf.share(sender, most, server.address.tls, settings.idle_timeout)),
        };
        drop(turn);
        Ok((connection, false))
    }
}

/// Sends a request on a connection.
async fn try_on(connection: &mut Connection, request: Request<RequestBody>, how: How) -> Sent {
    let (pace, asked, idempotent) = (request.body().pace(), request.body().protocols(), request.method().is_idempotent());
    let (spare, outcome) = match connection {
        Connection::Whole(connection) => {
            let spare = if how.reused { Spare::of(&request, &connection.written) } else { None };
            (spare, body::with_response_timeout(connection.sender.try_send_request(request), how.timeout, pace).await)
        }
        Connection::Stream(stream) => {
            let spare = Spare::copy(&request);
            let mut sender = stream.sender();
            let attempt = sender.try_send_request(h2::dressed(request, stream.is_secure()));
            (spare, body::with_response_timeout(attempt, how.timeout, pace).await)
        }
    };
    match outcome {
        Ok(Ok(response)) => match headers::fault_of(&response, asked.as_ref()) {
            None => {
                if let Connection::Whole(connection) = connection
                    && !how.reused
                {
                    connection.heed(response.headers());
                }
                Sent::Answered(response)
            }
            Some(fault) => Sent::Failed(ErrorKind::BadResponse, format!("the response cannot be understood: {fault}")),
        },
        Ok(Err(error)) => broke(connection, error, spare, idempotent && how.reused),
        Err(TimedOut { body_done }) => {
            if let Connection::Stream(stream) = connection {
                stream.doubt();
            }
            match body_done {
                true => Sent::Failed(ErrorKind::Timeout, format!("no response within {:?}", how.timeout)),
                false => Sent::Failed(ErrorKind::RequestStalled, format!("the request body stalled for {:?}", how.timeout)),
            }
        }
    }
}

/// There is no answer, and no time was up. `again`: it does no harm to execute the request twice, and its connection was kept.
fn broke(connection: &Connection, mut error: TrySendError<Request<RequestBody>>, spare: Option<Spare>, again: bool) -> Sent {
    let stream = matches!(connection, Connection::Stream(_));
    if let Some(back) = error.take_message() {
        let back = if stream { h2::undressed(back) } else { back };
        return Sent::Unsent(back, connect::chain(error.error()));
    }
    let error = error.into_error();
    let detail = connect::chain(&error);
    if stream && h2::was_not_processed(&error) {
        return match spare.and_then(Spare::take) {
            Some(copy) => Sent::Unsent(copy, detail),
            None => Sent::Refused(detail),
        };
    }
    match (body::kind_of(&error), spare.filter(|_| again).and_then(Spare::take)) {
        (ErrorKind::Reset, Some(again)) => Sent::Again(again),
        (kind, _) => Sent::Failed(kind, detail),
    }
}

/// A kept connection, if there is one.
async fn take(shelf: &Arc<Shelf>) -> Option<Connection> {
    loop {
        let taken = shelf.take(false)?;
        if !taken.rested {
            return Some(taken.connection);
        }
        // Its end may have come without our having looked. To yield is to look: the runtime asks its sockets before it goes on here.
        tokio::task::yield_now().await;
        if taken.connection.is_ready() {
            return Some(taken.connection);
        }
    }
}
