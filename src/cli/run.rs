//! `forebay run`: the program itself, and what its signals do.

use std::{io, process::ExitCode, thread};

use tokio::sync::mpsc;

use super::{BAD_CONFIGURATION, FAILED};
use crate::{
    app::{App, Order, StartError},
    config::{Config, ConfigError, Source},
    shutdown::{Asked, Signals},
    store::OpenError,
    telemetry::{self, LogFormat},
};

/// Runs the proxy until it is told to stop; `source` reads the configuration again at HUP.
pub(super) fn run(source: Source, config: Config) -> ExitCode {
    if let Err(error) = telemetry::init(LogFormat::default(), Some(&config.log.level.to_string())) {
        eprintln!("forebay: {error}");
        return ExitCode::from(FAILED);
    }
    // Huge pages make whole 2 MiB of each spot that a thread's part of the heap touches: many times the memory, for little.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages could not be switched off");
    }
    match start(source, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(if may_pass(&error) { FAILED } else { BAD_CONFIGURATION })
        }
    }
}

/// Whether the same start may go well later: the system gives no thread now, or another program is in the way, such as a forebay that still drains. A
/// configuration that names what is not there, or what cannot be written, is a bad one.
fn may_pass(error: &StartError) -> bool {
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    match error {
        StartError::Thread(_) | StartError::Store(OpenError::InUse(_)) => true,
        StartError::Bind(error) => taken(&error.source),
        StartError::Admin { source, .. } => taken(source),
        StartError::Store(_)
        | StartError::AccessLog(_)
        | StartError::Certificate(_)
        | StartError::NoListener(_)
        | StartError::Unclaimed(_) => false,
    }
}

fn start(source: Source, config: Config) -> Result<(), StartError> {
    let (orders, taken) = mpsc::channel(4);
    // Signals are listened to before anything is opened, so that none that comes early is lost or kills us half-way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::listen().map_err(StartError::Thread)?
    };
    let app = App::bind(config)?;
    let listening = thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                let order = match signals.next().await {
                    Asked::Stop => Order::Stop,
                    Asked::Reload => reload(&source),
                    Asked::Reopen => Order::ReopenLogs,
                };
                if orders.send(order).await.is_err() {
                    return;
                }
            }
        });
    });
    listening.map_err(StartError::Thread)?;
    app.run(taken)
}

/// The configuration read again; one with faults is shown, and changes nothing.
fn reload(source: &Source) -> Order {
    match source.load() {
        Ok(config) => Order::Reload(Box::new(config)),
        Err(error) => {
            match &error {
                ConfigError::Invalid(report) => {
                    tracing::error!("the configuration was not reloaded, the old one stays in force:\n{}", report.render(false));
                }
                ConfigError::Unreadable { .. } => {
                    tracing::error!("the configuration was not reloaded, the old one stays in force: {error}")
                }
            }
            Order::ReloadFailed
        }
    }
}
