//! One request to one server, on a kept connection or a new one.

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode, header::HOST, request};
use tokio::time::timeout;

use super::{
    Backend, ErrorKind, Pool, Reply, RequestBody, ResponseBody, ResponseTimeout, SendError, Switched,
    again::{Spare, cut_off, elsewhere},
    body::{self, Lease, Source},
    connect::{self, Opened},
    h2, headers,
    patience::{Alarm, Pace, TimedOut, with_response_timeout},
    pool::{Connection, Http1, Shelf, Stream},
};
use crate::{
    http1::{
        AnswerHead, Error, Origin, RequestHead, ResponseOf,
        client::{Answer, Ending, Exchange, NoAnswer, Unsent},
    },
    http2::client::NoAnswer as Unanswered,
};

/// Times that a server may say of one request that it did not process it, before that is taken for its answer.
const MOST_REFUSALS: u32 = 3;

/// What became of a request on one connection.
pub(super) enum Sent {
    /// The head of its answer is here.
    Answered(ResponseOf<Source>),
    /// The connection speaks another protocol.
    Switched(Box<AnswerHead>, Box<Switched>),
    /// Nothing of it was sent, and why: a kept connection had died idle, or its server said that it did not process it. Here is its body.
    Unsent(Box<RequestBody>, String),
    /// It was not processed, but its body is gone.
    Refused(String),
    /// It may be sent once more: the kept connection died with it, and executing it twice does no harm.
    Again(Box<RequestBody>),
    /// Its connection broke, or nothing came in time; its body, where the request may be repeated elsewhere.
    Broken(ErrorKind, Option<Box<RequestBody>>, String),
    Failed(ErrorKind, String),
}

/// How a request is sent.
#[derive(Clone)]
pub(super) struct How {
    pub(super) timeout: Duration,
    /// On a connection that was used before.
    pub(super) reused: bool,
    /// Where the connection goes afterwards.
    pub(super) shelf: Arc<Shelf>,
}

impl Backend {
    /// Sends a request to the less loaded of two servers that are up and waits for the head of the response.
    ///
    /// The request's hop-by-hop fields must be gone already. Its body goes out as it comes; connect and response timeouts are ours. A kept connection
    /// that had died idle costs no request: what comes back unsent, and what is idempotent and may be executed twice, goes out on another one.
    pub async fn send(&self, pool: &Pool, request: Request<RequestBody>) -> Result<Reply, SendError> {
        let (head, body) = request.into_parts();
        self.send_avoiding(0, pool, &head.into(), body).await
    }

    /// As [`send`](Self::send), but not to the servers that `avoid` names: its bit `n` stands for server number `n`.
    // So that its future is made where it stays, as are those below.
    #[inline]
    pub async fn send_avoiding(&self, avoid: u64, pool: &Pool, head: &RequestHead, mut body: RequestBody) -> Result<Reply, SendError> {
        let Some(load) = self.servers.choose(avoid) else {
            let detail = format!("no server of backend {} is up", self.name);
            return Err(SendError { kind: ErrorKind::NoServer, maybe_sent: false, server: None, detail, spare: Some(Box::new(body)) });
        };
        let server = load.server();
        let named = if headers::host(&head.headers).is_some() { None } else { self.named(head, server) };
        let head = named.as_deref().unwrap_or(head);
        let own_timeout = head.extensions.get().map(|ResponseTimeout(own)| *own);
        let timeout = own_timeout.unwrap_or(self.settings.response_timeout);
        let shelf = pool.shelf(self.generation, self.slots.key(server));
        // Once something has been sent, no later failure makes that undone.
        let mut sent_before = false;
        let mut refusals = 0;
        let failed = |kind, detail| SendError { kind, maybe_sent: true, server: Some(server), detail, spare: None };
        let not_sent = |sent_before, kind, detail, body: Option<Box<RequestBody>>| SendError {
            maybe_sent: sent_before,
            spare: body.filter(|_| !sent_before || head.method.is_safe()),
            ..failed(kind, detail)
        };
        loop {
            let whole = body.protocols().is_some();
            let (connection, reused) = match self.connection(&shelf, server, whole, sent_before).await {
                Ok(found) => found,
                Err((kind, detail)) => return Err(not_sent(sent_before, kind, detail, Some(Box::new(body)))),
            };
            let how = How { timeout, reused, shelf: shelf.clone() };
            let is_stream = matches!(connection, Connection::Stream(_));
            let sent = match connection {
                Connection::Whole(connection) => on_whole(connection, head, body, how).await,
                // Boxed: it is far larger, and would make every request so.
                Connection::Stream(stream) => Box::pin(on_stream(stream, head, body, &how)).await,
            };
            match sent {
                Sent::Answered(response) => {
                    return Ok(Reply { response: response.map(|source| ResponseBody::new(source, load)), switched: None, server });
                }
                Sent::Switched(head, switched) => {
                    return Ok(Reply { response: ResponseOf::new(head, ResponseBody::switched(load)), switched: Some(switched), server });
                }
                Sent::Unsent(back, _) if reused && refusals < MOST_REFUSALS => {
                    refusals += u32::from(is_stream);
                    body = *back;
                }
                Sent::Unsent(back, detail) => return Err(not_sent(sent_before, ErrorKind::Reset, detail, Some(back))),
                Sent::Refused(detail) => return Err(not_sent(sent_before, ErrorKind::Reset, detail, None)),
                Sent::Again(again) => {
                    sent_before = true;
                    body = *again;
                }
                Sent::Broken(kind, spare, detail) => return Err(SendError { spare, ..failed(kind, detail) }),
                Sent::Failed(kind, detail) => return Err(failed(kind, detail)),
            }
        }
    }

