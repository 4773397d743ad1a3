//! Annotations of a Node in the file that lists the Nodes: changed in place, with everything else as it was.
//!
//! YAML is changed where the annotation stands, so that comments and layout stay; the result is read again, and where
//! it is not exactly what was wanted, the file is written anew from what it means. JSON is written anew with the
//! indentation it had. The file is replaced as a whole, with its mode and owner, and never over somebody else's change.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::ser::Serialize;
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

use crate::cluster::nodes::Changes;

/// Tries against others who write the same file.
const TRIES: usize = 5;

/// Changes annotations of one Node of the file.
pub fn annotate(path: &Path, node: &str, changes: &Changes<'_>) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("nodes.file `{}`: {error}", path.display());
    // A link is followed: what it points to is replaced, not the link.
    let path = path.canonicalize().map_err(|error| failed(&error))?;
    for _ in 0..TRIES {
        let before = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let after = changed(&before, node, changes).map_err(|error| failed(&error))?;
        if after == before || replace(&path, &before, &after).map_err(|error| failed(&error))? {
            return Ok(());
        }
    }
    Err(failed(&"somebody else keeps writing it; try again"))
}

/// Replaces the file unless it has changed meanwhile; whether it did.
fn replace(path: &Path, before: &str, after: &str) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new: PathBuf = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let old = path.metadata()?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(after.as_bytes())?;
        file.set_permissions(old.permissions())?;
        // Only root may give a file away; everybody else owns it already, or loses nothing by it.
        let _ = chown(&new, Some(old.uid()), Some(old.gid()));
        file.sync_all()?;
        if std::fs::read_to_string(path)? != before {
            return Ok(false);
        }
        std::fs::rename(&new, path)?;
        File::open(folder)?.sync_all()?;
        Ok(true)
    })();
    if !matches!(written, Ok(true)) {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// The text of the file with the changes in it.
fn changed(text: &str, node: &str, changes: &Changes<'_>) -> Result<String, String> {
    let as_json = serde_json::from_str::<Value>(text).ok();
    let is_json = as_json.is_some();
    let before = as_json.map_or_else(|| meaning(text), Ok)?;
    let mut wanted = before.clone();
    apply(&mut wanted, node, changes).ok_or_else(|| format!("it has no Node `{node}` with metadata"))?;
    if wanted == before {
        return Ok(text.to_owned());
    }
    if is_json {
        return print_json(&wanted, text).map_err(|error| error.to_string());
    }
    let mut edited = text.to_owned();
    for (key, value) in changes {
        match edit(&edited, node, key, value.as_deref()) {
            Some(next) => edited = next,
            None => break,
        }
    }
    match meaning(&edited) {
        Ok(means) if without_empty(&means, node) == without_empty(&wanted, node) => Ok(edited),
        _ => serde_saphyr::to_string(&wanted).map_err(|error| error.to_string()),
    }
}

fn meaning(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn metadata<'a>(list: &'a mut Value, node: &str) -> Option<&'a mut Map<String, Value>> {
    let items = list.get_mut("items")?.as_array_mut()?;
    items.iter_mut().find(|item| item["metadata"]["name"] == node)?.get_mut("metadata")?.as_object_mut()
}

fn apply(list: &mut Value, node: &str, changes: &Changes<'_>) -> Option<()> {
    let metadata = metadata(list, node)?;
    for (key, value) in changes {
        match value {
            Some(value) => {
                let annotations = metadata.entry("annotations").or_insert(Value::Null);
                if annotations.is_null() {
                    *annotations = json!({});
                }
                annotations.as_object_mut()?.insert((*key).to_owned(), json!(value));
            }
            None => {
                if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                    annotations.remove(*key);
                }
            }
        }
    }
    Some(())
}

/// No annotations are the same whether they are absent, null or an empty mapping.
fn without_empty(list: &Value, node: &str) -> Value {
    let mut list = list.clone();
    if let Some(metadata) = metadata(&mut list, node)
        && metadata.get("annotations").is_some_and(|a| a.is_null() || a.as_object().is_some_and(Map::is_empty))
    {
        metadata.remove("annotations");
    }
    list
}

