//! What is legal in a table and perhaps not meant, and what the strict profile does not take.

use std::collections::BTreeSet;

use model::Timestamp;

use crate::row::{Choice, DenyRow, Notes, Operation, Row, Subject};
use crate::table::Table;

impl Table {
    /// What is legal and perhaps not meant, one sentence each.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_killed() {
            warnings.push("kill_switch is on: everything is denied to everybody".to_owned());
        }
        for tenant in self.limited_tenants().filter(|tenant| !self.rows().iter().any(|row| row.tenant == **tenant)) {
            warnings.push(format!("tenant {:?} has limits and no row", tenant.as_str()));
        }
        for row in self.deny_rows() {
            warnings.extend(of_deny_row(row).into_iter().map(|said| format!("row {:?} {said}", row.id)));
            warnings.extend(of_time(&row.id, row.valid_until, &row.notes, now));
        }
        for row in self.rows() {
            warnings.extend(of_columns(row));
            warnings.extend(of_time(&row.id, row.valid_until, &row.notes, now));
            warnings.extend(self.shadowed(row, now));
        }
        warnings
    }

    /// What the strict profile refuses, one sentence each; empty when it takes the table.
    #[must_use]
    pub fn strict_problems(&self) -> Vec<String> {
        let denying = self.deny_rows().iter().flat_map(|row| unanswered(&row.id, &row.notes));
        let allowing = self.rows().iter().flat_map(|row| {
            let mut problems = unanswered(&row.id, &row.notes);
            if row.observes {
                problems.push(format!("row {:?} only observes: enforce it", row.id));
            }
            if matches!(row.identity, Subject::Prefix(_)) {
                let wide = wildcards(row).into_iter();
                problems.extend(wide.map(|field| {
                    format!("row {:?} gives every identity below a prefix every value of {field}: list them", row.id)
                }));
            }
            problems
        });
        denying.chain(allowing).collect()
    }

    /// Rows whose `review_by` has passed.
    #[must_use]
    pub fn overdue_reviews(&self, now: Timestamp) -> usize {
        let notes = self.rows().iter().map(|row| &row.notes).chain(self.deny_rows().iter().map(|row| &row.notes));
        notes.filter(|notes| is_overdue(notes, now)).count()
    }

    /// Whether a deny row leaves nothing of a row.
    fn shadowed(&self, row: &Row, now: Timestamp) -> Option<String> {
        let deny =
            self.deny_rows().iter().find(|deny| is_standing(deny, now) && names(deny, row) && covers(deny, row))?;
        Some(format!("row {:?} is never reached: row {:?} denies all that it allows", row.id, deny.id))
    }
}

/// Whether a deny row is in force now and not only for a time.
fn is_standing(deny: &DenyRow, now: Timestamp) -> bool {
    deny.standing.in_force(now)
        && deny.windows.is_none()
        && deny.valid_until.is_none()
        && deny.not_before.is_none_or(|begin| begin <= now)
}

/// Whether a deny row names everybody whom a row names.
fn names(deny: &DenyRow, row: &Row) -> bool {
    match (&deny.identity, &row.identity) {
        (None, _) => true,
        (Some(subject), Subject::Exact(id)) => subject.covers(id),
        (Some(Subject::Prefix(wide)), Subject::Prefix(narrow)) => narrow.starts_with(wide.as_str()),
        (Some(Subject::Exact(_)), Subject::Prefix(_)) => false,
    }
}

/// Whether every column of a deny row has all that the row allows there. A row that only observes allows more than it lists.
fn covers(deny: &DenyRow, row: &Row) -> bool {
    fn all<T: Ord>(deny: Option<&Choice<T>>, row: Option<&Choice<T>>) -> bool {
        deny.is_none_or(|deny| deny.any || row.is_none_or(|row| !row.any && row.of.is_subset(&deny.of)))
    }
    fn listed<T: Ord>(deny: Option<&BTreeSet<T>>, row: Option<&BTreeSet<T>>) -> bool {
        deny.is_none_or(|deny| row.is_some_and(|row| row.is_subset(deny)))
    }
    let (denied, allowed) = (&deny.what, &row.what);
    let only_stores = allowed.operations.as_ref().is_none_or(|of| of.iter().all(|one| *one == Operation::Store));
    let networks = denied.cidrs.as_ref().is_none_or(|wide| {
        allowed.cidrs.as_ref().is_some_and(|own| own.iter().all(|narrow| wide.iter().any(|net| net.covers(narrow))))
    });
    denied.is_bare()
        || !row.observes
            && networks
            && (only_stores || instance_columns(deny).is_empty())
            && all(denied.called.as_ref(), allowed.called.as_ref())
            && all(denied.calling.as_ref(), allowed.calling.as_ref())
            && listed(denied.operations.as_ref(), allowed.operations.as_ref())
            && all(denied.classes.as_ref(), allowed.classes.as_ref())
            && all(denied.syntaxes.as_ref(), allowed.syntaxes.as_ref())
            && listed(denied.vpces.as_ref(), allowed.vpces.as_ref())
            && listed(denied.modalities.as_ref(), allowed.modalities.as_ref())
            && listed(denied.issuers.as_ref(), allowed.issuers.as_ref())
            && listed(denied.institutions.as_ref(), allowed.institutions.as_ref())
}

