//! What can be typed: commands, flags and their help.

use std::path::PathBuf;

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;

use crate::{config::Flags, envelope::DeadReason};

const LEARN: &str = "\
Examples:
  forebay run --backend http://127.0.0.1:3000   one server, no file
  forebay run -c config.toml                    many servers, routes, limits
  forebay check                                 every fault of ./config.toml
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
    /// Look at dead letters and send them again
    ///
    /// A dead letter is a write that was accepted and then given up: refused by its backend, out of attempts, or too old. It is kept for
    /// `store.keep_dead` (14 days if not set).
    #[command(subcommand)]
    Dead(DeadCommand),
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
TERM and INT finish what is under way and stop (a second one stops at once); HUP reads the configuration again.")]
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

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Seconds that the load runs; without it, until Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
}

/// How a running forebay is reached.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The admin listener of the running forebay
    #[arg(long, value_name = "URL", env = "FOREBAY_ADMIN", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// A file that holds the admin token
    #[arg(long, value_name = "FILE", env = "FOREBAY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show it again every second, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// How forebay is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `dead`.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List dead letters, oldest first
    List(DeadListArgs),
    /// Queue dead letters again, with all their attempts and their whole age anew
    ///
    /// All that match the filters, or all there are. They go out in order and at the pace of their backend's replay.
    Redrive(DeadRedriveArgs),
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
pub struct DeadFilter {
    /// Only those of this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only those of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Only those that died for this reason
    #[arg(long, value_parser = reasons())]
    pub reason: Option<DeadReason>,
}

/// `dead list`.
#[derive(Debug, Args)]
pub struct DeadListArgs {
    /// Which dead letters.
    #[command(flatten)]
    pub filter: DeadFilter,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// How they are printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// How forebay is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `dead redrive`.
#[derive(Debug, Args)]
pub struct DeadRedriveArgs {
    /// Which dead letters.
    #[command(flatten)]
    pub filter: DeadFilter,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// How forebay is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The names of the reasons; a name that is none of them never gets past the parser.
fn reasons() -> impl TypedValueParser<Value = DeadReason> {
    let names = DeadReason::ALL.iter().map(|reason| reason.as_str());
    PossibleValuesParser::new(names).try_map(|name| DeadReason::from_name(&name).ok_or("not a reason"))
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

    #[test]
    fn every_reason_of_a_dead_letter_can_be_named() {
        for reason in DeadReason::ALL {
            let cli = Cli::try_parse_from(["forebay", "dead", "list", "--reason", reason.as_str()]).unwrap();
            let Command::Dead(DeadCommand::List(args)) = cli.command else { panic!("not a list") };
            assert_eq!(args.filter.reason, Some(*reason));
        }
    }
}
