//! The part of JSON Schema that the document uses.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use regex::Regex;
use serde_json::{Map, Value};

/// Why a value does not fit its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is of another type.
    Type,
    /// It is a number as a string.
    NumberAsText,
    /// It is null.
    Null,
    /// It is none of the words.
    Choice,
    /// It is too small or too large.
    Range,
    /// It does not match the pattern.
    Pattern,
    /// It does not have the format.
    Format,
    /// Only the server may say it.
    ReadOnly,
    /// The content type is another one.
    Media,
    /// The document does not know such an answer.
    Undescribed,
}

/// One place where a value does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Where, e.g. `listeners[0].port`.
    pub at: String,
    /// In which way.
    pub kind: Kind,
    /// In words.
    pub what: String,
}

/// The schemas that others refer to, and all patterns.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    named: Map<String, Value>,
    patterns: HashMap<String, Regex>,
}

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    FromServer,
}

const REFERENCE: &str = "#/components/schemas/";
/// What is only for people.
const SILENT: [&str; 4] = ["title", "description", "example", "deprecated"];
const TYPES: [&str; 5] = ["string", "integer", "boolean", "object", "array"];

impl Schemas {
    pub(super) fn new(named: &Value) -> Result<Self> {
        let named = named.as_object().cloned().unwrap_or_default();
        let mut schemas = Self { named: named.clone(), patterns: HashMap::new() };
        for (name, schema) in &named {
            schemas.learn(schema, name)?;
        }
        Ok(schemas)
    }

    /// Sees to it that `fit` understands every word of a schema.
    pub(super) fn learn(&mut self, schema: &Value, at: &str) -> Result<()> {
        let schema = schema.as_object().with_context(|| format!("{at} is no schema"))?;
        for (keyword, value) in schema {
            match keyword.as_str() {
                silent if SILENT.contains(&silent) => {}
                "type" => ensure!(value.as_str().is_some_and(|it| TYPES.contains(&it)), "{at}: type {value}"),
                "format" | "readOnly" | "minimum" | "maximum" | "enum" => {}
                "pattern" => {
                    let pattern = value.as_str().unwrap_or_default();
                    let regex = Regex::new(pattern).with_context(|| format!("{at}: pattern {pattern}"))?;
                    self.patterns.insert(pattern.to_owned(), regex);
                }
                "$ref" => {
                    let known = value.as_str().and_then(|it| it.strip_prefix(REFERENCE));
                    ensure!(known.is_some_and(|it| self.named.contains_key(it)), "{at}: $ref {value} leads nowhere");
                }
                "additionalProperties" if value.is_boolean() => {}
                "items" | "additionalProperties" => self.learn(value, &format!("{at}.{keyword}"))?,
                "properties" => {
                    for (name, property) in value.as_object().into_iter().flatten() {
                        self.learn(property, &format!("{at}.{name}"))?;
                    }
                }
                "allOf" => {
                    value.as_array().into_iter().flatten().try_for_each(|part| self.learn(part, at))?;
                }
                unknown => bail!("{at}: the keyword `{unknown}` is not understood here"),
            }
        }
        Ok(())
    }

    /// Everything that does not fit.
    pub(super) fn fit(&self, schema: &Value, value: &Value, way: Way) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        self.compare(schema, value, way, "", &mut misfits);
        misfits
    }

    fn compare(&self, schema: &Value, value: &Value, way: Way, at: &str, out: &mut Vec<Misfit>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|it| it.strip_prefix(REFERENCE)) {
            // `learn` has seen that it is there.
            return self.compare(self.named.get(name).unwrap_or(&Value::Null), value, way, at, out);
        }
        let mut misfit = |kind, what: String| out.push(Misfit { at: at.to_owned(), kind, what });
        if value.is_null() {
            return misfit(Kind::Null, "null".to_owned());
        }
        if let Some(wanted) = schema["type"].as_str().filter(|wanted| !is_of_type(value, wanted)) {
            let number = value.as_str().is_some_and(|text| text.parse::<i64>().is_ok());
            let kind = if wanted == "integer" && number { Kind::NumberAsText } else { Kind::Type };
            return misfit(kind, format!("{value} is no {wanted}"));
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
            misfit(Kind::Choice, format!("{value} is none of {}", Value::from(words.clone())));
        }
        if let Some(number) = value.as_f64() {
            let int32 = schema["format"] == "int32";
            let least = schema["minimum"].as_f64().or(int32.then(|| f64::from(i32::MIN)));
            let most = schema["maximum"].as_f64().or(int32.then(|| f64::from(i32::MAX)));
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                misfit(Kind::Range, format!("{value} is not within {least:?} and {most:?}"));
            }
        }
        if let Some(text) = value.as_str() {
            let pattern = schema["pattern"].as_str().and_then(|pattern| self.patterns.get(pattern));
            if let Some(pattern) = pattern.filter(|pattern| !pattern.is_match(text)) {
                misfit(Kind::Pattern, format!("{text:?} does not match {pattern}"));
            }
            if schema["format"] == "uuid" && uuid::Uuid::try_parse(text).is_err() {
                misfit(Kind::Format, format!("{text:?} is no UUID"));
            }
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.compare(part, value, way, at, out);
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            if let Some(items) = schema.get("items") {
                self.compare(items, item, way, &format!("{at}[{index}]"), out);
            }
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let known = schema["properties"].get(name);
            if way == Way::ToServer && known.is_some_and(|known| known["readOnly"] == true) {
                let what = format!("{member} is the server's to say");
                out.push(Misfit { at: at.clone(), kind: Kind::ReadOnly, what });
            }
            if let Some(schema) = known.or_else(|| schema.get("additionalProperties").filter(|it| it.is_object())) {
                self.compare(schema, member, way, &at, out);
            }
        }
    }
}

fn is_of_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        _ => value.is_array(),
    }
}
