//! One layer: its tree of values, taken key by key from what the user wrote.

use std::collections::{BTreeMap, BTreeSet};

use decide::settings::{Mistake, Settings};
use figment::value::{Dict, Map};
use figment::{Metadata, Profile, Provider};
use serde_json::Value;

use super::known::{Known, insert, join};
use super::report::{Located, Origin};
use super::tree::{Kind, Node};

/// The good values of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    name: &'static str,
    tree: Value,
    /// The keys that it sets.
    pub(super) paths: BTreeSet<String>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = figment::value::Value::serialize(&self.tree)?.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

/// Reads layers, and gathers what is wrong with them and where each value comes from.
pub(super) struct Reader<'a> {
    pub(super) known: &'a Known,
    pub(super) mistakes: Vec<Located>,
    /// The place of each value, that of the last layer; list items as `path[0]`. Beside it the path to show: the good
    /// items of a list are numbered as if there were no others.
    places: BTreeMap<String, (Origin, String)>,
    /// Keys with a value that is of no use; what depends on them is not judged.
    unusable: BTreeSet<String>,
}

/// The place of a line.
type Place<'a> = &'a dyn Fn(u64) -> Origin;

impl<'a> Reader<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        Self { known, mistakes: Vec::new(), places: BTreeMap::new(), unusable: BTreeSet::new() }
    }

    /// Reads one layer.
    pub(super) fn layer(&mut self, name: &'static str, fill: impl FnOnce(&mut Self, &mut Layer)) -> Layer {
        let mut layer = Layer { name, tree: Value::Object(serde_json::Map::new()), paths: BTreeSet::new() };
        fill(self, &mut layer);
        layer
    }

    /// A layer that could not be read at all.
    pub(super) fn broken(&mut self, name: &'static str, origin: Origin, found: String, hint: &str) -> Layer {
        self.note(origin, "", found, hint);
        self.layer(name, |_, _| {})
    }

    /// Notes a mistake.
    pub(super) fn note(
        &mut self,
        origin: Origin,
        path: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.mistakes.push(Located { origin, path: path.into(), found: found.into(), hint: hint.into() });
    }

    /// Takes what is below a section, or the value of a key.
    pub(super) fn walk(&mut self, layer: &mut Layer, path: &str, node: &Node, place: Place<'_>) {
        match (self.known.get(path), &node.kind) {
            (None, _) | (_, Kind::Null) => {}
            (Some(Value::Object(_)), Kind::Map(entries)) => {
                let mut seen = BTreeMap::new();
                for (key, below) in entries {
                    let name = join(path, &key.name);
                    if let Some(first) = seen.insert(&key.name, key.line) {
                        let found = format!("the same key as on line {first}");
                        self.note(place(key.line), &name, found, "remove one of the two");
                    }
                    if self.known.get(&name).is_none_or(|_| key.name.contains('.')) {
                        let hint = self.known.hint(path, &key.name);
                        self.note(place(key.line), name, "unknown key", hint);
                    } else {
                        self.walk(layer, &name, below, place);
                    }
                }
            }
            (Some(Value::Object(section)), _) => {
                let keys: Vec<&str> = section.keys().map(String::as_str).collect();
                let found = format!("{} where a section with keys is expected", describe(&node.to_value()));
                self.note(place(node.line), path, found, format!("write its keys below it: {}", keys.join(", ")));
            }
            (Some(default), _) => {
                let default = default.clone();
                self.leaf(layer, path, node, &default, place);
            }
        }
    }

    fn leaf(&mut self, layer: &mut Layer, path: &str, node: &Node, default: &Value, place: Place<'_>) {
        let value = match (&node.kind, default) {
            (Kind::List(items), Value::Array(_)) => Some(self.items(path, items, default, place)),
            (_, Value::Array(_)) => {
                let found = format!("{} is not a list", describe(&node.to_value()));
                self.note(place(node.line), path, found, "write [a, b], or one item a line, each behind a dash");
                None
            }
            (Kind::Scalar(value), _) => {
                let attempt = self.known.with(path, value.clone());
                self.attempt(path, attempt, value, default, place(node.line)).then(|| value.clone())
            }
            _ => {
                let found = format!("{} where a single value is expected", describe(&node.to_value()));
                self.note(place(node.line), path, found, such_as(default));
                None
            }
        };
        let Some(value) = value else {
            self.unusable.insert(path.to_owned());
            return;
        };
        self.unusable.remove(path);
        insert(&mut layer.tree, path, value);
        layer.paths.insert(path.to_owned());
        self.places.insert(path.to_owned(), (place(node.line), path.to_owned()));
    }

    /// The good items of a list.
    fn items(&mut self, path: &str, items: &[Node], default: &Value, place: Place<'_>) -> Value {
        let mut good = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let (value, shown) = (item.to_value(), format!("{path}[{index}]"));
            let attempt = self.known.with(path, Value::Array(vec![value.clone()]));
            if self.attempt(&shown, attempt, &value, default, place(item.line)) {
                self.places.insert(format!("{path}[{}]", good.len()), (place(item.line), shown));
                good.push(value);
            }
        }
        Value::Array(good)
    }

    /// Tries one value alone, among defaults.
    fn attempt(&mut self, path: &str, tree: Value, value: &Value, default: &Value, place: Origin) -> bool {
        let Err(error) = serde_json::from_value::<Settings>(tree) else { return true };
        let (found, hint) = explain(&error.to_string(), value, default);
        self.note(place, path, found, hint);
        false
    }

    /// Notes what is wrong with the whole, where somebody has set one of the keys it is about.
    pub(super) fn semantic(&mut self, mistakes: Vec<Mistake>) {
        for Mistake { path, found, hint, related } in mistakes {
            let key = path.split('[').next().unwrap_or_default();
            let mut about = related.iter().copied().chain([key]);
            if about.any(|key| self.unusable.contains(key)) {
                continue;
            }
            let shown = self.places.get(&path).map_or(path.as_str(), |(_, shown)| shown);
            let mut candidates = [path.as_str(), key].into_iter().chain(related.iter().copied());
            let origin =
                candidates.find_map(|key| self.places.get(key)).map_or(Origin::Default, |(origin, _)| origin.clone());
            self.note(origin, shown.to_owned(), found, hint);
        }
    }
}

