//! The proxy in this process: the demo's one door to the rest of the program.
//!
//! Everything else here knows the proxy as its users do, by its addresses and over HTTP: what is shown and what the books are held against comes
//! from the admin API, not from the inside.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::wire::{Client, WireError};
use crate::{
    app::{App, Order},
    config::Config,
    health,
    proxy::ListenAddress,
};

/// How long the proxy may take to say how it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no proxy, or no word from it.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It does not start.
    #[error("the proxy does not start: {0}")]
    Start(String),
    /// A folder whose name cannot be written into a configuration.
    #[error("{0} is not UTF-8; name another folder with --data")]
    Path(PathBuf),
    /// Its admin API does not answer.
    #[error("the admin API does not answer: {0}")]
    Silent(#[from] WireError),
    /// Its admin API answers something else.
    #[error("the admin API answered {0}, not a status")]
    Strange(String),
}

/// What `GET /api/v1/status` says, as far as the demo goes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Status {
    /// Every backend.
    pub backends: Vec<Backend>,
    /// Every route.
    pub routes: Vec<Route>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// What it is fit for.
    pub state: Option<health::State>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Its counts.
    pub totals: Totals,
}

/// Exact counts of one route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// Acknowledged with a 202, ever.
    pub accepted: u64,
    /// Waiting.
    pub queued: u64,
    /// Attempt under way.
    pub delivering: u64,
    /// Taken by the backend.
    pub delivered: u64,
    /// Given up.
    pub dead: u64,
    /// Withdrawn.
    pub cancelled: u64,
    /// Dead letters thrown away.
    pub discarded: u64,
}

impl Totals {
    /// Whether every accepted request is in exactly one state.
    pub fn balance(&self) -> bool {
        self.accepted == self.queued + self.delivering + self.delivered + self.dead + self.cancelled + self.discarded
    }

    /// What is not settled yet.
    pub fn open(&self) -> u64 {
        self.queued + self.delivering
    }
}

impl Status {
    /// Sum over all routes.
    pub fn totals(&self) -> Totals {
        self.routes.iter().fold(Totals::default(), |sum, Route { totals, .. }| Totals {
            accepted: sum.accepted + totals.accepted,
            queued: sum.queued + totals.queued,
            delivering: sum.delivering + totals.delivering,
            delivered: sum.delivered + totals.delivered,
            dead: sum.dead + totals.dead,
            cancelled: sum.cancelled + totals.cancelled,
            discarded: sum.discarded + totals.discarded,
        })
    }
}

/// The proxy, running.
#[derive(Debug)]
pub struct Stage {
    proxy: SocketAddr,
    admin: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<Result<(), String>>,
}

impl Stage {
    /// A proxy that runs already.
    pub fn attached(proxy: SocketAddr, admin: SocketAddr) -> Self {
        Self { proxy, admin, running: None }
    }

