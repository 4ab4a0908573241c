//! Texts with variables, paths, URLs and what is exchanged in them.

use super::Scope;
use crate::{cli::import_nginx::parse::Directive, proxy::Template};

/// What nginx knows and a text of forebay must be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) server_name: &'a str,
    pub(super) proxy_host: &'a str,
    /// `$server_port`, where it is one.
    pub(super) server_port: &'a str,
}

/// A text of nginx as a template of forebay; the name of the variable that has no counterpart.
pub(super) fn template(text: &str, known: Known<'_>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, after) = name_of(after);
        match name {
            "server_name" if !known.server_name.is_empty() => result.push_str(known.server_name),
            "proxy_host" if !known.proxy_host.is_empty() => result.push_str(known.proxy_host),
            "server_port" if !known.server_port.is_empty() => result.push_str(known.server_port),
            "document_uri" => result.push_str("${uri}"),
            "realip_remote_addr" => result.push_str("${remote_addr}"),
            _ => {
                // Braces only where a letter follows that would belong to the name.
                let braced = format!("${{{name}}}");
                Template::parse(&braced).map_err(|_| name.to_owned())?;
                let glued = after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                if glued { result.push_str(&braced) } else { result.push_str(&format!("${name}")) }
            }
        }
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// The name of a variable whose `$` has been taken, and what follows it.
fn name_of(after: &str) -> (&str, &str) {
    match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
        Some(braced) => braced,
        None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
    }
}

/// A path of nginx, which is decoded, as it stands in a request.
pub(super) fn path(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"?#%".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// A URL of `proxy_pass`.
pub(super) struct Url {
    pub(super) scheme: String,
    pub(super) authority: String,
    /// What stands behind the authority, where anything does.
    pub(super) uri: Option<String>,
    /// It is asked by HTTP/2.
    pub(super) is_grpc: bool,
}

impl Url {
    pub(super) fn of(text: &str) -> Option<Self> {
        // The target as it came is what is sent without any.
        let with_path = |place: &&str| place.split_once("://").is_some_and(|(_, rest)| rest.contains('/') && !rest.starts_with("unix:"));
        let text = text.strip_suffix("$request_uri").filter(|place| !with_path(place)).unwrap_or(text);
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if rest.contains('$') || !["http", "https"].contains(&scheme.as_str()) {
            return None;
        }
        let (authority, uri) = match rest.strip_prefix("unix:") {
            Some(rest) => match rest.split_once(':') {
                Some((socket, uri)) => (format!("unix:{socket}"), Some(uri.to_owned())),
                None => (format!("unix:{rest}"), None),
            },
            None => match rest.find('/') {
                Some(slash) => (rest[..slash].to_owned(), Some(rest[slash..].to_owned())),
                None => (rest.to_owned(), None),
            },
        };
        let uri = uri.filter(|uri| !uri.is_empty());
        (!authority.is_empty()).then_some(Self { scheme, authority, uri, is_grpc: false })
    }

    /// `$proxy_host`.
    pub(super) fn host(&self) -> &str {
        if self.authority.starts_with("unix:") { "localhost" } else { &self.authority }
    }
}

/// Where a `proxy_pass` leads. Variables that a `set` beside it or in its server makes of a fixed text are that text; such a URL has no path, which would stand for all of
/// the request's.
pub(super) fn target_of(directive: &Directive, scope: &Scope<'_>) -> Option<Url> {
    let text = directive.arg(0);
    if directive.name == "grpc_pass" {
        let authority = text.strip_prefix("grpc://").unwrap_or(text);
        let url = Url::of(&format!("http://{authority}")).filter(|url| url.uri.is_none())?;
        return Some(Url { is_grpc: true, ..url });
    }
    if !text.trim_end_matches("$request_uri").contains('$') {
        return Url::of(text);
    }
    let levels: Vec<_> = scope.0.iter().skip(1).copied().collect();
    let in_ifs = levels.iter().flat_map(|level| level.iter()).filter(|one| one.name == "if").flat_map(Directive::children);
    let changing: Vec<_> = in_ifs.filter(|one| one.name == "set").map(|one| one.arg(0).trim_start_matches('$')).collect();
    // What a location between them sets is not set in those within it.
    let fixed = |name: &str| {
        let is_it = |one: &&Directive| one.name == "set" && one.arg(0).strip_prefix('$') == Some(name);
        let set = [levels.last(), levels.first()].into_iter().flatten().find_map(|level| level.iter().rfind(is_it))?;
        (!set.arg(1).contains('$') && !changing.contains(&name)).then(|| set.arg(1))
    };
    let mut settled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        let (name, after) = name_of(after);
        settled.push_str(before);
        match fixed(name) {
            Some(value) => settled.push_str(value),
            None if name == "request_uri" => settled.push_str("$request_uri"),
            None => return None,
        }
        rest = after;
    }
    settled.push_str(rest);
    Url::of(&settled).filter(|url| url.uri.is_none())
}

/// The prefixes that `rewrite ^/from(.*)$ /to$1 break` exchanges.
pub(super) fn exchange_of(rewrite: &Directive) -> Option<(String, String)> {
    let [pattern, replacement, flag] = rewrite.args.as_slice() else { return None };
    let pattern = pattern.strip_prefix('^')?;
    let from = pattern.strip_suffix('$').unwrap_or(pattern).strip_suffix("(.*)")?;
    let to = replacement.strip_suffix("$1")?;
    let is_literal = |text: &str| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_~".contains(&byte));
    (flag == "break" && is_literal(from) && is_literal(to)).then(|| (from.to_owned(), to.to_owned()))
}

