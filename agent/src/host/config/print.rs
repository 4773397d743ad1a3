//! Settings as YAML text: the effective ones, and every default with a word about it.

use std::fmt::Write;

use decide::settings::Settings;
use serde_json::Value;

use super::comments;
use super::known::join;
use crate::host::secret::redact_url;

/// Keys whose URL may carry a user and a password.
const URLS: [&str; 2] = ["stackit.loadBalancerEndpoint", "stackit.tokenEndpoint"];

const HEADER: &str = "\
# Every setting with its default. Remove what you do not change.
# Environment variables win over this file (SHOOT_EXPOSURE_AGENT__STACKIT__REGION=eu01), flags over both.
";

/// The settings in effect, without secrets.
pub fn show(settings: &Settings) -> String {
    let mut out = String::new();
    section(&mut out, &redacted(settings), "", &|_| None);
    out
}

/// The same as a value.
pub fn redacted(settings: &Settings) -> Value {
    let mut tree = serde_json::to_value(settings).unwrap_or_default();
    for path in URLS {
        if let Some(Value::String(url)) = tree.pointer_mut(&format!("/{}", path.replace('.', "/"))) {
            *url = redact_url(url);
        }
    }
    tree
}

/// Every default, as a file that may be used as it is.
pub fn defaults() -> String {
    let tree = serde_json::to_value(Settings::default()).unwrap_or_default();
    let mut out = HEADER.to_owned();
    section(&mut out, &tree, "", &comments::about);
    out
}

/// `about` is the comment above a key.
fn section(out: &mut String, tree: &Value, path: &str, about: &dyn Fn(&str) -> Option<&'static str>) {
    let Value::Object(map) = tree else { return };
    let indent = "  ".repeat(if path.is_empty() { 0 } else { path.matches('.').count() + 1 });
    for (key, value) in map {
        let path = join(path, key);
        if let Some(about) = about(&path) {
            line(out, &format!("{indent}# {about}"));
        }
        match value {
            Value::Object(_) => {
                line(out, &format!("{indent}{key}:"));
                section(out, value, &path, about);
            }
            Value::Array(items) if !items.is_empty() => {
                line(out, &format!("{indent}{key}:"));
                for item in items {
                    line(out, &format!("{indent}  - {}", scalar(item)));
                }
            }
            _ => line(out, &format!("{indent}{key}: {}", scalar(value))),
        }
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

/// A text without quotes where it reads back as the same text, else as JSON, which is YAML as well.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '=' | '?' | '&');
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(harmless)
        && serde_saphyr::from_str::<Value>(text).is_ok_and(|read| read == *value);
    if plain { text.clone() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_they_would_become_something_else() {
        for (text, expected) in [
            ("p10", "p10"),
            ("60m", "60m"),
            ("127.0.0.1:9440", "127.0.0.1:9440"),
            ("/readyz?exclude=etcd&exclude=etcd-readiness", "/readyz?exclude=etcd&exclude=etcd-readiness"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("12", "\"12\""),
            ("1e3", "\"1e3\""),
            ("null", "\"null\""),
            ("a: b", "\"a: b\""),
            ("****", "\"****\""),
            ("a\nb", "\"a\\nb\""),
            ("[::]:9440", "\"[::]:9440\""),
        ] {
            assert_eq!(scalar(&text.into()), expected);
            assert_eq!(serde_saphyr::from_str::<Value>(expected).unwrap(), text);
        }
    }
}
