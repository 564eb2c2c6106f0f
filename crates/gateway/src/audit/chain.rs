//! The chain: each record has a sequence number and the digest of the record before it, so that whoever changes, removes,
//! adds or moves one breaks the next.

use std::borrow::Cow;

use model::Digest;
use serde::Deserialize;

use super::verdict::{RECOVERED, Verdict};

/// No record is longer; a line that is was not written by us. The longest field is `detail`, a few hundred bytes.
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// How far a chain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last record; 0 when there is none.
    pub seq: u64,
    /// SHA-256 of the last record's bytes without its newline; zeros when there is none.
    pub digest: Digest,
}

impl Head {
    /// Before the first record.
    #[must_use]
    pub fn start() -> Self {
        Self { seq: 0, digest: Digest::parse(&"0".repeat(64)).expect("64 digits") }
    }

    /// Adds a record, with its newline, to `lines`.
    pub(super) fn append(&mut self, verdict: &Verdict, lines: &mut Vec<u8>) {
        let from = lines.len();
        lines.extend_from_slice(format!("{{\"seq\":{},\"prev\":\"{}\",", self.seq + 1, self.digest).as_bytes());
        let verdict = serde_json::to_vec(verdict).expect("a verdict is plain data");
        // Without its opening brace; a verdict is never empty.
        lines.extend_from_slice(&verdict[1..]);
        *self = self.after(&lines[from..]);
        lines.push(b'\n');
    }

    /// The head behind one more record.
    pub(super) fn after(self, record: &[u8]) -> Self {
        Self { seq: self.seq + 1, digest: Digest::of(record) }
    }
}

/// What a line is.
pub(super) enum Line<'l> {
    /// A record of a chain, whichever.
    Record(Link<'l>),
    /// Less than a record: what a killed process leaves behind.
    Torn,
    /// JSON, and no record of ours.
    Foreign,
}

/// What the chain asks of a record.
#[derive(Deserialize)]
pub(super) struct Link<'l> {
    pub(super) seq: u64,
    pub(super) prev: Digest,
    #[serde(borrow)]
    event: Cow<'l, str>,
    #[serde(borrow)]
    reason: Cow<'l, str>,
    bytes: Option<u64>,
    sha256: Option<Digest>,
}

impl Link<'_> {
    /// For the note behind a torn line: how long that is, and its digest.
    pub(super) fn recovers(&self) -> Option<(u64, Digest)> {
        let note = self.event == "log" && self.reason == RECOVERED;
        if note { self.bytes.zip(self.sha256) } else { None }
    }
}

impl<'l> Line<'l> {
    pub(super) fn read(line: &'l [u8]) -> Self {
        if let Ok(link) = serde_json::from_slice(line) {
            return Self::Record(link);
        }
        match serde_json::from_slice::<serde_json::Map<_, _>>(line) {
            Ok(_) => Self::Foreign,
            Err(_) => Self::Torn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Decision, Subject};
    use super::*;

    #[test]
    fn each_record_names_the_one_before_it() {
        let mut lines = Vec::new();
        let mut head = Head::start();
        for reason in ["one", "two"] {
            head.append(&Verdict::new(Subject::Startup, Decision::Note, reason), &mut lines);
        }
        let text = String::from_utf8(lines).expect("JSON");
        let written: Vec<_> = text.lines().collect();
        let records: Vec<serde_json::Value> =
            written.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((&records[0]["seq"], &records[1]["seq"]), (&1.into(), &2.into()));
        assert_eq!(records[0]["prev"], "0".repeat(64));
        assert_eq!(records[1]["prev"], Digest::of(written[0].as_bytes()).to_string());
        assert_eq!(head, Head { seq: 2, digest: Digest::of(written[1].as_bytes()) });
    }

    #[test]
    fn a_line_is_a_record_or_torn_or_not_ours() {
        let zeros = "0".repeat(64);
        let whole = format!(r#"{{"seq":1,"prev":"{zeros}","event":"log","reason":"x"}}"#);
        let twice = whole.replacen("\"seq\":1", "\"seq\":1,\"seq\":2", 1);
        let cases: &[(&str, &str, &str)] = &[
            ("whole", &whole, "record"),
            ("cut off", &whole[..40], "torn"),
            ("empty", "", "torn"),
            ("zeros of a power failure", "\0\0\0", "torn"),
            ("no chain", r#"{"ts":"2026"}"#, "foreign"),
            ("a number twice", &twice, "foreign"),
            ("no digest", r#"{"seq":1,"prev":"x","event":"log","reason":"x"}"#, "foreign"),
        ];
        for (name, line, expected) in cases {
            let found = match Line::read(line.as_bytes()) {
                Line::Record(_) => "record",
                Line::Torn => "torn",
                Line::Foreign => "foreign",
            };
            assert_eq!(found, *expected, "{name}");
        }
    }
}
