//! The doors decide step by step, with what is known there. Here all of it is asked at once, and the answers must agree.

use std::sync::Arc;

use model::{ContextResult, InstanceClaim, Uid};
use proptest::prelude::*;
use proptest::sample::select;

use super::properties::{PEERS, allow_row, asked, deny_row, head, parse, rows, table};
use crate::row::DenyRow;
use crate::testing::{now, proposal};
use crate::{AuthorisedInstance, Contradiction, Denial, DenialCode, Grant, Operation, Permit, Question, Table};

/// The steps at which the attributes become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Door,
    Titles,
    Operation,
    Class,
    Syntax,
    Content,
}

/// Whether each of a row's populated columns matches a question in which everything is said, and the last step it asks about.
fn matches(row: &DenyRow, question: &Question) -> Option<Step> {
    if row.concerns(&question.caller.id, now()).is_err() {
        return None;
    }
    let (what, mut last) = (&row.what, Step::Door);
    let storing = question.operation == Operation::Store;
    let mut all = true;
    let mut column = |step: Step, populated: bool, matches: bool| {
        if populated {
            last = last.max(step);
            all &= matches;
        }
    };
    let vpce = question.origin.vpce.as_deref();
    let vpce = what.vpces.iter().any(|listed| listed.iter().any(|one| vpce.is_none_or(|own| own == one)));
    column(Step::Door, what.vpces.is_some(), vpce);
    let cidrs = what.cidrs.iter().flatten().any(|net| net.contains(question.origin.address()));
    column(Step::Door, what.cidrs.is_some(), cidrs);
    let titles = |choice: &crate::row::Choice<_>, own| choice.any || choice.of.contains(own);
    column(Step::Titles, what.called.is_some(), what.called.iter().any(|called| titles(called, &question.called)));
    column(Step::Titles, what.calling.is_some(), what.calling.iter().any(|own| titles(own, &question.calling)));
    let operation = what.operations.iter().flatten().any(|operation| *operation == question.operation);
    column(Step::Operation, what.operations.is_some(), operation);
    let class =
        what.classes.iter().any(|choice| choice.any || question.class.iter().all(|own| choice.of.contains(own)));
    column(Step::Class, what.classes.is_some(), storing && class);
    let syntax =
        what.syntaxes.iter().any(|choice| choice.any || question.syntax.iter().all(|own| choice.of.contains(own)));
    column(Step::Syntax, what.syntaxes.is_some(), storing && syntax);
    let content = question.content.as_ref().expect("everything is said");
    for (listed, own) in [
        (&what.modalities, content.modality()),
        (&what.issuers, content.issuer()),
        (&what.institutions, content.institution()),
    ] {
        let matches = listed.iter().flatten().any(|one| own.is_none_or(|own| own == one));
        column(Step::Content, listed.is_some(), storing && matches);
    }
    all.then_some(last)
}

/// Of the deny rows that match, the one that is to be named: the first that can be asked, of several the first by name.
fn denies(table: &Table, question: &Question) -> Option<(Step, String)> {
    let matching = table.deny_rows().iter().filter_map(|row| Some((matches(row, question)?, row.id().to_owned())));
    matching.min()
}

fn without_deny_rows(kept: &[String]) -> Table {
    parse(&kept.iter().filter(|row| !row.contains("effect = \"deny\"")).cloned().collect::<Vec<_>>())
}

/// An instance that these rows let in, and the association it came on.
fn let_in(table: &Table, who: usize, question: &Question) -> Option<(Arc<Grant>, AuthorisedInstance)> {
    let (class, syntax) = (question.class.clone()?, question.syntax.clone()?);
    let contexts: &[(&str, &[&str])] = &[(class.as_str(), &[syntax.as_str()])];
    let asked = proposal(question.called.as_str(), question.calling.as_str(), contexts);
    let grant = Arc::new(table.grant(Arc::clone(&PEERS[who]), question.origin.clone(), asked, now()).ok()?);
    let instance = confirm(permit(table, &grant, question).ok()?, question).ok()?;
    Some((grant, instance))
}