/// As compact, or indented as deeply, as `like`.
fn print_json(value: &Value, like: &str) -> serde_json::Result<String> {
    let indent = like.lines().nth(1).map(|line| &line[..line.len() - line.trim_start().len()]);
    let Some(indent) = indent else { return Ok(value.to_string()) };
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))?;
    if like.ends_with('\n') {
        out.push(b'\n');
    }
    Ok(String::from_utf8(out).unwrap_or_default())
}

/// The file as far as places are needed.
#[derive(Deserialize)]
struct Places {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Spanned<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    annotations: Option<Spanned<std::collections::BTreeMap<String, Spanned<Value>>>>,
}

/// The text with one annotation set or removed; `None` where that cannot be done in place.
fn edit(text: &str, node: &str, key: &str, value: Option<&str>) -> Option<String> {
    let places: Places = serde_saphyr::from_str(text).ok()?;
    let metadata = places.items.into_iter().map(|item| item.metadata).find(|m| m.value.name == node)?;
    let quoted = value.map(|value| json!(value).to_string());
    let Some(annotations) = &metadata.value.annotations else {
        let Some(quoted) = quoted else { return Some(text.to_owned()) };
        return insert(text, &metadata, &format!("annotations: {{{key}: {quoted}}}"));
    };
    match (annotations.value.get(key), quoted) {
        (None, None) => Some(text.to_owned()),
        (None, Some(quoted)) => insert(text, annotations, &format!("{key}: {quoted}")),
        (Some(there), Some(quoted)) => {
            let (start, end) = range(there)?;
            Some(format!("{}{quoted}{}", text.get(..start)?, text.get(end..)?))
        }
        (Some(there), None) => {
            let (value_start, end) = range(there)?;
            let start = text.get(..value_start)?.rfind(key)?;
            // A quoted key.
            let start = if text[..start].ends_with(['"', '\'']) { start - 1 } else { start };
            remove(text, start, end, annotations.value.len() == 1)
        }
    }
}

/// Puts an entry before the first of a mapping.
fn insert<T>(text: &str, mapping: &Spanned<T>, entry: &str) -> Option<String> {
    let start = offset(mapping)?;
    let (head, tail) = (text.get(..start)?, text.get(start..)?);
    if let Some(rest) = tail.strip_prefix('{') {
        let comma = if rest.trim_start().starts_with('}') { "" } else { ", " };
        return Some(format!("{head}{{{entry}{comma}{rest}"));
    }
    let column = head.len() - head.rfind('\n').map_or(0, |at| at + 1);
    Some(format!("{head}{entry}\n{}{tail}", " ".repeat(column)))
}

/// Takes out the entry from `start` to `end`; the only one of its mapping leaves an empty mapping.
fn remove(text: &str, start: usize, end: usize, only: bool) -> Option<String> {
    let (head, tail) = (text.get(..start)?, text.get(end..)?);
    let line = head.rfind('\n').map_or(0, |at| at + 1);
    let rest = tail.lines().next().unwrap_or_default().trim();
    // What is remarked behind an entry is about the entry.
    let stands_alone = head.get(line..)?.trim().is_empty() && (rest.is_empty() || rest.starts_with('#'));
    if stands_alone && only {
        return Some(format!("{head}{{}}{tail}"));
    }
    if stands_alone {
        return Some(format!("{}{}", head.get(..line)?, tail.split_once('\n').map_or("", |(_, rest)| rest)));
    }
    match (tail.trim_start().strip_prefix(','), head.trim_end().strip_suffix(',')) {
        (Some(rest), _) => Some(format!("{head}{}", rest.trim_start_matches(' '))),
        (None, Some(before)) => Some(format!("{before}{tail}")),
        (None, None) => Some(format!("{head}{tail}")),
    }
}

fn offset<T>(place: &Spanned<T>) -> Option<usize> {
    place.referenced.span().byte_offset().and_then(|at| usize::try_from(at).ok())
}

