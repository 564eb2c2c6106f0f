//! How the log shows UIDs: as they are, or as keyed digests that only the holder of the key can recognise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::DigestKey;

/// How UIDs are shown.
#[derive(Debug)]
pub enum Uids {
    /// As they are (decision 0004).
    Clear,
    /// As `hmac-sha256:` and 64 hex digits.
    Hidden(Box<DigestKey>),
}

impl Uids {
    /// Reads the key of a deployment: every byte of the file counts.
    ///
    /// # Errors
    /// With what to do, when the file cannot be read, can be read by others, or is too short.
    pub fn hidden(key: &Path) -> Result<Self, String> {
        let shown = key.display();
        let unreadable = |error| format!("cannot read {shown}: {error}; make it with `openssl rand -out {shown} 32`");
        let mode = fs::metadata(key).map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!("{shown}: others can read this key (mode {:o}); chmod 600 {shown}", mode & 0o777));
        }
        let secret = fs::read(key).map_err(unreadable)?;
        DigestKey::new(&secret).map(|key| Self::Hidden(Box::new(key))).map_err(|error| format!("{shown}: {error}"))
    }

    /// The UID as the log has it.
    #[must_use]
    pub fn shown(&self, uid: &str) -> String {
        match self {
            Self::Clear => uid.to_owned(),
            Self::Hidden(key) => format!("hmac-sha256:{}", key.digest(uid.as_bytes())),
        }
    }

    pub(super) fn are_hidden(&self) -> bool {
        matches!(self, Self::Hidden(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_protects_nothing_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let key = dir.path().join("uid.key");
        let put = |bytes: &[u8], mode| {
            fs::write(&key, bytes).expect("ours");
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("ours");
        };
        for (name, bytes, mode, said) in
            [("short", 31, 0o600, "at least 32 bytes"), ("others can read it", 32, 0o640, "chmod 600")]
        {
            put(&vec![7; bytes], mode);
            let error = Uids::hidden(&key).map(drop).expect_err(name);
            assert!(error.contains(said), "{name}: {error}");
        }
        put(&[7; 32], 0o600);
        let one = Uids::hidden(&key).expect("good").shown("1.2.3");
        assert_eq!(one.len(), "hmac-sha256:".len() + 64);
        put(&[8; 32], 0o600);
        assert_ne!(Uids::hidden(&key).expect("good").shown("1.2.3"), one, "another key, another digest");
    }
}
