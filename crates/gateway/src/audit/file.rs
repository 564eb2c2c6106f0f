//! The file of the log: one writer, mode 0600, and where its chain has come to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use model::Digest;

use super::chain::{Head, LONGEST_LINE, Line};

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read and written.
    #[error("{} cannot be written; give this user the right to read and write it", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two writers would break each other's chain.
    #[error("{} is in use by another process; a log has one writer, so give each receiver its own `audit.file`", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Its end is not a record of a chain.
    #[error("{} does not end in a record that a chain could go on from; move it away, it can still be read", path.display())]
    NoChain {
        /// The file.
        path: PathBuf,
    },
    /// A setting of `[audit]` cannot be used.
    #[error("{0}")]
    Setting(String),
}

/// An open log.
pub(super) struct LogFile {
    file: File,
    length: u64,
}

/// What was found at the end of a file.
pub(super) struct Tail {
    /// Behind the last record.
    pub(super) head: Head,
    /// What a killed process left behind that record.
    pub(super) torn: Option<Torn>,
    /// Whether the file ends with a newline.
    pub(super) ended: bool,
}

/// Bytes behind the last record that are no record.
pub(super) struct Torn {
    /// How many, without a newline at their end.
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

impl Torn {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: Digest::of(bytes) }
    }
}

impl LogFile {
    /// Opens or creates the file, and keeps every other process from writing to it.
    pub(super) fn open(path: &Path) -> Result<(Self, Tail), OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        let length = file.metadata().map_err(unwritable)?.len();
        let tail = read_tail(&mut file, length).map_err(unwritable)?;
        let tail = tail.ok_or_else(|| OpenError::NoChain { path: path.to_owned() })?;
        // A new name is not durable before its directory is.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)?;
        Ok((Self { file, length }, tail))
    }

    /// Whether the path still leads here.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let here = self.file.metadata().map(|data| (data.dev(), data.ino())).ok();
        here.is_some() && std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok() == here
    }

    /// Writes as much as can be written; says how much that was.
    pub(super) fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write(&bytes[done..]) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    done += count;
                    self.length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Takes the last bytes back: the beginning of a line that will stand whole in another file.
    pub(super) fn take_back(&mut self, bytes: usize) -> io::Result<()> {
        self.file.set_len(self.length - bytes as u64)?;
        self.length -= bytes as u64;
        Ok(())
    }

    /// Returns when everything written is durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Looks for the last record from the end, and no further than it must. None when what stands there is not ours.
fn read_tail(file: &mut File, length: u64) -> io::Result<Option<Tail>> {
    if length == 0 {
        return Ok(Some(Tail { head: Head::start(), torn: None, ended: true }));
    }
    // A line may take half of it, and what was torn off behind it the other.
    let reach = length.min(2 * LONGEST_LINE as u64);
    let mut bytes = vec![0; usize::try_from(reach).expect("at most two lines")];
    file.seek(SeekFrom::Start(length - reach))?;
    file.read_exact(&mut bytes)?;
    Ok(last_record(&bytes, reach == length))
}

fn last_record(bytes: &[u8], whole_file: bool) -> Option<Tail> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ended = body.len() < bytes.len();
    let mut end = body.len();
    // Where the torn lines begin; there are none yet.
    let mut behind = body.len() + 1;
    loop {
        let newline = body[..end].iter().rposition(|byte| *byte == b'\n');
        if newline.is_none() && !whole_file {
            return None;
        }
        let start = newline.map_or(0, |at| at + 1);
        match Line::read(&body[start..end]) {
            Line::Record(link) => {
                let head = Head { seq: link.seq, digest: Digest::of(&body[start..end]) };
                return Some(Tail { head, torn: body.get(behind..).map(Torn::of), ended });
            }
            Line::Foreign => return None,
            Line::Torn if start == 0 => {
                return Some(Tail { head: Head::start(), torn: Some(Torn::of(body)), ended });
            }
            Line::Torn => (behind, end) = (start, start - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Decision, Subject, Verdict};
    use super::*;

    #[test]
    fn the_last_record_is_found_from_the_end_of_a_file() {
        let mut lines = Vec::new();
        let mut head = Head::start();
        let verdict = || Verdict::new(Subject::Startup, Decision::Note, "startup");
        head.append(&verdict(), &mut lines);
        let one = (head, lines.clone());
        head.append(&verdict(), &mut lines);
        let two = lines;
        let with = |more: &[u8]| [two.as_slice(), more].concat();
        let cut = |bytes: usize| two[..two.len() - bytes].to_vec();
        // The bytes; then: the number of the head, the torn bytes, whether a newline ends them.
        let cases: Vec<(&str, Vec<u8>, Option<(u64, Option<u64>, bool)>)> = vec![
            ("whole", two.clone(), Some((2, None, true))),
            ("only the newline is missing", cut(1), Some((2, None, false))),
            ("torn", cut(9), Some((1, Some((two.len() - one.1.len() - 9) as u64), false))),
            ("torn and ended", with(b"{\"se\n"), Some((2, Some(4), true))),
            ("torn twice", with(b"{\"se\n\0\0"), Some((2, Some(7), false))),
            ("nothing but torn", b"{\"se".to_vec(), Some((0, Some(4), false))),
            ("an empty line", with(b"\n"), Some((2, Some(0), true))),
            ("another log", b"{\"ts\":1}\n".to_vec(), None),
            ("another log behind ours", with(b"{\"ts\":1}\n"), None),
        ];
        for (name, bytes, expected) in cases {
            let found = last_record(&bytes, true);
            let torn = |tail: &Tail| tail.torn.as_ref().map(|torn| torn.bytes);
            assert_eq!(found.as_ref().map(|tail| (tail.head.seq, torn(tail), tail.ended)), expected, "{name}");
        }
        assert_eq!(last_record(&two, true).map(|tail| tail.head), Some(head));
        assert!(last_record(&two[9..one.1.len()], false).is_none(), "a line that is longer than we look");
    }

    #[test]
    fn a_log_has_one_writer() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.jsonl");
        let first = LogFile::open(&path).map(drop as fn(_));
        assert!(first.is_ok());
        let held = LogFile::open(&path).map_err(|error| error.to_string());
        let again = LogFile::open(&path).map(drop as fn(_));
        assert!(matches!(again, Err(OpenError::InUse { .. })), "{again:?}");
        drop(held);
        assert!(LogFile::open(&path).is_ok());
    }
}
