//! A backend that does whatever a test tells it: answers, stalls, breaks off, resets, talks nonsense, is gone and comes back.
//!
//! What it does with a request is an [`Act`], a list of [`Step`]s. Acts given with [`Backend::next`] are used up by requests in the order in which
//! they arrive; when there are none left, the answerer given with [`Backend::otherwise`] makes one from the request that was read (at first: 200 and `ok`).
//! Every request is kept exactly as it came.

use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

pub use super::act::*;
use super::{
    open::Open,
    wire::{Body, Field, Framing, Wire, framing, owned, values},
    within,
};

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// The raw head, the empty line included.
    pub head: Vec<u8>,
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its fields, with their letters.
    pub fields: Vec<Field>,
    /// Its body, as far as it was read.
    pub body: Body,
}

impl Recorded {
    /// The first value of a field, whatever its letters.
    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.fields, name).next().map(|value| std::str::from_utf8(value).unwrap())
    }

    /// Whether a field came with exactly these letters.
    pub fn has_letters(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }
}

type Answerer = Arc<dyn Fn(&Recorded) -> Act + Send + Sync>;

/// The backend. It ends when it is dropped.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    port: Port,
}

enum Port {
    Listening {
        stop: oneshot::Sender<()>,
        ended: JoinHandle<Socket>,
    },
    /// Bound, so that nobody else gets the port, and not listening, so that it refuses.
    Refusing(Socket),
    Moving,
}

struct Shared {
    acts: Mutex<VecDeque<Act>>,
    otherwise: Mutex<Answerer>,
    requests: Mutex<Vec<Recorded>>,
    received: watch::Sender<usize>,
    connections: AtomicUsize,
    open: Open,
    busy: AtomicUsize,
    busiest: AtomicUsize,
}

impl Backend {
    /// A backend on a free port of the loopback that answers 200 and `ok` to everything.
    pub async fn start() -> Self {
        let socket = bound();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let shared = Arc::new(Shared {
            acts: Mutex::default(),
            otherwise: Mutex::new(Arc::new(|_| answer(200, &[], "ok"))),
            requests: Mutex::default(),
            received: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
            open: Open::default(),
            busy: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
        });
        Self { address, port: listen(socket, &shared), shared }
    }

    /// Where it is, and stays also while it is stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does with the next request that has no act yet.
    pub fn next(&self, act: Act) -> &Self {
        self.shared.acts.lock().unwrap().push_back(act);
        self
    }

    /// What it does with requests when there are no acts left.
    pub fn otherwise(&self, answerer: impl Fn(&Recorded) -> Act + Send + Sync + 'static) {
        *self.shared.otherwise.lock().unwrap() = Arc::new(answerer);
    }

    /// The first `count` requests or more, as soon as so many have been read.
    pub async fn received(&self, count: usize) -> Vec<Recorded> {
        let mut received = self.shared.received.subscribe();
        let what = format!("{count} requests at the backend");
        within(&what, received.wait_for(|now| *now >= count)).await.unwrap();
        self.requests()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Resolves when no connection is open: everything that a peer which is gone had sent has been read and recorded by then.
    pub async fn disconnected(&self) {
        within("the end of all connections to the backend", self.shared.open.none()).await;
    }

    /// The most requests that it had at once.
    pub fn busiest(&self) -> usize {
        self.shared.busiest.load(SeqCst)
    }

    /// Drops all connections as a killed process does, and refuses new ones until it is started again.
    pub async fn stop(&mut self) {
        let Port::Listening { stop, ended } = std::mem::replace(&mut self.port, Port::Moving) else { panic!("it is stopped already") };
        drop(stop);
        self.port = Port::Refusing(ended.await.unwrap());
    }

    /// Listens again, on the same port, with the acts that are left.
    pub async fn start_again(&mut self) {
        let Port::Refusing(socket) = std::mem::replace(&mut self.port, Port::Moving) else { panic!("it is running already") };
        self.port = listen(socket, &self.shared);
    }
}

/// A socket that is bound to a free port by its number: so it keeps the port also when it is made to listen no more.
fn bound() -> Socket {
    let socket = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket
    };
    let finder = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
    socket(finder.local_addr().unwrap().as_socket().unwrap())
}

