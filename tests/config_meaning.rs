//! What a configuration means once it is right.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fs, net::SocketAddr, num::NonZeroU32, path::Path, time::Duration};

use forebay::{
    backend::{Place, ServerAddress},
    config::{Config, ConfigError},
    envelope::{Delivery, order::Rule},
    health::{Check, Concurrency},
    proxy::{HostMatch, ListenAddress, ListenerSettings, OnDeadLetter, PathMatch, When},
    replay::{Profile, Rate},
    telemetry::AccessTarget,
};
use http::{HeaderName, Method};
use tracing::level_filters::LevelFilter;

const LEAST: &str = r#"
[backends.app]
servers = ["http://127.0.0.1:9002"]
[[routes]]
name = "all"
path = "/"
backend = "app"
"#;

const MOST: &str = r#"
workers = 3
drain_timeout = "5m"
[[listeners]]
address = "[::1]:80"
[[listeners]]
address = "unix:/run/forebay.sock"
[clients]
trusted_proxies = ["10.0.0.0/8", "192.0.2.7"]
max_connections = 20
header_timeout = "1s"
idle_timeout = "2s"
max_header_bytes = "64k"
max_body = 123_456_789
[admin]
address = "127.0.0.1:0"
[store]
engine = "redb"
path = "/var/lib/forebay/q.redb"
max_requests = 5
max_bytes = "1g"
min_free_disk = 0
keep_delivered = "0s"
keep_dead = "7d"
[log]
level = "warn"
access = "/var/log/access.log"
[backends.z]
servers = ["http://Orders.Internal:81/", "http://[::2]", "unix:/run/z.sock"]
connect_timeout = "250ms"
idle_timeout = "4s"
response_timeout = "3s"
concurrency = 4
health = { path = "/healthz?deep=1", interval = "3s", timeout = "2s", fall = 4, rise = 5 }
replay = { profile = "fixed", rate = "600/min", concurrency = 2 }
[backends.a]
servers = ["http://10.0.0.1:9001"]
concurrency = 6
replay = { profile = "fixed" }
[[routes]]
name = "login"
path = "= /login"
host = "Admin.Example.com"
backend = "a"
[[routes]]
name = "orders"
path = "/orders/"
backend = "z"
concurrency = 2
max_share = 0.5
[routes.spill]
methods = ["POST", "REPORT"]
when = "always"
delivery = "at-most-once"
order_by = ["header:X-Tour", "query:id", "cookie:sid", "path"]
max_body = "1MiB"
max_age = "1h"
max_attempts = 3
on_dead_letter = "hold"
accepted = { status = 200, content_type = "text/plain", body = "ok\n" }
"#;

