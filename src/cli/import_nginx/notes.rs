//! What did not carry over, and why: as comments in the written file, and as a list.

use serde::Serialize;

use super::{parse::Directive, reasons};

/// What became of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Nothing of it is in the written file.
    NotCarriedOver,
    /// It is there, but does not mean quite the same.
    Changed,
}

/// A directive that did not carry over as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Note {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) column: usize,
    /// The directive, on one line.
    pub(super) directive: String,
    pub(super) kind: Kind,
    pub(super) why: String,
}

/// Directives shown are cut off here.
const LONGEST: usize = 100;

/// All notes, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) list: Vec<Note>,
    /// Directives that forebay needs no telling of.
    pub(super) built_in: usize,
}

impl Notes {
    /// It is not there. The comment that says so.
    pub(super) fn dropped(&mut self, directive: &Directive, why: impl Into<String>) -> String {
        self.note(directive, Kind::NotCarriedOver, why.into())
    }

    /// It is there, with another meaning. The comment that says so.
    pub(super) fn changed(&mut self, directive: &Directive, why: impl Into<String>) -> String {
        self.note(directive, Kind::Changed, why.into())
    }

    /// Those of a block that nobody carries over, each with the reason that is known for it.
    pub(super) fn rest(&mut self, block: &[Directive], carried: &[&str]) -> Vec<String> {
        let mut comments = Vec::new();
        for directive in block.iter().filter(|directive| !carried.contains(&directive.name.as_str())) {
            if reasons::is_built_in(directive) {
                self.built_in += 1;
            } else if directive.name == "include" {
                comments.push(self.dropped(directive, directive.arg(1)));
            } else {
                comments.push(self.dropped(directive, reasons::why_of(directive)));
            }
        }
        comments
    }

    fn note(&mut self, directive: &Directive, kind: Kind, why: String) -> String {
        let mut shown = directive.clone();
        if shown.name == "include" {
            shown.args.truncate(1);
        }
        let mut text = plain(&shown.to_string());
        if text.chars().count() > LONGEST {
            text = text.chars().take(LONGEST).chain("…".chars()).collect();
        }
        let place = &directive.place;
        let note = Note { file: place.file.to_string(), line: place.line, column: place.column, directive: text, kind, why: plain(&why) };
        let word = match kind {
            Kind::NotCarriedOver => "not carried over",
            Kind::Changed => "changed",
        };
        let comment = format!("# {}:{}: `{}` {word}: {}", plain(&note.file), note.line, note.directive, note.why);
        self.list.push(note);
        comment
    }
}

/// Text that may stand in a comment of TOML: one line, no control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
