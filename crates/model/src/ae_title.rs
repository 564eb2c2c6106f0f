//! Application Entity titles, PS3.5 §6.2 (AE) and PS3.8 §9.3.2.

use std::fmt;

/// PS3.8 Table 9-11: the field has sixteen bytes.
const AE_TITLE_LENGTH: usize = 16;

/// An AE title without its insignificant leading and trailing spaces; case matters.
///
/// A peer may type any title it likes: it narrows what an identity may do and never stands for one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AeTitle(Box<str>);

/// The bytes are not an AE title. They are left out: they came from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid AE title: {0}")]
pub struct AeTitleError(&'static str);

impl AeTitle {
    /// Parses text or the sixteen bytes of an association PDU: 1–16 characters of the default repertoire without control
    /// characters and backslash, not spaces only.
    ///
    /// # Errors
    /// When it is empty after trimming, too long or has another character.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, AeTitleError> {
        let bytes = bytes.as_ref();
        if !bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\') {
            return Err(AeTitleError("it has a backslash or a character outside the default repertoire"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| AeTitleError("it is not text"))?.trim_matches(' ');
        match text.len() {
            0 => Err(AeTitleError("it is empty")),
            1..=AE_TITLE_LENGTH => Ok(Self(text.into())),
            _ => Err(AeTitleError("it is longer than 16 characters")),
        }
    }

    /// The significant characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Padded with spaces to the field of PS3.8 Table 9-11.
    #[must_use]
    pub fn padded(&self) -> [u8; AE_TITLE_LENGTH] {
        let mut field = [b' '; AE_TITLE_LENGTH];
        field[..self.0.len()].copy_from_slice(self.0.as_bytes());
        field
    }
}

impl std::str::FromStr for AeTitle {
    type Err = AeTitleError;

    fn from_str(text: &str) -> Result<Self, AeTitleError> {
        Self::parse(text)
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for AeTitle {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for AeTitle {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_repertoire_makes_a_title() {
        let cases: &[(&str, &[u8], Option<&str>)] = &[
            ("padded", b"STORESCU        ", Some("STORESCU")),
            ("leading space", b"  CT1", Some("CT1")),
            ("inner space", b"CT 1", Some("CT 1")),
            ("sixteen", b"ABCDEFGHIJKLMNOP", Some("ABCDEFGHIJKLMNOP")),
            ("seventeen", b"ABCDEFGHIJKLMNOPQ", None),
            ("spaces", b"                ", None),
            ("backslash", b"A\\B", None),
            ("line feed", b"A\nB", None),
            ("escape", b"A\x1b[31m", None),
            ("NUL padded", b"A\0\0", None),
            ("high bit", b"\xC4", None),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(AeTitle::parse(bytes).ok().as_ref().map(AeTitle::as_str), *expected, "{name}");
        }
    }
}
