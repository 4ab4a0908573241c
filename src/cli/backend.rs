//! `forebay backend`: holding a backend's replay, and forcing the mode over its health.

use std::process::ExitCode;

use super::{
    client::{self, Client, ClientError, Connect},
    render::{self, Output},
};
use crate::{
    admin::{
        self,
        api::{Control, SetMode},
    },
    health::{Mode, State},
};

/// What can be told to a backend.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum BackendCommand {
    /// Hold its replay: what is queued stays queued, until `resume`
    Pause(BackendArgs),
    /// Let its replay go on
    Resume(BackendArgs),
    /// Queue every write that may be queued, and replay none: for a deploy or a repair
    Spill(BackendArgs),
    /// Take it to be well, whatever its breaker and its probes say
    Pass(BackendArgs),
    /// Leave it to its health again
    Auto(BackendArgs),
}

/// Which backend, of which forebay.
#[derive(Debug, Clone, clap::Args)]
pub struct BackendArgs {
    /// Name of the backend
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which forebay is asked.
    #[command(flatten)]
    pub connect: Connect,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Runs `forebay backend`. `configured` is the `[admin]` table of the configuration, if there is one.
pub fn run(command: &BackendCommand, configured: Option<&admin::Settings>) -> ExitCode {
    let (args, asked) = match command {
        BackendCommand::Pause(args) => (args, Asked::Hold("pause")),
        BackendCommand::Resume(args) => (args, Asked::Hold("resume")),
        BackendCommand::Spill(args) => (args, Asked::Mode(Mode::Spill)),
        BackendCommand::Pass(args) => (args, Asked::Mode(Mode::Pass)),
        BackendCommand::Auto(args) => (args, Asked::Mode(Mode::Auto)),
    };
    client::run(async { tell(&Client::new(&args.connect, configured)?, args, asked).await })
}

enum Asked {
    Hold(&'static str),
    Mode(Mode),
}

async fn tell(client: &Client, args: &BackendArgs, asked: Asked) -> Result<String, ClientError> {
    let backend = format!("/api/v1/backends/{}", client::escaped(&args.name));
    let now: Control = match asked {
        Asked::Hold(verb) => client.post(&format!("{backend}/{verb}"), &serde_json::json!({})).await?,
        Asked::Mode(mode) => client.put(&format!("{backend}/mode"), &SetMode { mode }).await?,
    };
    Ok(match args.output {
        Output::Json => render::json(&now, true)?,
        Output::Table => sentence(&now) + "\n",
    })
}

fn sentence(now: &Control) -> String {
    let mode = match now.mode {
        Mode::Auto => "its health decides",
        Mode::Spill => "every write that may be queued is, and none is replayed",
        Mode::Pass => "it is taken to be well",
    };
    let state = match now.state {
        State::Passing => "passing",
        State::Shedding => "shedding",
        State::Probing => "probing",
    };
    let replay = if now.paused { "; replay is paused" } else { "" };
    let kept = if now.kept { "" } else { "; CAUTION: it could not be written down (see the log), and holds until the next restart only" };
    format!("backend {}: mode {} ({mode}); {state}{replay}{kept}", now.backend, now.mode.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_who_decides_and_whether_replay_is_held() {
        let now = |mode, state, paused| sentence(&Control { backend: "app".into(), state, mode, paused, kept: true });
        assert_eq!(now(Mode::Auto, State::Passing, false), "backend app: mode auto (its health decides); passing");
        assert_eq!(
            now(Mode::Spill, State::Shedding, true),
            "backend app: mode spill (every write that may be queued is, and none is replayed); shedding; replay is paused"
        );
    }
}
