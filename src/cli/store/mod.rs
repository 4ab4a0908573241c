//! `forebay store`: the queue on disk, open to its owner while no forebay runs it.

mod transfer;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use super::{check, render, render::Output};
use crate::{
    config::{Config, Flags},
    envelope::State,
    store::Settings,
};

/// What can be done with a store that no forebay runs.
#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Check that a store is whole, without changing it
    ///
    /// Every checksum of every payload, every reference from index to payload and back, every counter. Exits 1 when something is wrong, and when a
    /// running forebay has the store: stop it first.
    Verify(VerifyArgs),
    /// Write the requests of a store as lines of JSON, heads and bodies, in the order in which they came
    ///
    /// For a store that no forebay runs; it is not changed. Long bodies follow their request in lines of their own. A request whose stored bytes are
    /// damaged is left out and named, and the exit code is then 1.
    Export(ExportArgs),
    /// Read requests from lines of JSON, as `store export` writes them, into a store
    ///
    /// Each keeps its identity, its state and its ages. One whose identity is there already is skipped, so that an import that was cut short, by a kill or by a
    /// full disk, can be done again, before a forebay runs the store: what it has delivered it forgets after store.keep_delivered. A wrong line is named by
    /// its number and costs nothing but itself; the exit code is then 1. No forebay may run the store.
    Import(ImportArgs),
}

/// Which store.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Which {
    /// The configuration whose store is meant [env: FOREBAY_CONFIG] [default: ./config.toml, then /etc/forebay/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of the queue, in place of the configuration's store.path [env: FOREBAY_DATA]
    #[arg(short, long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}

/// `store verify`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct VerifyArgs {
    /// Which store is looked at.
    #[command(flatten)]
    pub which: Which,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// `store export`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "Example: forebay store export --state dead > dead.jsonl")]
pub struct ExportArgs {
    /// Which store is read.
    #[command(flatten)]
    pub which: Which,
    /// Only requests in this state: queued, delivering, delivered, dead or cancelled
    #[arg(long, value_parser = state)]
    pub state: Option<State>,
    /// Only requests for this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only requests by this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
}

/// `store import`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "Example: forebay store import dead.jsonl")]
pub struct ImportArgs {
    /// Which store is written to; it is made when there is none.
    #[command(flatten)]
    pub which: Which,
    /// The lines; stdin if not named
    #[arg(value_name = "LINES")]
    pub lines: Option<PathBuf>,
}

fn state(text: &str) -> Result<State, String> {
    let known = || State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
    State::from_name(text).ok_or_else(|| format!("expected one of {}", known()))
}

/// Runs `forebay store`.
pub(super) fn run(command: StoreCommand) -> ExitCode {
    let which = match &command {
        StoreCommand::Verify(args) => &args.which,
        StoreCommand::Export(args) => &args.which,
        StoreCommand::Import(args) => &args.which,
    };
    let settings = match which.clone().settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match command {
        StoreCommand::Verify(args) => verify::run(&settings, args.output),
        StoreCommand::Export(args) => transfer::export(&settings, args),
        StoreCommand::Import(args) => transfer::import(settings, args.lines),
    }
}

impl Which {
    /// Where the store is, and what it may hold. A folder that is named by itself needs no configuration.
    fn settings(self) -> Result<Settings, ExitCode> {
        match (self.config, self.data) {
            (None, Some(data)) => Config::quick("http://127.0.0.1", "127.0.0.1:0", &data).map(|config| config.store).map_err(|error| {
                render::complain(&error);
                ExitCode::from(super::USAGE)
            }),
            (config, data) => check::load(Flags { config, data, ..Flags::default() }).map(|(_, config)| config.store),
        }
    }
}
