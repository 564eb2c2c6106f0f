//! A wall clock that the test sets (libfaketime); the monotonic clock stays what it is, unless time is to pass.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The file that says how far a house is from the time of everybody else.
pub(crate) struct Clock(TempDir);

impl Clock {
    /// A clock that is right, plus so many seconds.
    pub(crate) fn ahead(seconds: i64) -> Self {
        let clock = Self(tempfile::tempdir().expect("a temporary directory"));
        clock.set(seconds);
        clock
    }

    /// Sets it to so many seconds from the right time. Whole or not at all: the house reads it whenever it asks for the time.
    pub(crate) fn set(&self, seconds: i64) {
        let (path, new) = (self.file(), self.0.path().join("new"));
        std::fs::write(&new, format!("{seconds:+}\n")).and_then(|()| std::fs::rename(&new, path)).expect("ours");
    }

    /// What a house is told to live by it.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let mut env = self.env_of_every_clock();
        env.push(("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()));
        env
    }

    /// As [`Clock::env`], for the monotonic clock too: as if time had passed, not as if somebody had set the clock.
    pub(crate) fn env_of_every_clock(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
        let pairs = [
            ("LD_PRELOAD", text(&library())),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }
}

/// libfaketime, where Debian puts it.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("there").flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    found.expect("libfaketime is there: run ./tests/run")
}
