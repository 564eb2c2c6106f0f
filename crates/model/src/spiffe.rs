//! SPIFFE IDs (SPIFFE-ID.md §2): compared byte for byte, never normalised.

use std::fmt;

/// SPIFFE-ID §2.3: an implementation must accept 2048 bytes; more is refused.
const MAX_SPIFFE_ID_LENGTH: usize = 2048;
/// SPIFFE-ID §2.3: a trust domain has at most 255 bytes.
const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

/// Why a text is not a SPIFFE ID. Each is a reason code of the V rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// V-5.
    #[error("the ID is longer than 2048 bytes or not ASCII")]
    TooLong,
    /// V-6.
    #[error("the scheme is not spiffe")]
    Scheme,
    /// V-7, V-8.
    #[error("the ID has a query, fragment, user info or port, or no trust domain")]
    Syntax,
    /// V-9.
    #[error("the trust domain has a character other than a-z, 0-9, dot, hyphen and underscore, or is too long")]
    TrustDomain,
    /// V-10.
    #[error("the ID has no path, so it names a trust domain and not a workload")]
    NoPath,
    /// V-11.
    #[error(
        "a path segment is empty, is . or .., or has a character other than letters, digits, dot, hyphen and underscore"
    )]
    Path,
}

/// The name of a trust domain: `[a-z0-9._-]`, 1–255 bytes. Upper case is refused, not folded (V-9).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// Parses the bare name.
    ///
    /// # Errors
    /// [`SpiffeIdError::TrustDomain`], or [`SpiffeIdError::Syntax`] when it is empty.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        if name.is_empty() {
            return Err(SpiffeIdError::Syntax);
        }
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if name.len() > MAX_TRUST_DOMAIN_LENGTH || !name.bytes().all(legal) {
            return Err(SpiffeIdError::TrustDomain);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a development trust domain: `*.invalid` (RFC 2606) can belong to nobody.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.0.ends_with(".invalid")
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A workload's SPIFFE ID: scheme, trust domain and a path, valid by the rules V-5 to V-12.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    text: Box<str>,
}

impl SpiffeId {
    /// Parses the whole URI.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(uri: &str) -> Result<Self, SpiffeIdError> {
        if uri.len() > MAX_SPIFFE_ID_LENGTH || !uri.is_ascii() {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(SpiffeIdError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(SpiffeIdError::Syntax);
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.is_empty() || authority.contains(['@', ':', '[', ']']) {
            return Err(SpiffeIdError::Syntax);
        }
        let trust_domain = TrustDomain::parse(authority)?;
        if matches!(path, "" | "/") {
            return Err(SpiffeIdError::NoPath);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let segment_is_legal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(legal);
        if !path[1..].split('/').all(segment_is_legal) {
            return Err(SpiffeIdError::Path);
        }
        Ok(Self { trust_domain, text: uri.into() })
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain that must have issued a certificate for this ID.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(SpiffeId, TrustDomain);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_own_refusal() {
        let long = format!("spiffe://a.example/{}", "x".repeat(2048));
        let long_domain = format!("spiffe://{}/x", "a".repeat(256));
        let cases: &[(&str, &str, Result<(), SpiffeIdError>)] = &[
            ("usual", "spiffe://hosp-a.example/ingest/ct1", Ok(())),
            ("underscore and digits", "spiffe://a_1.example/A-b_c.1", Ok(())),
            ("V-5 length", &long, Err(SpiffeIdError::TooLong)),
            ("V-5 not ASCII", "spiffe://h\u{f6}sp.example/x", Err(SpiffeIdError::TooLong)),
            ("V-6 https", "https://hosp-a.example/x", Err(SpiffeIdError::Scheme)),
            ("V-6 upper case scheme", "SPIFFE://hosp-a.example/x", Err(SpiffeIdError::Scheme)),
            ("V-7 query", "spiffe://a.example/x?y", Err(SpiffeIdError::Syntax)),
            ("V-7 fragment", "spiffe://a.example/x#y", Err(SpiffeIdError::Syntax)),
            ("V-8 user", "spiffe://u@a.example/x", Err(SpiffeIdError::Syntax)),
            ("V-8 port", "spiffe://a.example:1/x", Err(SpiffeIdError::Syntax)),
            ("V-8 no host", "spiffe:///x", Err(SpiffeIdError::Syntax)),
            ("V-9 upper case", "spiffe://A.example/x", Err(SpiffeIdError::TrustDomain)),
            ("V-9 percent", "spiffe://a%2eexample/x", Err(SpiffeIdError::TrustDomain)),
            ("V-9 length", &long_domain, Err(SpiffeIdError::TrustDomain)),
            ("V-10 none", "spiffe://a.example", Err(SpiffeIdError::NoPath)),
            ("V-10 slash", "spiffe://a.example/", Err(SpiffeIdError::NoPath)),
            ("V-11 trailing slash", "spiffe://a.example/x/", Err(SpiffeIdError::Path)),
            ("V-11 empty segment", "spiffe://a.example//x", Err(SpiffeIdError::Path)),
            ("V-11 dot", "spiffe://a.example/./x", Err(SpiffeIdError::Path)),
            ("V-11 dot dot", "spiffe://a.example/x/../y", Err(SpiffeIdError::Path)),
            ("V-11 percent", "spiffe://a.example/%2e%2e", Err(SpiffeIdError::Path)),
            ("V-11 tilde", "spiffe://a.example/~x", Err(SpiffeIdError::Path)),
        ];
        for (name, uri, expected) in cases {
            assert_eq!(SpiffeId::parse(uri).map(|_| ()), *expected, "{name}");
        }
    }

    #[test]
    fn comparison_is_byte_exact() {
        let one = SpiffeId::parse("spiffe://a.example/ct1").expect("valid");
        let other = SpiffeId::parse("spiffe://a.example/CT1").expect("valid");
        assert_ne!(one, other);
        assert_eq!(one.trust_domain().as_str(), "a.example");
    }
}
