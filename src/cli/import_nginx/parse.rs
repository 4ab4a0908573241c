//! The syntax of nginx.conf: words, quotes, escapes, comments, blocks, as `ngx_conf_file.c` reads them. What the words mean is not known here.

use std::{fmt, rc::Rc};

use super::lua;

/// Blocks within blocks at most: nginx has five kinds of them.
const DEEPEST: usize = 64;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The file, as it was named.
    pub(super) file: Rc<str>,
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One directive, with its block if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
    pub(super) place: Place,
}

impl Directive {
    /// Its argument number `index`, or nothing.
    pub(super) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// What stands in its block.
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// As it could be written, on one line.
impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for arg in &self.args {
            let plain = !arg.is_empty() && !arg.contains(|c: char| c.is_whitespace() || c.is_control() || ";\"'".contains(c));
            if plain { write!(f, " {arg}")? } else { write!(f, " {arg:?}")? }
        }
        if self.block.is_some() { f.write_str(" { … }") } else { Ok(()) }
    }
}

/// Why a text is no configuration of nginx.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) what: String,
}

/// The directives of a file.
pub(super) fn parse(file: &Rc<str>, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer { file, rest: text, line: 1, column: 1 };
    let (directives, _) = block(&mut lexer, None, 0)?;
    Ok(directives)
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
    Eof,
}

struct Lexer<'a> {
    file: &'a Rc<str>,
    rest: &'a str,
    line: usize,
    column: usize,
}

/// Directives up to the end of the block that was opened at `opened`, or of the file.
fn block(lexer: &mut Lexer<'_>, opened: Option<&Place>, depth: usize) -> Result<(Vec<Directive>, Place), SyntaxError> {
    let mut directives = Vec::new();
    loop {
        let place = lexer.skip_blanks();
        match (lexer.token()?, opened) {
            (Token::Word(name), _) => directives.push(directive(lexer, name, place, depth)?),
            (Token::Close, Some(_)) | (Token::Eof, None) => return Ok((directives, place)),
            (Token::Close, None) => return Err(error(place, "unexpected `}`: no block is open here")),
            (Token::Eof, Some(opened)) => {
                return Err(error(place, format!("the file ends within the block that begins in line {}: `}}` is missing", opened.line)));
            }
            (Token::End, _) => return Err(error(place, "unexpected `;`: there is no directive before it")),
            (Token::Open, _) => return Err(error(place, "unexpected `{`: there is no directive before it")),
        }
    }
}

fn directive(lexer: &mut Lexer<'_>, name: String, place: Place, depth: usize) -> Result<Directive, SyntaxError> {
    let mut args = Vec::new();
    loop {
        let at = lexer.skip_blanks();
        match lexer.token()? {
            Token::Word(word) => args.push(word),
            Token::End => return Ok(Directive { name, args, block: None, place }),
            Token::Open if depth == DEEPEST => return Err(error(at, format!("blocks are nested deeper than {DEEPEST}"))),
            Token::Open if name.ends_with("_by_lua_block") => {
                lexer.skip_code(&at)?;
                return Ok(Directive { name, args, block: Some(Vec::new()), place });
            }
            Token::Open => {
                let (children, _) = block(lexer, Some(&place), depth + 1)?;
                return Ok(Directive { name, args, block: Some(children), place });
            }
            Token::Close => return Err(error(at, format!("unexpected `}}`: `;` is missing after `{name}` in line {}", place.line))),
            Token::Eof => return Err(error(at, format!("the file ends within `{name}` of line {}: `;` is missing", place.line))),
        }
    }
}

fn error(place: Place, what: impl Into<String>) -> SyntaxError {
    SyntaxError { place, what: what.into() }
}

