//! From a configuration to a running program: the only room that knows all the others.
//!
//! [`App::bind`] takes everything that another program may have (the store's lock, the sockets, the access log), so that whoever starts forebay hears of it at once;
//! [`App::run`] then opens the store, and carries traffic until it is told to stop. Traffic runs on worker threads, one runtime each; everything else (replay, probes, the
//! admin listener) runs on the calling thread, so that it answers also when traffic keeps the workers busy.

mod doors;
mod fleet;
mod inherited;
mod manager;
mod memory;
mod names;
mod opening;
mod queue;
mod records;
mod workers;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::{
    admin::{self, AdminState, Operated, Phase},
    config::Config,
    envelope::Clock,
    proxy::{BindError, CertificateError, ListenAddress, Shared},
    store::{
        OpenError, OpeningStore,
        redb::{LockedStore, RedbStore},
    },
    telemetry::{AccessLog, Metrics},
};

use doors::Doors;
use fleet::Fleet;
use inherited::Inherited;
use manager::Manager;
use memory::Keeper;
use opening::Opening;
use workers::Workers;

pub use opening::Opener;

/// Time past the deadline of a stop in which the ends of attempts that were cut off are made durable.
const SETTLE_GRACE: Duration = Duration::from_secs(2);

/// Why forebay could not start. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("{0}; is another program using it?")]
    Bind(#[from] BindError),
    /// A certificate of a listener cannot be used.
    #[error("{0}; see `listeners.tls`")]
    Certificate(#[from] CertificateError),
    /// The admin address cannot be listened on.
    #[error("cannot listen on the admin address {address}: {source}; is another forebay using it? See `admin.address`")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// What the service manager passed is not a socket that listens.
    #[error("cannot use a socket that the service manager passed: {0}; see `ListenStream=` in the .socket unit")]
    NoListener(#[source] io::Error),
    /// The service manager passed a socket that nothing of the configuration listens on.
    #[error(
        "the service manager passed a socket for {0}, but nothing is to listen there: name this address in `[[listeners]]` or `admin.address`, or take it out of the .socket unit"
    )]
    Unclaimed(ListenAddress),
    /// The access log cannot be opened.
    #[error("cannot open the access log: {0}; see `log.access`")]
    AccessLog(#[source] io::Error),
    /// A thread or a runtime cannot be made.
    #[error("the system gave no thread: {0}")]
    Thread(#[source] io::Error),
}

/// What a running program is told.
#[derive(Debug)]
pub enum Order {
    /// Finish what is in flight and end. A second one ends at once.
    Stop,
    /// Take over this configuration.
    Reload(Box<Config>),
    /// The configuration was to be reloaded, but could not be read: the old one stays in force.
    ReloadFailed,
    /// Open log files anew, after a rotation has moved them away.
    ReopenLogs,
}

/// A program that is bound to its addresses and ready to run.
pub struct App {
    config: Config,
    locked: LockedStore,
    open: Opener,
    store: Arc<OpeningStore>,
    shared: Shared,
    metrics: Arc<Metrics>,
    fleet: Fleet,
    keeper: Keeper,
    doors: Doors,
    admin_listener: std::net::TcpListener,
    admin_address: SocketAddr,
}

impl App {
    /// Takes the store and binds all addresses.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_with(config, Box::new(LockedStore::open))
    }

    /// The same with another way to open the store, such as one that takes its time.
    pub fn bind_with(config: Config, open: Opener) -> Result<Self, StartError> {
        let clock = Clock::system();
        let mut inherited = Inherited::from_environment()?;
        // First of all: who has the store has the right to the addresses. Listeners share their ports (`SO_REUSEPORT`), so that a second forebay that bound
        // them before it learnt that it may not run would be given connections of the first, and break them.
        let locked = RedbStore::lock(config.store.clone())?;
        let store = OpeningStore::new(&config.store);
        let metrics = Arc::new(Metrics::new());
        let admin = ListenAddress::Tcp(config.admin.address);
        let wanted: Vec<_> = config.proxy.listeners.iter().map(|listener| &listener.address).chain([&admin]).collect();
        inherited.claim(&wanted)?;
        let passed = inherited.of(&admin).map_err(StartError::NoListener)?;
        let doors = Doors::open(&config.proxy.listeners, inherited, config.workers, metrics.clone(), clock.clone())?;
        let (admin_listener, admin_address) =
            bind_admin(config.admin.address, passed).map_err(|source| StartError::Admin { address: config.admin.address, source })?;
        let access_log =
            AccessLog::open(&config.log.access, config.log.access_format, metrics.access_log_dropped()).map_err(StartError::AccessLog)?;
        let fleet = Fleet::new(&config, store.clone(), metrics.clone(), clock.clone());
        let (keeper, known) = Keeper::open(&config.store.path);
        fleet.remember(&known);
        let site = Arc::new(ArcSwap::from_pointee(fleet.site(&config, None)));
        let shared = Shared { site, store: store.clone(), clock, access_log };
        Ok(Self { config, locked, open, store, shared, metrics, fleet, keeper, doors, admin_listener, admin_address })
    }

    /// Where the proxy listens, with the ports that the system chose.
    pub fn proxy_addresses(&self) -> Vec<&ListenAddress> {
        self.doors.addresses().collect()
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Carries traffic until an order to stop, or until nobody is left to give one; returns when all is down. Blocks.
    pub fn run(self, orders: mpsc::Receiver<Order>) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (open, locked, clock, commits) = (self.open, self.locked, self.shared.clock.clone(), self.metrics.store());
        let mut opening = Opening::begin(self.store, self.config.store.path.clone(), move || {
            let store = open(locked, clock)?;
            store.on_commit(move |operations, took| commits.committed(operations, took));
            Ok(store)
        })?;
        runtime.block_on(opening.at_once())?;
        tracing::info!(address = %self.admin_address, role = "admin", "listening");
        let workers = Workers::start(&self.shared, self.config.workers, self.metrics.clients())?;
        let mut doors = self.doors;
        runtime.block_on(doors.listen(&workers));
        let view = self.fleet.view(&self.config);
        let (operated, operations) = mpsc::channel(1);
        let admin = AdminState::new(self.shared.store.clone(), self.metrics.clone(), self.shared.clock.clone(), view, operated);
        let control = Control {
            config: self.config,
            shared: self.shared,
            metrics: self.metrics,
            fleet: self.fleet,
            keeper: self.keeper,
            doors,
            admin,
            workers,
            orders,
            opening,
        };
        runtime.block_on(control.run(self.admin_listener, operations))
    }
}

/// Everything that runs beside the traffic.
struct Control {
    config: Config,
    shared: Shared,
    metrics: Arc<Metrics>,
    fleet: Fleet,
    keeper: Keeper,
    doors: Doors,
    admin: Arc<AdminState>,
    workers: Workers,
    orders: mpsc::Receiver<Order>,
    opening: Opening,
}

impl Control {
    async fn run(mut self, admin_listener: std::net::TcpListener, mut operations: mpsc::Receiver<Operated>) -> Result<(), StartError> {
        let admin_listener = tokio::net::TcpListener::from_std(admin_listener).map_err(StartError::Thread)?;
        let (close_admin, admin_closes) = tokio::sync::oneshot::channel::<()>();
        let served = admin::serve(admin_listener, self.admin.clone(), async {
            // Dropping the sender is as good as a word.
            let _closed = admin_closes.await;
        });
        let admin_task = tokio::spawn(served);
        self.fleet.start();
        let mut manager = Manager::from_environment();
        self.admin.set_phase(Phase::Opening);
        if self.opening.is_over() {
            self.opened(&mut manager);
        }
        let mut wait = tokio::time::interval(manager::PATIENCE / 3);
        let mut failed = None;
        let mut keep = tokio::time::interval(memory::INTERVAL);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(doors::LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Reload(config)) => {
                        manager.reloading();
                        if self.reload(*config).await {
                            manager.reloaded();
                        } else {
                            manager.kept();
                        }
                    }
                    Some(Order::ReloadFailed) => {
                        manager.reloading();
                        self.metrics.reloaded(false);
                        manager.kept();
                    }
                    Some(Order::ReopenLogs) => self.shared.access_log.reopen(),
                    Some(Order::Stop) | None => break,
                },
                opened = self.opening.over() => match opened {
                    Ok(()) => self.opened(&mut manager),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                },
                _ = wait.tick(), if !self.opening.is_over() => manager.opening(),
                () = manager.beat() => {}
                _ = keep.tick() => drop(self.keep().await),
                Some(operated) = operations.recv() => drop(operated.send(self.keep().await)),
                _ = look.tick() => self.doors.refresh(false).await,
            }
        }
        // What is said from now on is written down at the end.
        drop(operations);
        manager.stopping(self.config.drain_timeout + SETTLE_GRACE);
        let alive = async {
            loop {
                manager.beat().await;
            }
        };
        tokio::select! {
            () = self.stop() => {}
            () = alive => {}
        }
        drop(close_admin);
        // The admin listener answered until now, so that `readyz` said "draining"; a connection that lingers there holds up nobody.
        let _ended = tokio::time::timeout(Duration::from_secs(1), admin_task).await;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The store has opened: writes can be queued, and what is queued is replayed.
    fn opened(&mut self, manager: &mut Manager) {
        self.fleet.replay();
        self.admin.set_phase(Phase::Accepting);
        manager.ready();
    }

    /// Writes down what was learned of the backends, and what an operator said of them.
    async fn keep(&mut self) -> bool {
        self.keeper.keep(self.fleet.memories()).await
    }

    /// Takes over what may change while we run, and says what may not; false when nothing could be taken over.
    async fn reload(&mut self, config: Config) -> bool {
        // What may fail comes first: then nothing has changed.
        let listeners = match self.doors.prepare(&config.proxy.listeners, self.config.workers) {
            Ok(listeners) => listeners,
            Err(error) => {
                tracing::error!("the configuration has not been reloaded, the old one stays in force: {error}");
                self.metrics.reloaded(false);
                return false;
            }
        };
        for (changed, what) in [
            (config.workers != self.config.workers, "workers"),
            (config.admin.address != self.config.admin.address, "admin.address"),
            (config.store != self.config.store, "store"),
            (config.log != self.config.log, "log"),
        ] {
            if changed {
                tracing::warn!("a change of `{what}` takes effect at the next start");
            }
        }
        self.doors.refresh(true).await;
        self.fleet.replace(&config);
        let site = self.fleet.site(&config, Some(&self.shared.site.load()));
        self.shared.site.store(Arc::new(site));
        self.admin.set_view(self.fleet.view(&config));
        // Last, so that a new listener finds the routes that go with it.
        self.doors.replace(listeners, &self.workers).await;
        // What cannot change stays as it was started, so that the next reload compares with the truth.
        let workers = self.config.workers;
        let (store, log, address) = (self.config.store.clone(), self.config.log.clone(), self.config.admin.address);
        self.config = config;
        self.config.workers = workers;
        (self.config.store, self.config.log, self.config.admin.address) = (store, log, address);
        self.shared.access_log.reopen();
        self.metrics.reloaded(true);
        tracing::info!("the configuration has been reloaded");
        true
    }

    /// Finishes what is in flight, within the deadline or until a second order to stop.
    async fn stop(&mut self) {
        let deadline = self.config.drain_timeout;
        tracing::info!(in_flight_connections = self.workers.connections(), "stopping: finishing what is in flight");
        self.admin.set_phase(Phase::Draining);
        self.doors.close();
        // Replay keeps the deadline itself, and then writes down what it cut off: that is worth a moment more.
        let drained = async {
            let traffic = tokio::time::timeout(deadline, self.workers.all_closed());
            let (traffic, replay) = tokio::join!(traffic, tokio::time::timeout(deadline + SETTLE_GRACE, self.fleet.stop(deadline)));
            (traffic.is_ok() || self.workers.connections() == 0) && replay.is_ok()
        };
        let again = async {
            loop {
                match self.orders.recv().await {
                    Some(Order::Stop) => return,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            all = drained => if all {
                tracing::info!("stopped");
            } else {
                tracing::warn!(open_connections = self.workers.connections(), "stopped at the deadline with requests in flight");
            },
            () = again => tracing::warn!("stopped at once, as asked a second time"),
        }
        self.workers.end();
        self.keep().await;
        self.shared.store.close().await;
        self.shared.access_log.flush(Duration::from_secs(1));
    }
}

fn bind_admin(address: SocketAddr, passed: Option<socket2::Socket>) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = passed.map_or_else(|| std::net::TcpListener::bind(address), |socket| Ok(socket.into()))?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
