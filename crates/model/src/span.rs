//! Spans of time as people write them in configuration: `500ms`, `3s`, `10m`, `24h`, `7d`.
//! For serde: `#[serde(with = "model::span")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// `(unit, milliseconds)`; `ms` before `m` and `s`, because the first suffix that fits counts.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The text is not a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a span of time is a whole number and a unit: 500ms, 3s, 10m, 24h or 7d")]
pub struct SpanError;

/// Parses a whole number with its unit.
///
/// # Errors
/// When there is no unit, no number, or more than fits.
pub fn parse(text: &str) -> Result<Duration, SpanError> {
    let (number, millis) = UNITS
        .iter()
        .find_map(|(unit, millis)| text.strip_suffix(unit).map(|number| (number, millis)))
        .ok_or(SpanError)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SpanError);
    }
    let number: u64 = number.parse().map_err(|_| SpanError)?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or(SpanError)
}

/// Writes a span in the largest unit that divides it.
#[must_use]
pub fn format(span: Duration) -> String {
    let total = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, millis): &&(&str, u64)| total >= *millis && total.is_multiple_of(*millis);
    let (unit, millis) = UNITS.iter().rev().find(fits).unwrap_or(&("s", 1000));
    format!("{}{unit}", total / millis)
}

/// For serde.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// For serde.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let cases: &[(&str, Option<u64>)] = &[
            ("500ms", Some(500)),
            ("3s", Some(3_000)),
            ("10m", Some(600_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("3", None),
            ("s", None),
            ("-3s", None),
            ("+3s", None),
            ("3 s", None),
            ("1.5h", None),
            ("99999999999999999999d", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["1ms", "1500ms", "3s", "90s", "2m", "24h", "8d", "0s"] {
            let span = parse(text).expect("valid");
            assert_eq!(parse(&format(span)), Ok(span), "{text}");
        }
        assert_eq!(format(Duration::from_secs(3600)), "1h");
    }
}
