//! What the values of a configuration look like: how each type is read, described and shown.

mod address;
mod http;
mod routes;
mod speed;
mod switch;
mod words;

use std::{path::PathBuf, time::Duration};

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{
    fault::Faults,
    read::{At, Given, Section, Value, article, nearest},
    units::{self, Wrong},
};
use crate::envelope::{Name, Rate};

pub(super) use http::OrderBy;
pub(super) use routes::{AnyMethod, FieldValues, Hosts, Prefix, PutBack};
pub(super) use speed::Speed;
pub(super) use switch::Switch;
pub(super) use words::Engine;

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub u64);

/// A backend's concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concurrency {
    Adaptive,
    Fixed(u32),
}

/// Only numbers can be too small or too large.
impl PartialOrd for Concurrency {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Fixed(left), Self::Fixed(right)) => left.partial_cmp(right),
            _ => None,
        }
    }
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Share(pub f64);

/// Tables that are named by the operator, in the order of the file.
#[derive(Debug)]
pub(super) struct Named<S>(pub Vec<(At<Name>, S)>);

/// One table, or an array of them.
#[derive(Debug)]
pub(super) struct OneOrMore<S>(pub Vec<At<S>>);

impl Value for Duration {
    const NOUN: &'static str = "a duration";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": units::DURATION_PATTERN, "examples": ["250ms", "30s", "5m", "24h", "7d"] })
    }

    fn show(&self) -> Json {
        units::show_duration(*self).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        units::parse_duration(text)
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        Err(Wrong::because("the unit is missing").help(format!("write \"{integer}s\" for seconds or \"{integer}ms\" for milliseconds")))
    }
}

impl Value for Size {
    const NOUN: &'static str = "a size";

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "string", "pattern": units::SIZE_PATTERN }, { "type": "integer", "minimum": 0 }], "examples": ["64KiB", "10MiB", "8GiB", "10m"] })
    }

    fn show(&self) -> Json {
        units::show_size(self.0).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        units::parse_size(text).map(Self)
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        u64::try_from(integer).map(Self).map_err(|_| Wrong::because("it cannot be negative"))
    }
}

impl Value for Rate {
    const NOUN: &'static str = "a rate";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": units::RATE_PATTERN, "examples": ["50/s", "600/min", "10/h"] })
    }

    fn show(&self) -> Json {
        units::show_rate(*self).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        units::parse_rate(text)
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        Err(Wrong::because("the time is missing").help(format!("write \"{integer}/s\" or \"{integer}/min\"")))
    }
}

/// Whole numbers that count something.
fn count<T: TryFrom<i64>>(integer: i64) -> Result<T, Wrong> {
    T::try_from(integer).map_err(|_| Wrong::because(if integer < 0 { "it cannot be negative" } else { "the number is too large" }))
}

/// A number in quotes, as it is written for units, has to lose them here.
fn quoted<T>(text: &str) -> Result<T, Wrong> {
    let wrong = Wrong::because("this is a string");
    Err(if text.parse::<i64>().is_ok() { wrong.help(format!("write {text} without quotes")) } else { wrong })
}

impl Value for u32 {
    const NOUN: &'static str = "a whole number";

    fn schema() -> Json {
        json!({ "type": "integer" })
    }

    fn show(&self) -> Json {
        (*self).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        quoted(text)
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        count(integer)
    }
}

impl Value for u64 {
    const NOUN: &'static str = "a whole number";

    fn schema() -> Json {
        json!({ "type": "integer" })
    }

    fn show(&self) -> Json {
        (*self).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        quoted(text)
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        count(integer)
    }
}

impl Value for Concurrency {
    const NOUN: &'static str = "a number of requests";

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "integer" }, { "const": "adaptive" }] })
    }

    fn show(&self) -> Json {
        match self {
            Self::Adaptive => "adaptive".into(),
            Self::Fixed(number) => (*number).into(),
        }
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        match text {
            "adaptive" => Ok(Self::Adaptive),
            _ if nearest(text, ["adaptive"]).is_some() => Err(Wrong::because("did you mean \"adaptive\"?")),
            _ => quoted(text),
        }
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        count(integer).map(Self::Fixed)
    }
}

impl Value for Share {
    const NOUN: &'static str = "a part of a whole";

    fn schema() -> Json {
        json!({ "type": "number", "examples": [0.5] })
    }

    fn show(&self) -> Json {
        self.0.into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        let wrong = Wrong::because("this is a string");
        Err(match text.strip_suffix('%').map(|number| number.trim().parse::<f64>()) {
            Some(Ok(percent)) => wrong.help(format!("write {} for {percent}%", percent / 100.0)),
            _ => wrong.help("write 0.5 for a half"),
        })
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        Ok(Self(integer as f64))
    }

