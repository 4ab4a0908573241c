//! The two stand-ins for legacy servers, and the control endpoint that crashes them and brings them back.
//!
//! They are real HTTP servers with real sockets on a thread of their own, so that what the proxy meets is what it meets in the field: when one
//! crashes, its listener is closed, every connection is reset wherever its request was, and connecting is refused until it is back. What it executed
//! stays in its [`Ledger`]. What they do with a request is in [`admin`] and [`app`].

mod admin;
mod app;
mod control;
mod port;

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::ledger::Ledger;
use port::Port;

pub use admin::UPLOAD_PATH;
pub use app::{MARK_PATH, Mark};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// Takes spreadsheets of orders.
    Admin,
    /// Takes delivery marks.
    App,
}

impl Which {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Admin, Self::App];

    /// Its name, which is also that of its backend in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::App => "app",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| which.name() == name)
    }
}

/// How a server bears its work.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    /// An upload alone takes ten of these, a mark one fifth of one.
    pub step: Duration,
    /// Uploads at once that it survives; one more crashes it.
    pub uploads_at_once: usize,
    /// How long it is away after crashing by itself; without one it stays away until it is revived.
    pub away: Option<Duration>,
}

/// What happened to a server, for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is gone.
    Crashed {
        /// Which.
        which: Which,
        /// Why, as the rest of the sentence "admin has crashed: …".
        why: String,
        /// When it comes back by itself.
        back_in: Option<Duration>,
    },
    /// It is back.
    Back(Which),
    /// It cannot come back yet.
    Stuck(Which, String),
}

/// Whether a server is to be there, and in which of its lives: crashes are counted, so that none is overlooked by who looks only when it is back.
#[derive(Debug, Clone, Copy, Default)]
struct Power {
    crashes: u32,
    down: Option<Outage>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    back_in: Option<Duration>,
}

/// One stand-in server. Shared by its own thread and everybody who watches, crashes or revives it.
#[derive(Debug)]
pub struct Standin {
    which: Which,
    port: Port,
    ledger: Ledger,
    temper: Temper,
    power: watch::Sender<Power>,
    at_work: AtomicUsize,
    away: Mutex<Away>,
    events: mpsc::Sender<Event>,
}

/// How long it was away.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    before: Duration,
}

