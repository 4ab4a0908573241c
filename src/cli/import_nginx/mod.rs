//! `forebay import-nginx`: a configuration from that of an nginx, and a list of what did not carry over.
//!
//! [`parse`] knows the syntax of nginx.conf, [`load`] its files, [`convert`] what its directives mean, [`reasons`] why some have no counterpart.

mod convert;
mod load;
mod lua;
mod notes;
mod parse;
mod reasons;
mod units;
mod write;

use std::{fs::OpenOptions, io::Write, path::PathBuf, process::ExitCode};

use super::{FAILED, render::Output, say, say_bytes};
use crate::config::{Config, ConfigError};

use convert::Converted;
use notes::{Kind, plain};

/// What `forebay import-nginx` is told.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The configuration goes to stdout, a summary to stderr. Directives that did not carry over stand as comments at their place, with file, line and reason.
Exits 1 when the file cannot be read, has no server, or is none of nginx's; or when what was written has faults that you have to mend, such as a
certificate that is not on this machine.")]
pub struct ImportArgs {
    /// The configuration of nginx; the files that it includes are read too
    #[arg(value_name = "FILE", default_value = "/etc/nginx/nginx.conf")]
    pub file: PathBuf,
    /// Write the configuration to this new file, in place of stdout
    #[arg(short = 'o', long = "to", value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// json: print what did not carry over as JSON, with the configuration in it where it goes to no file
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
}

/// Converts a configuration of nginx.
pub(super) fn run(args: &ImportArgs) -> ExitCode {
    match import(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("forebay: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn import(args: &ImportArgs) -> Result<ExitCode, String> {
    let from = args.file.display().to_string();
    let tree = load::load(&args.file).map_err(|error| error.to_string())?;
    let converted = convert::convert(tree, &from).ok_or_else(|| {
        format!("{from}: there is no `server` in it, and in no file that it includes; name the file that has one, or all of nginx.conf")
    })?;
    if let Some(to) = &args.to {
        let mut file = OpenOptions::new().write(true).create_new(true).open(to).map_err(|error| format!("{}: {error}", to.display()))?;
        file.write_all(converted.text.as_bytes()).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    eprintln!("{}", summary(&from, &converted));
    let faults = faults(args, &converted);
    if let Some(report) = &faults {
        eprintln!("\nWhat was written has faults that you have to mend:\n\n{report}");
    }
    let shown = match (args.output, &args.to) {
        (Output::Json, to) => say(&json(&from, &converted, to.is_none())),
        (Output::Table, None) => say_bytes(converted.text.as_bytes()),
        (Output::Table, Some(to)) => {
            eprintln!("Written to {}: look it through, then: forebay check -c {0}", to.display());
            ExitCode::SUCCESS
        }
    };
    Ok(if faults.is_some() { ExitCode::from(FAILED) } else { shown })
}

/// What the checker says of the whole.
fn faults(args: &ImportArgs, converted: &Converted) -> Option<String> {
    let name = args.to.as_ref().map_or("the configuration".into(), |to| to.display().to_string());
    match Config::parse(&name, &converted.text) {
        Err(ConfigError::Invalid(report)) => Some(report.render(false)),
        _ => None,
    }
}

fn summary(from: &str, converted: &Converted) -> String {
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let of_kind = |kind: Kind| converted.notes.iter().filter(|note| note.kind == kind).count();
    let mut text = format!(
        "{}: {}, {}; {} did not carry over, {} changed in meaning, {} built in",
        plain(from),
        count(converted.backends, "backend"),
        count(converted.routes, "route"),
        count(of_kind(Kind::NotCarriedOver), "directive"),
        of_kind(Kind::Changed),
        converted.built_in,
    );
    for note in converted.notes.iter().filter(|note| note.why.starts_with("CAUTION")) {
        text.push_str(&format!("\n{}:{}:{}: `{}`: {}", plain(&note.file), note.line, note.column, note.directive, note.why));
    }
    text
}

fn json(from: &str, converted: &Converted, with_text: bool) -> String {
    let mut body = serde_json::json!({
        "file": from,
        "backends": converted.backends,
        "routes": converted.routes,
        "built_in": converted.built_in,
        "notes": converted.notes,
    });
    if with_text {
        body["config"] = converted.text.as_str().into();
    }
    format!("{body:#}")
}