    /// Whether server number `server` takes a connection within this time; it is kept for the next request.
    pub async fn reach(&self, pool: &Pool, server: usize, within: Duration) -> bool {
        let shelf = pool.shelf(self.generation, self.slots.key(server));
        match timeout(within, self.another(&shelf, server, false, true)).await {
            Ok(Ok((Connection::Whole(connection), _))) => shelf.give_back(connection),
            Ok(Ok((Connection::Stream(_), _))) => {}
            Ok(Err(_)) | Err(_) => return false,
        }
        true
    }

    /// The head of a request without `Host`, with that of its server: a client of HTTP/1.0 need not send one; we speak HTTP/1.1, where it must stand (RFC 9112
    /// section 3.2).
    #[cold]
    fn named(&self, head: &RequestHead, server: usize) -> Option<Box<RequestHead>> {
        let host = self.slots.get(server).and_then(|server| HeaderValue::try_from(server.address.host()).ok())?;
        let mut named = Box::new(head.clone());
        named.headers.insert(HOST, host);
        Some(named)
    }

    /// A connection to send a request on, and whether it was used before. `whole`: it has to be one of HTTP/1.1, and is not kept. `new`: no kept one.
    #[inline]
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
        // Boxed, so that what few requests need makes none of them larger.
        Box::pin(self.another(shelf, server, whole, new)).await
    }

    /// The same, where there was no kept connection to be had.
    async fn another(&self, shelf: &Arc<Shelf>, server: usize, whole: bool, new: bool) -> Result<(Connection, bool), (ErrorKind, String)> {
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
            Opened::Http2(sender) => Connection::Stream(shelf.share(sender, server.address.tls, settings.idle_timeout)),
        };
        drop(turn);
        Ok((connection, false))
    }
}

/// Sends a request on a connection of HTTP/1.1.
#[inline]
pub(super) async fn on_whole(mut connection: Http1, head: &RequestHead, body: RequestBody, how: How) -> Sent {
    let (pace, asked, spare) = (body.pace(), body.protocols(), Spare::of(&body));
    let mut exchange = connection.connection.begin(head, body);
    let mut heard = |interim: &mut AnswerHead| tell(head.origin.as_ref(), interim);
    let answered = poll_fn(|cx| connection.connection.poll_answer(&mut exchange, &mut heard, cx));
    let (mut answer, ending) = match with_response_timeout(answered, how.timeout, pace.clone(), &mut connection.kept.alarm).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(NoAnswer::Body(unsent))) => {
            let kind = match &unsent {
                Unsent::Source(error) => body::kind_of(error),
                Unsent::Length => ErrorKind::RequestBody,
            };
            return Sent::Failed(kind, connect::chain(&unsent));
        }
        Ok(Err(NoAnswer::Connection(Error::Fault(fault)))) => return Sent::Failed(ErrorKind::BadResponse, fault.to_string()),
        Ok(Err(NoAnswer::Connection(error))) if exchange.is_untouched(&connection.connection) => {
            let body = spare.body().or_else(|| exchange.into_whole_body());
            return match body {
                Some(body) => Sent::Unsent(Box::new(body), error.to_string()),
                None => Sent::Refused(error.to_string()),
            };
        }
        Ok(Err(NoAnswer::Connection(error))) => {
            return cut_off(spare.body(), &head.method, how.reused, error.to_string());
        }
        Err(timed_out) => return out_of_time(timed_out, how.timeout, spare.body(), &head.method),
    };
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        return match headers::fault_of(answer.status, answer.fields_mut(), asked.as_ref()) {
            None => Sent::Switched(answer, Box::new(Switched::new(connection.connection.into_parts()))),
            Some(fault) => misunderstood(fault),
        };
    }
    connection.heed(&answer);
    Sent::Answered(ResponseOf::new(answer, leased(connection, exchange, ending, how, pace)))
}

