//! What can be typed: commands, flags and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{
    backend::BackendCommand, dead::DeadCommand, demo::DemoArgs, history::HistoryArgs, import_nginx::ImportArgs, status::StatusArgs,
    store::StoreCommand,
};
use crate::config::Flags;

const LEARN: &str = "\
Examples:
  forebay run --backend http://127.0.0.1:3000   one server, no file
  forebay run -c config.toml                    many servers, routes, limits
  forebay check                                 every fault of ./config.toml
  forebay import-nginx -o config.toml           from /etc/nginx/nginx.conf
  forebay demo                                  two servers fail, nothing is lost

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.
Flags beat variables (FOREBAY_*, named with each flag), and variables beat the file.
NO_COLOR is honoured.";

/// A load-shedding reverse proxy that stands in front of legacy servers and never loses a write.
///
/// A healthy server sees and answers what it would without forebay. When it is down or overloaded, writes are put on disk and answered
/// 202, reads get an honest 503, and once it is back the writes are delivered, in order and at a rate that it can take.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, after_help = LEARN, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy
    Run(RunArgs),
    /// Check a configuration: print every fault at its line and column
    ///
    /// Exits 78 when there is one. Nothing is opened or changed, but the token file is read.
    Check(CheckArgs),
    /// Show the whole story on this machine: two servers, a load, failures, and the books at the end
    Demo(DemoArgs),
    /// Show backends, queues, exact counts, and when each queue will be empty
    Status(StatusArgs),
    /// Show what happened in each hour: exact counts by route, kept for 90 days
    History(HistoryArgs),
    /// Hold a backend's replay, or force the mode over its health
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Look at dead letters and send them again
    ///
    /// A dead letter is a write that was accepted and then given up: refused by its backend, out of attempts, or too old. It is kept for
    /// `store.keep_dead` (14 days if not set).
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Check, export and import the queue on disk while no forebay runs it
    #[command(subcommand)]
    Store(StoreCommand),
    /// Make a configuration from that of an nginx, and list what did not carry over
    ImportNginx(ImportArgs),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print shell completions
    ///
    /// For bash: forebay completions bash > ~/.local/share/bash-completion/completions/forebay
    Completions {
        /// The shell that is to complete
        shell: Shell,
    },
    /// Print the manual page of forebay or of one of its commands
    ///
    /// Read it with: forebay man | man -l -
    Man {
        /// The command, such as `run` or `dead redrive`; without one, forebay itself
        command: Vec<String>,
    },
}

/// `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without -c and --backend the file is FOREBAY_CONFIG, else ./config.toml, else /etc/forebay/config.toml.
TERM and INT finish what is under way and stop (a second one stops at once); HUP reads the configuration again, USR1 opens the access log anew.")]
pub struct RunArgs {
    /// The configuration file [env: FOREBAY_CONFIG]
    #[arg(short, long, value_name = "FILE", conflicts_with = "backend")]
    pub config: Option<PathBuf>,
    /// No file: everything goes to this server, and writes spill [env: FOREBAY_BACKEND]
    #[arg(short, long, value_name = "URL")]
    pub backend: Option<String>,
    /// Where clients are awaited, in place of the file's listeners [env: FOREBAY_LISTEN] [default: 127.0.0.1:8080]
    #[arg(short, long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The folder of the queue, in place of the file's store.path [env: FOREBAY_DATA] [default: data]
    #[arg(short, long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// off, error, warn, info, debug or trace, in place of the file's log.level [env: FOREBAY_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl From<RunArgs> for Flags {
    fn from(args: RunArgs) -> Self {
        let RunArgs { config, backend, listen, data, log_level } = args;
        Self { config, backend, listen, data, log_level }
    }
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file [env: FOREBAY_CONFIG] [default: ./config.toml, then /etc/forebay/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_and_a_backend_exclude_each_other() {
        assert!(Cli::try_parse_from(["forebay", "run", "-c", "a.toml", "--backend", "http://a"]).is_err());
    }
}
