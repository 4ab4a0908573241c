//! From what a file says to what is true: settings of every room, or every fault.
//!
//! Single values have been checked by the walk; here it is what they mean together. Everything is looked at in any case, and a value that was faulty
//! is left out of comparisons, so that one fault is not told twice.

mod backends;
mod listeners;
mod places;
mod rates;
mod routes;
mod tls;

use std::{fs, net::SocketAddr, num::NonZero, thread};

use toml::de::DeTable;

use super::{
    Config, ConfigError, LogSettings, Report,
    fault::{Fault, Faults},
    file::{self, File},
    read::{At, Section, Table},
    values::Engine,
};
use crate::{admin, backend::Floor, proxy, store};

/// Reads and checks a document; `adjust` may change what it says before it is checked as a whole.
pub(super) fn document(origin: &str, text: &str, adjust: impl FnOnce(&mut File, &mut Faults)) -> Result<Config, ConfigError> {
    // TOML allows one byte order mark; it is no character of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut faults = Faults::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut table = Table::root(document.get_ref(), &mut faults);
    let mut file = File::keys(&mut table);
    table.finish();
    adjust(&mut file, &mut faults);
    let config = settle(file, &mut faults);
    if !errors.is_empty() {
        faults.list = with_syntax(text, &errors, faults.list);
    }
    finish(origin, text, config, faults)
}

/// Checks a configuration that stands in no file: `fill` says what it is.
pub(super) fn without_file(origin: &str, fill: impl FnOnce(&mut File, &mut Faults)) -> Result<Config, ConfigError> {
    let mut faults = Faults::default();
    let mut file = File::keys(&mut Table::absent(&mut faults));
    fill(&mut file, &mut faults);
    let config = settle(file, &mut faults);
    finish(origin, "", config, faults)
}

/// The only faults of a text that is not UTF-8.
pub(super) fn not_utf8(origin: &str, bytes: &[u8], error: std::str::Utf8Error) -> ConfigError {
    let at = error.valid_up_to();
    let mut faults = Faults::default();
    let title = "the file is not UTF-8";
    faults.add(Some(at..at), title, format!("byte 0x{:02x} cannot stand here", bytes.get(at).copied().unwrap_or_default()));
    let text = String::from_utf8_lossy(bytes);
    ConfigError::Invalid(Box::new(Report::new(origin, &text, faults.list)))
}

fn finish(origin: &str, text: &str, config: Option<Config>, mut faults: Faults) -> Result<Config, ConfigError> {
    if let Some(config) = config.filter(|_| faults.list.is_empty()) {
        return Ok(config);
    }
    if faults.list.is_empty() {
        // Every `None` on the way has a fault; saying so beats a report of nothing.
        faults.add(None, "the configuration is incomplete", "nothing more is known");
    }
    Err(ConfigError::Invalid(Box::new(Report::new(origin, text, faults.list))))
}

/// Errors of syntax, and of the other faults those that are certain all the same: what is missing may stand where the parser gave up, and
/// what stands on a broken line may mean something else.
fn with_syntax(text: &str, errors: &[toml::de::Error], others: Vec<Fault>) -> Vec<Fault> {
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
    let mut faults = Faults::default();
    let mut broken = Vec::new();
    for error in errors {
        let at = error.span().map(|span| line(span.start));
        // What the parser says of the rest of a broken line only repeats that it is broken.
        if !at.is_some_and(|at| broken.contains(&at)) {
            faults.add(error.span(), "this is not TOML", error.message());
        }
        broken.extend(at);
    }
    let certain = |fault: &Fault| !fault.absence && fault.span.as_ref().is_none_or(|span| !broken.contains(&line(span.start)));
    faults.list.extend(others.into_iter().filter(certain));
    faults.list
}

