//! A file that is replaced by another text: whole or not at all, and only if it is still what was read.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A file as it was read, and the lock that keeps other runs of this program from changing it meanwhile.
pub(super) struct Original {
    /// Where the text is: behind every symlink.
    path: PathBuf,
    pub(super) text: String,
    metadata: Metadata,
    /// The lock is on the directory: the file itself is another one after each change.
    _directory: File,
}

impl Original {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
        let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
        match directory.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!("another run of portcullis is changing {}: try again", path.display())
            }
            // A filesystem without locks: then only what was read is compared, right before the change.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let text = super::text_of(&path)?;
        let metadata = fs::metadata(&path)?;
        Ok(Self { path, text, metadata, _directory: directory })
    }

    /// Puts `text` in its place, with the same owner and mode; durable when it returns.
    ///
    /// # Errors
    /// When the file is no longer what was read, or the disk refuses. Then it is as it was.
    pub(super) fn replace(self, text: &str) -> anyhow::Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = self.path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let done = self.write(&temporary, text).and_then(|()| self.swap(&temporary));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done.with_context(|| format!("{} is unchanged", self.path.display()))
    }

    fn write(&self, temporary: &Path, text: &str) -> anyhow::Result<()> {
        let shown = temporary.display();
        let _ = fs::remove_file(temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
            .with_context(|| format!("cannot write {shown}"))?;
        file.write_all(text.as_bytes())?;
        let (own, wanted) = (file.metadata()?, &self.metadata);
        if (own.uid(), own.gid()) != (wanted.uid(), wanted.gid()) {
            chown(temporary, Some(wanted.uid()), Some(wanted.gid()))
                .context("it belongs to another user, who must make the change, or root")?;
        }
        // After the owner: chown may take bits away.
        file.set_permissions(wanted.permissions())?;
        Ok(file.sync_all()?)
    }

    fn swap(&self, temporary: &Path) -> anyhow::Result<()> {
        if super::text_of(&self.path)? != self.text {
            bail!("somebody else has changed it meanwhile: try again");
        }
        fs::rename(temporary, &self.path)?;
        Ok(File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("access.toml");
        fs::write(&path, "old").expect("ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        (dir, path)
    }

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).expect("ours").count()
    }

    #[test]
    fn the_file_behind_a_link_is_replaced_with_its_mode() {
        let (dir, path) = scratch();
        let elsewhere = tempfile::tempdir().expect("a temporary directory");
        let link = elsewhere.path().join("link.toml");
        symlink(&path, &link).expect("ours");
        Original::read(&link).expect("there").replace("new").expect("ours");
        assert_eq!(fs::read_to_string(&path).expect("there"), "new");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!((names(dir.path()), names(elsewhere.path())), (1, 1), "nothing is left behind");
    }

    #[test]
    fn a_change_of_somebody_else_is_never_lost() {
        let (dir, path) = scratch();
        let original = Original::read(&path).expect("there");
        fs::write(&path, "theirs").expect("an editor takes no lock");
        let error = original.replace("new").expect_err("it is another file");
        assert!(format!("{error:#}").contains("somebody else"), "{error:#}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "theirs");
        assert_eq!(names(dir.path()), 1, "nothing is left behind");
    }

    #[test]
    fn two_runs_do_not_change_it_at_once() {
        let (_dir, path) = scratch();
        let first = Original::read(&path).expect("there");
        let error = Original::read(&path).err().expect("locked");
        assert!(error.to_string().contains("another run"), "{error}");
        first.replace("new").expect("ours");
        assert_eq!(Original::read(&path).expect("free again").text, "new");
    }
}
