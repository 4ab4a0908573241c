//! What the program says of itself: the schema of its configuration, shell completions, manual pages.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{FAILED, USAGE, args::Cli, say, say_bytes};
use crate::config;

/// Prints the JSON Schema of the configuration.
pub(super) fn schema() -> ExitCode {
    say(&format!("{:#}", config::schema()))
}

/// Prints completions for a shell.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "forebay", &mut script);
    say_bytes(&script)
}

/// Prints the manual page of a command, named by its words; of the program when there are none.
pub(super) fn man(words: &[String]) -> ExitCode {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut command = &root;
    for word in words {
        let Some(inner) = command.find_subcommand(word) else {
            eprintln!("forebay: there is no command `{}`", words.join(" "));
            return ExitCode::from(USAGE);
        };
        command = inner;
    }
    let mut page = Vec::new();
    match clap_mangen::Man::new(command.clone()).render(&mut page) {
        Ok(()) => say_bytes(&page),
        Err(error) => {
            eprintln!("forebay: {error}");
            ExitCode::from(FAILED)
        }
    }
}