fn leased(connection: Http1, exchange: Exchange<RequestBody>, ending: Ending, how: How, pace: Option<Arc<Pace>>) -> Source {
    let Http1 { connection, kept } = connection;
    let answer = Answer::new(connection, exchange, ending);
    Source::Http1(Box::new(Lease { answer, shelf: how.shelf, kept, timeout: how.timeout, pace }))
}

/// Sends a request on a stream of HTTP/2.
async fn on_stream(stream: Stream, head: &RequestHead, mut body: RequestBody, how: &How) -> Sent {
    body.keep();
    let (pace, spare) = (body.pace(), Spare::of(&body));
    let origin = head.origin.as_ref();
    let request = h2::dressed(Request::from_parts(request::Parts::clone(head), body), stream.is_secure());
    let mut sender = stream.sender();
    let attempt = sender.send(request, |interim| tell(origin, &mut interim.into_parts().0.into()));
    match with_response_timeout(attempt, how.timeout, pace.clone(), &mut Alarm::default()).await {
        Ok(Ok(answered)) => match headers::fault_of(answered.answer.status(), answered.answer.headers(), None) {
            None => Sent::Answered(Source::on_stream(answered, stream, how.timeout, pace)),
            Some(fault) => misunderstood(fault),
        },
        Ok(Err(error)) => {
            if let Unanswered::Unsent(..) = &error {
                stream.doubt();
            }
            broke(error, spare.body(), &head.method, how.reused)
        }
        Err(timed_out) => {
            stream.doubt();
            out_of_time(timed_out, how.timeout, spare.body(), &head.method)
        }
    }
}

/// Tells the client of an interim answer, without what it says of the server's connection.
fn tell(origin: Option<&Origin>, interim: &mut AnswerHead) {
    if let Some(origin) = origin {
        headers::remove_hop_by_hop_of(interim);
        origin.tell(interim);
    }
}

fn misunderstood(fault: &str) -> Sent {
    Sent::Failed(ErrorKind::BadResponse, format!("the response cannot be understood: {fault}"))
}

fn out_of_time(timed_out: TimedOut, timeout: Duration, body: Option<RequestBody>, method: &Method) -> Sent {
    match timed_out {
        TimedOut::Server => {
            Sent::Broken(ErrorKind::Timeout, elsewhere(body.map(Box::new), method), format!("no response within {timeout:?}"))
        }
        TimedOut::Client(stall) => Sent::Failed(ErrorKind::RequestStalled, format!("the request body stalled for {stall:?}")),
    }
}

/// There is no answer on a stream, and no time was up. `body`: that of the request once more, where it is kept.
fn broke(why: Unanswered<RequestBody>, body: Option<RequestBody>, method: &Method, reused: bool) -> Sent {
    let (error, body) = match why {
        Unanswered::Unsent(back, error) => return Sent::Unsent(Box::new(back.into_body()), error.to_string()),
        Unanswered::Body(error) => return Sent::Failed(body::kind_of(&error), connect::chain(&error)),
        Unanswered::Stream(error, read) => (error, body.or_else(|| read?.rewound())),
    };
    let detail = error.to_string();
    match body {
        Some(body) if h2::was_not_processed(&error) => Sent::Unsent(Box::new(body), detail),
        None if h2::was_not_processed(&error) => Sent::Refused(detail),
        Some(body) if error.is_library() && !error.is_reset() && reused && method.is_idempotent() => Sent::Again(Box::new(body)),
        _ if error.is_library() => Sent::Failed(ErrorKind::BadResponse, detail),
        body => cut_off(body, method, reused, detail),
    }
}

/// A kept connection, if there is one.
async fn take(shelf: &Arc<Shelf>) -> Option<Connection> {
    loop {
        let mut taken = shelf.take(false)?;
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
