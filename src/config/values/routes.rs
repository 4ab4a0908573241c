//! Values of routes: hosts, methods, prefixes, and fields with variables in their values.

use http::{HeaderName, Method};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use crate::{
    config::{
        fault::Faults,
        read::{At, Given, Value, article, nearest},
        units::Wrong,
    },
    proxy::{HostMatch, Template, TemplateError, VARIABLES, can_be_matched},
};

/// One host or several.
#[derive(Debug)]
pub(in crate::config) struct Hosts(pub Vec<At<HostMatch>>);

/// A method that a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct AnyMethod(pub Method);

/// The beginning of a path, as it stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Prefix(pub String);

/// Whether locations are put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct PutBack(pub bool);

/// Names and values of fields, in the order of the file.
#[derive(Debug)]
pub(in crate::config) struct FieldValues(pub Vec<(At<HeaderName>, At<Template>)>);

const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

impl Value for Hosts {
    const NOUN: &'static str = "a host, or an array of hosts";

    fn schema() -> Json {
        let host = HostMatch::schema();
        json!({ "anyOf": [host, { "type": "array", "items": host, "minItems": 1 }], "examples": ["admin.example.com", ["example.com", "*.example.com"]] })
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        match given.value.get_ref() {
            DeValue::Array(items) if items.is_empty() => {
                faults
                    .add(Some(given.span()), format!("`{}` is empty", given.path), "at least one is needed")
                    .help("remove the key for any host");
                None
            }
            DeValue::Array(_) => <Vec<At<HostMatch>>>::read(given, faults).map(Self),
            _ => HostMatch::read(given, faults).map(|value| Self(vec![At { value, span: Some(given.span()) }])),
        }
    }
}

impl Value for AnyMethod {
    const NOUN: &'static str = "a method";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Z-]+$", "not": { "const": "CONNECT" }, "examples": ["POST", "GET"] })
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        match text {
            // A method that can be queued is one that a route can take, and so are those that change nothing.
            "HEAD" | "OPTIONS" | "TRACE" => Method::from_bytes(text.as_bytes()).map(Self).map_err(|_| Wrong::because("not a method")),
            "CONNECT" => Err(Wrong::because("a tunnel is never made")),
            _ => Method::text(text).map(Self),
        }
    }
}

impl Value for Prefix {
    const NOUN: &'static str = "the beginning of a path";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^/[!-\"$->@-~]*$", "examples": ["/"] })
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if !text.starts_with('/') {
            return Err(Wrong::because("a path begins with `/`").help(format!("write \"/{text}\"")));
        }
        if let Some(bad) = text.chars().find(|&c| c == '?' || c == '#' || !c.is_ascii_graphic()) {
            return Err(Wrong::because(format!("`{}` cannot stand in a path", bad.escape_default()))
                .help("write it as it stands in a request, as `%20` for a space"));
        }
        if !can_be_matched(text, true) {
            return Err(Wrong::because("`//`, `.` and `..` are no segments of a path").help("write the path that is meant"));
        }
        Ok(Self(text.into()))
    }
}

impl Value for HeaderName {
    const NOUN: &'static str = "the name of a header field";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": format!("^{TOKEN}$"), "examples": ["X-Tour"] })
    }

    fn show(&self) -> Json {
        self.as_str().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        Self::from_bytes(text.as_bytes()).map_err(|_| {
            let wrong = Wrong::because("not the name of a header field");
            if text.trim_end().ends_with(':') { wrong.help("write it without the colon") } else { wrong }
        })
    }
}

impl Value for Template {
    const NOUN: &'static str = "a text with variables";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[\\t -~]+$", "examples": ["/$remote_addr"] })
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong::because("the text is empty"));
        }
        if !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            return Err(Wrong::because("a header field holds visible ASCII only"));
        }
        Self::parse(text).map_err(|error| {
            let known = VARIABLES.map(|name| format!("${name}")).join(", ");
            let near = match &error {
                TemplateError::Unknown(name) => nearest(name, VARIABLES).map(|near| format!("{error}; did you mean `${near}`?")),
                TemplateError::NoName => None,
            };
            let help = format!("variables: {known}, and $http_NAME for a field of the request; a dollar is written `$$`");
            Wrong::because(near.unwrap_or_else(|| error.to_string())).help(help)
        })
    }
}

impl Value for FieldValues {
    const NOUN: &'static str = "a table of fields";

    fn schema() -> Json {
        json!({ "type": "object", "propertyNames": { "pattern": format!("^{TOKEN}$") }, "additionalProperties": Template::schema() })
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        let DeValue::Table(table) = given.value.get_ref() else {
            let wrong = Wrong::because(format!("this is {}", article(given.value.get_ref().type_str())));
            faults.wrong(Some(given.span()), given.path, Self::NOUN, wrong.help("write { NAME = \"VALUE\" }"));
            return None;
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut fields = Vec::new();
        for (key, value) in entries {
            let (path, span) = (format!("{}.{}", given.path, key.get_ref()), Some(key.span()));
            let name = HeaderName::text(key.get_ref()).map_err(|wrong| faults.wrong(span.clone(), &path, HeaderName::NOUN, wrong)).ok();
            let text = Template::read(Given { path: &path, value }, faults);
            if let Some((name, text)) = name.zip(text) {
                fields.push((At { value: name, span }, At { value: text, span: Some(value.span()) }));
            }
        }
        Some(Self(fields))
    }
}
