//! `forebay store export` and `forebay store import`.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read},
    path::PathBuf,
    process::ExitCode,
};

use super::ExportArgs;
use crate::{
    cli::{FAILED, render},
    envelope::Clock,
    store::{
        self, ExportError, Exported, Filter, Imported, Settings, Store,
        redb::{ClosedStore, RedbStore},
    },
};

/// Bytes that are read or written at once.
const BUFFER: usize = 256 * 1024;

/// Writes the requests to stdout, and what became of it to stderr.
pub(super) fn export(settings: &Settings, args: ExportArgs) -> ExitCode {
    let filter = Filter { backend: args.backend.map(Into::into), route: args.route.map(Into::into), state: args.state, dead_reason: None };
    let store = match ClosedStore::open(&settings.path, Clock::system().now()) {
        Ok(store) => store,
        Err(error) => return failed(&error),
    };
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    match store::export(&store, &filter, &mut out) {
        Ok(Exported { requests, damaged: 0, .. }) => {
            eprintln!("exported {}", count(requests, "request"));
            ExitCode::SUCCESS
        }
        Ok(Exported { requests, damaged, named }) => {
            named.iter().for_each(|why| render::complain(&render::printable(why)));
            failed(&format_args!(
                "exported {}; left out {} whose stored bytes are damaged",
                count(requests, "request"),
                count(damaged, "request")
            ))
        }
        // A reader that has seen enough is no failure.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Reads requests from a file or from stdin.
pub(super) fn import(settings: Settings, lines: Option<PathBuf>) -> ExitCode {
    let input: Box<dyn Read> = match &lines {
        None => Box::new(io::stdin()),
        Some(path) => match File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => return failed(&format_args!("{}: {error}", path.display())),
        },
    };
    let store = match RedbStore::open(settings, Clock::system()) {
        Ok(store) => store,
        Err(error) => return failed(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let wrong = |number: u64, why: &str| render::complain(&format_args!("line {number}: {}", render::printable(why)));
    let result = runtime.block_on(async {
        let result = store::import(&store, BufReader::with_capacity(BUFFER, input), wrong).await;
        store.close().await;
        result
    });
    match result {
        Ok(Imported { requests, skipped, wrong }) => {
            let skipped =
                if skipped == 0 { String::new() } else { format!("; skipped {} that were there already", count(skipped, "request")) };
            let done = format!("imported {}{skipped}", count(requests, "request"));
            match wrong {
                0 => crate::cli::say(&done),
                wrong => failed(&format_args!("{done}; left out {}", count(wrong, "wrong line"))),
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    render::complain(error);
    ExitCode::from(FAILED)
}

fn count(many: u64, noun: &str) -> String {
    format!("{many} {noun}{}", if many == 1 { "" } else { "s" })
}
