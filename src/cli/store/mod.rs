//! `forebay store`: the queue on disk, open to its owner while no forebay runs it.

mod verify;

use std::{path::PathBuf, process::ExitCode};

use super::{check, render, render::Output};
use crate::{
    config::{Config, Flags},
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

/// Runs `forebay store`.
pub(super) fn run(command: StoreCommand) -> ExitCode {
    match command {
        StoreCommand::Verify(args) => match args.which.settings() {
            Ok(settings) => verify::run(&settings, args.output),
            Err(code) => code,
        },
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