fn permit(table: &Table, grant: &Arc<Grant>, question: &Question) -> Result<Permit, Denial> {
    let (class, syntax) = (question.class.clone().expect("said"), question.syntax.clone().expect("said"));
    let instance = Uid::parse("1.2.3.4").expect("valid");
    table.permit(grant, InstanceClaim { class, instance, transfer_syntax: syntax }, now())
}

fn confirm(permit: Permit, question: &Question) -> Result<AuthorisedInstance, Denial> {
    permit.confirm(head(question)).map_err(|contradiction| match contradiction {
        Contradiction::NotAllowed(denial) => denial,
        other => panic!("{other}"),
    })
}

/// The code and the row of the denial that must be there.
fn named<T>(denied: Result<T, Denial>) -> Option<(DenialCode, Option<String>)> {
    denied.err().map(|denial| (denial.code, denial.row))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn deny_rows_asked_step_by_step_deny_what_they_deny_when_asked_at_once(
        allowing in prop::collection::vec(allow_row(), 0..4),
        denying in prop::collection::vec(deny_row(), 0..4),
        (_, question) in asked(),
        operation in select(vec![Operation::Store, Operation::Store, Operation::Echo]),
    ) {
        let (table, kept) = table(&[allowing, denying].concat());
        let question = Question { operation, ..question };
        let found = table.answer(&question, now());
        let without = without_deny_rows(&kept).answer(&question, now());
        match (denies(&table, &question), without.verdict.is_ok()) {
            (None, _) => prop_assert_eq!(found, without, "no deny row matches: as if there were none"),
            (Some((_, row)), true) => {
                prop_assert_eq!(named(found.verdict), Some((DenialCode::DenyRow, Some(row))));
            }
            // Whichever of the two comes first at the doors is named.
            (Some((_, row)), false) => {
                let found = named(found.verdict);
                let deny = found == Some((DenialCode::DenyRow, Some(row)));
                prop_assert!(deny || found == named(without.verdict.clone()), "{found:?} {without:?}");
            }
        }
    }

    #[test]
    fn deny_rows_that_come_later_deny_live_associations_what_they_deny_when_asked_at_once(
        rows in rows(),
        denying in prop::collection::vec(deny_row(), 1..4),
        (who, question) in asked(),
    ) {
        let (_, kept) = table(&rows);
        let before = without_deny_rows(&kept);
        let Some((grant, instance)) = let_in(&before, who, &question) else { return Ok(()) };
        let mut rows: Vec<_> = kept.into_iter().filter(|row| !row.contains("effect = \"deny\"")).collect();
        rows.extend(denying.iter().enumerate().map(|(at, row)| row.with_id(90 + at)));
        let after = parse(&rows);

        let still = after.still_grants(&grant, now());
        let permitted = permit(&after, &grant, &question).and_then(|permit| confirm(permit, &question));
        let cleared = instance.clear(&after, now());
        let code = |step| if step <= Step::Titles { DenialCode::PolicyRevoked } else { DenialCode::DenyRow };
        match denies(&after, &question) {
            None => prop_assert!(still.is_ok() && permitted.is_ok() && cleared.is_ok()),
            Some((step, row)) => {
                let expected = Some((code(step), Some(row.clone())));
                prop_assert_eq!(&named(permitted), &expected);
                prop_assert_eq!(&named(cleared), &expected);
                match step {
                    Step::Door | Step::Titles => prop_assert_eq!(&named(still), &expected),
                    // It has this one context.
                    Step::Operation | Step::Class | Step::Syntax => {
                        prop_assert_eq!(named(still), Some((DenialCode::PolicyNarrowed, Some(row))));
                    }
                    Step::Content => prop_assert_eq!(still, Ok(())),
                }
            }
        }
        prop_assert!(matches!(grant.contexts()[0].result, ContextResult::Accepted(_)));
    }
}
