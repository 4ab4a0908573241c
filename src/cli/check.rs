//! `forebay check`, and how a bad configuration is shown to people.

use std::{
    env,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};

use super::{BAD_CONFIGURATION, USAGE, args::CheckArgs, say};
use crate::config::{Config, ConfigError, Flags, Source, SourceError};

/// Checks the configuration and says what it found.
pub(super) fn check(args: CheckArgs) -> ExitCode {
    match load(Flags { config: args.config, ..Flags::default() }) {
        Ok((source, config)) => say(&summary(&source.name(), &config)),
        Err(code) => code,
    }
}

/// The configuration that flags and variables name. A fault is printed here, and the exit code returned.
pub(super) fn load(flags: Flags) -> Result<(Source, Config), ExitCode> {
    let source = Source::choose(flags, |name| env::var(name).ok(), Path::exists).map_err(|error| {
        eprintln!("forebay: {error}");
        ExitCode::from(match error {
            SourceError::NotFound => BAD_CONFIGURATION,
            SourceError::Both(..) => USAGE,
        })
    })?;
    match source.load() {
        Ok(config) => Ok((source, config)),
        Err(error) => {
            match error {
                ConfigError::Invalid(report) => eprintln!("{}", report.render(colored())),
                error @ ConfigError::Unreadable { .. } => eprintln!("forebay: {error}"),
            }
            Err(ExitCode::from(BAD_CONFIGURATION))
        }
    }
}

/// Where the forebay of the configuration at hand has its admin listener, for the commands that ask it; none when there is no such configuration.
pub(super) fn configured_admin() -> Option<crate::admin::Settings> {
    let source = Source::choose(Flags::default(), |name| env::var(name).ok(), Path::exists).ok()?;
    source.load().ok().map(|config| config.admin)
}

/// Whether stderr takes colours (<https://no-color.org>).
fn colored() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// One line that lets an operator see that the right file was meant.
fn summary(name: &str, config: &Config) -> String {
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let servers = config.backends.iter().map(|backend| backend.backend.servers.len()).sum();
    let spilling = config.proxy.routes.iter().filter(|route| route.spill.is_some()).count();
    let listeners = config.proxy.listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>().join(", ");
    format!(
        "{name}: OK: {}, {}, {} ({spilling} spilling); listens on {listeners}, admin on {}",
        count(config.backends.len(), "backend"),
        count(servers, "server"),
        count(config.proxy.routes.len(), "route"),
        config.admin.address,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_is_configured() {
        let config = Config::quick("http://127.0.0.1:3000", "127.0.0.1:8080", Path::new("data")).unwrap();
        assert_eq!(
            summary("x", &config),
            "x: OK: 1 backend, 1 server, 1 route (1 spilling); listens on 127.0.0.1:8080, admin on 127.0.0.1:8081"
        );
    }
}