/// A value, as a message names it.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a section".to_owned(),
        scalar => scalar.to_string(),
    }
}

fn such_as(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "a text".to_owned(),
        Value::Array(_) | Value::Object(_) => "see `config defaults`".to_owned(),
        Value::String(text) => format!("such as {text}, the default"),
        other => format!("such as {other}, the default"),
    }
}

/// What is wrong and what to do, from what serde says: `…, expected X`, or a message of our own.
fn explain(error: &str, value: &Value, default: &Value) -> (String, String) {
    let found = describe(value);
    let Some((_, expected)) = error.rsplit_once(", expected ") else {
        return (error.to_owned(), such_as(default));
    };
    match expected {
        "a string" if value.is_number() || value.is_boolean() => {
            (format!("{found} is not a text"), format!("put it in quotes: \"{found}\""))
        }
        "a string" => (format!("{found} is not a text"), such_as(default)),
        "a boolean" => (format!("{found} is neither true nor false"), "write true or false, without quotes".to_owned()),
        "u16" => (format!("{found} is not a whole number from 0 to {}", u16::MAX), such_as(default)),
        "u32" => (format!("{found} is not a whole number from 0 to {}", u32::MAX), such_as(default)),
        words if words.starts_with('`') || words.starts_with("one of ") => {
            (format!("{found} is not known"), words.replace('`', ""))
        }
        "string or map" => (format!("{found} is not known"), such_as(default)),
        other => (format!("{found} is not {other}"), such_as(default)),
    }
}
