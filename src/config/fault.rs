//! What is wrong with a configuration, and showing it at its place.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::units::Wrong;

/// One fault. Spans are bytes of the file; a fault of something that is not in a file has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub span: Option<Range<usize>>,
    /// What is wrong, in words that make sense without the file.
    pub title: String,
    /// What stands beside the underlined text.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
    /// A second place that has to do with it.
    pub also: Option<(Range<usize>, String)>,
    /// It complains that something is not there, which proves nothing when the file could not be read to its end.
    pub absence: bool,
}

/// A place in the file; none for a default or a flag.
pub(super) type Span = Option<Range<usize>>;

/// Collects faults; the walk goes on after each.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub list: Vec<Fault>,
}

impl Faults {
    /// Adds a fault, to be refined.
    pub(super) fn add(&mut self, span: Span, title: impl Into<String>, label: impl Into<String>) -> &mut Fault {
        self.list.push(Fault { span, title: title.into(), label: label.into(), help: None, also: None, absence: false });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Adds what is wrong with a value; `noun` is what it should have been.
    pub(super) fn wrong(&mut self, span: Span, path: &str, noun: &str, wrong: Wrong) {
        let title = if wrong.later { format!("`{path}`: {}", wrong.why) } else { format!("`{path}` is not {noun}") };
        let label = if wrong.later { "not supported yet".into() } else { wrong.why };
        self.add(span, title, label).help = wrong.help;
    }
}

impl Fault {
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn also(&mut self, span: Span, label: impl Into<String>) -> &mut Self {
        self.also = span.map(|span| (span, label.into()));
        self
    }

    fn groups<'a>(&'a self, origin: &'a str, source: &'a str) -> Group<'a> {
        let title = Level::ERROR.primary_title(self.title.as_str());
        let Some(span) = &self.span else {
            let group = title.element(Level::NOTE.message(self.label.as_str()));
            return self.helped(group);
        };
        let mut snippet =
            Snippet::source(source).path(origin).annotation(AnnotationKind::Primary.span(clamp(span, source)).label(self.label.as_str()));
        if let Some((span, label)) = &self.also {
            snippet = snippet.annotation(AnnotationKind::Context.span(clamp(span, source)).label(label.as_str()));
        }
        self.helped(title.element(snippet))
    }

    fn helped<'a>(&'a self, group: Group<'a>) -> Group<'a> {
        match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

/// The span within the text, never empty where there is a character to underline, never past the end of its first line.
fn clamp(span: &Range<usize>, source: &str) -> Range<usize> {
    let start = boundary(source, span.start);
    let line_end = source[start..].find(['\r', '\n']).map_or(source.len(), |length| start + length);
    let first = source[start..line_end].chars().next().map_or(0, char::len_utf8);
    start..boundary(source, span.end.min(line_end)).max(start + first)
}

/// The last place before or at `at` where a character begins or the text ends.
fn boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|&at| source.is_char_boundary(at)).unwrap_or(0)
}

/// All faults of one configuration, in the order of the file.
#[derive(Debug)]
pub struct Report {
    origin: String,
    source: String,
    faults: Vec<Fault>,
}

impl Report {
    pub(super) fn new(origin: &str, source: &str, mut faults: Vec<Fault>) -> Self {
        // Stable: faults without a place come first, in the order in which they were found.
        faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
        faults.dedup();
        Self { origin: origin.into(), source: source.into(), faults }
    }

    /// How many faults there are; at least one.
    pub fn count(&self) -> usize {
        self.faults.len()
    }

    /// One line for each fault, `FILE:LINE:COLUMN: what; why`, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.faults.iter().map(|fault| {
            let place = fault.span.as_ref().map(|span| {
                let (line, column) = position(&self.source, span.start);
                format!(":{line}:{column}")
            });
            format!("{}{}: {}: {}", self.origin, place.unwrap_or_default(), fault.title, fault.label)
        })
    }

    /// The faults with the text of the file around them, for people; in colour or not.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for fault in &self.faults {
            text.push_str(&renderer.render(&[fault.groups(&self.origin, &self.source)]));
            text.push_str("\n\n");
        }
        let plural = if self.count() == 1 { "fault" } else { "faults" };
        text.push_str(&format!("{}: {} {plural}", self.origin, self.count()));
        text
    }
}

/// Line and column of a byte, both from 1; columns count characters.
fn position(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..boundary(source, at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
