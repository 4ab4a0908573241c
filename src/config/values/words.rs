//! Values that are one of a few words.

use std::path::PathBuf;

use serde_json::{Value as Json, json};
use tracing::level_filters::LevelFilter;

use super::PutBack;
use crate::{
    backend::Protocol,
    config::{
        AccessFormat, AccessTarget,
        read::{Value, nearest},
        units::Wrong,
    },
    envelope::Delivery,
    proxy::{OnDeadLetter, Scheme, Strangers, When},
    replay::Profile,
};

/// The engine of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Engine {
    Redb,
}

/// The name that a text is chosen from, or the nearest of the names.
fn choose<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let all = names.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let why = match nearest(text, names.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "not one of the words that are known here".into(),
    };
    Err(Wrong::because(why).help(format!("write one of {all}")))
}

/// The word of a value, and the schema of all words.
fn word<T: PartialEq>(value: &T, names: &[(&str, T)]) -> Json {
    names.iter().find(|(_, known)| known == value).map_or(Json::Null, |(name, _)| (*name).into())
}

fn words<T>(names: &[(&str, T)]) -> Json {
    json!({ "type": "string", "enum": names.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
}

const PROTOCOL: &[(&str, Protocol)] =
    &[("auto", Protocol::Auto), ("http/1.1", Protocol::Http1), ("h2", Protocol::H2), ("h2c", Protocol::H2c)];
const WHEN: &[(&str, When)] = &[("needed", When::Needed), ("always", When::Always)];
const DELIVERY: &[(&str, Delivery)] = &[("at-least-once", Delivery::AtLeastOnce), ("at-most-once", Delivery::AtMostOnce)];
const ON_DEAD_LETTER: &[(&str, OnDeadLetter)] = &[("continue", OnDeadLetter::Continue), ("hold", OnDeadLetter::Hold)];
const SCHEME: &[(&str, Scheme)] = &[("http", Scheme::Http), ("https", Scheme::Https)];
const STRANGERS: &[(&str, Strangers)] = &[("refuse", Strangers::Refuse), ("plain", Strangers::Plain)];
const PUT_BACK: &[(&str, PutBack)] = &[("put-back", PutBack(true)), ("keep", PutBack(false))];
const ACCESS_FORMAT: &[(&str, AccessFormat)] = &[("json", AccessFormat::Json), ("combined", AccessFormat::Combined)];
const ENGINE: &[(&str, Engine)] = &[("redb", Engine::Redb)];
const PROFILE: &[(&str, Profile)] = &[("gentle", Profile::Gentle), ("fast", Profile::Fast), ("fixed", Profile::Fixed)];
const LEVEL: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

impl Value for Protocol {
    const NOUN: &'static str = "a protocol";

    fn schema() -> Json {
        words(PROTOCOL)
    }

    fn show(&self) -> Json {
        word(self, PROTOCOL)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, PROTOCOL)
    }
}

impl Value for When {
    const NOUN: &'static str = "a moment to queue";

    fn schema() -> Json {
        words(WHEN)
    }

    fn show(&self) -> Json {
        word(self, WHEN)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, WHEN)
    }
}

impl Value for Delivery {
    const NOUN: &'static str = "a promise of delivery";

    fn schema() -> Json {
        words(DELIVERY)
    }

    fn show(&self) -> Json {
        word(self, DELIVERY)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if text == "exactly-once" {
            return Err(Wrong::because("nobody can promise that")
                .help("write \"at-least-once\" (an Idempotency-Key tells the backend of a repeat) or \"at-most-once\""));
        }
        choose(text, DELIVERY)
    }
}

impl Value for OnDeadLetter {
    const NOUN: &'static str = "a word for what a dead letter means";

    fn schema() -> Json {
        words(ON_DEAD_LETTER)
    }

    fn show(&self) -> Json {
        word(self, ON_DEAD_LETTER)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, ON_DEAD_LETTER)
    }
}

impl Value for Scheme {
    const NOUN: &'static str = "a scheme";

    fn schema() -> Json {
        words(SCHEME)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, SCHEME)
    }
}

impl Value for Strangers {
    const NOUN: &'static str = "what becomes of others";

    fn schema() -> Json {
        words(STRANGERS)
    }

    fn show(&self) -> Json {
        word(self, STRANGERS)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, STRANGERS)
    }
}

impl Value for PutBack {
    const NOUN: &'static str = "a word for what is done about locations";

    fn schema() -> Json {
        words(PUT_BACK)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, PUT_BACK)
    }
}

impl Value for Engine {
    const NOUN: &'static str = "an engine";

    fn schema() -> Json {
        words(ENGINE)
    }

    fn show(&self) -> Json {
        word(self, ENGINE)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if text == "postgres" {
            return Err(Wrong::later("the engine \"postgres\" is not supported yet").help("write \"redb\""));
        }
        choose(text, ENGINE)
    }
}

impl Value for Profile {
    const NOUN: &'static str = "a profile";

    fn schema() -> Json {
        words(PROFILE)
    }

    fn show(&self) -> Json {
        word(self, PROFILE)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, PROFILE)
    }
}

impl Value for LevelFilter {
    const NOUN: &'static str = "a log level";

    fn schema() -> Json {
        words(LEVEL)
    }

    fn show(&self) -> Json {
        word(self, LEVEL)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, LEVEL)
    }
}

impl Value for AccessFormat {
    const NOUN: &'static str = "a format";

    fn schema() -> Json {
        words(ACCESS_FORMAT)
    }

    fn show(&self) -> Json {
        word(self, ACCESS_FORMAT)
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        choose(text, ACCESS_FORMAT)
    }
}

impl Value for AccessTarget {
    const NOUN: &'static str = "a place for the access log";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(off|stdout|[^\\u0000]*/[^\\u0000]*[^/\\u0000])$", "examples": ["off", "stdout", "/var/log/forebay/access.log"] })
    }

    fn show(&self) -> Json {
        match self {
            Self::Off => "off".into(),
            Self::Stdout => "stdout".into(),
            Self::File(path) => path.to_string_lossy().into(),
        }
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            // A bare word is more likely a misspelt "stdout" than the name of a file.
            _ if text.contains('/') => PathBuf::text(text).map(Self::File),
            _ => Err(Wrong::because("neither \"off\" nor \"stdout\" nor a path")
                .help("a file is written with its folder: \"/var/log/access.log\" or \"./access.log\"")),
        }
    }
}
