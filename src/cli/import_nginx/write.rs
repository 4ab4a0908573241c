//! Writing the TOML.

use std::fmt::Write;

use super::notes::plain;

/// The file in the making, by its parts.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) top: Vec<String>,
    pub(super) listeners: Vec<String>,
    pub(super) clients: Vec<String>,
    pub(super) admin: Vec<String>,
    pub(super) log: Vec<String>,
    pub(super) backends: Vec<String>,
    pub(super) routes: Vec<String>,
}

impl Draft {
    /// The whole text; `from` is the name of the file that it was made of.
    pub(super) fn text(&self, from: &str) -> String {
        let mut text = format!(
            "# Made of {} by `forebay import-nginx`. What did not carry over stands in comments, with its file and line.\n\
             # No write is queued until a route has a `[routes.spill]` table: add one to each route whose writes must not be lost.\n",
            plain(from)
        );
        let parts = [&self.top, &self.listeners, &self.clients, &self.admin, &self.log, &self.backends, &self.routes];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let _ = write!(text, "\n{}\n", part.join("\n"));
        }
        while text.contains("\n\n\n") {
            text = text.replace("\n\n\n", "\n\n");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A TOML array of strings.
pub(super) fn list<S: AsRef<str>>(items: &[S]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item.as_ref())).collect::<Vec<_>>().join(", "))
}

/// A TOML key: bare where it may be.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { name.to_owned() } else { quoted(name) }
}

/// A name as backends and routes may have one, not among `taken`, where it is put.
pub(super) fn name(wish: &str, taken: &mut Vec<String>) -> String {
    let mut plain: String = wish.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect();
    while plain.contains("--") {
        plain = plain.replace("--", "-");
    }
    let trimmed = plain.trim_matches(|c| "_.-".contains(c));
    let base: String = if trimmed.is_empty() { "root".into() } else { trimmed.chars().take(56).collect() };
    let mut unique = base.clone();
    let mut number = 2;
    while taken.contains(&unique) {
        unique = format!("{base}-{number}");
        number += 1;
    }
    taken.push(unique.clone());
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_back_as_it_was() {
        for text in ["plain", "a\"b\\c", "line\nbreak\ttab\r", "\u{7f}\u{1}é"] {
            let document: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(document["x"].as_str(), Some(text));
        }
    }

    #[test]
    fn names_are_plain_and_each_is_there_once() {
        let mut taken = Vec::new();
        let named: Vec<_> =
            ["/api/v1/", "/api/v1", "", "~ \\.php$", "a".repeat(100).as_str()].iter().map(|wish| name(wish, &mut taken)).collect();
        assert_eq!(named[..4], ["api-v1", "api-v1-2", "root", "php"]);
        assert_eq!(named[4].len(), 56);
    }
}
