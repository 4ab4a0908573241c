//! A server that speaks HTTP/2 without TLS, and does with each request what a test says.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{backend::Trigger, within};

/// What the server does with one request.
#[derive(Clone)]
pub enum Deed {
    /// Answers 200, once the trigger is pulled where there is one.
    Answer(Option<Trigger>),
    /// Refuses the stream: it has not processed the request.
    Refuse,
    /// Breaks the stream off, when it has read the request.
    Break,
    /// Answers, and says farewell to the connection.
    Farewell,
    /// Answers, after two interim answers.
    Early,
    /// Answers, and reads the request then.
    Unheard,
    /// Answers with spaces around all values.
    Padded,
}

#[derive(Clone)]
pub struct Seen {
    pub head: Arc<http::request::Parts>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// A server of HTTP/2 without TLS.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    deeds: Arc<Mutex<VecDeque<Deed>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: Arc<watch::Sender<usize>>,
    pub connections: Arc<AtomicUsize>,
}

impl Server {
    pub async fn start(most_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            deeds: Arc::default(),
            seen: Arc::default(),
            count: Arc::default(),
            connections: Arc::default(),
        };
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                this.connections.fetch_add(1, SeqCst);
                tokio::spawn(this.clone().serve(stream, most_streams));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn next(&self, deed: Deed) -> &Self {
        self.deeds.lock().unwrap().push_back(deed);
        self
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub async fn received(&self, count: usize) {
        within("requests at the server", self.count.subscribe().wait_for(|seen| *seen >= count)).await.unwrap();
    }

    async fn serve(self, stream: TcpStream, most_streams: u32) {
        let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(most_streams).handshake::<_, Bytes>(stream).await else {
            return;
        };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            // What is no request of the test gets the usual answer: probes.
            let deed = if request.method() == http::Method::HEAD { None } else { self.deeds.lock().unwrap().pop_front() };
            match deed.unwrap_or(Deed::Answer(None)) {
                Deed::Refuse => {
                    self.note(Seen { head: Arc::new(request.into_parts().0), body: Vec::new(), trailers: None });
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
                deed => {
                    if matches!(deed, Deed::Farewell) {
                        connection.graceful_shutdown();
                    }
                    tokio::spawn(self.clone().answer(request, respond, deed));
                }
            }
        }
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
        self.count.send_modify(|count| *count += 1);
    }

    async fn answer(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, deed: Deed) {
        let (head, mut stream) = request.into_parts();
        let mut body = Vec::new();
        if matches!(deed, Deed::Unheard) {
            let mut answer = respond.send_response(Response::builder().header("content-length", "5").body(()).unwrap(), false).unwrap();
            answer.send_data(Bytes::from_static(b"begun"), true).unwrap();
        }
        while let Some(Ok(data)) = stream.data().await {
            let _ = stream.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
        }
        let trailers = stream.trailers().await.ok().flatten();
        let is_answered = matches!(deed, Deed::Unheard);
        self.note(Seen { head: Arc::new(head), body, trailers });
        if is_answered {
            return;
        }
        let is_padded = matches!(deed, Deed::Padded);
        match deed {
            Deed::Break => return respond.send_reset(Reason::INTERNAL_ERROR),
            Deed::Answer(Some(trigger)) => trigger.wait().await,
            Deed::Early | Deed::Padded => {
                for status in [103, 102] {
                    let link = if is_padded { " </a.css>\t" } else { "</a.css>" };
                    let early = Response::builder().status(status).header("link", link).body(()).unwrap();
                    respond.send_informational(early).unwrap();
                }
            }
            _ => {}
        }
        let (from, code) = if is_padded { ("\th 2  ", " 0\t") } else { ("h2", "0") };
        let head = Response::builder().header("trailer", "grpc-status").header("x-from", from).body(()).unwrap();
        let Ok(mut stream) = respond.send_response(head, false) else { return };
        let _ = stream.send_data(Bytes::from_static(b"ok"), false);
        let _ = stream.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]));
    }
}
