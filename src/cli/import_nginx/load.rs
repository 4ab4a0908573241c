//! Files of a configuration: the one that is named, and those that it includes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use glob::MatchOptions;

use super::parse::{Directive, Place, SyntaxError, parse};

/// Files within files at most; more than that go round.
const DEEPEST: usize = 16;

/// Files that say nothing to a proxy: types of files, and parameters of other protocols.
const SKIPPED: [&str; 5] = ["mime.types", "fastcgi_params", "fastcgi.conf", "uwsgi_params", "scgi_params"];

/// Directives that name a file of certificates or keys.
const FILES: [&str; 5] =
    ["ssl_certificate", "ssl_certificate_key", "proxy_ssl_trusted_certificate", "proxy_ssl_certificate", "proxy_ssl_certificate_key"];

/// A pattern does not fit files that begin with a dot, such as those that an editor has open.
const AS_NGINX: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The file itself.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// One of its files is none of nginx's.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Files include one another.
    #[error("{0}: includes go round: more than {DEEPEST} files within one another")]
    Round(Place),
}

/// The directives of a file, those of included files in their place. An `include` whose files cannot be read stays, with its reason as a second argument.
pub(super) fn load(path: &Path) -> Result<Vec<Directive>, LoadError> {
    let text = read(path).map_err(|source| LoadError::Unreadable { path: path.into(), source })?;
    let root = path.parent().unwrap_or(Path::new(""));
    let directives = parse(&name_of(path), &text)?;
    let mut whole = included(directives, root, 0)?;
    place_certificates(&mut whole, root);
    Ok(whole)
}

/// Certificates by a relative name are looked for where includes are.
fn place_certificates(directives: &mut [Directive], root: &Path) {
    for directive in directives {
        let is_file = FILES.contains(&directive.name.as_str());
        if let Some(file) = directive.args.first_mut().filter(|file| is_file && !file.contains(['$', ':'])) {
            *file = root.join(&*file).to_string_lossy().into_owned();
        }
        place_certificates(directive.block.as_deref_mut().unwrap_or_default(), root);
    }
}

fn included(directives: Vec<Directive>, root: &Path, depth: usize) -> Result<Vec<Directive>, LoadError> {
    let mut whole = Vec::with_capacity(directives.len());
    for mut directive in directives {
        if directive.name == "include" && directive.block.is_none() {
            if depth == DEEPEST {
                return Err(LoadError::Round(directive.place));
            }
            match files(directive.arg(0), root) {
                Ok(files) => {
                    for (path, text) in files {
                        whole.extend(included(parse(&name_of(&path), &text)?, root, depth + 1)?);
                    }
                }
                Err(why) => {
                    directive.args.truncate(1);
                    directive.args.push(why);
                    whole.push(directive);
                }
            }
            continue;
        }
        directive.block = directive.block.map(|block| included(block, root, depth)).transpose()?;
        whole.push(directive);
    }
    Ok(whole)
}

/// The files that a pattern names, in the order of their names; a relative one starts at the folder of the first file, as in nginx.
fn files(pattern: &str, root: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let path = root.join(pattern);
    if path.file_name().is_some_and(|name| SKIPPED.iter().any(|skipped| *skipped == name)) {
        return Err("what is in it is of no use to a proxy".into());
    }
    let with_text = |path: PathBuf| match read(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(format!("CAUTION: what is in it holds no more: {}: {error}", path.display())),
    };
    if !pattern.contains(['*', '?', '[']) {
        return with_text(path).map(|file| vec![file]);
    }
    // A pattern that fits nothing is right, as in nginx.
    let found = glob::glob_with(&path.to_string_lossy(), AS_NGINX).map_err(|error| error.to_string())?;
    found.filter_map(Result::ok).filter(|path| path.is_file()).map(with_text).collect()
}

/// Comments in old files are in all kinds of encodings; what is not UTF-8 is shown as U+FFFD.
fn read(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn name_of(path: &Path) -> Rc<str> {
    path.to_string_lossy().into()
}
