//! How the command line shows things: tables for people, JSON for programs.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// A table.
    #[default]
    Table,
    /// JSON, as the admin API gives it.
    Json,
}

/// Whether stdout is to be coloured: only a terminal, and not with `NO_COLOR` (<https://no-color.org>).
pub(super) fn colour() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints to stdout, and says whether anybody reads on: a reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Prints an error to stderr. A stderr that is gone hears nothing.
pub(super) fn complain(error: &dyn std::fmt::Display) {
    let _: io::Result<()> = writeln!(io::stderr().lock(), "forebay: {error}");
}

/// A value as JSON with a newline at the end: indented, or on one line for a stream of them.
pub(super) fn json(value: &impl Serialize, indented: bool) -> io::Result<String> {
    let text = if indented { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    Ok(text + "\n")
}

/// A column's heading, and whether it holds numbers.
pub(super) type Column = (&'static str, Align);

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table without lines, as wide as it needs to be, that `grep` and `awk` can read too. Control characters in cells are shown escaped.
pub(super) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<Cell>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(name, _)| Cell::new(name)));
    table.add_rows(rows);
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Only cells that were given a colour have one, so that this colours nothing where that is not wanted.
    table.enforce_styling();
    table.trim_fmt() + "\n"
}

/// A plain cell.
pub(super) fn cell(content: impl std::fmt::Display) -> Cell {
    Cell::new_owned(printable(&content.to_string()))
}

/// A cell in a colour, where there are colours.
pub(super) fn coloured(content: impl std::fmt::Display, color: Color, colours: bool) -> Cell {
    if colours { cell(content).fg(color) } else { cell(content) }
}

/// Text that cannot steer a terminal: a backend's words come as they are.
pub(super) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// A span for people: `850 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn span(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{:.0} ms", (seconds.max(0.0) * 1e3).ceil().min(999.0));
    }
    // Rounded up: what is promised to be done in 3 min is done by then.
    let whole = seconds.ceil() as u64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    let two = |major: u64, unit: &str, minor: u64, small: &str| match minor {
        0 => format!("{major} {unit}"),
        _ => format!("{major} {unit} {minor} {small}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => two(minutes, "min", rest, "s"),
        (0, _, _) => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

/// A size for people, in binary units.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // At 1023.95 one decimal would already round up to 1024.0.
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        let spans = [(0.0, "0 ms"), (0.9999, "999 ms"), (1.0, "1 s"), (59.5, "1 min"), (200.0, "3 min 20 s"), (7_500.0, "2 h 5 min")];
        for (seconds, text) in spans.into_iter().chain([(86_400.0, "1 d"), (273_600.0, "3 d 4 h"), (-1.0, "0 ms")]) {
            assert_eq!(span(seconds), text);
        }
        let sizes =
            [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (8 << 30, "8.0 GiB"), (u64::MAX, "16.0 EiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let shown = table(&[("WHY", Align::Left)], [vec![cell("\u{1b}[2Jx\ny")]]);
        assert!(shown.contains("\\u{1b}[2Jx\\ny"), "{shown:?}");
        assert_eq!(shown.lines().count(), 2);
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let columns = [("NAME", Align::Left), ("QUEUED", Align::Right)];
        let shown = table(&columns, [vec![cell("admin"), cell(7)], vec![cell("app"), cell(1_200)]]);
        assert_eq!(shown, "NAME   QUEUED\nadmin       7\napp      1200\n");
    }
}
