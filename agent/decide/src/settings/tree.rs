//! Settings as a tree of keys.

use serde_json::{Map, Value};

/// A dotted path as a JSON pointer.
pub(super) fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
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
