//! The quotas of a row or a tenant. Nothing is counted here: the gateway, which sees them come, counts.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// How much may come. `None`: as much as there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Associations at a time.
    pub max_associations: Option<NonZeroU32>,
    /// Instances in a span of time.
    pub max_rate: Option<Rate>,
    /// Instances from midnight to midnight, UTC.
    pub max_instances_day: Option<NonZeroU64>,
    /// Bytes of data sets from midnight to midnight, UTC.
    pub max_bytes_day: Option<NonZeroU64>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// So many in a span of time, such as `20/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which span: a second, a minute or an hour.
    pub per: Duration,
}

/// `(unit, seconds)`.
const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

impl Rate {
    /// Parses a whole number of at least 1, a slash, and `s`, `m` or `h`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (_, seconds) = UNITS.iter().find(|(known, _)| *known == unit)?;
        Some(Self { count: count.parse().ok()?, per: Duration::from_secs(*seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.per.as_secs()).map_or("s", |(unit, _)| unit);
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, seconds) in [("20/s", 1), ("600/m", 60), ("10000/h", 3600)] {
            let rate = Rate::parse(text).expect(text);
            assert_eq!((rate.per.as_secs(), rate.to_string().as_str()), (seconds, text));
        }
        for text in ["", "20", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "20/d", "20/ s", "20 /s", "20/s/s", "4294967296/s"]
        {
            assert_eq!(Rate::parse(text), None, "{text:?}");
        }
    }
}
