//! Commands that other rooms carry out. (in progress: each of these hands its arguments to the room that does the work)

use std::process::ExitCode;

use super::{
    FAILED,
    args::{DeadCommand, DemoArgs, StatusArgs},
};
use crate::config::{Config, Source};

/// Runs the proxy; `source` reads the configuration again at HUP.
pub(super) fn run(_source: Source, _config: Config) -> ExitCode {
    unwired("run")
}

/// Runs the demo.
pub(super) fn demo(_args: DemoArgs) -> ExitCode {
    unwired("demo")
}

/// Shows the status of a running forebay.
pub(super) fn status(_args: StatusArgs) -> ExitCode {
    unwired("status")
}

/// Looks at dead letters.
pub(super) fn dead(_command: DeadCommand) -> ExitCode {
    unwired("dead")
}

fn unwired(command: &str) -> ExitCode {
    eprintln!("forebay: `{command}` is not joined to its room yet");
    ExitCode::from(FAILED)
}
