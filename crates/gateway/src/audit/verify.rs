//! Reads a log from its beginning and says where its chain is broken.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use model::{Digest, Hasher};

use super::chain::{Head, LONGEST_LINE, Line, Link};

/// A log whose chain is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Where it ends. What was cut off behind this cannot be seen in the files: compare it with what was written down
    /// elsewhere.
    pub head: Head,
    /// Records read.
    pub records: u64,
    /// Torn lines of killed processes, each with its note.
    pub recovered: u64,
}

/// Why a log cannot be trusted, or not be read.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The chain is broken.
    #[error("{} line {line}: {finding}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong there.
        finding: Finding,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// It should be a record of this log.
    #[error("this is not a record of an audit log")]
    Foreign,
    /// It is not whole, and no note behind it says that a process was killed.
    #[error("this line is not whole, and no `log_recovered` note stands behind it as this process leaves one")]
    Torn,
    /// The note does not fit what stands before it.
    #[error("this `log_recovered` note does not fit the line before it, which was changed, added or removed")]
    WrongRecovery,
    /// Its number is not the next one.
    #[error("record {found} stands where record {expected} belongs: records were removed, added or moved here")]
    Sequence {
        /// The number that should stand here.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// It continues another record than the one before it.
    #[error("record {0} does not continue the record before it: one of the two was changed")]
    Digest(u64),
    /// The last line is not finished.
    #[error("the last line is not whole: a process was killed while it wrote, or is writing right now")]
    Unfinished,
}

/// Checks that these files, the oldest first, are one chain that goes on from `after`. Reads a line at a time.
///
/// # Errors
/// With the first file and line where it is not.
pub fn verify(files: &[PathBuf], after: Head) -> Result<Verified, Broken> {
    let mut walk = Walk { head: after, records: 0, recovered: 0, torn: None };
    for path in files {
        walk.file(path)?;
    }
    // Torn behind the last record, and ended by nothing.
    if let Some(torn) = walk.torn {
        return Err(Broken::At { path: torn.path, line: torn.line, finding: Finding::Unfinished });
    }
    Ok(Verified { head: walk.head, records: walk.records, recovered: walk.recovered })
}

struct Walk {
    head: Head,
    records: u64,
    recovered: u64,
    torn: Option<TornRun>,
}

/// Lines that are no records, one behind the other.
struct TornRun {
    path: PathBuf,
    line: u64,
    bytes: u64,
    hasher: Hasher,
}

impl Walk {
    fn file(&mut self, path: &Path) -> Result<(), Broken> {
        let unreadable = |source| Broken::Unreadable { path: path.to_owned(), source };
        let mut lines = Lines::open(path).map_err(unreadable)?;
        let mut number = 0;
        while let Some(line) = lines.next().map_err(unreadable)? {
            number += 1;
            let at = |line, finding| Broken::At { path: path.to_owned(), line, finding };
            match Line::read(line) {
                Line::Record(link) => self.record(&link, line).map_err(|finding| match (finding, &self.torn) {
                    // The reader wants to see the torn line, not the record behind it.
                    (Finding::Torn, Some(torn)) => at(torn.line, Finding::Torn),
                    _ => at(number, finding),
                })?,
                Line::Foreign => return Err(at(number, Finding::Foreign)),
                Line::Torn => self.torn_line(path, number, line),
            }
        }
        Ok(())
    }

    fn record(&mut self, link: &Link<'_>, line: &[u8]) -> Result<(), Finding> {
        match (&self.torn, link.recovers()) {
            (None, None) => {}
            (Some(torn), Some((bytes, digest))) if torn.is(bytes, digest) => {
                self.torn = None;
                self.recovered += 1;
            }
            (Some(_), None) => return Err(Finding::Torn),
            (_, Some(_)) => return Err(Finding::WrongRecovery),
        }
        let expected = self.head.seq + 1;
        if link.seq != expected {
            return Err(Finding::Sequence { expected, found: link.seq });
        }
        if link.prev != self.head.digest {
            return Err(Finding::Digest(link.seq));
        }
        self.head = self.head.after(line);
        self.records += 1;
        Ok(())
    }

    fn torn_line(&mut self, path: &Path, number: u64, line: &[u8]) {
        match &mut self.torn {
            Some(torn) => {
                torn.hasher.update(b"\n");
                torn.hasher.update(line);
                torn.bytes += 1 + line.len() as u64;
            }
            None => {
                let mut hasher = Hasher::new();
                hasher.update(line);
                self.torn = Some(TornRun { path: path.to_owned(), line: number, bytes: line.len() as u64, hasher });
            }
        }
    }
}

impl TornRun {
    fn is(&self, bytes: u64, digest: Digest) -> bool {
        self.bytes == bytes && self.hasher.clone().finish() == digest
    }
}

