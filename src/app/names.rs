//! Host names of backends, looked up again and again: a server for each address, as they come and go.
//!
//! The system's own resolver is asked, so that `/etc/hosts`, `nsswitch.conf` and a local cache mean what they mean to every other program; and again when the
//! [`records`] expire that it will have seen, or after a stated interval if that is sooner.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::records;
use crate::{
    backend::{Backend, ServerName, Shift},
    health::Health,
};

/// The least time between two look-ups: records of no time to live are common where each answer is another.
const SHORTEST: Duration = Duration::from_secs(1);
/// Time for one look-up, in which a resolver asks a second and a third server.
const LONGEST: Duration = Duration::from_secs(30);

/// Tells what names stand for.
pub(super) trait Resolver: Send + Sync {
    /// The addresses of a name.
    fn look_up<'a>(&'a self, name: &'a ServerName) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// For how long it stands for these, if that is known.
    fn time_to_live<'a>(&'a self, name: &'a ServerName, found: &'a [SocketAddr]) -> BoxFuture<'a, Option<Duration>>;
}

/// The system's resolver.
pub(super) struct System;

impl Resolver for System {
    fn look_up<'a>(&'a self, name: &'a ServerName) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name.host.as_str(), name.port)).await?.collect()) })
    }

    fn time_to_live<'a>(&'a self, name: &'a ServerName, found: &'a [SocketAddr]) -> BoxFuture<'a, Option<Duration>> {
        Box::pin(records::time_to_live(&name.host, found))
    }
}

/// Keeps the servers of a backend those that its names stand for. Never ends; to be spawned where it is dropped when the backend is.
pub(super) async fn follow(backend: Arc<Backend>, health: Arc<Health>, resolver: impl Resolver) {
    // Each by itself: one that nobody answers for keeps no other waiting.
    join_all(backend.names().iter().map(|name| follow_one(&backend, &health, &resolver, name))).await;
}

