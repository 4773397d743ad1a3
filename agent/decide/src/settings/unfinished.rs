//! Settings whose feature is not there yet. When one is finished, its row goes away; nothing else has to change.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Settings;
use super::mistakes::{Findings, Mistake};

/// One row: a key, or a section that stands for every key below it that has no row of its own.
struct Row {
    path: &'static str,
    kind: Kind,
}

#[cfg_attr(not(test), expect(dead_code, reason = "the table has switches alone just now"))]
enum Kind {
    /// Turns a feature on. Off in effect, whatever the default says.
    Switch(Off),
    /// Shapes a feature; means nothing while that is off.
    Parameter,
}

/// The value of a switch that means "off".
enum Off {
    Bool,
}

/// The table.
const UNFINISHED: &[Row] = &[switch("kubernetes.fallback", Off::Bool)];

const fn switch(path: &'static str, off: Off) -> Row {
    Row { path, kind: Kind::Switch(off) }
}

#[cfg(test)]
const fn parameter(path: &'static str) -> Row {
    Row { path, kind: Kind::Parameter }
}

impl Off {
    fn value(&self) -> Value {
        match self {
            Self::Bool => Value::Bool(false),
        }
    }
}

/// A switch that is on by default and was switched off because its feature is not there yet. The log names each
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Dotted key path.
    pub path: String,
    /// The value in effect, as YAML writes it.
    pub off: String,
}

/// What [`reconcile`] makes of the settings.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// The settings in effect.
    pub settings: Settings,
    /// What was switched off without being asked.
    pub unavailable: Vec<Unavailable>,
    /// What was asked for and is not there.
    pub mistakes: Vec<Mistake>,
}

/// Whether the feature behind a key is not there yet.
pub fn is_unfinished(path: &str) -> bool {
    row(UNFINISHED, path).is_some()
}

/// What `config defaults` writes behind a key whose feature is not there yet.
pub fn remark(path: &str) -> Option<&'static str> {
    row(UNFINISHED, path).map(|_| "not available yet")
}

/// Brings the settings in line with what is there.
///
/// `explicit` holds the dotted paths of the keys that somebody has set, in the file, the environment or a flag: to
/// ask for a feature that is not there is a mistake; where only its default asks, it is switched off.
pub fn reconcile(settings: Settings, explicit: &BTreeSet<String>) -> Reconciled {
    against(UNFINISHED, settings, explicit)
}

fn against(table: &[Row], settings: Settings, explicit: &BTreeSet<String>) -> Reconciled {
    let mut findings = Findings::default();
    let mut unavailable = Vec::new();
    let (Ok(mut tree), Ok(defaults)) = (serde_json::to_value(&settings), serde_json::to_value(Settings::default()))
    else {
        return Reconciled { settings, unavailable, mistakes: findings.0 };
    };
    for path in leaves(&defaults) {
        let (Some(row), Some(value)) = (row(table, &path), at(&mut tree, &path)) else { continue };
        let allowed = match &row.kind {
            Kind::Switch(off) => off.value(),
            Kind::Parameter => defaults.pointer(&pointer(&path)).cloned().unwrap_or_default(),
        };
        if *value == allowed {
            continue;
        }
        if explicit.contains(&path) {
            let hint = match allowed {
                Value::String(text) if text.is_empty() => "remove the key".to_owned(),
                other => format!("remove the key, or set it to {}", plain(&other)),
            };
            findings.add(path, format!("{} is not available yet", plain(value)), hint);
        } else {
            unavailable.push(Unavailable { path, off: plain(&allowed) });
        }
        // After a mistake too, so that what follows works with what is there.
        *value = match &row.kind {
            Kind::Switch(off) => off.value(),
            Kind::Parameter => continue,
        };
    }
    // Off values have the type of their key (a test sees to it), so this reads back.
    let settings = serde_json::from_value(tree).unwrap_or(settings);
    Reconciled { settings, unavailable, mistakes: findings.0 }
}

/// The longest row that speaks for a key.
fn row<'a>(table: &'a [Row], path: &str) -> Option<&'a Row> {
    let speaks = |row: &&Row| path.strip_prefix(row.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    table.iter().filter(speaks).max_by_key(|row| row.path.len())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn at<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    tree.pointer_mut(&pointer(path))
}

/// The paths of all keys that are not sections.
pub(super) fn leaves(tree: &Value) -> Vec<String> {
    fn walk(map: &Map<String, Value>, prefix: &str, paths: &mut Vec<String>) {
        for (key, value) in map {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Object(below) => walk(below, &path, paths),
                _ => paths.push(path),
            }
        }
    }
    let mut paths = Vec::new();
    if let Value::Object(map) = tree {
        walk(map, "", &mut paths);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|&path| path.to_owned()).collect()
    }

    #[test]
    fn every_row_names_keys_and_off_values_fit() {
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        for row in UNFINISHED {
            let found = defaults.pointer(&pointer(row.path)).unwrap_or_else(|| panic!("{} is no key", row.path));
            if let Kind::Switch(off) = &row.kind {
                let mut tree = defaults.clone();
                *at(&mut tree, row.path).unwrap() = off.value();
                serde_json::from_value::<Settings>(tree).unwrap();
                assert!(!found.is_object(), "{} is a section", row.path);
            }
        }
    }

    const TABLE: &[Row] =
        &[switch("health.probe.enabled", Off::Bool), parameter("health.probe"), switch("controllers.dns", Off::Bool)];

    #[test]
    fn a_default_that_is_on_is_switched_off_and_named() {
        let outcome = against(TABLE, Settings::default(), &BTreeSet::new());
        assert!(!outcome.settings.health.probe.enabled);
        assert_eq!(outcome.mistakes, []);
        let named = Unavailable { path: "health.probe.enabled".to_owned(), off: "false".to_owned() };
        assert_eq!(outcome.unavailable, [named]);
    }

    #[test]
    fn asking_for_it_is_a_mistake() {
        let mut settings = Settings::default();
        settings.controllers.dns = true;
        settings.health.probe.success_threshold = 7;
        let asked = explicit(&["controllers.dns", "health.probe.successThreshold", "health.probe.enabled"]);
        let outcome = against(TABLE, settings, &asked);
        let lines: Vec<_> = outcome.mistakes.iter().map(|mistake| format!("{mistake} ({})", mistake.hint)).collect();
        let expected = [
            "controllers.dns: true is not available yet (remove the key, or set it to false)",
            "health.probe.enabled: true is not available yet (remove the key, or set it to false)",
            "health.probe.successThreshold: 7 is not available yet (remove the key, or set it to 2)",
        ];
        assert_eq!(lines, expected);
        assert!(!outcome.settings.controllers.dns);
    }

    #[test]
    fn off_and_default_values_may_be_written_down() {
        let mut settings = Settings::default();
        settings.health.probe.enabled = false;
        let outcome = against(TABLE, settings.clone(), &explicit(&["health.probe.enabled", "health.probe.timeout"]));
        assert_eq!((outcome.mistakes.len(), outcome.unavailable.len()), (0, 0));
        assert_eq!(outcome.settings, settings);
    }

    #[test]
    fn without_rows_nothing_changes() {
        let outcome = against(&[], Settings::default(), &explicit(&["controllers.dns"]));
        assert_eq!(outcome.settings, Settings::default());
        assert_eq!((outcome.mistakes.len(), outcome.unavailable.len()), (0, 0));
    }
}
