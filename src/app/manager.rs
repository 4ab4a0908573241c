//! What the service manager is told (systemd's `Type=notify` and `Type=notify-reload`, sd_notify(3)): ready, reloading, stopping, and that we are alive.
//! Without a manager (no `NOTIFY_SOCKET`) all of this is nothing.
//!
//! A manager that is busy holds up nobody: what it does not take at once waits for it, in order, and is sent while we wait for something else.

use std::{
    collections::VecDeque,
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

/// For so long each word that the store is being opened puts off the manager's own deadline for a start (`TimeoutStartSec=`).
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Words that wait for a manager at most: past it the oldest is forgotten, for the last one says how things stand.
const MOST_WAITING: usize = 16;

/// The service manager that started us, if one did.
#[derive(Debug)]
pub(super) struct Manager {
    /// Where it listens.
    address: Option<SocketAddr>,
    /// What it has not taken yet.
    waiting: Option<Waiting>,
    /// Whether it was told that we are ready; before that there is nothing else to tell.
    ready: bool,
    /// Beats twice in the time within which it wants to hear of us (`WATCHDOG_USEC`).
    watchdog: Option<Interval>,
}

impl Manager {
    /// Reads from the environment what it wants to hear. Must be called within a runtime.
    pub(super) fn from_environment() -> Self {
        // An interval must be more than nothing.
        let period = sd_notify::watchdog_enabled().map(|within| (within / 2).max(Duration::from_millis(1)));
        let watchdog = period.map(|period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let address = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let address = address(name.as_bytes());
            address.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET names no socket: the service manager will not be told")).ok()
        });
        Self { address, waiting: None, ready: false, watchdog }
    }

    /// All is bound and answers, but the store is still being opened: the start may take longer. To be told again within [`PATIENCE`].
    pub(super) fn opening(&mut self) {
        let extend = u32::try_from(PATIENCE.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::Status("carrying traffic while the store is being opened"), NotifyState::ExtendTimeoutUsec(extend)]);
    }

    /// All is bound and answers, and the store is open.
    pub(super) fn ready(&mut self) {
        self.ready = true;
        self.tell(&[NotifyState::Ready, NotifyState::Status("carrying traffic")]);
    }

    /// The configuration has been taken over.
    pub(super) fn reloaded(&mut self) {
        if self.ready {
            self.ready();
        }
    }

    /// The configuration is being taken over. `reloaded`, or `kept`, must follow.
    pub(super) fn reloading(&mut self) {
        if !self.ready {
            return;
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the service manager was not told of the reload"),
        }
    }

    /// A configuration with faults was not taken over.
    pub(super) fn kept(&mut self) {
        if !self.ready {
            return;
        }
        self.tell(&[
            NotifyState::Ready,
            NotifyState::Status("carrying traffic by the old configuration: the new one has faults, see the log"),
        ]);
    }

    /// The stop has begun and may take this long.
    pub(super) fn stopping(&mut self, at_most: Duration) {
        let extend = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight"), NotifyState::ExtendTimeoutUsec(extend)]);
    }

    /// Waits until it is time to say that we are alive, and says so, or until the manager has taken what waited for it; never ends where there is neither.
    pub(super) async fn beat(&mut self) {
        let Self { watchdog, waiting, .. } = self;
        let time = async {
            match watchdog {
                Some(interval) => drop(interval.tick().await),
                None => std::future::pending().await,
            }
        };
        let taken = async {
            match waiting {
                Some(waiting) => waiting.send().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Among what waits a sign of life would be an old one by the time it is heard.
            () = time => if self.waiting.is_none() {
                self.tell(&[NotifyState::Watchdog]);
            },
            sent = taken => {
                self.waiting = None;
                heed(sent);
            }
        }
    }

    /// Says this now, or puts it behind what waits.
    fn tell(&mut self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.address else { return };
        let word: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Some(waiting) = &mut self.waiting {
            waiting.push(word);
            return;
        }
        // A new socket for each word, as sd_notify(3) does it: it finds also a manager that was started anew.
        let told = socket(address).and_then(|socket| match socket.send(word.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Waiting::new(socket, word).map(Some),
            sent => sent.map(|_| None),
        });
        match told {
            Ok(waiting) => self.waiting = waiting,
            Err(error) => heed(Err(error)),
        }
    }
}

