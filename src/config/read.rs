//! The walk: reads TOML by a declared shape and notes every fault on its way, or, without a document, describes the shape.
//!
//! A [`Section`] declares its keys by asking a [`Table`] for them, each with its name, type, range, default and description. Asking is at once
//! reading, checking and documenting, so that the three cannot differ. What the keys are is said in `file`, what their values look like in `values`.

use std::ops::Range;

use serde_json::{Map, Value as Json, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::{Faults, Span},
    units::Wrong,
};

/// A value and where it stands in the file; nowhere for a default or a flag.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T> At<T> {
    /// A value that is not from a file.
    pub(super) const fn nowhere(value: T) -> Self {
        Self { value, span: None }
    }
}

/// A TOML value that is to be read, and the key that led to it.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub path: &'a str,
    pub value: &'a Spanned<DeValue<'a>>,
}

impl Given<'_> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }
}

/// A type that can stand in a configuration.
pub(super) trait Value: Sized {
    /// What it is, with its article: "a duration".
    const NOUN: &'static str;

    /// JSON Schema of its TOML form.
    fn schema() -> Json;

    /// Its TOML form, as JSON; `Null` for types that are no default.
    fn show(&self) -> Json {
        Json::Null
    }

    /// From a string.
    fn text(_text: &str) -> Result<Self, Wrong> {
        Err(Wrong::because("this is a string"))
    }

    /// From an integer.
    fn integer(_integer: i64) -> Result<Self, Wrong> {
        Err(Wrong::because("this is an integer"))
    }

    /// From a floating-point number.
    fn float(_float: f64) -> Result<Self, Wrong> {
        Err(Wrong::because("this is a float"))
    }

    /// From any value. `None` means that a fault was noted.
    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        let read = match given.value.get_ref() {
            DeValue::String(text) => Self::text(text),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| Wrong::because("the number is too large"))
                .and_then(Self::integer),
            DeValue::Float(float) => float.as_str().parse().map_err(|_| Wrong::because("the number cannot be read")).and_then(Self::float),
            other => Err(Wrong::because(format!("this is {}", article(other.type_str())))),
        };
        read.map_err(|wrong| faults.wrong(Some(given.span()), given.path, Self::NOUN, wrong)).ok()
    }
}

/// A table with known keys.
pub(super) trait Section: Sized {
    /// What the table is for.
    const ABOUT: &'static str;

    /// Asks the table for every key.
    fn keys(table: &mut Table<'_>) -> Self;
}

/// A key that is asked for.
pub(super) struct Key<T> {
    name: &'static str,
    about: &'static str,
    range: Option<Within<T>>,
    not_empty: bool,
}

struct Within<T> {
    min: T,
    max: T,
    less: fn(&T, &T) -> bool,
}

/// The key `name`; `about` is a sentence or more for whoever writes it.
pub(super) const fn key<T>(name: &'static str, about: &'static str) -> Key<T> {
    Key { name, about, range: None, not_empty: false }
}

impl<T: PartialOrd> Key<T> {
    /// Both ends are allowed.
    pub(super) fn range(mut self, min: T, max: T) -> Self {
        self.range = Some(Within { min, max, less: |a, b| a < b });
        self
    }
}

impl<T> Key<T> {
    /// An empty array is a fault.
    pub(super) const fn not_empty(mut self) -> Self {
        self.not_empty = true;
        self
    }
}

/// A table on the walk.
pub(super) struct Table<'a> {
    path: String,
    span: Span,
    given: Option<&'a DeTable<'a>>,
    faults: &'a mut Faults,
    known: Vec<&'static str>,
    /// Known, and refused.
    later: Vec<&'static str>,
    /// Filled only when the shape is described.
    description: Option<Description>,
}

#[derive(Default)]
struct Description {
    properties: Map<String, Json>,
    required: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The document itself.
    pub(super) fn root(given: &'a DeTable<'a>, faults: &'a mut Faults) -> Self {
        Self { path: String::new(), span: None, given: Some(given), faults, known: Vec::new(), later: Vec::new(), description: None }
    }

    /// A key with a default, which also stands in for a faulty value so that the walk can go on.
    pub(super) fn or<T: Value>(&mut self, key: Key<T>, default: T) -> At<T> {
        self.describe(&key, Some(default.show()));
        self.take(&key).unwrap_or(At::nowhere(default))
    }

    /// A key that may be absent.
    pub(super) fn maybe<T: Value>(&mut self, key: Key<T>) -> Option<At<T>> {
        self.describe(&key, None);
        self.take(&key)
    }

    /// A key that must be there. `None` means that a fault was noted.
    pub(super) fn need<T: Value>(&mut self, key: Key<T>) -> Option<At<T>> {
        self.describe(&key, None);
        if let Some(description) = &mut self.description {
            description.required.push(key.name);
        }
        if self.given.is_some_and(|table| !table.contains_key(key.name)) {
            let place = if self.path.is_empty() { "the file".into() } else { format!("`[{}]`", self.path) };
            let fault = self.faults.add(self.span.clone(), format!("{place} has no `{}`", key.name), format!("`{}` is missing", key.name));
            fault.help(key.about).absence = true;
        }
        self.take(&key)
    }

    /// A table of which every key has a default.
    pub(super) fn section<S: Section>(&mut self, name: &'static str) -> S {
        let key = key::<S>(name, S::ABOUT);
        self.describe(&key, None);
        self.take(&key).map_or_else(|| S::keys(&mut Table::absent(self.faults)), |at| at.value)
    }