/// Makes a `return` of each `rewrite` that sends all of a server's or a location's requests elsewhere, as `rewrite ^(.*)$ https://$host$1 permanent` does.
pub(super) fn settle_rewrites(directives: &mut [Directive]) {
    for directive in directives {
        if directive.name == "rewrite"
            && let Some((status, to)) = moved(&directive.args)
        {
            directive.name = "return".into();
            directive.args = vec![status.into(), to];
        }
        settle_rewrites(directive.block.as_deref_mut().unwrap_or_default());
    }
}

/// Status and place of a `rewrite` that takes every path to another URL, where both can be said without a regular expression.
fn moved(args: &[String]) -> Option<(&'static str, String)> {
    let (pattern, replacement, flag) = match args {
        [pattern, replacement] => (pattern, replacement, ""),
        [pattern, replacement, flag] => (pattern, replacement, flag.as_str()),
        _ => return None,
    };
    let status = match flag {
        "permanent" => "301",
        "redirect" | "" => "302",
        _ => return None,
    };
    if !["http://", "https://", "$scheme://"].iter().any(|scheme| replacement.starts_with(scheme)) {
        return None;
    }
    // What `$1` stands behind where the pattern has caught it.
    let caught = match pattern.trim_start_matches('^').trim_end_matches('$') {
        "" | "/" | ".*" | "/.*" => None,
        "(.*)" | "(.+)" | "(/.*)" => Some(""),
        "/(.*)" | "/?(.*)" => Some("/"),
        _ => return None,
    };
    // nginx appends the query by itself, unless it is told not to.
    let (to, query) = match replacement.strip_suffix('?') {
        Some(to) => (to, ""),
        None => (replacement.as_str(), "$is_args$args"),
    };
    if to.contains('?') {
        return None;
    }
    let to = match (to.strip_suffix("$1"), caught, query) {
        (Some(to), Some(before), "") => format!("{}$uri", to.strip_suffix(before)?),
        (Some(to), Some(before), _) => format!("{}$request_uri", to.strip_suffix(before)?),
        (None, ..) if to.ends_with("$request_uri") => to.to_owned(),
        (None, ..) => format!("{to}{query}"),
        _ => return None,
    };
    let has_captures = to.split('$').skip(1).any(|name| name.starts_with(|first: char| first.is_ascii_digit()));
    (!has_captures).then_some((status, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import_nginx::parse::parse;

    #[test]
    fn variables_are_those_that_forebay_has() {
        let known = Known { server_name: "a.example", proxy_host: "app", server_port: "8443" };
        for (text, expected) in [
            ("https://$server_name$request_uri", Ok("https://a.example$request_uri")),
            ("${host}x", Ok("${host}x")),
            ("$proxy_host:$document_uri", Ok("app:${uri}")),
            ("$http_x_forwarded_for, $remote_addr", Ok("$http_x_forwarded_for, $remote_addr")),
            ("$host:$server_port", Ok("$host:8443")),
            ("$ssl_protocol", Err("ssl_protocol")),
            ("$1", Err("1")),
            ("a$", Err("")),
        ] {
            assert_eq!(template(text, known), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_rewrite_of_everything_to_another_url_is_a_redirect() {
        for (text, expected) in [
            ("rewrite ^(.*) https://$host$1 permanent;", Some(("301", "https://$host$request_uri"))),
            ("rewrite ^/(.*)$ https://www.a.example/$1 redirect;", Some(("302", "https://www.a.example$request_uri"))),
            ("rewrite ^/?(.*) https://a.example/b/$1? permanent;", Some(("301", "https://a.example/b$uri"))),
            ("rewrite ^ https://$server_name$request_uri? permanent;", Some(("301", "https://$server_name$request_uri"))),
            ("rewrite ^ https://a.example/;", Some(("302", "https://a.example/$is_args$args"))),
            ("rewrite ^.*$ http://a.example/x? permanent;", Some(("301", "http://a.example/x"))),
            ("rewrite ^/old/(.*)$ https://a.example/$1 permanent;", None),
            ("rewrite ^(.*)$ /index.html last;", None),
            ("rewrite ^(.*)$ https://a.example/?to=$1 permanent;", None),
            ("rewrite ^(.*)$ https://a.example$1 break;", None),
            ("rewrite ^ https://a.example$1 permanent;", None),
            ("rewrite ^/(.*) https://a.example$1 permanent;", None),
        ] {
            let mut directives = parse(&"x".into(), text).unwrap();
            settle_rewrites(&mut directives);
            let [directive] = directives.as_slice() else { panic!("{directives:?}") };
            let found = (directive.name == "return").then(|| (directive.arg(0), directive.arg(1)));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_usual_rewrite_is_an_exchange_of_prefixes() {
        for (text, expected) in [
            ("rewrite ^/api/(.*)$ /$1 break;", Some(("/api/", "/"))),
            ("rewrite ^/api(.*) /v2$1 break;", Some(("/api", "/v2"))),
            ("rewrite ^/api/(.*)$ /$1 last;", None),
            ("rewrite ^/a.b/(.*)$ /$1 break;", None),
            ("rewrite ^/(.*)/x$ /$1 break;", None),
        ] {
            let directives = parse(&"x".into(), text).unwrap();
            let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
            assert_eq!(exchange_of(&directives[0]), expected, "{text}");
        }
    }
}
