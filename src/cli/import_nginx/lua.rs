//! Where a block of Lua ends: braces in its strings and comments are none.

/// The length of the block up to and with the brace that closes it; its own opening brace stands before `text`.
pub(super) fn length(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (1, 0);
    while depth > 0 {
        let rest = &text[at..];
        let comment =
            rest.strip_prefix("--").map(|after| 2 + long_bracket(after).unwrap_or_else(|| after.find('\n').unwrap_or(after.len())));
        if let Some(skipped) = comment.or_else(|| long_bracket(rest)) {
            at += skipped;
            continue;
        }
        let next = rest.chars().next()?;
        at += next.len_utf8();
        match next {
            '{' => depth += 1,
            '}' => depth -= 1,
            '"' | '\'' => at += string(&text[at..], next),
            _ => {}
        }
    }
    Some(at)
}

/// The rest of a string behind its first quote; it ends with its line at the latest.
fn string(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices();
    while let Some((at, next)) = characters.next() {
        match next {
            '\n' => return at,
            '\\' => drop(characters.next()),
            next if next == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `[[…]]` or `[==[…]==]`, where one begins here and ends.
fn long_bracket(text: &str) -> Option<usize> {
    let after = text.strip_prefix('[')?;
    let level = after.len() - after.trim_start_matches('=').len();
    let close = format!("]{}]", "=".repeat(level));
    let within = after[level..].strip_prefix('[')?;
    Some(2 + level + within.find(&close)? + close.len())
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn braces_in_strings_and_comments_close_nothing() {
        for code in [
            r#"ngx.say("{")"#,
            r#"ngx.say('}', "\"}")"#,
            "local x = [[ } ]] .. [==[ ]] } ]==]",
            "-- don't }\nx()",
            "--[[ } \n } ]] x()",
            "t[t[1]] = { 1 }",
            "\"é\\é}\"",
            "[==",
        ] {
            let text = format!("{code} }} after");
            assert_eq!(length(&text), Some(text.len() - " after".len()), "{code}");
        }
        for open in ["", "{ }", "\"}", "--}", "'\\"] {
            assert_eq!(length(open), None, "{open}");
        }
    }
}