async fn follow_one(backend: &Backend, health: &Health, resolver: &impl Resolver, name: &ServerName) {
    let mut failing = false;
    loop {
        let began = Instant::now();
        let mut again = backend.resolve_interval();
        let found = timeout(LONGEST, resolver.look_up(name)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match found.map(|found| usable(found, has_route)) {
            Ok(addresses) if !addresses.is_empty() => {
                failing = false;
                shift(backend, health, name, &addresses);
                if let Ok(Some(time_to_live)) = timeout_at(began + again, resolver.time_to_live(name, &addresses)).await {
                    again = again.min(time_to_live.max(SHORTEST));
                }
            }
            // Once, until it works again. Whoever has gone will be noticed by his silence.
            failed if !failing => {
                failing = true;
                let error = failed.err().map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
                tracing::warn!(backend = %backend.name(), name = %name.host, "a name cannot be looked up, its servers stay as they were: {error}");
            }
            _ => {}
        }
        sleep_until(began + again).await;
    }
}

fn shift(backend: &Backend, health: &Health, name: &ServerName, addresses: &[SocketAddr]) {
    for shift in backend.found(name.index, addresses) {
        let (backend_name, host) = (backend.name(), &name.host);
        match shift {
            Shift::Appeared { server, first } => {
                health.appear(server, !first);
                tracing::info!(backend = %backend_name, name = %host, server, address = backend.server(server), "a server has appeared");
            }
            Shift::Vanished { server } => {
                health.vanish(server);
                tracing::info!(backend = %backend_name, name = %host, server, "a server has gone: its name does not lead to it any more");
            }
            Shift::NoRoom(address) => {
                tracing::warn!(backend = %backend_name, name = %host, %address, "the name has more addresses than are balanced");
            }
        }
    }
}

/// One address for each server, in a steady order: a machine has one of each family, as a rule, so that only one family counts. That is IPv4 where it leads anywhere:
/// many a name has an IPv6 address that nobody listens on.
fn usable(mut found: Vec<SocketAddr>, has_route: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    found.sort_unstable();
    found.dedup();
    let four: Vec<SocketAddr> = found.iter().copied().filter(|address| address.is_ipv4() && has_route(address)).collect();
    if !four.is_empty() {
        return four;
    }
    let six: Vec<SocketAddr> = found.iter().copied().filter(SocketAddr::is_ipv6).collect();
    if six.is_empty() { found } else { six }
}

/// Whether the system knows a way to there. Nothing is sent.
fn has_route(address: &SocketAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use http::Request;
    use parking_lot::Mutex;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        backend::{Place, Pool, Protocol, RequestBody, ServerAddress, Settings},
        health,
    };

    #[test]
    fn a_machine_with_two_addresses_is_one_server() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (four, six) = (parse("10.0.0.1:80"), parse("[fd00::1]:80"));
        assert_eq!(usable(vec![six, four, four], |_| true), [four]);
        assert_eq!(usable(vec![six, four], SocketAddr::is_ipv6), [six], "without a way by IPv4");
        assert_eq!(usable(vec![four], |_| false), [four], "there is nothing better");
    }

    /// A server that answers every request with its own address, and closes.
    async fn serve(listener: TcpListener) {
        let address = listener.local_addr().unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _read = stream.read(&mut [0; 1024]).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nX-From: {}\r\n\r\n", address.ip());
            let _written = stream.write_all(answer.as_bytes()).await;
        }
    }

    /// One port on which three addresses of the loopback are served.
    async fn three_servers() -> u16 {
        loop {
            let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = first.local_addr().unwrap().port();
            let (second, third) = (TcpListener::bind(("127.0.0.2", port)).await, TcpListener::bind(("127.0.0.3", port)).await);
            if let (Ok(second), Ok(third)) = (second, third) {
                for listener in [first, second, third] {
                    tokio::spawn(serve(listener));
                }
                return port;
            }
        }
    }

    /// What the last number of each address is.
    struct Zone(Arc<Mutex<io::Result<Vec<u8>>>>);

    impl Resolver for Zone {
        fn look_up<'a>(&'a self, name: &'a ServerName) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            let answer = match &*self.0.lock() {
                Ok(lasts) => Ok(lasts.iter().map(|&last| SocketAddr::from(([127, 0, 0, last], name.port))).collect()),
                Err(error) => Err(io::Error::from(error.kind())),
            };
            Box::pin(async move { answer })
        }

        fn time_to_live<'a>(&'a self, _: &'a ServerName, _: &'a [SocketAddr]) -> BoxFuture<'a, Option<Duration>> {
            Box::pin(async { None })
        }
    }

    /// Answers for all names but `silent.internal`, with records that it knows to live for so long but for `secret.internal`, and notes when it is asked.
    struct Timed(Option<Duration>, Arc<Mutex<Vec<(String, Duration)>>>, Instant);

    impl Resolver for Timed {
        fn look_up<'a>(&'a self, name: &'a ServerName) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            self.1.lock().push((name.host.clone(), self.2.elapsed()));
            if name.host == "silent.internal" {
                return Box::pin(std::future::pending());
            }
            Box::pin(async { Ok(vec![([127, 0, 0, 1], name.port).into()]) })
        }

        fn time_to_live<'a>(&'a self, name: &'a ServerName, _: &'a [SocketAddr]) -> BoxFuture<'a, Option<Duration>> {
            if name.host == "secret.internal" {
                return Box::pin(std::future::pending());
            }
            Box::pin(async { self.0 })
        }
    }

    /// When each of these names was asked for within a minute, in seconds.
    async fn asked(names: &[&str], time_to_live: Option<Duration>) -> Vec<(String, u64)> {
        let servers = names.iter().map(|&name| ServerAddress::plain(Place::Name(name.into(), 1))).collect();
        let group = Group::of(servers, Duration::from_secs(10));
        let asked: Arc<Mutex<Vec<(String, Duration)>>> = Arc::default();
        let timed = Timed(time_to_live, asked.clone(), Instant::now());
        tokio::spawn(follow(group.backend.clone(), group.health.clone(), timed));
        tokio::time::sleep(Duration::from_secs(60)).await;
        asked.lock().iter().map(|(name, at)| (name.clone(), at.as_secs())).collect()
    }

    struct Group {
        backend: Arc<Backend>,
        health: Arc<Health>,
        zone: Arc<Mutex<io::Result<Vec<u8>>>>,
    }

    impl Group {
        async fn start(zone: &[u8]) -> Self {
            let servers = vec![ServerAddress::plain(Place::Name("app.internal".into(), three_servers().await))];
            let group = Self::of(servers, Duration::from_millis(1));
            *group.zone.lock() = Ok(zone.to_vec());
            let zone = group.zone.clone();
            tokio::spawn(follow(group.backend.clone(), group.health.clone(), Zone(zone)));
            group
        }

        fn of(servers: Vec<ServerAddress>, resolve_interval: Duration) -> Self {
            let settings = Settings {
                servers,
                protocol: Protocol::Auto,
                tls: None,
                connect_timeout: Duration::from_secs(5),
                response_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(5),
                tunnel_timeout: Duration::from_secs(5),
                resolve_interval,
            };
            let health_settings = health::Settings { concurrency: health::Concurrency::Fixed(9), wait: Duration::ZERO, check: None };
            let health = Health::with_room("app".into(), health_settings, settings.servers.len(), settings.room());
            let backend = Backend::new("app".into(), settings, health.weights());
            Self { backend, health, zone: Arc::new(Mutex::new(Ok(Vec::new()))) }
        }

        /// Who answers, asked until `expected` are exactly those who answer many requests in a row.
        async fn becomes(&self, expected: &[&str]) {
            let expected: BTreeSet<String> = expected.iter().map(|&address| address.to_owned()).collect();
            let reached = async {
                loop {
                    let mut seen = BTreeSet::new();
                    for _ in 0..200 {
                        let request = Request::get("/").header("host", "app").body(RequestBody::empty()).unwrap();
                        // Until its name has been looked up for the first time, nobody is there.
                        seen.insert(match self.backend.send(&Pool::default(), request).await {
                            Ok(reply) => {
                                String::from_utf8_lossy(reply.response.head.get(&http::HeaderName::from_static("x-from")).unwrap())
                                    .into_owned()
                            }
                            Err(error) => error.to_string(),
                        });
                    }
                    if seen == expected {
                        return;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap_or_else(|_| panic!("in vain: {expected:?}"));
        }
    }

    #[tokio::test]
    async fn an_address_that_appears_gets_requests_and_one_that_vanishes_gets_none() {
        let group = Group::start(&[1]).await;
        group.becomes(&["127.0.0.1"]).await;
        *group.zone.lock() = Ok(vec![1, 2, 3]);
        group.becomes(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]).await;
        let weights: Vec<u32> =
            group.health.weights().iter().take(3).map(|weight| weight.load(std::sync::atomic::Ordering::Relaxed)).collect();
        assert!(weights[0] == 100 && weights[1] < 100 && weights[2] < 100, "who is new is eased in: {weights:?}");
        *group.zone.lock() = Ok(vec![3]);
        group.becomes(&["127.0.0.3"]).await;
        *group.zone.lock() = Ok(vec![2]);
        group.becomes(&["127.0.0.2"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_answers_for_is_given_up_and_keeps_no_other_waiting() {
        let asked = asked(&["silent.internal", "app.internal"], None).await;
        let times = |name: &str| -> Vec<u64> { asked.iter().filter(|(asked, _)| asked == name).map(|(_, at)| *at).collect() };
        assert_eq!(times("silent.internal"), [0, 30]);
        assert_eq!(times("app.internal"), [0, 10, 20, 30, 40, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_again_when_its_records_expire_and_at_the_interval_if_that_is_sooner() {
        for (time_to_live, second) in [(Some(4), 4), (Some(0), 1), (Some(300), 10), (None, 10)] {
            let asked = asked(&["app.internal"], time_to_live.map(Duration::from_secs)).await;
            assert_eq!((asked[1].1, asked[2].1), (second, 2 * second), "{time_to_live:?}");
        }
        let asked = asked(&["secret.internal"], None).await;
        assert_eq!((asked[1].1, asked[2].1), (10, 20), "also where nobody says when that is");
    }

    #[tokio::test]
    async fn a_look_up_that_fails_or_finds_nothing_leaves_the_servers_as_they_were() {
        let group = Group::start(&[1, 2]).await;
        group.becomes(&["127.0.0.1", "127.0.0.2"]).await;
        for nothing in [Err(io::ErrorKind::TimedOut.into()), Ok(Vec::new())] {
            *group.zone.lock() = nothing;
            group.becomes(&["127.0.0.1", "127.0.0.2"]).await;
        }
    }
}
