//! Small things of the wire: durations in JSON, forms, merging of JSON.

use serde_json::Value;

/// Serde of a `Duration` as a whole number of milliseconds.
pub(crate) mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// What `null` means when one JSON value is laid over another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Null {
    /// The field goes away (a merge patch, RFC 7396).
    Removes,
    /// The field becomes `null` (F16).
    Stays,
}

/// Lays `patch` over `target`: objects are merged, everything else is replaced.
pub(crate) fn merge(target: &mut Value, patch: &Value, null: Null) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in fields {
        if value.is_null() && null == Null::Removes {
            target.shift_remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value, null);
        }
    }
}

/// The pairs of a query string or of an `application/x-www-form-urlencoded` body.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (unescape(name, true), unescape(value, true))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Percent-decodes; `plus` says whether `+` is a blank, as in forms. What is not an escape stays as it is.
pub(crate) fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        if let Some(value) = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(value);
            at += 3;
        } else {
            out.push(if plus && byte == b'+' { b' ' } else { byte });
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A time as RFC 3339 in UTC, from seconds since 1970.
pub(crate) fn rfc3339(unix_seconds: i64) -> String {
    let (days, seconds) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    // Days to a civil date; the year starts in March, so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000+00:00")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Null, form, merge, rfc3339, unescape};

    #[test]
    fn dates_are_civil() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000+00:00");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00.000+00:00");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59.000+00:00");
    }

    #[test]
    fn forms_are_unescaped() {
        assert_eq!(
            form("a=urn%3Ax&b=c+d&e"),
            [("a", "urn:x"), ("b", "c d"), ("e", "")].map(|(a, b)| (a.into(), b.into()))
        );
        assert_eq!(unescape("a+%zz%4", false), "a+%zz%4");
    }

    #[test]
    fn null_removes_or_stays() {
        let mut removed = json!({"a": 1, "b": {"c": 2}});
        let mut stays = removed.clone();
        let patch = json!({"a": null, "b": {"d": 3}});
        merge(&mut removed, &patch, Null::Removes);
        merge(&mut stays, &patch, Null::Stays);
        assert_eq!(removed, json!({"b": {"c": 2, "d": 3}}));
        assert_eq!(stays, json!({"a": null, "b": {"c": 2, "d": 3}}));
    }
}
