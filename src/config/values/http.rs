//! Values that are parts of HTTP: methods, paths, hosts, header fields, and where ordering keys are found.

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use crate::{
    config::{
        fault::Faults,
        read::{At, Given, Value, nearest},
        units::Wrong,
    },
    envelope::order::Rule,
    proxy::{HostMatch, PathMatch, can_be_matched},
};

/// Where an ordering key is found; no rules for no order.
#[derive(Debug, Clone)]
pub(in crate::config) struct OrderBy(pub Vec<At<Rule>>);

const HOST_PATTERN: &str = "^((\\*\\.)?[A-Za-z0-9_-][A-Za-z0-9_.-]*|\\[[0-9A-Fa-f:.]+\\])$";
const RULE_PATTERN: &str = "^(client-ip|path|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|(query|cookie):[^=&;\\s]+)$";
const METHOD_PATTERN: &str = "^[!#$%&'*+.^_`|~0-9A-Z-]+$";

impl Value for Method {
    const NOUN: &'static str = "a method that can be queued";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": METHOD_PATTERN, "not": { "enum": ["HEAD", "OPTIONS", "TRACE", "CONNECT"] }, "examples": ["POST", "PUT"] })
    }

    fn show(&self) -> Json {
        self.as_str().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        let method = Self::from_bytes(text.as_bytes()).map_err(|_| Wrong::because("not a method").help("write it as \"POST\""))?;
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let help = format!("methods are case-sensitive (RFC 9110 section 9.1): write \"{}\"", text.to_ascii_uppercase());
            return Err(Wrong::because("methods are written in capitals").help(help));
        }
        match text {
            "HEAD" | "OPTIONS" | "TRACE" => Err(Wrong::because("it changes nothing at the backend, so that there is nothing to queue")),
            "CONNECT" => Err(Wrong::because("a tunnel cannot be queued")),
            _ => Ok(method),
        }
    }
}

impl Value for PathMatch {
    const NOUN: &'static str = "a path";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(= *)?/[!-\"$->@-~]*$", "not": { "pattern": "^(= *)?/\\.forebay(/|$)" }, "examples": ["/", "/admin/orders/", "= /login"] })
    }

    fn show(&self) -> Json {
        match self {
            Self::Exact(path) => format!("= {path}").into(),
            Self::Prefix(path) => path.as_str().into(),
        }
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if let Some(rest) = text.strip_prefix("^~") {
            return Err(Wrong::because("`^~` is not needed").help(format!("a path is a prefix: write \"{}\"", rest.trim())));
        }
        if text.starts_with('~') {
            return Err(Wrong::because("regular expressions are not understood")
                .help("write a prefix such as \"/admin/\", or one path as \"= /login\""));
        }
        let (exact, path) = match text.strip_prefix('=') {
            Some(rest) => (true, rest.trim_start_matches(' ')),
            None => (false, text),
        };
        if !path.starts_with('/') {
            let slashed = format!("{}/{path}", if exact { "= " } else { "" });
            let help = if path.contains("://") { "hosts are set by `host`".into() } else { format!("write \"{slashed}\"") };
            return Err(Wrong::because("a path begins with `/`").help(help));
        }
        if let Some(bad) = path.chars().find(|&c| c == '?' || c == '#' || !c.is_ascii_graphic()) {
            let help = match bad {
                '?' | '#' => "routes look at the path only, not at what follows it",
                _ => "write it as it stands in a request, as `%20` for a space",
            };
            return Err(Wrong::because(format!("`{}` cannot stand in a path", bad.escape_default())).help(help));
        }
        if path == "/.forebay" || path.starts_with("/.forebay/") {
            return Err(
                Wrong::because("`/.forebay/` is reserved").help("forebay answers there itself, with the outcome of queued requests")
            );
        }
        if !exact && path.ends_with("/*") {
            return Err(
                Wrong::because("`*` would be taken literally").help(format!("a path is a prefix: write \"{}\"", &path[..path.len() - 1]))
            );
        }
        if !can_be_matched(path, exact) {
            return Err(Wrong::because("no request has such a path: `//`, `.` and `..` are resolved before routes are looked at")
                .help("write the path that is meant"));
        }
        Ok(if exact { Self::Exact(path.into()) } else { Self::Prefix(path.into()) })
    }
}