impl Lexer<'_> {
    fn place(&self) -> Place {
        Place { file: Rc::clone(self.file), line: self.line, column: self.column }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        if next == '\n' {
            (self.line, self.column) = (self.line + 1, 1);
        } else {
            self.column += 1;
        }
        Some(next)
    }

    /// Skips white space and comments, and says where it is then.
    fn skip_blanks(&mut self) -> Place {
        while let Some(next) = self.peek() {
            if next == '#' {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.take();
                }
            } else if is_blank(next) {
                self.take();
            } else {
                break;
            }
        }
        self.place()
    }

    /// The token that begins here.
    fn token(&mut self) -> Result<Token, SyntaxError> {
        let start = self.place();
        Ok(match self.peek() {
            None => Token::Eof,
            Some(';') => self.single(Token::End),
            Some('{') => self.single(Token::Open),
            Some('}') => self.single(Token::Close),
            Some(quote @ ('"' | '\'')) => {
                self.take();
                Token::Word(self.quoted(quote, start)?)
            }
            Some(_) => Token::Word(self.word()),
        })
    }

    fn single(&mut self, token: Token) -> Token {
        self.take();
        token
    }

    fn quoted(&mut self, quote: char, start: Place) -> Result<String, SyntaxError> {
        let mut word = String::new();
        loop {
            match self.take() {
                None => return Err(error(start, format!("the quote {quote} is not closed"))),
                Some('\\') => self.escaped(&mut word),
                Some(next) if next == quote => break,
                Some(next) => word.push(next),
            }
        }
        match self.peek() {
            Some(next) if !is_blank(next) && !";{)".contains(next) => {
                Err(error(self.place(), format!("unexpected `{}` after a closing quote: a space or `;` is missing", next.escape_default())))
            }
            _ => Ok(word),
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.peek().filter(|&next| !is_blank(next) && next != ';') {
            // `${name}` opens no block.
            if next == '{' && !word.ends_with('$') {
                break;
            }
            self.take();
            if next == '\\' { self.escaped(&mut word) } else { word.push(next) }
        }
        word
    }

    /// What follows a backslash: one that means nothing stays, since regular expressions are full of them.
    fn escaped(&mut self, word: &mut String) {
        match self.take() {
            Some(next @ ('"' | '\'' | '\\')) => word.push(next),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(next) => word.extend(['\\', next]),
            None => word.push('\\'),
        }
    }

    /// Skips a block of another language up to its closing brace.
    fn skip_code(&mut self, opened: &Place) -> Result<(), SyntaxError> {
        let length = lua::length(self.rest).ok_or_else(|| error(opened.clone(), "the block that begins here is not closed"))?;
        let end = self.rest.len() - length;
        while self.rest.len() > end {
            self.take();
        }
        Ok(())
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fuzz_any_text_is_directives_or_an_error_at_its_place() {
        let seeds: [&[u8]; 2] = [
            b"http { server { listen 80 proxy_protocol; location ~ \"a b\" { return 301 https://${host}$uri; } } # c\n}",
            b"map $a $b { default 'x'; ~*^/y z; }\nif ($a != x) { set $x \"\\\"\"; }",
        ];
        let words: [&[u8]; 8] = [b"{", b"}", b";", b"\"", b"'", b"\\", b"_by_lua_block {", b"\xef\xbb\xbf"];
        crate::fuzz::run(&seeds, &words, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            match parsed(&text) {
                Ok(directives) => directives.iter().all(|directive| !directive.to_string().is_empty()),
                Err(error) => {
                    assert!(error.starts_with("x.conf:"), "{error}");
                    false
                }
            }
        });
    }

    fn parsed(text: &str) -> Result<Vec<Directive>, String> {
        parse(&"x.conf".into(), text).map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_read_as_nginx_reads_them() {
        for (text, name, args) in [
            ("listen 80;", "listen", &["80"][..]),
            ("a\n  b # no\n\tc ;", "a", &["b", "c"]),
            (r#"log_format x '$a "$b"' "c\"d\n";"#, "log_format", &["x", "$a \"$b\"", "c\"d\n"]),
            (r"location ~ \.php$;", "location", &["~", r"\.php$"]),
            (r"a b\;c \\ \x;", "a", &[r"b\;c", r"\", r"\x"]),
            ("return 301 https://${host}$uri;", "return", &["301", "https://${host}$uri"]),
            (r#"if ($a = "b") ;"#, "if", &["($a", "=", "b", ")"]),
            ("a b#c;", "a", &["b#c"]),
            ("'a b' \"\";", "a b", &[""]),
        ] {
            let directives = parsed(text).unwrap();
            assert_eq!(
                (directives[0].name.as_str(), &directives[0].args[..]),
                (name, &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        }
    }

    #[test]
    fn blocks_nest_and_know_where_they_stand() {
        let directives =
            parsed("http{server {listen 80;}\n  server{\n    location /{}}}x 1;content_by_lua_block { if a { b } } y;").unwrap();
        let names: Vec<_> = directives.iter().map(|directive| directive.name.as_str()).collect();
        assert_eq!(names, ["http", "x", "content_by_lua_block", "y"]);
        let second = &directives[0].children()[1];
        assert_eq!((second.place.line, second.place.column), (2, 3));
        let location = &second.children()[0];
        assert_eq!((location.place.to_string().as_str(), location.arg(0)), ("x.conf:3:5", "/"));
        assert_eq!(location.to_string(), "location / { … }");
    }

    #[test]
    fn what_is_no_configuration_is_told_at_its_place() {
        for (text, expected) in [
            ("server {\n  listen 80\n}", "x.conf:3:1: unexpected `}`: `;` is missing after `listen` in line 2"),
            ("a;\n}", "x.conf:2:1: unexpected `}`: no block is open here"),
            ("http {\n a;", "x.conf:2:4: the file ends within the block that begins in line 1: `}` is missing"),
            ("a b", "x.conf:1:4: the file ends within `a` of line 1: `;` is missing"),
            ("a;;", "x.conf:1:3: unexpected `;`: there is no directive before it"),
            (" {", "x.conf:1:2: unexpected `{`: there is no directive before it"),
            ("a 'b\nc;", "x.conf:1:3: the quote ' is not closed"),
            ("a \"b\"c;", "x.conf:1:6: unexpected `c` after a closing quote: a space or `;` is missing"),
            ("x_by_lua_block { --[[\n ]] } y z", "x.conf:2:10: the file ends within `y` of line 2: `;` is missing"),
            ("x_by_lua_block {\n{", "x.conf:1:16: the block that begins here is not closed"),
        ] {
            assert_eq!(parsed(text).unwrap_err(), expected, "{text}");
        }
        assert!(parsed(&"a{".repeat(1000)).unwrap_err().contains("nested deeper than 64"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>()) {
            let _ = parsed(&text);
        }

        #[test]
        fn any_mixture_of_what_means_something_is_parsed_or_refused(text in "([a$ \\\\\"'#{};\n]|server|location|include|[${}]){0,60}") {
            if let Ok(directives) = parsed(&text) {
                // What was understood can be written and is then understood in the same way.
                fn written(directives: &[Directive], text: &mut String) {
                    for directive in directives {
                        for word in std::iter::once(&directive.name).chain(&directive.args) {
                            text.push_str(&format!("\"{}\" ", word.replace('\\', "\\\\").replace('"', "\\\"")));
                        }
                        match &directive.block {
                            Some(children) => {
                                text.push('{');
                                written(children, text);
                                text.push('}');
                            }
                            None => text.push(';'),
                        }
                    }
                }
                fn plain(directives: &[Directive]) -> Vec<(String, Vec<String>, Option<usize>)> {
                    directives.iter().map(|one| (one.name.clone(), one.args.clone(), one.block.as_ref().map(Vec::len))).collect()
                }
                let mut again = String::new();
                written(&directives, &mut again);
                prop_assert_eq!(plain(&parsed(&again).unwrap()), plain(&directives));
            }
        }
    }
}
