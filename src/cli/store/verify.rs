//! `forebay store verify`: a table of what was looked at, and what is wrong.

use std::{fmt::Write, process::ExitCode};

use crate::{
    cli::{
        FAILED,
        render::{self, Align, Column, Output, cell},
        say_bytes,
    },
    envelope::Clock,
    store::{
        Settings,
        redb::{ClosedStore, Report, verify},
    },
};

const CHECKS: [Column; 4] = [("CHECK", Align::Left), ("LOOKED AT", Align::Right), ("WRONG", Align::Right), ("WHAT", Align::Left)];

/// Looks at the store, and says what it found.
pub(super) fn run(settings: &Settings, output: Output) -> ExitCode {
    let report = match look(settings) {
        Ok(report) => report,
        Err(error) => {
            render::complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    let text = match output {
        Output::Table => page(&report),
        Output::Json => match render::json(&report, true) {
            Ok(text) => text,
            Err(error) => {
                render::complain(&error);
                return ExitCode::from(FAILED);
            }
        },
    };
    let said = say_bytes(text.as_bytes());
    if report.whole { said } else { ExitCode::from(FAILED) }
}

fn look(settings: &Settings) -> Result<Report, String> {
    let mut store = ClosedStore::open(&settings.path, Clock::system().now()).map_err(|error| error.to_string())?;
    let path = settings.path.display();
    verify(&mut store)
        .map_err(|error| format!("{path} cannot be read to its end: {error}; what can be read of it is written by `forebay store export`"))
}

fn page(report: &Report) -> String {
    let rows = report.checks.iter().map(|check| vec![cell(check.what), cell(check.examined), cell(check.wrong), cell(meaning(check.what))]);
    let mut text = format!("{} (format {})\n\n{}\n", report.path, report.format, render::table(&CHECKS, rows));
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for fault in &report.faults {
        let _ = writeln!(text, "WRONG: {}", render::printable(fault));
    }
    let wrong: u64 = report.checks.iter().map(|check| check.wrong).sum();
    text + &match wrong {
        0 => "whole: nothing is wrong\n".to_owned(),
        1 => "1 thing is wrong\n".to_owned(),
        wrong => format!("{wrong} things are wrong\n"),
    }
}

fn meaning(check: &str) -> &'static str {
    match check {
        "index" => "checksums of all pages of the index",
        "rows" => "rows of routes and requests can be read",
        "identities" => "identities lead to their rows, and rows to their identities",
        "heads" => "heads of requests: checksum, and agreement with the row",
        "bodies" => "bodies that are kept: checksum and length",
        "answers" => "answers that are kept: checksum and length",
        "journal" => "what only the journal has, past the last checkpoint",
        "leftovers" => "payloads that nothing refers to any more",
        "counters" => "counters of each route, against its requests",
        "hours" => "hours of the history, against the counters",
        _ => "",
    }
}