fn listen(socket: Socket, shared: &Arc<Shared>) -> Port {
    socket.listen(1024).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let shared = Arc::clone(shared);
    let (stop, mut stopped) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let number = shared.connections.fetch_add(1, SeqCst);
                    let shared = Arc::clone(&shared);
                    let open = shared.open.another();
                    connections.spawn(async move {
                        let _open = open;
                        // An error means that the peer is gone, which ends a connection like any other.
                        let _ = serve(stream, number, &shared).await;
                    });
                }
            }
        }
        // Closing it would not do: a process that is being started in this moment holds a copy of every file for an instant.
        let socket = Socket::from(listener.into_std().unwrap());
        socket.shutdown(Shutdown::Read).unwrap();
        connections.shutdown().await;
        socket
    });
    Port::Listening { stop, ended }
}

async fn serve(stream: TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    // An act is taken when a request begins to arrive: a connection that stays idle uses up none.
    while wire.has_more().await? {
        let _busy = Busy::new(shared);
        let act = shared.acts.lock().unwrap().pop_front();
        let mut reading = Reading { number, request: None, done: false };
        let act = match act {
            Some(act) => act,
            None => {
                reading.all(&mut wire, shared).await?;
                let answerer = Arc::clone(&shared.otherwise.lock().unwrap());
                reading.request.as_ref().map(|request| answerer(request)).unwrap_or_default()
            }
        };
        for step in act {
            match step {
                Step::ReadHead => reading.head(&mut wire).await?,
                Step::Read => reading.all(&mut wire, shared).await?,
                Step::Hear(bytes) => {
                    if wire.body(Framing::Length(bytes.len() as u64)).await.content != bytes {
                        return Ok(());
                    }
                }
                Step::Write(bytes) => wire.write(&bytes).await?,
                Step::Wait(trigger) => trigger.wait().await,
                Step::Close => return Ok(()),
                Step::Reset => return socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)),
            }
        }
        // What an act left unread would be taken for the next request.
        reading.all(&mut wire, shared).await?;
    }
    Ok(())
}

/// How far the request has been read.
struct Reading {
    number: usize,
    request: Option<Recorded>,
    done: bool,
}

impl Reading {
    async fn head(&mut self, wire: &mut Wire) -> io::Result<()> {
        if self.request.is_none()
            && let Some(head) = wire.head().await?
        {
            self.request = Some(parse(self.number, head));
        }
        Ok(())
    }

    /// Reads the rest and keeps the request, also one that breaks off.
    async fn all(&mut self, wire: &mut Wire, shared: &Shared) -> io::Result<()> {
        self.head(wire).await?;
        let Some(request) = self.request.as_mut().filter(|_| !self.done) else { return Ok(()) };
        self.done = true;
        request.body = wire.body(framing(&request.fields).unwrap_or(Framing::Empty)).await;
        shared.requests.lock().unwrap().push(request.clone());
        shared.received.send_modify(|count| *count += 1);
        if request.body.complete { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

struct Busy<'a>(&'a Shared);

impl<'a> Busy<'a> {
    fn new(shared: &'a Shared) -> Self {
        let busy = shared.busy.fetch_add(1, SeqCst) + 1;
        shared.busiest.fetch_max(busy, SeqCst);
        Self(shared)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

fn parse(connection: usize, head: Vec<u8>) -> Recorded {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut fields);
    assert!(parsed.parse(&head).is_ok_and(|status| status.is_complete()), "not a request: {:?}", String::from_utf8_lossy(&head));
    let (method, target) = (parsed.method.unwrap_or_default().to_owned(), parsed.path.unwrap_or_default().to_owned());
    let fields = owned(parsed.headers);
    Recorded { connection, head, method, target, fields, body: Body::default() }
}
