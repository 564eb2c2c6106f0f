//! Unique identifiers, PS3.5 §9: attacker-controlled text until parsed here.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// PS3.5 §9.1: a UID has at most 64 characters.
const MAX_UID_LENGTH: usize = 64;

/// Names what a [`Uid`] identifies, so that a study is never looked up where a series is meant.
pub trait Kind {
    /// The word used in error messages.
    const WORD: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {}
        impl Kind for $name {
            const WORD: &'static str = $word;
        }
    )*};
}

kinds! {
    /// Study Instance UID (0020,000D).
    Study = "Study Instance UID";
    /// Series Instance UID (0020,000E).
    Series = "Series Instance UID";
    /// SOP Instance UID (0008,0018).
    SopInstance = "SOP Instance UID";
    /// SOP Class UID (0008,0016); also the abstract syntax of a presentation context.
    SopClass = "SOP Class UID";
    /// Transfer Syntax UID (0002,0010).
    TransferSyntax = "Transfer Syntax UID";
}

/// A UID after the grammar of PS3.5 §9.1: components `0` or without a leading zero, joined by dots, at most 64 characters.
///
/// So it holds nothing but digits and single dots: safe in an object key, a path and a log line.
pub struct Uid<K> {
    text: Box<str>,
    kind: PhantomData<fn() -> K>,
}

/// The text is not a UID. The text itself is left out: it came from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {why}")]
pub struct UidError {
    /// Which UID was expected.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl<K: Kind> Uid<K> {
    /// Parses the exact text.
    ///
    /// # Errors
    /// When the grammar of PS3.5 §9.1 does not hold.
    pub fn parse(text: &str) -> Result<Self, UidError> {
        let refuse = |why| Err(UidError { what: K::WORD, why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_UID_LENGTH {
            return refuse("it is longer than 64 characters");
        }
        for component in text.split('.') {
            match component.as_bytes() {
                [] => return refuse("a component is empty"),
                [b'0', _, ..] => return refuse("a component has a leading zero"),
                digits if digits.iter().all(u8::is_ascii_digit) => {}
                _ => return refuse("it has a character other than digits and dots"),
            }
        }
        Ok(Self { text: text.into(), kind: PhantomData })
    }

    /// Parses a value as it stands in a data set or PDU: padding NULs are dropped, and trailing spaces are tolerated.
    ///
    /// # Errors
    /// As [`Uid::parse`].
    pub fn from_wire(value: &[u8]) -> Result<Self, UidError> {
        let end = value.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
        let text = std::str::from_utf8(&value[..end])
            .map_err(|_| UidError { what: K::WORD, why: "it has a character other than digits and dots" })?;
        Self::parse(text)
    }

    /// A UID written in this program's own tables.
    pub(crate) fn known(text: &'static str) -> Self {
        Self { text: text.into(), kind: PhantomData }
    }
}

impl<K> Uid<K> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K> Clone for Uid<K> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}

impl<K> PartialEq for Uid<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Uid<K> {}

impl<K> PartialOrd for Uid<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Uid<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl<K> Hash for Uid<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Display for Uid<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl<K> fmt::Debug for Uid<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> serde::Serialize for Uid<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: Kind> serde::Deserialize<'de> for Uid<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_ps3_5_section_9_1_holds() {
        let long = format!("1.{}", "2".repeat(62));
        let too_long = format!("1.{}", "2".repeat(63));
        let cases: &[(&str, &str, bool)] = &[
            ("usual", "1.2.840.10008.5.1.4.1.1.2", true),
            ("from a UUID", "2.25.329800735698586629295641978511506172918", true),
            ("zero component", "1.0.3", true),
            ("one component", "1", true),
            ("64 characters", &long, true),
            ("65 characters", &too_long, false),
            ("empty", "", false),
            ("leading zero", "1.02.3", false),
            ("leading dot", ".1.2", false),
            ("trailing dot", "1.2.", false),
            ("two dots", "1..2", false),
            ("parent directory", "../../etc/passwd", false),
            ("dots alone", "..", false),
            ("slash", "1.2/3", false),
            ("percent", "1.2%2e3", false),
            ("inner NUL", "1.2\0.3", false),
            ("letters", "1.2.abc", false),
            ("other digits", "1.2.\u{0663}", false),
            ("space", "1.2 ", false),
        ];
        for (name, text, valid) in cases {
            assert_eq!(Uid::<Study>::parse(text).is_ok(), *valid, "{name}");
        }
    }

    #[test]
    fn padding_is_dropped_at_the_rim() {
        for (name, wire) in [("NUL", &b"1.2.3\0"[..]), ("space", b"1.2.3 "), ("none", b"1.2.3"), ("both", b"1.2.3 \0")]
        {
            assert_eq!(Uid::<Study>::from_wire(wire).expect(name).as_str(), "1.2.3", "{name}");
        }
        assert!(Uid::<Study>::from_wire(b"\0\0").is_err());
        assert!(Uid::<Study>::from_wire(b" 1.2").is_err());
    }
}
