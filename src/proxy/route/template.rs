//! Text with variables in it, `https://$host$request_uri`, for fields and redirects. The names are nginx's.

use std::{fmt, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{HOST, HeaderName as Name},
};

use super::{path, table::host_of};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What variables are taken from: a request as the client sent it, after it was prepared for the backend.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Scene<'a> {
    /// The client's address, behind trusted proxies the one that they name.
    pub(in crate::proxy) client: IpAddr,
    pub(in crate::proxy) method: &'a Method,
    pub(in crate::proxy) uri: &'a Uri,
    pub(in crate::proxy) headers: &'a HeaderMap,
}

/// Text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    /// `$host`: the host that was asked for, in lowercase, without a port.
    Host,
    /// `$remote_addr`.
    Client,
    /// `$scheme`: `http` or `https`, as the client used it.
    Scheme,
    /// `$request_uri`: path and query as they came.
    Target,
    /// `$uri`: the path in its normal form.
    Path,
    /// `$args`.
    Query,
    /// `$is_args`: `?` where there is a query.
    IsArgs,
    /// `$request_method`.
    Method,
    /// `$http_NAME`: a field of the request, its first value.
    Field(Name),
}

/// Variables that have a name of their own.
pub const VARIABLES: [&str; 9] =
    ["host", "remote_addr", "scheme", "request_uri", "uri", "args", "is_args", "query_string", "request_method"];

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such variable.
    #[error("there is no variable `${0}`")]
    Unknown(String),
    /// A `$` without a name.
    #[error("a `$` begins the name of a variable")]
    NoName,
}

impl Template {
    /// Reads `$name` and `${name}`; `$$` is a dollar.
    ///
    /// # Errors
    /// A variable is not known, or a `$` stands alone.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(TemplateError::NoName)?,
                None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
            };
            if name.is_empty() {
                return Err(TemplateError::NoName);
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Variable(variable(name).ok_or_else(|| TemplateError::Unknown(name.into()))?));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { source: source.into(), pieces })
    }

    /// The text for one request; none when it cannot stand in a field.
    pub(in crate::proxy) fn fill(&self, scene: Scene<'_>) -> Option<HeaderValue> {
        let mut filled = Vec::with_capacity(self.source.len() + 32);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => variable.push(scene, &mut filled),
            }
        }
        HeaderValue::from_bytes(&filled).ok()
    }

    /// What stands before the first variable.
    pub fn beginning(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it is always the same.
    pub fn is_constant(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

fn variable(name: &str) -> Option<Variable> {
    Some(match name {
        "host" => Variable::Host,
        "remote_addr" => Variable::Client,
        "scheme" => Variable::Scheme,
        "request_uri" => Variable::Target,
        "uri" => Variable::Path,
        "args" | "query_string" => Variable::Query,
        "is_args" => Variable::IsArgs,
        "request_method" => Variable::Method,
        _ => Variable::Field(HeaderName::from_bytes(name.strip_prefix("http_")?.replace('_', "-").as_bytes()).ok()?),
    })
}

impl Variable {
    fn push(&self, scene: Scene<'_>, filled: &mut Vec<u8>) {
        match self {
            Self::Host => filled.extend(host_of(scene.uri, scene.headers).bytes().map(|byte| byte.to_ascii_lowercase())),
            Self::Client => filled.extend_from_slice(scene.client.to_string().as_bytes()),
            Self::Scheme => {
                let proto = scene.headers.get(X_FORWARDED_PROTO).map_or(&b""[..], HeaderValue::as_bytes);
                filled.extend_from_slice(if proto.eq_ignore_ascii_case(b"https") { b"https" } else { b"http" });
            }
            Self::Target => filled.extend_from_slice(scene.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes()),
            Self::Path => {
                let normal = path::normal(scene.uri.path()).map_or_else(String::new, |normal| path::encoded(&normal.path));
                filled.extend_from_slice(normal.as_bytes());
            }
            Self::Query => filled.extend_from_slice(scene.uri.query().unwrap_or_default().as_bytes()),
            Self::IsArgs => filled.extend_from_slice(if scene.uri.query().is_some_and(|query| !query.is_empty()) { b"?" } else { b"" }),
            Self::Method => filled.extend_from_slice(scene.method.as_str().as_bytes()),
            Self::Field(name) if *name == HOST => {
                let host = scene.uri.authority().map(|authority| authority.as_str().as_bytes());
                filled.extend_from_slice(host.or_else(|| Some(scene.headers.get(HOST)?.as_bytes())).unwrap_or_default());
            }
            Self::Field(name) => filled.extend_from_slice(scene.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(source: &str, uri: &str) -> String {
        let headers = [("host", "WWW.example.com:8080"), ("x-forwarded-proto", "HTTPS"), ("x-tour", "7")];
        let headers = headers.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let scene = Scene { client: [192, 0, 2, 7].into(), method: &Method::POST, uri: &uri.parse().unwrap(), headers: &headers };
        Template::parse(source).unwrap().fill(scene).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn each_variable_is_what_nginx_has_under_its_name() {
        for (source, uri, expected) in [
            ("https://$host$request_uri", "/a%20b?c=d", "https://www.example.com/a%20b?c=d"),
            ("$remote_addr", "/", "192.0.2.7"),
            ("${scheme}s://$http_host", "/", "httpss://WWW.example.com:8080"),
            ("$uri$is_args$args", "/a//b%20c?x", "/a/b%20c?x"),
            ("$uri$is_args$query_string", "/a", "/a"),
            ("$request_method-$http_x_tour-$http_x_none-", "/", "POST-7--"),
            ("100$$", "/", "100$"),
            ("", "/", ""),
        ] {
            assert_eq!(filled(source, uri), expected, "{source}");
        }
    }

    #[test]
    fn what_is_no_variable_is_named() {
        assert_eq!(Template::parse("a $nope b"), Err(TemplateError::Unknown("nope".into())));
        for source in ["$", "a$ b", "${host", "${}"] {
            assert_eq!(Template::parse(source), Err(TemplateError::NoName), "{source}");
        }
    }
}
