//! Durations as the configuration writes them: `500ms`, `15s`, `60m`, `2h`, and sums such as `1m30s`.
//!
//! For fields: `#[serde(with = "duration")]`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// Longer than anybody waits; keeps sums with a clock's reading far from overflow.
const LONGEST: Duration = Duration::from_hours(365 * 24);

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a duration; the error says what is expected.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use decide::settings::duration;
/// assert_eq!(duration::parse("1m30s"), Ok(Duration::from_secs(90)));
/// ```
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 15s, 60m or 2h");
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let &(_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        // 30s1m is more likely a slip than a wish.
        if number.is_empty() || millis >= last_unit {
            return Err(wrong());
        }
        last_unit = millis;
        let count = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis));
        total = count.and_then(|n| n.checked_add(total)).ok_or_else(|| format!("{text} is longer than a year"))?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    let duration = Duration::from_millis(total);
    if duration > LONGEST {
        return Err(format!("{text} is longer than a year"));
    }
    Ok(duration)
}

/// Writes a duration in one unit, the largest that is exact; but rather `60m` than `1h` and `60s` than `1m`.
/// What is finer than a millisecond is cut off.
pub fn print(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fits = |unit: u64, least: u128| millis.is_multiple_of(u128::from(unit)) && millis / u128::from(unit) >= least;
    let (unit, size) = match millis {
        0 => ("s", 1_000),
        _ if fits(3_600_000, 2) => ("h", 3_600_000),
        _ if fits(60_000, 2) => ("m", 60_000),
        _ if fits(1_000, 1) => ("s", 1_000),
        _ => ("ms", 1),
    };
    format!("{}{unit}", millis / size)
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&print(*duration))
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(TextVisitor)
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 500ms, 15s, 60m or 2h")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_as_documented() {
        for text in ["500ms", "1s", "15s", "60s", "60m", "2h", "90s", "1500ms", "2m", "0s", "61m"] {
            assert_eq!(parse(text).map(print), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in
            ["", "5", "s", "ms", "-1s", "1.5s", "1 s", " 1s", "1s ", "1d", "1S", "1us", "30s1m", "1s1s", "1m30", "٣s"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse("9999999h").is_err_and(|e| e.contains("longer than a year")));
        assert!(parse("99999999999999999999999s").is_err_and(|e| e.contains("longer than a year")));
        assert!(parse("18446744073709551615ms18446744073709551615ms").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(seconds in 0..LONGEST.as_secs(), millis in 0..1000_u64) {
            let duration = Duration::from_millis(seconds * 1000 + millis);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[0-9hms.]{0,30}|.*") {
            let _ = parse(&text);
        }
    }
}
