//! Answers without a backend: what a `return` becomes.

use super::{
    Importer, Scope,
    server::Server,
    values::{Known, template},
};
use crate::cli::import_nginx::{parse::Directive, write::quoted};

/// An answer without a backend, or what stands for one.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) comments: Vec<String>,
    pub(super) lines: Vec<String>,
    /// It must hold for http alone.
    pub(super) scheme: Option<&'static str>,
    /// It is for every path, and no location was there.
    pub(super) is_everything: bool,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self { lines: vec![format!("respond = {{ status = {status} }}")], ..Self::default() }
    }
}

/// The route of a `return`.
pub(super) fn returned(importer: &mut Importer, server: &Server<'_>, scope: &Scope<'_>, path: &str, directive: &Directive) -> Answer {
    let known = Known { server_name: server.name(), proxy_host: "", server_port: server.port() };
    let (code, text) = match directive.arg(0).parse::<u16>() {
        Ok(code) => (code, directive.arg(1)),
        Err(_) => (302, directive.arg(0)),
    };
    let locations = server.directive.children().iter().filter(|one| one.name == "location").count();
    let mut answer = Answer { is_everything: locations == 0, ..Answer::default() };
    match code {
        301 | 302 | 303 | 307 | 308 => match template(text, known) {
            Ok(to) if !to.is_empty() => {
                // Its own place by https would be itself.
                let by_http = is_itself(&to, !server.speaks(true));
                answer.scheme = by_http.then_some("http");
                answer.lines.push(format!("redirect = {{ status = {code}, to = {} }}", quoted(&to)));
            }
            Ok(_) => answer.lines.push(format!("respond = {{ status = {code} }}")),
            Err(variable) => {
                answer.comments.push(importer.notes.dropped(directive, format!("there is no variable ${variable}")));
                answer.lines.push("respond = { status = 404 }".into());
            }
        },
        444 => {
            answer.comments.push(importer.notes.changed(directive, "a client gets 400 in place of a closed connection"));
            answer.lines.push("respond = { status = 400 }".into());
        }
        200..=599 => {
            if text.contains('$') {
                answer.comments.push(importer.notes.changed(directive, "a fixed answer has no variables: it is sent as it stands"));
            }
            let kind = kind_of(scope, path);
            let body = if text.is_empty() || matches!(code, 204 | 205 | 304) {
                String::new()
            } else {
                format!(", content_type = {}, body = {}", quoted(&kind), quoted(text))
            };
            answer.lines.push(format!("respond = {{ status = {code}{body} }}"));
        }
        _ => {
            answer.comments.push(importer.notes.dropped(directive, "not a status"));
            answer.lines.push("respond = { status = 404 }".into());
        }
    }
    let fields = importer.response_fields(scope, known, "content-type");
    answer.comments.extend(fields.comments);
    answer.lines.extend(fields.lines.into_iter().filter(|line| line.contains("set = ") || line.contains("add = ")));
    answer
}

/// Whether a place is that which was asked for, by https. With anything more behind the path it is another one, which the checker takes for http alone all the same:
/// there it is that of `by_http`, a server that nobody comes to by https.
fn is_itself(to: &str, by_http: bool) -> bool {
    let path = to.strip_prefix("https://$host").or_else(|| to.strip_prefix("https://$http_host"));
    path.is_some_and(|path| {
        ["$request_uri", "$uri", "$uri$is_args$args"].contains(&path)
            || (by_http && ["$request_uri", "$uri"].iter().any(|place| path.starts_with(place)))
    })
}

/// The content type of a text: of a field that is added, by the end of the path, or the default, as nginx has it.
fn kind_of(scope: &Scope<'_>, path: &str) -> String {
    let added = scope.all("add_header").into_iter().find(|field| field.arg(0).eq_ignore_ascii_case("content-type"));
    if let Some(added) = added.filter(|added| !added.arg(1).contains('$')) {
        return added.arg(1).to_owned();
    }
    let by_end = match path.rsplit_once('/').and_then(|(_, name)| name.rsplit_once('.')).map_or("", |(_, end)| end) {
        "txt" => Some("text/plain"),
        "json" => Some("application/json"),
        "html" | "htm" => Some("text/html"),
        "xml" => Some("text/xml"),
        _ => None,
    };
    by_end.or_else(|| scope.last("default_type").map(|kind| kind.arg(0))).unwrap_or("text/plain").to_owned()
}