    fn float(float: f64) -> Result<Self, Wrong> {
        if float.is_finite() { Ok(Self(float)) } else { Err(Wrong::because("this is no number")) }
    }
}

impl Value for PathBuf {
    const NOUN: &'static str = "a path";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[^\\u0000]*[^/\\u0000]$", "examples": ["data/forebay.redb"] })
    }

    fn show(&self) -> Json {
        self.to_string_lossy().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => Err(Wrong::because("the text is empty")),
            _ if text.contains('\0') => Err(Wrong::because("a path has no NUL")),
            _ if text.ends_with('/') => Err(Wrong::because("this is a folder").help("name a file in it")),
            _ => Ok(text.into()),
        }
    }
}

impl Value for String {
    const NOUN: &'static str = "a string";

    fn schema() -> Json {
        json!({ "type": "string" })
    }

    fn show(&self) -> Json {
        self.as_str().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        Ok(text.into())
    }
}

const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";

/// Names stand in header fields, URLs and labels of metrics, so that they are kept plain.
impl Value for Name {
    const NOUN: &'static str = "a name";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": NAME_PATTERN })
    }

    fn show(&self) -> Json {
        (**self).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if plain && begins && text.len() <= 64 {
            return Ok(text.into());
        }
        Err(Wrong::because("not a plain name")
            .help("a name begins with a letter or digit and has letters, digits, `_`, `.`, `-` only, at most 64"))
    }
}

impl<T: Value> Value for Vec<At<T>> {
    const NOUN: &'static str = "an array";

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }

    fn show(&self) -> Json {
        let items: Vec<_> = self.iter().map(|at| at.value.show()).collect();
        if items.contains(&Json::Null) { Json::Null } else { items.into() }
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        let wrong = Wrong::because("this is a string");
        Err(if T::text(text).is_ok() { wrong.help(format!("write [\"{text}\"]")) } else { wrong })
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        let DeValue::Array(items) = given.value.get_ref() else {
            return scalar(given, faults);
        };
        let read = |value| Some(At { value: T::read(Given { path: given.path, value }, faults)?, span: Some(value.span()) });
        Some(items.iter().filter_map(read).collect())
    }
}

/// The fault of a lone value where an array should be.
fn scalar<T: Value>(given: Given<'_>, faults: &mut Faults) -> Option<Vec<At<T>>> {
    let wrong = match given.value.get_ref() {
        DeValue::String(text) => <Vec<At<T>>>::text(text).err()?,
        DeValue::Table(_) => Wrong::because("this is one table").help(format!("write `[[{}]]` with two brackets", given.path)),
        other => Wrong::because(format!("this is {}", article(other.type_str()))),
    };
    faults.wrong(Some(given.span()), given.path, <Vec<At<T>>>::NOUN, wrong);
    None
}

impl<S: Section> Value for OneOrMore<S> {
    const NOUN: &'static str = "a table, or an array of tables";

    fn schema() -> Json {
        json!({ "anyOf": [S::schema(), { "type": "array", "minItems": 1, "items": S::schema() }] })
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        match given.value.get_ref() {
            DeValue::Array(_) => <Vec<At<S>>>::read(given, faults).map(Self),
            DeValue::Table(_) => S::read(given, faults).map(|value| Self(vec![At { value, span: Some(given.span()) }])),
            other => {
                let wrong = Wrong::because(format!("this is {}", article(other.type_str())));
                faults.wrong(Some(given.span()), given.path, Self::NOUN, wrong);
                None
            }
        }
    }
}

impl<S: Section> Value for Named<S> {
    const NOUN: &'static str = "a table of named tables";

    fn schema() -> Json {
        json!({ "type": "object", "propertyNames": { "pattern": NAME_PATTERN }, "additionalProperties": S::schema() })
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        let DeValue::Table(table) = given.value.get_ref() else {
            let wrong = Wrong::because(format!("this is {}", article(given.value.get_ref().type_str())));
            let help = format!("write `[{}.NAME]` with one bracket, and a name of your choice", given.path);
            faults.wrong(Some(given.span()), given.path, Self::NOUN, wrong.help(help));
            return None;
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut named = Vec::new();
        for (key, value) in entries {
            let path = format!("{}.{}", given.path, key.get_ref());
            let name = Name::text(key.get_ref()).map_err(|wrong| faults.wrong(Some(key.span()), &path, Name::NOUN, wrong));
            let section = S::read(Given { path: &path, value }, faults);
            // A table with a fault in it still counts: the routes that lead to it are right.
            if let (Ok(name), Some(section)) = (name, section) {
                named.push((At { value: name, span: Some(key.span()) }, section));
            }
        }
        Some(Self(named))
    }
}