impl Standin {
    fn new(which: Which, temper: Temper, events: mpsc::Sender<Event>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            which,
            port: Port::reserve()?,
            ledger: Ledger::default(),
            temper,
            power: watch::Sender::new(Power::default()),
            at_work: AtomicUsize::new(0),
            away: Mutex::default(),
            events,
        }))
    }

    /// Where it listens, when it does.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What it has executed.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether it is there.
    pub fn is_up(&self) -> bool {
        self.power.borrow().down.is_none()
    }

    /// Requests that it works on now.
    pub fn at_work(&self) -> usize {
        self.at_work.load(Ordering::Relaxed)
    }

    /// How often it crashed, and how long it was away altogether.
    pub fn outages(&self) -> (u32, Duration) {
        let away = self.away.lock();
        (self.power.borrow().crashes, away.before + away.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Crashes it; it comes back by itself after `back_in`. False when it is away already.
    pub fn crash(&self, why: &str, back_in: Option<Duration>) -> bool {
        let crashed = self.power.send_if_modified(|power| {
            let up = power.down.is_none();
            if up {
                *power = Power { crashes: power.crashes + 1, down: Some(Outage { back_in }) };
                self.away.lock().since = Some(Instant::now());
            }
            up
        });
        if crashed {
            self.tell(Event::Crashed { which: self.which, why: why.to_owned(), back_in });
        }
        crashed
    }

    /// Brings it back. False when it is there already.
    pub fn revive(&self) -> bool {
        self.power.send_if_modified(|power| power.down.take().is_some())
    }

    fn tell(&self, event: Event) {
        // The screen is a courtesy: a server never waits for it, and misses nothing if nobody looks.
        self.events.try_send(event).ok();
    }

    /// One life after the other, for as long as the thread runs.
    async fn live(self: Arc<Self>, first: TcpListener) {
        let mut power = self.power.subscribe();
        let (mut listener, mut life) = (first, 0);
        loop {
            self.serve(listener, life).await;
            life = self.next_life(&mut power).await;
            listener = self.come_back().await;
        }
    }

    /// Waits until it is to be there again, and says in which life.
    async fn next_life(&self, power: &mut watch::Receiver<Power>) -> u32 {
        loop {
            let now = *power.borrow_and_update();
            let Some(Outage { back_in }) = now.down else { return now.crashes };
            tokio::select! {
                () = until(power, |power| power.down.is_none()) => {}
                () = sleep(back_in.unwrap_or(Duration::MAX)) => { self.revive(); }
            }
        }
    }

    async fn come_back(&self) -> TcpListener {
        loop {
            match self.port.listen() {
                Ok(listener) => {
                    let mut away = self.away.lock();
                    let gone = away.since.take().map_or(Duration::ZERO, |since| since.elapsed());
                    away.before += gone;
                    drop(away);
                    self.tell(Event::Back(self.which));
                    return listener;
                }
                Err(error) => {
                    self.tell(Event::Stuck(self.which, error.to_string()));
                    sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// Serves until that life ends. When this returns nothing of it runs any more.
    async fn serve(self: &Arc<Self>, listener: TcpListener, life: u32) {
        let mut power = self.power.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = until(&mut power, |power| power.crashes != life) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => { connections.spawn(Arc::clone(self).converse(stream, life)); }
                    // Out of file descriptors, most likely: more of them come free as connections end.
                    Err(_) => sleep(Duration::from_millis(20)).await,
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, life: u32) {
        let mut power = self.power.subscribe();
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            Box::pin(async move { Ok::<_, Infallible>(server.answer(request).await) })
        });
        let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let crashed = tokio::select! {
            biased;
            () = until(&mut power, |power| power.crashes != life) => true,
            _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => false,
        };
        // Taking the connection apart drops the request that was being worked on.
        let stream = connection.into_parts().io.into_inner();
        if crashed {
            // Closing resets at once; if the option cannot be set, the client sees an early end, which is a crash as well.
            stream.set_zero_linger().ok();
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.which {
            Which::Admin => admin::answer(&self, request).await,
            Which::App => app::answer(&self, request).await,
        }
    }

    fn begin(&self) -> AtWork<'_> {
        AtWork { server: self, at_once: self.at_work.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

async fn until(power: &mut watch::Receiver<Power>, reached: impl Fn(Power) -> bool) {
    if power.wait_for(|power| reached(*power)).await.is_err() {
        // The server itself is gone, and with it whoever would wait here.
        std::future::pending().await
    }
}

/// A request that is being worked on.
struct AtWork<'a> {
    server: &'a Standin,
    /// How many there were at its beginning, itself included.
    at_once: usize,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.server.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both servers and the control endpoint, running. Dropping it ends them.
#[derive(Debug)]
pub struct Servers {
    /// Takes spreadsheets of orders.
    pub admin: Arc<Standin>,
    /// Takes delivery marks.
    pub app: Arc<Standin>,
    /// Where `POST /crash/NAME` and `POST /revive/NAME` are taken.
    pub control: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Starts them on a thread of their own.
    ///
    /// # Errors
    /// When a port cannot be bound or a thread not be started.
    pub fn start(temper: Temper, events: &mpsc::Sender<Event>) -> io::Result<Self> {
        let admin = Standin::new(Which::Admin, temper, events.clone())?;
        let app = Standin::new(Which::App, temper, events.clone())?;
        let control_port = Port::reserve()?;
        let control = control_port.address();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let both = [Arc::clone(&admin), Arc::clone(&app)];
        // All listen before anybody is told their addresses.
        let [at_admin, at_app, at_control] = {
            let _inside = runtime.enter();
            [admin.port.listen()?, app.port.listen()?, control_port.listen()?]
        };
        let run = move || {
            runtime.block_on(async move {
                let [admin, app] = both.clone();
                tokio::select! {
                    () = admin.live(at_admin) => {}
                    () = app.live(at_app) => {}
                    () = control::serve(at_control, both) => {}
                    // The other end is only ever dropped.
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("legacy-servers".into()).spawn(run)?;
        Ok(Self { admin, app, control, stop: Some(stop), thread: Some(thread) })
    }

    /// One of the two.
    pub fn get(&self, which: Which) -> &Arc<Standin> {
        match which {
            Which::Admin => &self.admin,
            Which::App => &self.app,
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported by its own thread already.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests;