fn parse(text: &str) -> Config {
    Config::parse("config.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn tcp(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn what_is_not_written_is_as_the_contract_says() {
    let config = parse(&format!("{LEAST}[routes.spill]\n"));
    let second = Duration::from_secs(1);
    assert!(config.workers >= 1);
    assert_eq!(config.drain_timeout, 30 * second);
    assert_eq!(config.proxy.listeners, [ListenerSettings::plain(ListenAddress::Tcp(tcp("127.0.0.1:8080")))]);
    let clients = &config.proxy.clients;
    assert_eq!((clients.trusted_proxies.len(), clients.max_connections), (0, 10_000));
    assert_eq!((clients.header_timeout, clients.idle_timeout), (10 * second, 75 * second));
    assert_eq!((clients.max_header_bytes, clients.max_body), (32 << 10, 1 << 30));
    assert_eq!((config.admin.address, config.admin.token), (tcp("127.0.0.1:8081"), None));
    let store = &config.store;
    assert_eq!((store.path.as_path(), store.max_requests), (Path::new("data/forebay.redb"), 1_000_000));
    assert_eq!((store.max_bytes, store.min_free_disk), (8 << 30, 512 << 20));
    assert_eq!((store.keep_delivered, store.keep_dead), (3600 * second, 14 * 86_400 * second));
    assert_eq!((config.log.level, config.log.access), (LevelFilter::INFO, AccessTarget::Off));
    let app = &config.backends[0];
    assert_eq!((app.backend.connect_timeout, app.backend.response_timeout), (2 * second, 30 * second));
    assert_eq!(app.backend.idle_timeout, 45 * second);
    assert_eq!(
        (app.health.concurrency, app.health.wait, app.health.check.is_none()),
        (Concurrency::Adaptive, Duration::from_millis(250), true)
    );
    assert_eq!((app.replay.profile, app.replay.rate, app.replay.concurrency), (Profile::Gentle, None, None));
    let route = &config.proxy.routes[0];
    assert_eq!((route.hosts.is_empty(), route.concurrency, route.max_share), (true, None, None));
    let spill = route.spill.as_ref().unwrap();
    assert_eq!(spill.methods, [Method::POST, Method::PUT, Method::PATCH, Method::DELETE]);
    assert_eq!((spill.when, spill.delivery, spill.on_dead_letter), (When::Needed, Delivery::AtLeastOnce, OnDeadLetter::Continue));
    assert_eq!(spill.order_by, [Rule::Header(http::header::AUTHORIZATION), Rule::ClientIp]);
    assert_eq!((spill.max_body, spill.max_age, spill.max_attempts), (64 << 20, 86_400 * second, 8));
    assert!(spill.accepted.is_none());
}

#[test]
fn a_route_without_a_spill_table_never_spills() {
    assert!(parse(LEAST).proxy.routes[0].spill.is_none());
}

#[test]
fn what_is_written_about_the_process_is_what_is_meant() {
    let config = parse(MOST);
    let second = Duration::from_secs(1);
    assert_eq!((config.workers, config.drain_timeout), (3, 300 * second));
    assert_eq!(
        config.proxy.listeners,
        [ListenAddress::Tcp(tcp("[::1]:80")), ListenAddress::Unix("/run/forebay.sock".into())].map(ListenerSettings::plain)
    );
    let clients = &config.proxy.clients;
    assert_eq!(clients.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "192.0.2.7/32".parse().unwrap()]);
    assert_eq!((clients.max_connections, clients.header_timeout, clients.idle_timeout), (20, second, 2 * second));
    assert_eq!((clients.max_header_bytes, clients.max_body), (64 << 10, 123_456_789));
    assert_eq!(config.admin.address, tcp("127.0.0.1:0"));
    let store = &config.store;
    assert_eq!((store.path.as_path(), store.max_requests), (Path::new("/var/lib/forebay/q.redb"), 5));
    assert_eq!((store.max_bytes, store.min_free_disk), (1 << 30, 0));
    assert_eq!((store.keep_delivered, store.keep_dead), (Duration::ZERO, 7 * 86_400 * second));
    assert_eq!((config.log.level, config.log.access), (LevelFilter::WARN, AccessTarget::File("/var/log/access.log".into())));
}

#[test]
fn what_is_written_about_backends_is_what_is_meant() {
    let config = parse(MOST);
    let second = Duration::from_secs(1);
    let names: Vec<_> = config.backends.iter().map(|backend| &*backend.name).collect();
    assert_eq!(names, ["z", "a"], "in the order of the file");
    let z = &config.backends[0];
    let servers = [Place::Name("orders.internal".into(), 81), Place::Tcp(tcp("[::2]:80")), Place::Unix("/run/z.sock".into())]
        .map(ServerAddress::plain);
    assert_eq!(z.backend.servers, servers);
    assert_eq!((z.backend.connect_timeout, z.backend.response_timeout), (Duration::from_millis(250), 3 * second));
    assert_eq!(z.backend.idle_timeout, 4 * second);
    assert_eq!(z.health.concurrency, Concurrency::Fixed(4));
    let check = Check { path: "/healthz?deep=1".into(), interval: 3 * second, timeout: 2 * second, fall: 4, rise: 5 };
    assert_eq!(z.health.check, Some(check));
    assert_eq!(z.replay.rate, Some(Rate { count: NonZeroU32::new(600).unwrap(), per: 60 * second }));
    assert_eq!((z.replay.profile, z.replay.concurrency), (Profile::Fixed, Some(2)));
    let a = &config.backends[1].replay;
    assert_eq!((a.profile, a.concurrency), (Profile::Fixed, Some(6)), "the default is never more than the backend takes");
}