/// The columns of a deny row that only an instance to store can match.
fn instance_columns(deny: &DenyRow) -> Vec<&'static str> {
    let what = &deny.what;
    let columns = [
        ("sop_classes", what.classes.is_some()),
        ("transfer_syntaxes", what.syntaxes.is_some()),
        ("modalities", what.modalities.is_some()),
        ("patient_issuers", what.issuers.is_some()),
        ("institutions", what.institutions.is_some()),
    ];
    columns.into_iter().filter(|(_, populated)| *populated).map(|(name, _)| name).collect()
}

fn of_deny_row(deny: &DenyRow) -> Vec<String> {
    let (what, of_instances) = (&deny.what, instance_columns(deny));
    let never_stores = what.operations.as_ref().is_some_and(|operations| !operations.contains(&Operation::Store));
    let mut said = Vec::new();
    if deny.identity.is_none() && what.is_bare() && deny.windows.is_none() {
        said.push("denies everything to everybody".to_owned());
    }
    if never_stores && !of_instances.is_empty() {
        let columns = of_instances.join(", ");
        said.push(format!("never denies anything: {columns} can only match a store, which operations leaves out"));
    }
    if what.vpces.is_some() {
        said.push("also denies connections without a PROXY v2 header that names an endpoint: source_vpce".to_owned());
    }
    said
}

fn of_time(id: &str, valid_until: Option<Timestamp>, notes: &Notes, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(end) = valid_until.filter(|end| *end < now) {
        warnings.push(format!("row {id:?}: valid_until {end} has passed: remove it, or extend it"));
    }
    if let Some(day) = notes.review_by.filter(|_| is_overdue(notes, now)) {
        warnings.push(format!("row {id:?}: review_by {day} has passed: somebody must look at it"));
    }
    warnings
}

fn is_overdue(notes: &Notes, now: Timestamp) -> bool {
    notes.review_by.is_some_and(|day| day < now)
}

fn of_columns(row: &Row) -> Vec<String> {
    fn nothing<T>(choice: Option<&Choice<T>>) -> bool {
        choice.is_none_or(|choice| !choice.any && choice.of.is_empty())
    }
    let what = &row.what;
    let stores = what.allows(Operation::Store);
    let empty = [
        ("called_aets", nothing(what.called.as_ref())),
        ("calling_aets", nothing(what.calling.as_ref())),
        ("sop_classes", stores && nothing(what.classes.as_ref())),
        ("transfer_syntaxes", stores && nothing(what.syntaxes.as_ref())),
        ("operations", what.operations.as_ref().is_none_or(BTreeSet::is_empty)),
    ];
    let wide = wildcards(row).into_iter().map(|field| format!("{field} has \"*\", which allows every value"));
    let empty = empty.iter().filter(|(_, empty)| *empty);
    let mut said: Vec<String> = wide
        .chain(empty.map(|(field, _)| format!("{field} is not there or empty, so the row allows nothing")))
        .collect();
    let mut say = |holds: bool, what: &str| {
        if holds {
            said.push(what.to_owned());
        }
    };
    let vpce = what.vpces.is_some() || row.require_vpce;
    say(vpce, "source_vpce or require_vpce allows nothing to a connection without a PROXY v2 header that names one");
    say(row.observes, "it only observes: its constraints refuse nothing");
    say(matches!(row.identity, Subject::Prefix(_)), "prefix lets in identities that nobody has listed");
    say(row.notes.owner.is_none(), "owner is not there, so nobody answers for it");
    said.into_iter().map(|said| format!("row {:?}: {said}", row.id)).collect()
}

/// The columns that have `*`.
fn wildcards(row: &Row) -> Vec<&'static str> {
    fn any<T>(choice: Option<&Choice<T>>) -> bool {
        choice.is_some_and(|choice| choice.any)
    }
    let columns = [
        ("called_aets", any(row.what.called.as_ref())),
        ("calling_aets", any(row.what.calling.as_ref())),
        ("sop_classes", any(row.what.classes.as_ref())),
        ("transfer_syntaxes", any(row.what.syntaxes.as_ref())),
    ];
    columns.into_iter().filter(|(_, any)| *any).map(|(field, _)| field).collect()
}

/// What the strict profile wants to know of every row.
fn unanswered(id: &str, notes: &Notes) -> Vec<String> {
    let answers = [
        ("owner", notes.owner.is_some()),
        ("contact", notes.contact.is_some()),
        ("ticket", notes.ticket.is_some()),
        ("created_by", notes.created_by.is_some()),
        ("approved_by", notes.approved_by.is_some()),
        ("updated_at", notes.updated_at.is_some()),
    ];
    let missing = answers.iter().filter(|(_, there)| !there);
    let mut problems: Vec<_> = missing.map(|(field, _)| format!("row {id:?} has no {field}")).collect();
    if notes.created_by.is_some() && notes.created_by == notes.approved_by {
        problems.push(format!("row {id:?} was approved by the person who wrote it"));
    }
    problems
}
