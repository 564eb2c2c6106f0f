//! Files as a PKI wants them: whole or not at all, and secret from the first moment.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::{PkiError, Result};

/// Writes a certificate or another file that everybody may read.
///
/// # Errors
/// When the disk refuses.
pub(super) fn write_public(path: &Path, text: &str) -> Result<()> {
    write(path, text, 0o644)
}

/// Writes a private key: nobody else can read it at any moment, not even before the name appears.
///
/// # Errors
/// When the disk refuses.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    write(path, text, 0o600)
}

/// An empty file counts as missing: that is what a power failure leaves.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| PkiError::Foreign { path: path.to_owned(), why: "it is not PEM" }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

pub(super) fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// Written under another name in the same directory and renamed: a reader sees the old file or the new one, never half.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = create(&temporary, mode).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.map_err(at(path))
}

/// A new file that has its mode from the first moment; one that a crashed run with our process id left is removed.
pub(super) fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError + use<> {
    let path = path.to_owned();
    move |source| PkiError::Io { path, source }
}
