//! The keys there are, taken from the serialised defaults, and the nearest of them to one there is not.

use decide::settings::Settings;
use serde_json::{Map, Value};

/// The tree of all keys with their default values.
pub(super) struct Known {
    defaults: Value,
}

impl Known {
    pub(super) fn new() -> Self {
        // Plain data with string keys always serialises; were it not so, every key would be reported as unknown.
        Self { defaults: serde_json::to_value(Settings::default()).unwrap_or_default() }
    }

    /// The default at a dotted path; sections are objects.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        if path.is_empty() {
            return Some(&self.defaults);
        }
        path.split('.').try_fold(&self.defaults, |value, key| value.as_object()?.get(key))
    }

    /// The defaults with one key replaced.
    pub(super) fn with(&self, path: &str, value: Value) -> Value {
        let mut tree = self.defaults.clone();
        insert(&mut tree, path, value);
        tree
    }

    /// The path of the key that is spelled like this in any case.
    pub(super) fn spelled(&self, keys: &[&str]) -> Option<String> {
        let mut path = Vec::new();
        let mut section = &self.defaults;
        for key in keys {
            let (name, below) = section.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
            path.push(name.as_str());
            section = below;
        }
        Some(path.join("."))
    }

    /// Every key that is not a section, in order.
    pub(super) fn leaves(&self) -> Vec<String> {
        fn walk(map: &Map<String, Value>, prefix: &str, paths: &mut Vec<String>) {
            for (key, value) in map {
                match value {
                    Value::Object(below) => walk(below, &join(prefix, key), paths),
                    _ => paths.push(join(prefix, key)),
                }
            }
        }
        let mut paths = Vec::new();
        if let Value::Object(map) = &self.defaults {
            walk(map, "", &mut paths);
        }
        paths
    }

    /// What to say about a key that is not there.
    pub(super) fn hint(&self, section: &str, key: &str) -> String {
        let siblings: Vec<&str> = self
            .get(section)
            .and_then(Value::as_object)
            .map(|map| map.keys().map(String::as_str).collect())
            .unwrap_or_default();
        if let Some(near) = nearest(key, siblings.iter().copied()) {
            return format!("did you mean {}?", join(section, near));
        }
        let elsewhere: Vec<String> = self
            .leaves()
            .into_iter()
            .filter(|path| path.rsplit('.').next().is_some_and(|name| name.eq_ignore_ascii_case(key)))
            .collect();
        if !elsewhere.is_empty() {
            return format!("did you mean {}?", elsewhere.join(" or "));
        }
        format!("there is {}", siblings.join(", "))
    }

    /// The path most like one that is not there, whatever its level.
    pub(super) fn nearest_path(&self, path: &str) -> Option<String> {
        let leaves = self.leaves();
        let near = nearest(path, leaves.iter().map(String::as_str)).map(str::to_owned);
        near.or_else(|| {
            let name = path.rsplit('.').next()?;
            leaves.iter().find(|leaf| leaf.rsplit('.').next().is_some_and(|n| n.eq_ignore_ascii_case(name))).cloned()
        })
    }
}

/// A key's path below a section; the top is empty.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Puts a value at a dotted path, making the sections on the way.
pub(super) fn insert(tree: &mut Value, path: &str, value: Value) {
    let mut place = tree;
    for key in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(map) = place else { return };
        place = map.entry(key).or_insert(Value::Null);
    }
    *place = value;
}

/// The candidate that is a slip away: a third of the letters at most, case and underscores aside.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> Vec<char> {
        text.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
    };
    let word = plain(word);
    let allowed = (word.len() / 3).max(1);
    candidates
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements from one word to the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, &above) in b.iter().zip(row.iter().skip(1)) {
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_keys_are_found() {
        let known = Known::new();
        assert_eq!(known.hint("stackit", "regoin"), "did you mean stackit.region?");
        assert_eq!(known.hint("leaderElection", "lease_duration"), "did you mean leaderElection.leaseDuration?");
        assert_eq!(known.hint("", "region"), "did you mean stackit.region?");
        assert_eq!(
            known.hint("", "interval"),
            "did you mean health.probe.interval or loadBalancer.activeHealthCheck.interval?"
        );
        assert_eq!(known.hint("nodes", "something"), "there is source, file, selector");
        assert_eq!(
            known.nearest_path("leader_election.renew_deadline").as_deref(),
            Some("leaderElection.renewDeadline")
        );
        assert_eq!(
            known.spelled(&["LEADERELECTION", "leaseduration"]).as_deref(),
            Some("leaderElection.leaseDuration")
        );
    }

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, expected) in
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("abc", "abc", 0), ("ab", "ba", 2)]
        {
            assert_eq!(d(a, b), expected, "{a} {b}");
        }
    }
}
