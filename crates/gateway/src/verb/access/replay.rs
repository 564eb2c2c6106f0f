//! The past asked of two tables: which decisions would be others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use access::{Denial, Table};
use model::{SpiffeId, Tenant, Timestamp};
use serde_json::{Value, json};

use super::count;
use super::log::{self, About, Decided, Unasked};

/// How a decision changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ToDeny,
    ToAllow,
    OtherTenant,
}

impl Kind {
    const ALL: [Self; 3] = [Self::ToDeny, Self::ToAllow, Self::OtherTenant];

    fn as_str(self) -> &'static str {
        match self {
            Self::ToDeny => "allow → deny",
            Self::ToAllow => "deny → allow",
            Self::OtherTenant => "other tenant",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::ToDeny => "to_deny",
            Self::ToAllow => "to_allow",
            Self::OtherTenant => "other_tenant",
        }
    }
}

/// What both tables say to the past. As large as there are different identities and reasons, however long the log.
#[derive(Debug, Default)]
pub(super) struct Replay {
    asked: u64,
    changes: BTreeMap<(Kind, SpiffeId, String), u64>,
    unasked: BTreeMap<Unasked, u64>,
}

impl Replay {
    pub(super) fn of(files: &[PathBuf], old: &Table, new: &Table) -> anyhow::Result<Self> {
        let mut replay = Self::default();
        log::read(files, |decided| replay.take(decided, old, new))?;
        Ok(replay)
    }

    fn take(&mut self, decided: Result<Decided, Unasked>, old: &Table, new: &Table) {
        match decided {
            Err(why) => *self.unasked.entry(why).or_default() += 1,
            Ok(decided) if decided.is_observed() => {}
            Ok(Decided { at, about, .. }) => {
                self.asked += 1;
                if let Some((kind, why)) = change(Said::by(old, &about, at), Said::by(new, &about, at)) {
                    *self.changes.entry((kind, about.caller().id.clone(), why)).or_default() += 1;
                }
            }
        }
    }

    fn of_kind(&self, kind: Kind) -> u64 {
        self.changes.iter().filter(|((of, ..), _)| *of == kind).map(|(_, count)| count).sum()
    }