#[test]
fn what_is_written_about_routes_is_what_is_meant() {
    let config = parse(MOST);
    let [login, orders] = config.proxy.routes.as_slice() else { panic!("two routes") };
    assert_eq!((&*login.name, &login.path, &**login.backend().unwrap()), ("login", &PathMatch::Exact("/login".into()), "a"));
    assert_eq!(login.hosts, [HostMatch::Exact("admin.example.com".into())]);
    assert_eq!((&orders.path, &**orders.backend().unwrap()), (&PathMatch::Prefix("/orders/".into()), "z"));
    assert_eq!((orders.concurrency, orders.max_share), (Some(2), Some(0.5)));
    let spill = orders.spill.as_ref().unwrap();
    assert_eq!(spill.methods, [Method::POST, Method::from_bytes(b"REPORT").unwrap()]);
    assert_eq!((spill.when, spill.delivery, spill.on_dead_letter), (When::Always, Delivery::AtMostOnce, OnDeadLetter::Hold));
    let rules = [Rule::Header(HeaderName::from_static("x-tour")), Rule::Query("id".into()), Rule::Cookie("sid".into()), Rule::Path];
    assert_eq!(spill.order_by, rules);
    assert_eq!((spill.max_body, spill.max_age, spill.max_attempts), (1 << 20, Duration::from_secs(3600), 3));
    let accepted = spill.accepted.as_ref().unwrap();
    assert_eq!((accepted.status.as_u16(), accepted.content_type.as_bytes(), &accepted.body[..]), (200, &b"text/plain"[..], &b"ok\n"[..]));
}

#[test]
fn a_smaller_limit_on_bodies_bounds_what_spills_without_a_word() {
    let config = parse(&format!("[clients]\nmax_body = \"10MiB\"\n{LEAST}[routes.spill]\norder_by = \"none\"\n"));
    let spill = config.proxy.routes[0].spill.as_ref().unwrap();
    assert_eq!((spill.max_body, spill.order_by.len()), (10 << 20, 0));
}

#[test]
fn quick_mode_sends_everything_to_one_backend_and_spills_its_writes() {
    let config = Config::quick("http://127.0.0.1:3000", "127.0.0.1:9090", Path::new("/tmp/x")).unwrap();
    assert_eq!(config.proxy.listeners, [ListenerSettings::plain(ListenAddress::Tcp(tcp("127.0.0.1:9090")))]);
    assert_eq!(config.admin.address, tcp("127.0.0.1:8081"));
    assert_eq!(config.store.path, Path::new("/tmp/x/forebay.redb"));
    assert_eq!((&*config.backends[0].name, config.backends.len()), ("backend", 1));
    assert_eq!(config.backends[0].backend.servers, [ServerAddress::plain(Place::Tcp(tcp("127.0.0.1:3000")))]);
    let [route] = config.proxy.routes.as_slice() else { panic!("one route") };
    assert_eq!((&*route.name, &route.path, &**route.backend().unwrap()), ("all", &PathMatch::Prefix("/".into()), "backend"));
    assert_eq!(route.spill, parse(&format!("{LEAST}[routes.spill]\n")).proxy.routes[0].spill, "as an empty spill table");
}

#[test]
fn what_is_wrong_in_quick_mode_is_said_of_the_flag() {
    let error = |backend, listen| match Config::quick(backend, listen, Path::new("data")) {
        Err(ConfigError::Invalid(report)) => report.lines().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        error("127.0.0.1:3000", "8080"),
        [
            "command line: `--backend` is not the address of a server: the scheme must be `http://` or `https://`",
            "command line: `--listen` is not an address to listen on: the IP address is missing",
        ]
    );
    let itself = error("http://localhost:8080", "127.0.0.1:8080");
    assert_eq!(itself, ["command line: the server http://localhost:8080 is forebay itself: requests would go round and round"]);
}

#[test]
fn a_file_is_read_as_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, MOST).unwrap();
    assert_eq!(Config::load(&path).unwrap(), parse(MOST));
}
