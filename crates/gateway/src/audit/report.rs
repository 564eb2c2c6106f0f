//! What a log says, in numbers: who came, what was refused and why, what was ended and how late.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::verdict::LATE_TERMINATION;
use super::verify::Lines;

/// Since when: a span before now, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// At this time.
    At(Timestamp),
}

/// The text is neither a span nor a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a span such as 24h or 7d, or a moment such as 2026-11-01T00:00:00Z")]
pub struct MomentError;

impl std::str::FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let ago = model::span::parse(text).ok().map(Self::Ago);
        ago.or_else(|| Timestamp::parse(text).map(Self::At)).ok_or(MomentError)
    }
}

impl Moment {
    /// The moment, as of now.
    #[must_use]
    pub fn as_of(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(span) => now.minus(span),
            Self::At(moment) => moment,
        }
    }
}

/// Counts by a name.
pub type Counts = BTreeMap<String, u64>;

/// The numbers of one or more logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records counted.
    pub records: u64,
    /// Lines that are no records. `audit verify` says whether that is in order.
    pub unreadable: u64,
    /// The first record's time.
    pub from: Option<Timestamp>,
    /// The last record's time.
    pub to: Option<Timestamp>,
    /// By SPIFFE ID.
    pub identities: BTreeMap<String, Identity>,
    /// Refusals, by reason code.
    pub denied: Counts,
    /// What would have been refused if it were not only observed, by reason code.
    pub observed: Counts,
    /// Connections refused before any DICOM, by rule or, where no rule was asked, by reason code.
    pub connections_refused: Counts,
    /// Associations that a decision ended, by reason code.
    pub terminated: Counts,
    /// Those that ended later than they should have.
    pub late_terminations: Late,
    /// Alerts, by code.
    pub alerts: Counts,
    /// Changes of table and certificates, and reloads that failed, by reason code.
    pub policy: Counts,
    /// Verdicts that found no room while the log could not be written.
    pub lost: u64,
}

/// What one identity did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Associations accepted.
    pub associations: u64,
    /// Instances that became durable.
    pub stored: u64,
    /// Instances whose very bytes were held already.
    pub already_held: u64,
    /// Instances refused.
    pub refused: u64,
    /// Data set bytes of the instances that became durable.
    pub bytes: u64,
}

/// Terminations that came too late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// The longest, in milliseconds.
    pub worst_ms: u64,
}

#[derive(Deserialize)]
struct Record<'l> {
    ts: Timestamp,
    #[serde(borrow)]
    event: Cow<'l, str>,
    #[serde(borrow)]
    decision: Cow<'l, str>,
    #[serde(borrow)]
    reason: Cow<'l, str>,
    #[serde(borrow)]
    rule: Option<Cow<'l, str>>,
    #[serde(borrow)]
    spiffe_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    alert: Option<Cow<'l, str>>,
    bytes: Option<u64>,
    lag_ms: Option<u64>,
    lost: Option<u64>,
}

impl Report {
    /// Counts one more file, a line at a time, as far as its records are not older than `since`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&mut self, path: &Path, since: Option<Timestamp>) -> io::Result<()> {
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next()? {
            match serde_json::from_slice::<Record<'_>>(line) {
                Ok(record) if since.is_some_and(|since| record.ts < since) => {}
                Ok(record) => self.count(&record),
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(())
    }

    fn count(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.from = Some(self.from.map_or(record.ts, |from| from.min(record.ts)));
        self.to = Some(self.to.map_or(record.ts, |to| to.max(record.ts)));
        self.lost += record.lost.unwrap_or(0);
        self.count_identity(record);
        let reason = record.reason.as_ref();
        match (record.event.as_ref(), record.decision.as_ref()) {
            ("connection", "deny") => one_more(&mut self.connections_refused, record.rule.as_deref().unwrap_or(reason)),
            ("policy", _) => one_more(&mut self.policy, reason),
            (_, "deny") => one_more(&mut self.denied, reason),
            (_, "observe") => one_more(&mut self.observed, reason),
            (_, "terminate") => one_more(&mut self.terminated, reason),
            _ => {}
        }
        if let Some(alert) = record.alert.as_deref() {
            one_more(&mut self.alerts, alert);
            if alert == LATE_TERMINATION {
                self.late_terminations.count += 1;
                self.late_terminations.worst_ms = self.late_terminations.worst_ms.max(record.lag_ms.unwrap_or(0));
            }
        }
    }