/// The lines of a file without their newlines, one in memory at a time.
pub(super) struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::with_capacity(1 << 18, File::open(path)?), line: Vec::new() })
    }

    /// The next one. None at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let most = LONGEST_LINE as u64 + 1;
        if (&mut self.file).take(most).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any of an audit log"));
        }
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Decision, Subject, Verdict};
    use super::*;

    /// Five records, a line each.
    fn five() -> Vec<String> {
        let (mut head, mut lines) = (Head::start(), Vec::new());
        for reason in ["one", "two", "three", "four", "five"] {
            head.append(&Verdict::new(Subject::Instance, Decision::Allow, reason), &mut lines);
        }
        String::from_utf8(lines).expect("JSON").lines().map(str::to_owned).collect()
    }

    fn checked(lines: &[String]) -> Result<Verified, (u64, Finding)> {
        checked_text(&lines.iter().map(|line| format!("{line}\n")).collect::<String>(), Head::start())
    }

    fn checked_text(text: &str, after: Head) -> Result<Verified, (u64, Finding)> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, text).expect("ours");
        verify(&[path], after).map_err(|broken| match broken {
            Broken::At { line, finding, .. } => (line, finding),
            Broken::Unreadable { source, .. } => panic!("{source}"),
        })
    }

    #[test]
    fn whatever_is_done_to_a_log_is_found_with_its_line() {
        let swap = |found, expected| Finding::Sequence { expected, found };
        let cases: Vec<(&str, fn(&mut Vec<String>), u64, Finding)> = vec![
            ("edited", |l| l[2] = l[2].replace("three", "THREE"), 4, Finding::Digest(4)),
            (
                "edited, and its digest mended",
                |l| {
                    l[2] = l[2].replace("three", "THREE");
                    let digest = Digest::of(l[2].as_bytes()).to_string();
                    let link: Vec<_> = l[3].split("\"prev\":\"").collect();
                    l[3] = format!("{}\"prev\":\"{digest}{}", link[0], &link[1][64..]);
                },
                5,
                Finding::Digest(5),
            ),
            ("a space added", |l| l[1].push(' '), 3, Finding::Digest(3)),
            ("removed", |l| drop(l.remove(2)), 3, swap(4, 3)),
            ("the first removed", |l| drop(l.remove(0)), 1, swap(2, 1)),
            ("inserted", |l| l.insert(2, l[1].clone()), 3, swap(2, 3)),
            ("reordered", |l| l.swap(1, 2), 2, swap(3, 2)),
            ("cut in the middle", |l| l[2].truncate(20), 3, Finding::Torn),
            ("emptied", |l| l[2].clear(), 3, Finding::Torn),
            ("something else", |l| l[2] = "{\"ts\":1}".to_owned(), 3, Finding::Foreign),
            ("the last is not whole", |l| l[4].truncate(20), 5, Finding::Unfinished),
        ];
        assert_eq!(checked(&five()).map(|all| (all.records, all.head.seq)), Ok((5, 5)));
        for (name, change, line, finding) in cases {
            let mut lines = five();
            change(&mut lines);
            assert_eq!(checked(&lines).map(drop), Err((line, finding)), "{name}");
        }
    }

    #[test]
    fn what_is_cut_off_at_the_end_shows_in_number_and_digest_only() {
        let lines = five();
        let whole = checked(&lines).expect("whole");
        let cut = checked(&lines[..4]).expect("a chain as well");
        assert_ne!((cut.head.seq, cut.head.digest), (whole.head.seq, whole.head.digest));
        let rest = lines[4..].iter().map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(checked_text(&rest, cut.head), Ok(Verified { records: 1, ..whole }), "it goes on from there");
    }

    #[test]
    fn a_torn_line_is_forgiven_only_with_the_note_that_describes_it() {
        let torn = "{\"seq\":6,\"pre";
        let mut note = Vec::new();
        let mut head = checked(&five()).expect("whole").head;
        head.append(&Verdict::recovered(torn.len() as u64, Digest::of(torn.as_bytes())), &mut note);
        let note = String::from_utf8(note).expect("JSON").trim_end().to_owned();
        let with = |lines: &[&str]| [five(), lines.iter().map(|line| (*line).to_owned()).collect()].concat();
        assert_eq!(checked(&with(&[torn, &note])).map(|all| (all.records, all.recovered)), Ok((6, 1)));
        let other = torn.replace('6', "7");
        let cases: &[(&str, Vec<String>, u64, Finding)] = &[
            ("no torn line", with(&[&note]), 6, Finding::WrongRecovery),
            ("another torn line", with(&[&other, &note]), 7, Finding::WrongRecovery),
            ("one more", with(&[torn, "x", &note]), 8, Finding::WrongRecovery),
            ("no note", with(&[torn]), 6, Finding::Unfinished),
        ];
        for (name, lines, line, finding) in cases {
            assert_eq!(checked(lines).map(drop), Err((*line, *finding)), "{name}");
        }
    }
}
