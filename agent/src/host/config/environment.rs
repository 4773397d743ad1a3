//! Settings from environment variables and flags: text that becomes the type its key has.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::Value;

use super::Override;
use super::layer::{Layer, Reader};
use super::report::Origin;
use super::tree::{self, Kind, Node};

/// What the variables begin with. A single underscore would be Kubernetes' own: `…_SERVICE_HOST` and its like for
/// a Service of our name.
pub const PREFIX: &str = "SHOOT_EXPOSURE_AGENT__";

/// Reads the variables that are meant for us, in the order of their names.
pub(super) fn read(
    reader: &mut Reader<'_>,
    layer: &mut Layer,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) {
    let ours: BTreeMap<String, OsString> = environment
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in ours {
        let origin = Origin::Variable(name.clone());
        let keys: Vec<&str> = name.split("__").skip(1).collect();
        let Some(path) = reader.known.spelled(&keys) else {
            let hint = match reader.known.nearest_path(&keys.join(".")) {
                Some(near) => format!("did you mean {}?", variable(&near)),
                None => format!("such as {}", variable("stackit.region")),
            };
            reader.note(origin, "", "no setting has this name", hint);
            continue;
        };
        let Some(value) = value.to_str() else {
            reader.note(origin, path, "not UTF-8", "write it as UTF-8");
            continue;
        };
        if let Some(other) = seen.insert(path.clone(), name) {
            reader.note(origin, path, format!("set by {other} as well"), "remove one of the two");
            continue;
        }
        take(reader, layer, &path, value, &origin);
    }
}

/// Takes the settings from the command line.
pub(super) fn flags(reader: &mut Reader<'_>, layer: &mut Layer, overrides: &[Override]) {
    for Override { flag, path, value } in overrides {
        let origin = Origin::Flag(flag.clone());
        if let Some(path) = reader.known.spelled(&path.split('.').collect::<Vec<_>>()) {
            take(reader, layer, &path, value, &origin);
        } else {
            let hint = match reader.known.nearest_path(path) {
                Some(near) => format!("did you mean {near}?"),
                None => "such as stackit.region".to_owned(),
            };
            reader.note(origin, path, "unknown key", hint);
        }
    }
}

/// A text is taken as it is; a list is YAML in brackets, or its items behind commas; all else is YAML.
fn take(reader: &mut Reader<'_>, layer: &mut Layer, path: &str, value: &str, origin: &Origin) {
    let scalar = |text: &str| Node { line: 0, kind: Kind::Scalar(text.into()) };
    let node = match reader.known.get(path) {
        Some(Value::String(_)) => Ok(scalar(value)),
        Some(Value::Array(_)) if !value.trim_start().starts_with('[') => {
            let items = value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(scalar).collect();
            Ok(Node { line: 0, kind: Kind::List(items) })
        }
        // Nothing is not a number, and not "not set" either: somebody has written it.
        Some(Value::Bool(_) | Value::Number(_)) if value.trim().is_empty() => Ok(scalar(value)),
        _ => tree::parse(value),
    };
    match node {
        Ok(node) => reader.walk(layer, path, &node, &|_| origin.clone()),
        Err(error) => reader.note(origin.clone(), path, error.found, error.hint),
    }
}

/// The variable that sets a key.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}