    /// Starts a proxy with this configuration. `folder` is where the text is written down, so that whoever keeps the folder can start it
    /// again with `forebay run -c`.
    ///
    /// # Errors
    /// When the configuration is refused or the proxy cannot be started.
    pub fn start(text: &str, folder: &Path) -> Result<Self, StageError> {
        fn refused(error: impl std::fmt::Display) -> StageError {
            StageError::Start(error.to_string())
        }
        let file = folder.join("config.toml");
        std::fs::write(&file, text).map_err(refused)?;
        let app = App::bind(Config::parse(&file.to_string_lossy(), text).map_err(refused)?).map_err(refused)?;
        let tcp = |address: &&ListenAddress| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        };
        let proxy = app.proxy_addresses().iter().find_map(tcp).ok_or_else(|| refused("no listener"))?;
        let admin = app.admin_address();
        let (orders, received) = mpsc::channel(1);
        let run = move || app.run(received).map_err(|error| error.to_string());
        let thread = std::thread::Builder::new().name("forebay".into()).spawn(run).map_err(refused)?;
        Ok(Self { proxy, admin, running: Some(Running { orders, thread }) })
    }

    /// Stops the proxy, as TERM would, and waits until it is down.
    ///
    /// # Errors
    /// When it ended badly.
    pub async fn stop(self) -> Result<(), StageError> {
        let Some(Running { orders, thread }) = self.running else { return Ok(()) };
        // An error means that it is down already, which the thread's result explains.
        orders.send(Order::Stop).await.ok();
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(ended)) => ended.map_err(StageError::Start),
            _ => Err(StageError::Start("its thread panicked".into())),
        }
    }

    /// Where clients come.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Where operators come.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin API how everything is.
    pub async fn status(&self) -> Result<Status, StageError> {
        let request = Request::get("/api/v1/status").body(Full::<Bytes>::default());
        let request = request.map_err(|error| StageError::Strange(error.to_string()))?;
        let reply = Client::new(self.admin, STATUS_PATIENCE).send(request).await?;
        if !reply.status.is_success() {
            return Err(StageError::Strange(reply.status.to_string()));
        }
        serde_json::from_slice(&reply.body).map_err(|error| StageError::Strange(error.to_string()))
    }
}

/// The configuration of the demo: what a user would write for two such servers, with ports that the system chooses.
pub fn configuration(data: &Path, admin: SocketAddr, app: SocketAddr) -> Result<String, StageError> {
    let store = data.join("forebay.redb");
    let store = store.to_str().ok_or_else(|| StageError::Path(data.to_owned()))?;
    // A TOML value of its own, so that no character of the path can end the string.
    let store = toml::Value::from(store);
    Ok(format!(
        r#"# Written by `forebay demo`.
[[listeners]]
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[store]
path = {store}
min_free_disk = "64MiB"

[backends.admin]
servers = ["http://{admin}"]
connect_timeout = "1s"
response_timeout = "15s"
health = {{ path = "/healthz", interval = "500ms", timeout = "400ms", fall = 2, rise = 2 }}

[backends.app]
servers = ["http://{app}"]
connect_timeout = "1s"
response_timeout = "15s"
health = {{ path = "/healthz", interval = "500ms", timeout = "400ms", fall = 2, rise = 2 }}

# Two spreadsheets at a time are what the admin server bears; the others wait in the queue.
[[routes]]
name = "order-upload"
path = "/admin/orders/"
backend = "admin"
concurrency = 2
[routes.spill]
methods = ["POST"]
delivery = "at-least-once"
order_by = ["header:authorization", "client-ip"]

[[routes]]
name = "delivery-marks"
path = "/marks"
backend = "app"
[routes.spill]
methods = ["POST"]
delivery = "at-least-once"
order_by = ["header:authorization", "client-ip"]

[[routes]]
name = "everything-else"
path = "/"
backend = "app"
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_stays_one_toml_string() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9001));
        let text = configuration(Path::new("/tmp/a \"b\"\\c"), address, address).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["store"]["path"].as_str(), Some("/tmp/a \"b\"\\c/forebay.redb"));
        assert_eq!(table["backends"]["admin"]["servers"][0].as_str(), Some("http://127.0.0.1:9001"));
        assert_eq!(table["routes"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn a_status_of_the_admin_api_is_read_and_summed() {
        let text = r#"{"version":"0.1.0","backends":[{"name":"admin","state":"shedding","queue":{"queued":2}},{"name":"gone","state":null}],
            "routes":[{"name":"a","backend":"admin","totals":{"accepted":5,"queued":2,"delivering":1,"delivered":1,"dead":1,"cancelled":0,"discarded":0}},
                      {"name":"b","backend":"app","totals":{"accepted":1,"queued":0,"delivering":0,"delivered":1,"dead":0,"cancelled":0,"discarded":0}}]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.backends[0].state, Some(health::State::Shedding));
        let sum = status.totals();
        assert_eq!((sum.accepted, sum.delivered, sum.open(), sum.balance()), (6, 2, 3, true));
    }
}
