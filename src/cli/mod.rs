//! The command line: what was typed, and who does it.
//!
//! Commands that need no running forebay and start none are done here. Everything else is handed on with typed arguments.

pub mod args;
pub mod backend;
mod check;
pub mod client;
pub mod dead;
pub mod demo;
mod describe;
pub mod history;
pub mod import_nginx;
mod render;
mod run;
pub mod status;
pub mod store;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use args::{Cli, Command};

/// Something was tried and did not succeed.
pub(crate) const FAILED: u8 = 1;
/// What was typed makes no sense.
pub(crate) const USAGE: u8 = 2;
/// The configuration is missing or has faults (`EX_CONFIG` of sysexits.h).
pub(crate) const BAD_CONFIGURATION: u8 = 78;

/// The program. Prints to stdout what was asked for, and to stderr everything else.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => match check::load(args.into()) {
            Ok((source, config)) => run::run(source, config),
            Err(code) => code,
        },
        Command::Check(args) => check::check(args),
        Command::Demo(args) => demo::run(&args),
        Command::Status(args) => status::run(&args, check::configured_admin().as_ref()),
        Command::History(args) => history::run(&args, check::configured_admin().as_ref()),
        Command::Backend(command) => backend::run(&command, check::configured_admin().as_ref()),
        Command::Dead(command) => dead::run(&command, check::configured_admin().as_ref()),
        Command::Store(command) => store::run(command),
        Command::ImportNginx(args) => import_nginx::run(&args),
        Command::Schema => describe::schema(),
        Command::Completions { shell } => describe::completions(shell),
        Command::Man { command } => describe::man(&command),
    }
}

/// Prints a line to stdout.
pub(crate) fn say(text: &str) -> ExitCode {
    say_bytes(format!("{text}\n").as_bytes())
}

/// Prints to stdout. A reader that has seen enough (`forebay schema | head`) is no failure.
pub(crate) fn say_bytes(bytes: &[u8]) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("forebay: stdout: {error}");
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}