fn range<T>(place: &Spanned<T>) -> Option<(usize, usize)> {
    let length = place.referenced.span().byte_len().and_then(|length| usize::try_from(length).ok())?;
    let start = offset(place)?;
    Some((start, start.checked_add(length)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    const BLOCK: &str = "\
# Kept by hand.
apiVersion: v1
items:
- kind: Node  # the first
  metadata:
    annotations:
      other: 'x'   # stays
    name: cp-0
  status: {addresses: []}
- metadata:
    # no annotations yet
    name: cp-1
- metadata: {name: cp-2, labels: {a: b}}
kind: List
";

    fn set(text: &str, node: &str) -> String {
        changed(text, node, &[("x.y/drain", Some("true".to_owned())), ("x.y/until", None)]).unwrap()
    }

    fn unset(text: &str, node: &str) -> String {
        changed(text, node, &[("x.y/drain", None)]).unwrap()
    }

    #[test]
    fn yaml_keeps_its_comments_and_layout() {
        let drained = set(BLOCK, "cp-0");
        assert_eq!(drained, BLOCK.replace("      other", "      x.y/drain: \"true\"\n      other"));
        assert_eq!(unset(&drained, "cp-0"), BLOCK);
        let drained = set(BLOCK, "cp-1");
        assert!(drained.contains("    annotations: {x.y/drain: \"true\"}\n    name: cp-1"), "{drained}");
        assert!(drained.contains("# no annotations yet") && drained.contains("# Kept by hand."), "{drained}");
        let drained = set(BLOCK, "cp-2");
        assert!(drained.contains("- metadata: {annotations: {x.y/drain: \"true\"}, name: cp-2, labels: {a: b}}"));
        let back = unset(&drained, "cp-2");
        assert!(back.contains("- metadata: {annotations: {}, name: cp-2"), "{back}");
        assert_eq!(set(&back, "cp-2"), drained);
    }

    #[test]
    fn a_value_that_is_there_is_replaced() {
        for there in ["false", "'false'", "\"no\""] {
            let text = format!("items:\n- metadata:\n    name: a\n    annotations:\n      x.y/drain: {there} # why\n");
            let drained = set(&text, "a");
            assert_eq!(meaning(&drained).unwrap()["items"][0]["metadata"]["annotations"]["x.y/drain"], "true");
            assert!(drained.contains("# why"), "{drained}");
            let back = unset(&drained, "a");
            assert!(back.contains("annotations:\n      {}"), "{back}");
            assert_eq!(set(&back, "a").matches("x.y/drain").count(), 1);
        }
    }

    #[test]
    fn what_cannot_be_changed_in_place_keeps_its_meaning() {
        let text = "items:\n- metadata:\n    name: a\n    annotations:\n    labels: {b: c}\n";
        let drained = meaning(&set(text, "a")).unwrap();
        let metadata = json!({"name": "a", "annotations": {"x.y/drain": "true"}, "labels": {"b": "c"}});
        assert_eq!(drained["items"][0]["metadata"], metadata);
    }

    #[test]
    fn json_stays_json_as_deep_as_it_was() {
        let value = json!({"kind": "List", "items": [{"metadata": {"name": "a"}}]});
        let compact = value.to_string();
        let drained = set(&compact, "a");
        assert_eq!(
            drained,
            r#"{"kind":"List","items":[{"metadata":{"name":"a","annotations":{"x.y/drain":"true"}}}]}"#
        );
        let deep = "{\n    \"items\": [\n        {\n            \"metadata\": {\n                \"name\": \"a\"\n            }\n        }\n    ]\n}\n";
        let drained = set(deep, "a");
        assert!(drained.contains("\n                \"annotations\": {\n") && drained.ends_with("}\n"), "{drained}");
        assert_eq!(meaning(&unset(&drained, "a")).unwrap()["items"][0]["metadata"]["annotations"], json!({}));
    }

    #[test]
    fn nothing_to_change_is_no_change_and_a_node_that_is_not_there_is_named() {
        assert_eq!(unset(BLOCK, "cp-0"), BLOCK);
        assert!(changed(BLOCK, "cp-9", &[]).unwrap_err().contains("no Node `cp-9`"));
    }

    #[test]
    fn the_file_keeps_its_mode_and_a_change_by_others() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.yaml");
        std::fs::write(&path, BLOCK).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        annotate(&path, "cp-0", &[("x.y/drain", Some("true".to_owned()))]).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(!replace(&path, BLOCK, "mine").unwrap(), "it is not what it was");
        assert!(std::fs::read_to_string(&path).unwrap().contains("x.y/drain"));
    }
}