    /// Whether nothing that was allowed would be denied.
    pub(super) fn denies_nothing_more(&self) -> bool {
        self.of_kind(Kind::ToDeny) == 0
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let sums: Vec<_> = Kind::ALL.map(|kind| format!("{} {}", self.of_kind(kind), kind.as_str())).into();
        let mut lines = vec![format!("replay of {} decisions: {}", self.asked, sums.join(", "))];
        let widest = self.changes.values().max().map_or(0, |most| most.to_string().len());
        lines.extend(self.changes.iter().map(|((kind, id, why), times)| {
            let kind = kind.as_str();
            format!("  {kind}  {times:>widest$} × {id}  {why}")
        }));
        if !self.unasked.is_empty() {
            let all = self.unasked.values().sum::<u64>();
            lines.push(format!(
                "{} could not be asked again",
                count(usize::try_from(all).unwrap_or(usize::MAX), "record")
            ));
            lines.extend(self.unasked.iter().map(|(why, times)| format!("  {times} × {why}")));
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let changes = self.changes.iter().map(
            |((kind, id, why), times)| json!({ "change": kind.code(), "spiffe_id": id, "reason": why, "count": times }),
        );
        let unasked = self.unasked.iter().map(|(why, times)| json!({ "reason": why, "count": times }));
        json!({
            "asked": self.asked,
            "changes": changes.collect::<Vec<_>>(),
            "not_asked": unasked.collect::<Vec<_>>(),
        })
    }
}

/// What a table says to a decision of the past.
enum Said {
    Denied(Denial),
    /// The caller's request would be read; nothing more can be said.
    Heard,
    Allowed {
        row: String,
        tenant: Tenant,
    },
}

impl Said {
    fn by(table: &Table, about: &About, at: Timestamp) -> Self {
        let answer = match about {
            About::Door { caller, origin } => {
                return table.hears(caller, origin, at).map_or_else(Self::Denied, |()| Self::Heard);
            }
            About::Association(question) => table.answer_association(question, at),
            About::Instance(question) => table.answer(question, at),
        };
        match answer.verdict {
            Ok(row) => Self::Allowed { row: row.id().to_owned(), tenant: row.tenant().clone() },
            Err(denial) => Self::Denied(denial),
        }
    }
}

fn change(old: Said, new: Said) -> Option<(Kind, String)> {
    match (old, new) {
        (Said::Denied(_), Said::Denied(_)) | (Said::Heard, Said::Heard | Said::Allowed { .. }) => None,
        (Said::Allowed { .. }, Said::Heard) => None,
        (Said::Heard | Said::Allowed { .. }, Said::Denied(denial)) => Some((Kind::ToDeny, told(&denial))),
        (Said::Denied(denial), Said::Heard) => {
            Some((Kind::ToAllow, format!("was {}; its association request would be read", told(&denial))))
        }
        (Said::Denied(denial), Said::Allowed { row, tenant }) => {
            Some((Kind::ToAllow, format!("was {}; now row {row:?}, tenant {tenant}", told(&denial))))
        }
        (Said::Allowed { tenant: old, .. }, Said::Allowed { row, tenant: new }) => {
            (old != new).then(|| (Kind::OtherTenant, format!("{old} → {new} (row {row:?})")))
        }
    }
}

fn told(denial: &Denial) -> String {
    let row = denial.row.as_ref().map(|row| format!(" (row {row:?})")).unwrap_or_default();
    format!("{denial}{row}")
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::{GRANTED, STORED, decisions, line};
    use super::super::testing::TABLE;
    use super::*;

    fn replay(log: &str, from: &str, to: &str) -> (Replay, Vec<(&'static str, String, u64)>) {
        let (old, new) = (Table::parse(TABLE).expect("valid"), Table::parse(&TABLE.replace(from, to)).expect("valid"));
        let mut replay = Replay::default();
        decisions(log).into_iter().for_each(|decided| replay.take(decided, &old, &new));
        let changes = replay.changes.iter().map(|((kind, _, why), count)| (kind.code(), why.clone(), *count)).collect();
        (replay, changes)
    }

    #[test]
    fn the_past_tells_what_a_change_of_the_table_does() {
        let log = line(GRANTED) + &line(STORED) + &line(STORED);
        let stranger = line(r#""event":"association","decision":"deny","reason":"no_row""#).replace("/ct1", "/ct2");
        let class = "sop_class: the row does not list the SOP class (row \"ct1\")";
        let called = "called_aet: the row does not list the called AE title (row \"ct1\")";
        let heard = "was no_row: no row names this identity; its association request would be read";
        let cases: [(&str, &str, &str, &str, Vec<(&str, &str, u64)>); 6] = [
            ("nothing", &log, "17", "18", vec![]),
            ("a class", &log, "CTImage", "MRImage", vec![("to_deny", class, 2)]),
            ("a title", &log, "[\"ARCHIVE\"] # ours", "[\"OTHER\"]", vec![("to_deny", called, 3)]),
            (
                "a tenant",
                &log,
                "tenant = \"hospital-a\"\ncalled_aets = [\"ARCHIVE\"] # ours",
                "tenant = \"b\"\ncalled_aets = [\"ARCHIVE\"]",
                vec![("other_tenant", "hospital-a → b (row \"ct1\")", 3)],
            ),
            ("a stranger let in", &stranger, "/mr1", "/ct2", vec![("to_allow", heard, 1)]),
            ("a stranger still", &stranger, "/mr1", "/ct3", vec![]),
        ];
        for (name, log, from, to, expected) in cases {
            let (replay, changes) = replay(log, from, to);
            let expected: Vec<_> =
                expected.into_iter().map(|(kind, why, count)| (kind, why.to_owned(), count)).collect();
            assert_eq!(changes, expected, "{name}");
            assert_eq!(replay.denies_nothing_more(), !expected.iter().any(|(kind, ..)| *kind == "to_deny"), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_counted_and_not_lost() {
        let (replay, changes) = replay(&(line(STORED) + "hello\n" + &line(STORED)), "17", "18");
        assert_eq!((replay.asked, changes.len()), (0, 0));
        assert_eq!(replay.unasked.values().sum::<u64>(), 3);
        assert!(replay.lines().iter().any(|line| line == "3 records could not be asked again"), "{:?}", replay.lines());
    }
}
