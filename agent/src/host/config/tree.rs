//! YAML as a tree that remembers its lines and its duplicate keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};

/// Settings are four levels deep; what goes far below is no settings file.
const MAX_DEPTH: usize = 32;

/// A value and the line it begins on; 0 where there are no lines.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Key by key, repeated ones included.
    Map(Vec<(Key, Node)>),
    List(Vec<Node>),
    /// A string, number or boolean.
    Scalar(Value),
    /// Nothing, which means "not set".
    Null,
}

/// A key and its line.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) line: u64,
    pub(super) name: String,
}

/// What is wrong with a text that is no YAML, or none that we read.
#[derive(Debug)]
pub(super) struct NotYaml {
    pub(super) line: Option<u64>,
    pub(super) found: String,
    pub(super) hint: &'static str,
}

/// Reads YAML.
pub(super) fn parse(text: &str) -> Result<Node, NotYaml> {
    let options = serde_saphyr::options! {
        // Both pass, so that the walk over the tree finds every one of them.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().filter(|place| place.line() > 0);
        let mut found = error.to_string();
        if let Some(place) = place {
            let suffix = format!(" at line {}, column {}", place.line(), place.column());
            found = found.strip_suffix(&suffix).unwrap_or(&found).to_owned();
        }
        let hint = if found.contains("tabs") {
            "indent with spaces"
        } else if found.contains("multiple YAML documents") {
            "the settings are one document; remove what follows ---".clone_into(&mut found);
            "one file, one document"
        } else {
            "the indentation or a quote or bracket near there is off"
        };
        NotYaml { line: place.map(|place| place.line()), found: format!("not YAML: {found}"), hint }
    })
}

impl Node {
    /// The value as JSON, lines forgotten. Repeated keys: the last one.
    pub(super) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_value())).collect())
            }
            Kind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Scalar(value) => value.clone(),
            Kind::Null => Value::Null,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    // No setting is that large; the exact digits do not matter to the message.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i128<E>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Scalar((value as f64).into()))
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u128<E>(self, value: u128) -> Result<Kind, E> {
        Ok(Kind::Scalar((value as f64).into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        // `null:` is a key like any other here; the walk over the tree has something to say about it.
        while let Some(key) = access.next_key::<Spanned<Option<String>>>()? {
            let name = key.value.unwrap_or_else(|| "null".to_owned());
            entries.push((Key { line: key.referenced.line(), name }, access.next_value()?));
        }
        Ok(Kind::Map(entries))
    }
}