    fn count_identity(&mut self, record: &Record<'_>) {
        let Some(id) = record.spiffe_id.as_deref() else { return };
        let mut counted = self.identities.get(id).copied().unwrap_or_default();
        match (record.event.as_ref(), record.decision.as_ref()) {
            ("association", "allow") => counted.associations += 1,
            ("instance", "deny") => counted.refused += 1,
            ("instance", "allow") if record.reason == "already_held" => counted.already_held += 1,
            ("instance", "allow") => {
                counted.stored += 1;
                counted.bytes += record.bytes.unwrap_or(0);
            }
            _ => return,
        }
        self.identities.insert(id.to_owned(), counted);
    }
}

fn one_more(counts: &mut Counts, name: &str) {
    // Names repeat; only a new one is copied.
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"seq":1,"ts":"2026-11-01T00:00:00.000Z","event":"association","decision":"allow","reason":"granted","spiffe_id":"spiffe://a.example/x"}
{"seq":2,"ts":"2026-11-02T00:00:00.000Z","event":"instance","decision":"allow","reason":"stored","spiffe_id":"spiffe://a.example/x","bytes":10}
{"seq":3,"ts":"2026-11-02T00:00:00.000Z","event":"instance","decision":"allow","reason":"already_held","spiffe_id":"spiffe://a.example/x","bytes":10}
{"seq":4,"ts":"2026-11-02T00:00:00.000Z","event":"instance","decision":"deny","reason":"modality","spiffe_id":"spiffe://a.example/x"}
{"seq":5,"ts":"2026-11-02T00:00:00.000Z","event":"instance","decision":"observe","reason":"modality","spiffe_id":"spiffe://b.example/y"}
{"seq":6,"ts":"2026-11-02T00:00:00.000Z","event":"connection","decision":"deny","reason":"expired","rule":"V-26"}
{"seq":7,"ts":"2026-11-02T00:00:00.000Z","event":"connection","decision":"deny","reason":"plain_dicom"}
{"seq":8,"ts":"2026-11-02T00:00:00.000Z","event":"association","decision":"terminate","reason":"policy_revoked","lag_ms":1500,"alert":"late_termination"}
{"seq":9,"ts":"2026-11-02T00:00:00.000Z","event":"policy","decision":"note","reason":"policy_changed"}
{"seq":10,"ts":"2026-11-03T00:00:00.000Z","event":"log","decision":"note","reason":"log_restored","lost":3}
torn
"#;

    fn report(since: Option<&str>) -> Report {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, LINES).expect("ours");
        let since = since.map(|since| Timestamp::parse(since).expect("RFC 3339"));
        let mut report = Report::default();
        report.read(&path, since).expect("it is there");
        report
    }

    #[test]
    fn each_record_is_counted_where_it_belongs() {
        let report = report(None);
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let one = Identity { associations: 1, stored: 1, already_held: 1, refused: 1, bytes: 10 };
        assert_eq!(report.identities, BTreeMap::from([("spiffe://a.example/x".to_owned(), one)]));
        assert_eq!(report.denied, counts(&[("modality", 1)]));
        assert_eq!(report.observed, counts(&[("modality", 1)]));
        assert_eq!(report.connections_refused, counts(&[("V-26", 1), ("plain_dicom", 1)]));
        assert_eq!(report.terminated, counts(&[("policy_revoked", 1)]));
        assert_eq!(report.late_terminations, Late { count: 1, worst_ms: 1500 });
        assert_eq!(report.alerts, counts(&[("late_termination", 1)]));
        assert_eq!(report.policy, counts(&[("policy_changed", 1)]));
        assert_eq!((report.records, report.unreadable, report.lost), (10, 1, 3));
    }

    #[test]
    fn what_is_older_is_left_out() {
        let report = report(Some("2026-11-02T00:00:00Z"));
        assert_eq!(report.records, 9);
        assert_eq!(report.identities["spiffe://a.example/x"].associations, 0);
    }

    #[test]
    fn since_is_a_span_or_a_moment() {
        let now = Timestamp::from_seconds(100_000);
        let cases = [("24h", Some(13_600)), ("1970-01-01T00:01:00Z", Some(60)), ("yesterday", None)];
        for (text, seconds) in cases {
            let moment = text.parse::<Moment>().ok().map(|moment| moment.as_of(now));
            assert_eq!(moment, seconds.map(Timestamp::from_seconds), "{text}");
        }
    }
}