    /// A key that is known, and refused because this version does not do what it asks for.
    pub(super) fn later(&mut self, name: &'static str, what: &str) {
        self.later.push(name);
        let Some((key, _)) = self.given.and_then(|table| table.get_key_value(name)) else { return };
        let title = format!("`{}` is not supported yet", self.join(name));
        self.faults.add(Some(key.span()), title, "not supported yet").help(format!("this version has no {what}; remove the key"));
    }

    /// A table that is not there: every key has its default, and nothing is missing.
    pub(super) fn absent(faults: &'a mut Faults) -> Self {
        Self { path: String::new(), span: None, given: None, faults, known: Vec::new(), later: Vec::new(), description: None }
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    fn take<T: Value>(&mut self, key: &Key<T>) -> Option<At<T>> {
        self.known.push(key.name);
        let value = self.given?.get(key.name)?;
        let path = self.join(key.name);
        if key.not_empty && is_empty(value.get_ref()) {
            self.faults.add(Some(value.span()), format!("`{path}` is empty"), "at least one is needed").help(key.about);
            return None;
        }
        let read = T::read(Given { path: &path, value }, self.faults)?;
        let span = Some(value.span());
        if let Some(range) = &key.range {
            let (problem, bound, limit) = match () {
                () if (range.less)(&read, &range.min) => ("too small", "the least is", &range.min),
                () if (range.less)(&range.max, &read) => ("too large", "the most is", &range.max),
                () => return Some(At { value: read, span }),
            };
            self.faults.add(span, format!("`{path}` is {problem}"), format!("{bound} {}", plain(&limit.show()))).help(key.about);
            return None;
        }
        Some(At { value: read, span })
    }

    fn describe<T: Value>(&mut self, key: &Key<T>, default: Option<Json>) {
        let Some(description) = &mut self.description else { return };
        let mut schema = T::schema();
        let Some(entries) = schema.as_object_mut() else { return };
        let mut about = key.about.to_owned();
        if let Some(range) = &key.range {
            let (min, max) = (range.min.show(), range.max.show());
            if min.is_number() {
                entries.insert("minimum".into(), min);
                entries.insert("maximum".into(), max);
            } else {
                about.push_str(&format!(" From {} to {}.", plain(&min), plain(&max)));
            }
        }
        entries.insert("description".into(), about.into());
        if let Some(default) = default.filter(|default| !default.is_null()) {
            entries.insert("default".into(), default);
        }
        if key.not_empty {
            let least = if entries.contains_key("items") { "minItems" } else { "minProperties" };
            entries.insert(least.into(), 1.into());
        }
        description.properties.insert(key.name.into(), schema);
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for (name, _) in self.given.into_iter().flatten() {
            let text = name.get_ref().as_ref();
            if self.known.contains(&text) || self.later.contains(&text) {
                continue;
            }
            let place = if self.path.is_empty() { "at the top level".into() } else { format!("in `[{}]`", self.path) };
            let label = match nearest(text, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "not a key of this table".into(),
            };
            let fault = self.faults.add(Some(name.span()), format!("unknown key `{text}` {place}"), label);
            let elsewhere = super::schema::tables_with(text);
            if elsewhere.is_empty() {
                fault.help(format!("keys here: {}", self.known.join(", ")));
            } else {
                fault.help(format!("`{text}` is a key of {}", elsewhere.join(" and of ")));
            }
        }
    }
}

impl<S: Section> Value for S {
    const NOUN: &'static str = "a table";

    fn schema() -> Json {
        let mut faults = Faults::default();
        let mut table = Table::absent(&mut faults);
        table.description = Some(Description::default());
        S::keys(&mut table);
        let Description { properties, required } = table.description.take().unwrap_or_default();
        let mut schema = json!({ "type": "object", "description": S::ABOUT, "properties": properties, "additionalProperties": false });
        if let Some(entries) = schema.as_object_mut().filter(|_| !required.is_empty()) {
            entries.insert("required".into(), required.into());
        }
        schema
    }

    fn read(given: Given<'_>, faults: &mut Faults) -> Option<Self> {
        let DeValue::Table(inner) = given.value.get_ref() else {
            let why = format!("this is {}", article(given.value.get_ref().type_str()));
            faults.wrong(Some(given.span()), given.path, Self::NOUN, Wrong::because(why));
            return None;
        };
        let (path, span) = (given.path.to_owned(), Some(given.span()));
        let mut table = Table { path, span, given: Some(inner), faults, known: Vec::new(), later: Vec::new(), description: None };
        let section = S::keys(&mut table);
        table.finish();
        Some(section)
    }
}

/// The name that `text` was probably meant to be.
pub(super) fn nearest<'n>(text: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let text = plain(text);
    let distance = |name: &str| strsim::damerau_levenshtein(&text, &plain(name));
    let begins = |name: &str| text.len() >= 4 && (name.starts_with(&text) || (name.len() >= 4 && text.starts_with(name)));
    let names = names.into_iter().map(|name| (distance(name), name));
    names
        .filter(|(distance, name)| *distance <= 1 + text.len() / 4 || begins(name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A type's name with its article.
pub(super) fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

fn is_empty(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Array(array) => array.is_empty(),
        DeValue::Table(table) => table.is_empty(),
        _ => false,
    }
}

/// A shown value without the quotes of its text.
fn plain(shown: &Json) -> String {
    shown.as_str().map_or_else(|| shown.to_string(), str::to_owned)
}
