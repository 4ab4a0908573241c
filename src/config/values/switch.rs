//! What is on or off, and may say more in a table.

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use crate::config::{
    fault::Faults,
    read::{Given, Section, Table, Value, article},
    units::Wrong,
};

/// `false`, `true` for the defaults, or a table.
#[derive(Debug)]
pub(in crate::config) enum Switch<S> {
    Off,
    On(S),
}

impl<S: Section> Value for Switch<S> {
    const NOUN: &'static str = "`true`, `false` or a table";

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "boolean" }, S::schema()] })
    }

    fn show(&self) -> Json {
        match self {
            Self::Off => false.into(),
            Self::On(_) => Json::Null,
        }
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        match given.value.get_ref() {
            DeValue::Boolean(false) => Some(Self::Off),
            DeValue::Boolean(true) => Some(Self::On(S::keys(&mut Table::absent(faults)))),
            DeValue::Table(_) => S::read(given, faults).map(Self::On),
            other => {
                let wrong = Wrong::because(format!("this is {}", article(other.type_str())));
                let help = match other {
                    DeValue::String(text) if matches!(text.as_ref(), "true" | "on" | "yes") => wrong.help("write true without quotes"),
                    _ => wrong,
                };
                faults.wrong(Some(given.span()), given.path, Self::NOUN, help);
                None
            }
        }
    }
}
