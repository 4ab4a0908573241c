//! How fast bytes come.

use serde_json::{Value as Json, json};

use crate::config::{
    read::Value,
    units::{self, Wrong},
};

/// Bytes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct Speed(pub u64);

impl Value for Speed {
    const NOUN: &'static str = "bytes in a second";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(_[0-9]+)*(B|KiB|MiB|GiB|TiB|k|K|m|M|g|G)?/s$", "examples": ["1KiB/s", "500B/s"] })
    }

    fn show(&self) -> Json {
        format!("{}/s", units::show_size(self.0)).into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        match text.strip_suffix("/s") {
            Some(size) => units::parse_size(size).map(Self),
            None => Err(Wrong::because("it does not end in `/s`").help("write it as \"1KiB/s\"")),
        }
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        Err(Wrong::because("the unit is missing").help(format!("write \"{integer}B/s\"")))
    }
}