/// Everything together. `None` means that a fault was noted.
fn settle(file: File, faults: &mut Faults) -> Option<Config> {
    let File { workers, drain_timeout, listeners, clients, admin, store, log, backends, routes } = file;
    let listeners = listeners::settings(listeners.value, &clients.trusted_proxies.value, faults);
    let addresses: Vec<_> = listeners.iter().map(|(address, _)| address.clone()).collect();
    places::listeners(&addresses, faults);
    let admin = admin_settings(admin, &addresses, faults);
    if let Some(backends) = &backends {
        places::loops(&backends.value.0, &addresses, admin.address, faults);
    }
    let around = routes::Surroundings {
        backends: backends.as_ref().map(|at| &at.value),
        limits: routes::Limits { body: clients.max_body.clone(), store: store.max_bytes.clone() },
        https: !clients.trusted_proxies.value.is_empty()
            || listeners.iter().any(|(_, listener)| !listener.tls.is_empty() || listener.proxy_protocol.is_some()),
    };
    let routes = routes.map(|routes| routes::settings(routes.value, &around, faults));
    let backends = backends.map(|backends| backends::settings(backends.value, faults));
    Some(Config {
        workers: workers.map_or_else(cores, |at| at.value as usize),
        proxy: proxy::Settings {
            listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
            clients: client_settings(clients, faults),
            routes: routes?,
        },
        admin,
        store: store_settings(store, faults),
        backends: backends?,
        log: LogSettings { level: log.level.value, access: log.access.value, access_format: log.access_format.value },
        drain_timeout: drain_timeout.value,
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn client_settings(clients: file::Clients, faults: &mut Faults) -> proxy::Clients {
    proxy::Clients {
        trusted_proxies: clients.trusted_proxies.value.into_iter().map(|at| at.value).collect(),
        max_connections: clients.max_connections.value as usize,
        max_connections_per_client: clients.max_connections_per_client.map(|at| at.value),
        send_timeout: clients.send_timeout.value,
        min_body_rate: clients.min_body_rate.map(|rate| Floor { rate: rate.value.0, window: clients.min_body_window.value }),
        header_timeout: clients.header_timeout.value,
        idle_timeout: clients.idle_timeout.value,
        // At most 1 MiB by its range.
        max_header_bytes: usize::try_from(clients.max_header_bytes.value.0).unwrap_or(usize::MAX),
        max_body: clients.max_body.value.0,
        rate: rates::limit(clients.rates, "clients", faults),
    }
}

fn store_settings(store: file::Store, faults: &mut Faults) -> store::Settings {
    let Engine::Redb = store.engine.value;
    if store.path.value.is_dir() {
        let fault = faults.add(store.path.span, "`store.path` is a folder", "name a file in it");
        fault.help(format!("write \"{}\"", store.path.value.join(file::STORE_FILE).display()));
    }
    store::Settings {
        path: store.path.value,
        max_requests: store.max_requests.value,
        max_bytes: store.max_bytes.value.0,
        min_free_disk: store.min_free_disk.value.0,
        keep_delivered: store.keep_delivered.value,
        keep_dead: store.keep_dead.value,
    }
}

fn admin_settings(admin: file::Admin, listeners: &[At<proxy::ListenAddress>], faults: &mut Faults) -> admin::Settings {
    places::admin(&admin.address, listeners, faults);
    let address: SocketAddr = admin.address.value;
    if !address.ip().is_loopback() && admin.token_file.is_none() {
        let fault = faults.add(
            admin.address.span,
            "`admin.address` is not loopback, and there is no `admin.token_file`",
            "anybody who reaches it could steer forebay",
        );
        fault.help("set `token_file` to a file that holds a long random text, or listen on 127.0.0.1").absence = true;
    }
    let token = admin.token_file.and_then(|file| token(&file, faults));
    admin::Settings { address, token }
}

/// The token in the file. What is around it is cut off, since editors end files with a newline.
fn token(file: &At<std::path::PathBuf>, faults: &mut Faults) -> Option<String> {
    let shown = file.value.display();
    let text = match fs::read_to_string(&file.value) {
        Ok(text) => text,
        Err(error) => {
            let fault = faults.add(file.span.clone(), format!("`admin.token_file` {shown} cannot be read"), error.to_string());
            fault.help("a relative path starts at the working directory; the file must be readable by the user that runs forebay");
            return None;
        }
    };
    let token = text.trim();
    let problem = if token.is_empty() {
        "the file is empty"
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "the token must be one word of visible ASCII, as it stands in a header field"
    } else {
        return Some(token.to_owned());
    };
    let fault = faults.add(file.span.clone(), format!("`admin.token_file` {shown} holds no token"), problem);
    fault.help("make one with: openssl rand -hex 32");
    None
}