/// What a manager has not taken yet, and the way to it.
#[derive(Debug)]
struct Waiting {
    socket: tokio::net::UnixDatagram,
    words: VecDeque<String>,
}

impl Waiting {
    fn new(socket: UnixDatagram, word: String) -> io::Result<Self> {
        Ok(Self { socket: tokio::net::UnixDatagram::from_std(socket)?, words: VecDeque::from([word]) })
    }

    fn push(&mut self, word: String) {
        if self.words.len() == MOST_WAITING {
            self.words.pop_front();
        }
        self.words.push_back(word);
    }

    /// Sends all that waits. May be dropped at any time: what has been sent is gone, and the rest waits on.
    async fn send(&mut self) -> io::Result<()> {
        while let Some(word) = self.words.front() {
            self.socket.writable().await?;
            match self.socket.try_send(word.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    sent?;
                    self.words.pop_front();
                }
            }
        }
        Ok(())
    }
}

/// Where `NOTIFY_SOCKET` says that a manager listens: a path, or after `@` a name in the abstract namespace.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

/// A way to it that never blocks.
fn socket(address: &SocketAddr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(address)?;
    Ok(socket)
}

/// A manager that does not listen costs us nothing but its own patience.
fn heed(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a manager that takes nothing until it reads, and what is told to it.
    fn deaf() -> (UnixDatagram, Manager) {
        let name = format!("@forebay-{:016x}", fastrand::u64(..));
        let address = address(name.as_bytes()).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        listening.set_nonblocking(true).unwrap();
        let full = socket(&address).unwrap();
        while full.send(b"full").is_ok() {}
        (listening, Manager { address: Some(address), waiting: None, ready: false, watchdog: None })
    }

    /// The first lines of what a manager hears while it is told, but for what was there before.
    async fn heard(listening: UnixDatagram, manager: &mut Manager) -> Vec<String> {
        let (mut heard, mut bytes) = (Vec::new(), [0; 1024]);
        loop {
            while let Ok(length) = listening.recv(&mut bytes) {
                let text = std::str::from_utf8(&bytes[..length]).unwrap();
                heard.extend(text.lines().next().filter(|line| *line != "full").map(str::to_owned));
            }
            if manager.waiting.is_none() {
                return heard;
            }
            tokio::select! {
                () = manager.beat() => {}
                () = tokio::task::yield_now() => {}
            }
        }
    }

    #[tokio::test]
    async fn a_manager_that_does_not_listen_holds_up_nobody_and_hears_all_in_order_when_it_does() {
        let (listening, mut manager) = deaf();
        manager.ready();
        manager.reloading();
        manager.reloaded();
        manager.stopping(Duration::from_secs(1));
        assert_eq!(heard(listening, &mut manager).await, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
    }

    #[tokio::test]
    async fn what_waits_for_a_manager_is_bounded_and_the_last_word_is_kept() {
        let (listening, mut manager) = deaf();
        for _ in 0..3 * MOST_WAITING {
            manager.ready();
        }
        manager.stopping(Duration::from_secs(1));
        let heard = heard(listening, &mut manager).await;
        assert_eq!((heard.len(), heard.last().unwrap().as_str()), (MOST_WAITING, "STOPPING=1"));
    }

    #[tokio::test]
    async fn a_manager_that_is_gone_is_told_nothing_and_waited_for_no_more() {
        let (listening, mut manager) = deaf();
        manager.ready();
        drop(listening);
        manager.beat().await;
        assert!(manager.waiting.is_none());
        manager.stopping(Duration::from_secs(1));
        assert!(manager.waiting.is_none());
    }
}
