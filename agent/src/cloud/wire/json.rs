//! Reading and changing JSON that may be anything.

use std::time::Duration;

use serde_json::{Map, Value};

/// A member as text; numbers and booleans as they print, `None` for everything that is no scalar.
pub(super) fn text(object: &Map<String, Value>, member: &str) -> Option<String> {
    match object.get(member)? {
        Value::String(text) => Some(text.clone()),
        scalar @ (Value::Number(_) | Value::Bool(_)) => Some(scalar.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A member as a whole number, also one in quotes.
pub(super) fn number<N: TryFrom<u64>>(object: &Map<String, Value>, member: &str) -> Option<N> {
    let number = match object.get(member)? {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    number.try_into().ok()
}

/// Whether a member is true.
pub(super) fn flag(object: &Map<String, Value>, member: &str) -> bool {
    text(object, member).is_some_and(|text| text == "true")
}

/// A member as a duration such as `300s` or `1.5s`.
pub(super) fn duration(object: &Map<String, Value>, member: &str) -> Option<Duration> {
    const NANO_DIGITS: usize = 9;
    let text = text(object, member)?;
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > NANO_DIGITS {
        return None;
    }
    Some(Duration::new(whole.parse().ok()?, format!("{fraction:0<NANO_DIGITS$}").parse().ok()?))
}

/// A member that is an object.
pub(super) fn object<'a>(object: &'a Map<String, Value>, member: &str) -> Option<&'a Map<String, Value>> {
    object.get(member)?.as_object()
}

/// A member that is a list; empty for everything else.
pub(super) fn list<'a>(object: &'a Map<String, Value>, member: &str) -> &'a [Value] {
    object.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets a member where it stands, or at the end.
pub(super) fn set(object: &mut Map<String, Value>, member: &str, value: impl Into<Value>) {
    object.insert(member.to_owned(), value.into());
}

/// Changes a member that is an object, or makes it one.
pub(super) fn edit_object(object: &mut Map<String, Value>, member: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let slot = object.entry(member).or_insert(Value::Null);
    let mut inner = match slot.take() {
        Value::Object(inner) => inner,
        _ => Map::new(),
    };
    change(&mut inner);
    *slot = Value::Object(inner);
}

/// Changes a member that is a list, or makes it one.
pub(super) fn edit_list(object: &mut Map<String, Value>, member: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let slot = object.entry(member).or_insert(Value::Null);
    let mut inner = match slot.take() {
        Value::Array(inner) => inner,
        _ => Vec::new(),
    };
    change(&mut inner);
    *slot = Value::Array(inner);
}