impl Value for HostMatch {
    const NOUN: &'static str = "a host";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": HOST_PATTERN, "examples": ["admin.example.com"] })
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong::because("the text is empty").help("remove the key for any host"));
        }
        if let Some(under) = text.strip_prefix('.').filter(|under| !under.is_empty()) {
            let help = format!("write [\"{under}\", \"*.{under}\"] for it and every host under it");
            return Err(Wrong::because("a host does not begin with a dot").help(help));
        }
        if let Some(under) = text.strip_prefix("*.").filter(|under| !under.contains('*')) {
            return match Self::text(under)? {
                Self::Exact(under) if !under.starts_with('[') => Ok(Self::Under(under)),
                _ => Err(Wrong::because("`*.` stands before a name")),
            };
        }
        if text.contains('*') {
            let help = "write \"*.example.com\" for every host under it, or remove the key for any host";
            return Err(Wrong::because("`*` is understood as the first label only").help(help));
        }
        if let Some((_, rest)) = text.split_once("://") {
            return Err(Wrong::because("a host has no scheme").help(format!("write \"{}\"", rest.split(['/', ':']).next().unwrap_or(rest))));
        }
        let bracketed = text.starts_with('[') && text.ends_with(']') && text[1..text.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
        if bracketed || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            return Ok(Self::Exact(text.to_ascii_lowercase().trim_end_matches('.').into()));
        }
        if let Some((host, _)) = text.split_once([':', '/']).filter(|(host, _)| !host.is_empty() && !host.starts_with('[')) {
            return Err(Wrong::because("a host has no port and no path").help(format!("every port is meant: write \"{host}\"")));
        }
        Err(Wrong::because("not a host name").help("letters, digits, `-` and `.`; other scripts in their `xn--` form"))
    }
}

impl Value for HeaderValue {
    const NOUN: &'static str = "the value of a header field";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[\\t -~]+$" })
    }

    fn show(&self) -> Json {
        self.to_str().unwrap_or_default().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        let visible = !text.is_empty() && text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        let wrong = || Wrong::because("a header field holds visible ASCII only");
        if visible { Self::from_str(text).map_err(|_| wrong()) } else { Err(wrong()) }
    }
}

impl Value for Rule {
    const NOUN: &'static str = "a place of an ordering key";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": RULE_PATTERN, "examples": ["header:authorization", "client-ip"] })
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        const FORMS: &str = "write \"header:NAME\", \"query:NAME\", \"cookie:NAME\", \"client-ip\" or \"path\"";
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "client-ip" | "path" if text.contains(':') => {
                Err(Wrong::because(format!("`{kind}` takes no name")).help(format!("write \"{kind}\"")))
            }
            "client-ip" => Ok(Self::ClientIp),
            "path" => Ok(Self::Path),
            "json" => Err(Wrong::later("ordering by a part of a JSON body is not supported yet").help(FORMS)),
            "none" => Err(Wrong::because("\"none\" stands alone").help("write order_by = \"none\"")),
            "header" | "query" | "cookie" if name.is_empty() => {
                Err(Wrong::because("the name is missing").help(format!("write \"{kind}:NAME\"")))
            }
            "header" => {
                HeaderName::from_bytes(name.as_bytes()).map(Self::Header).map_err(|_| Wrong::because("not the name of a header field"))
            }
            "query" | "cookie" if name.contains(|c: char| "=&;".contains(c) || c.is_whitespace()) => {
                Err(Wrong::because("a name has no `=`, `&`, `;` or space"))
            }
            "query" => Ok(Self::Query(name.into())),
            "cookie" => Ok(Self::Cookie(name.into())),
            _ => {
                let why = nearest(kind, ["header", "query", "cookie", "client-ip", "path"]).map(|near| format!("did you mean `{near}`?"));
                Err(Wrong::because(why.unwrap_or_else(|| "not known here".into())).help(FORMS))
            }
        }
    }
}

impl Value for OrderBy {
    const NOUN: &'static str = "a list of places of an ordering key";

    fn schema() -> Json {
        json!({ "anyOf": [{ "const": "none" }, { "type": "array", "items": Rule::schema(), "minItems": 1 }], "examples": ["none", ["query:order"]] })
    }

    fn show(&self) -> Json {
        if self.0.is_empty() { "none".into() } else { self.0.show() }
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        match given.value.get_ref() {
            DeValue::String(text) if text == "none" => Some(Self(Vec::new())),
            DeValue::Array(items) if items.is_empty() => {
                let fault = faults.add(Some(given.span()), format!("`{}` is empty", given.path), "at least one place is needed");
                fault.help("write \"none\" if no order is wanted");
                None
            }
            _ => <Vec<At<Rule>>>::read(given, faults).map(Self),
        }
    }
}
