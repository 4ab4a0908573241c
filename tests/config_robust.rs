//! No file, however broken, makes the checker panic, and every fault that it shows lies within the file.

use forebay::config::{Config, ConfigError};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../config.toml");

/// Pieces that break TOML, spans or values.
const PIECES: [&str; 16] = [
    "[",
    "]",
    "[[",
    "\"",
    "'''",
    "\n",
    "\r\n",
    "=",
    "\u{fc}\u{1f600}",
    "{",
    "},",
    "\t",
    "\0",
    "-1",
    "99999999999999999999",
    "[routes.spill]\n",
];

/// The byte at which the character number `index` begins, or the end.
fn byte_of(text: &str, index: usize) -> usize {
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

fn check(text: &str) {
    let Err(ConfigError::Invalid(report)) = Config::parse("config.toml", text) else { return };
    let lines = text.split('\n').count();
    for fault in report.lines() {
        let mut place = fault.strip_prefix("config.toml:").unwrap_or_else(|| panic!("{fault}")).split(':');
        if let Some(Ok(line)) = place.next().map(str::parse::<usize>) {
            assert!((1..=lines).contains(&line), "{fault} in {text}");
        }
    }
    assert!(report.render(true).contains("fault"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_with_pieces_put_in_and_cut_out_is_checked_to_its_end(
        edits in prop::collection::vec((0..EXAMPLE.chars().count(), 0_usize..40, proptest::sample::select(&PIECES[..])), 1..6)
    ) {
        let mut text = EXAMPLE.to_owned();
        for (at, cut, piece) in edits {
            text.replace_range(byte_of(&text, at)..byte_of(&text, at + cut), piece);
        }
        check(&text);
    }

    #[test]
    fn any_text_is_checked_to_its_end(text in "\\PC{0,60}(\r\n|\n)?[a-z\\[\\]\"'={}., \u{e9}\n]{0,200}") {
        check(&text);
    }
}
