use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::hmac;

/// A SHA-256 digest (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// The text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is written as 64 lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_aws(&digest(&SHA256, bytes))
    }

    /// Parses 64 lower-case hex digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(hex: &str) -> Result<Self, DigestError> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(DigestError),
        };
        let pairs: &[[u8; 2]; 32] = hex.as_bytes().as_chunks().0.try_into().map_err(|_| DigestError)?;
        if hex.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = value(*high)? << 4 | value(*low)?;
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 32 hex digits: long enough that two different data sets never share it, short enough for a key.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(32);
        hex
    }

    fn from_aws(value: &aws_lc_rs::digest::Digest) -> Self {
        Self(value.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// Takes a SHA-256 digest while bytes pass by.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Nothing hashed yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a hasher is begun on purpose")]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_aws(&self.0.finish())
    }
}

/// A secret that makes digests which only its holder can make or recognise (HMAC-SHA-256, RFC 2104).
pub struct DigestKey(hmac::Key);

/// The secret is shorter than what it should protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest key has at least {} bytes, from a random source such as `openssl rand 32`", DigestKey::SHORTEST)]
pub struct DigestKeyError;

impl DigestKey {
    /// Bytes below which HMAC-SHA-256 is weaker than its hash (RFC 2104 §3).
    pub const SHORTEST: usize = 32;

    /// Every byte of `secret` counts.
    ///
    /// # Errors
    /// When it is shorter than [`DigestKey::SHORTEST`].
    pub fn new(secret: &[u8]) -> Result<Self, DigestKeyError> {
        if secret.len() < Self::SHORTEST {
            return Err(DigestKeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The keyed digest of these bytes.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        Digest(hmac::sign(&self.0, bytes).as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes"))
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_abc_is_the_one_in_fips_180() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
        assert_eq!(Digest::parse(expected), Ok(Digest::of(b"abc")));
        assert_eq!(Digest::of(b"abc").short(), expected[..32]);
    }

    #[test]
    fn the_keyed_digest_is_the_one_in_rfc_4231() {
        // Test case 6: a key longer than a block.
        let key = DigestKey::new(&[0xAA; 131]).expect("long enough");
        let digest = key.digest(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(digest.to_string(), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert_eq!(DigestKey::new(&[0xAA; 31]).map(drop), Err(DigestKeyError));
        assert_eq!(format!("{key:?}"), "DigestKey(…)");
    }

    #[test]
    fn only_64_lower_case_hex_digits_parse() {
        let good = Digest::of(b"").to_string();
        for (name, text) in
            [("short", good[1..].to_owned()), ("long", format!("{good}0")), ("upper", good.to_uppercase())]
        {
            assert!(Digest::parse(&text).is_err(), "{name}");
        }
    }
}
