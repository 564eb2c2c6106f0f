//! A receiver whose system clock a test may set, by libfaketime.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testkit::house::House;

use super::house_with;

/// The clock of one receiver.
pub(crate) struct Clock {
    dir: TempDir,
}

/// What of the receiver's time is ours to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fake {
    /// Only what the clock on the wall shows, as when somebody sets it.
    Wall,
    /// The monotonic clock too, as if time had passed.
    Everything,
}

impl Clock {
    /// Right, for now.
    pub(crate) fn right() -> Self {
        let clock = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        clock.set("+0");
        clock
    }

    /// A fresh `portcullis dev` that goes by it.
    pub(crate) fn house(&self, fake: Fake, environment: &[(&str, &str)]) -> House {
        let own = self.environment(fake);
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        house_with(&[], &own.chain(environment.iter().copied()).collect::<Vec<_>>())
    }

    /// What a receiver that goes by it needs in its environment.
    pub(crate) fn environment(&self, fake: Fake) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
        let mut all = vec![
            ("LD_PRELOAD", text(&library())),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
        ];
        if fake == Fake::Wall {
            all.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()));
        }
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Sets it to so much after the true time: `+20m`, `-1d`. Whole or not at all: it is read whenever the time is asked.
    pub(crate) fn set(&self, offset: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, format!("{offset}\n")).and_then(|()| std::fs::rename(&new, self.file())).expect("ours");
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("clock")
    }
}

/// libfaketime, where Debian puts it.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("there").flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    found.expect("libfaketime is there: run ./tests/run")
}
