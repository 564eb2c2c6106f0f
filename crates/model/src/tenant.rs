use std::fmt;

/// Tenant names stay short: they are part of every object key (S3 allows 1024 bytes) and row key.
const MAX_TENANT_LENGTH: usize = 63;

/// Who owns a study in the archive: given by the row of the access table, never by the data set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Box<str>);

/// The text is not a tenant name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tenant name has 1 to 63 characters a-z, 0-9 and hyphen, and begins with a letter or digit")]
pub struct TenantError;

impl Tenant {
    /// Parses a name that is safe as a path part and in a row key.
    ///
    /// # Errors
    /// When it has another character, begins with a hyphen, or is empty or too long.
    pub fn parse(name: &str) -> Result<Self, TenantError> {
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if name.is_empty() || name.len() > MAX_TENANT_LENGTH || name.starts_with('-') || !name.bytes().all(legal) {
            return Err(TenantError);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Tenant {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Self, TenantError> {
        Self::parse(text)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl serde::Serialize for Tenant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Tenant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_safe_as_a_path_part() {
        for (name, valid) in [
            ("hospital-a", true),
            ("7", true),
            ("", false),
            ("-a", false),
            ("a.b", false),
            ("..", false),
            ("a/b", false),
            ("A", false),
            ("a#b", false),
        ] {
            assert_eq!(Tenant::parse(name).is_ok(), valid, "{name:?}");
        }
    }
}
