//! Observe mode: constraints refuse nothing and are told; everything else is as always.

use super::decisions::grant;
use super::instances::{claim, head};
use super::precedence::{CT1_ROW, closed, table};
use super::questions::question;
use crate::testing::{CT, CT1, DEFLATED, EXPLICIT, IMPLICIT, MR, now, origin, peer, proposal, seconds};
use crate::{Denial, DenialCode, RowOutcome, Table};

fn observing(columns: &str) -> String {
    format!("{CT1_ROW}mode = \"observe\"\n{columns}\n")
}

fn codes(observed: &[Denial]) -> Vec<&'static str> {
    observed.iter().map(|denial| denial.code.as_str()).collect()
}

#[test]
fn constraints_of_an_observed_row_are_told_and_refuse_nothing() {
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("nothing fails", observing(""), &[]),
        ("windows", observing(&format!("windows = [\"{}\"]", closed())), &["outside_window"]),
        ("posture", observing(&format!("posture_ok_until = {}", now().minus(seconds(1)))), &["posture"]),
        ("SVID lifetime", observing("max_svid_lifetime = \"1m\""), &["svid_lifetime"]),
        ("endpoint", observing("source_vpce = [\"vpce-00000000\"]"), &["vpce_missing"]),
        ("any endpoint", observing("require_vpce = true"), &["vpce_missing"]),
        ("network", observing("source_cidrs = [\"198.51.100.0/24\"]"), &["source"]),
        ("called", observing("").replace("ARCHIVE", "OTHER"), &["called_aet"]),
        ("calling", observing("").replace("HOSPA_FWD", "OTHER"), &["calling_aet"]),
        ("operation", observing("").replace("\"store\"", "\"commit\""), &["operation"]),
        ("class", observing("").replace("CTImage", "MRImage"), &["sop_class"]),
        ("syntax", observing("").replace("[\"*\"]", &format!("[\"{EXPLICIT}\"]")), &["transfer_syntax"]),
        ("modality", observing("modalities = [\"MR\"]"), &["modality"]),
        ("issuer", observing("patient_issuers = [\"X\"]"), &["patient_issuer"]),
        ("institution", observing("institutions = [\"X\"]"), &["institution"]),
        ("size", observing("max_instance_bytes = 1"), &["instance_size"]),
        (
            "several",
            observing("modalities = [\"MR\"]\nrequire_vpce = true").replace("CTImage", "MRImage"),
            &["vpce_missing", "sop_class", "modality"],
        ),
        ("the whole table", format!("mode = \"observe\"\n{CT1_ROW}require_vpce = true\n"), &["vpce_missing"]),
    ];
    for (name, rows, expected) in cases {
        let table = table(&rows);
        assert!(table.admit(&peer(CT1), &origin(), now()).is_ok(), "{name}");
        let grant = grant(&table, &[(CT, &[IMPLICIT])]);
        assert_eq!((grant.accepted(), grant.row().id()), (1, "ct1"), "{name}");
        assert!(grant.row().observes());
        assert_eq!(table.still_grants(&grant, now()), Ok(()), "{name}");
        let permit = table.permit(&grant, claim(CT, IMPLICIT), now()).expect(name);
        assert_eq!(permit.observed(), grant.observed(), "{name}");
        let instance = permit.confirm(head(CT, "1.2.3.4", Some("CT"))).expect(name);
        assert_eq!(instance.allows_size(1000), Ok(()), "{name}");
        let told = [instance.observed(), instance.observed_size(1000).as_slice()].concat();
        assert_eq!(codes(&told), expected, "{name}");
        assert_eq!(instance.clear(&table, now()).expect(name).observed(), instance.observed(), "{name}");

        let mut question = question();
        question.content = Some(instance.content().clone());
        let answer = table.answer(&question, now());
        assert_eq!((answer.verdict.is_ok(), codes(&answer.observed).as_slice()), (true, expected), "{name}");
        let said = table.explain(&question, now()).remove(0).outcome;
        assert_eq!(said, RowOutcome::Decides(answer.observed), "{name}");
    }
}

#[test]
fn what_is_no_constraint_denies_in_observe_mode_as_well() {
    use DenialCode::*;
    let deny = |columns: &str| format!("{}[[row]]\nid = \"deny\"\neffect = \"deny\"\n{columns}\n", observing(""));
    let cases = [
        ("no row", observing("").replace("ingest/ct1", "ingest/ct2"), NoRow),
        ("the kill switch", format!("kill_switch = true\n{}", observing("")), KillSwitch),
        ("suspended", observing("state = \"suspended\""), RowSuspended),
        ("expired", observing(&format!("valid_until = {}", now().minus(seconds(1)))), RowExpired),
        ("not yet", observing(&format!("not_before = {}", now().plus(seconds(60)))), RowNotYet),
        ("denied", deny(""), DenyRow),
        ("denied by title", deny("called_aets = [\"ARCHIVE\"]"), DenyRow),
        ("denied by class", deny("sop_classes = [\"CTImageStorage\"]"), DenyRow),
        ("denied by content", deny("institutions = [\"Hospital A\"]"), DenyRow),
    ];
    for (name, rows, expected) in cases {
        let answer = table(&rows).answer(&question(), now());
        assert_eq!(answer.verdict.expect_err(name).code, expected, "{name}");
        assert!(answer.observed.is_empty(), "{name}");
    }
    let expired = Table::answer(&table(&observing("")), &question(), now().plus(seconds(7200)));
    assert_eq!(expired.verdict.expect_err("expired").code, SvidExpired);
    let find = "1.2.840.10008.5.1.4.1.2.2.1";
    let grant = grant(&table(&observing("")), &[(find, &[IMPLICIT])]);
    assert_eq!((grant.accepted(), grant.observed()), (0, &[][..]), "a query is still not storage");
    let rows = observing("");
    let answer = table(&rows)
        .answer(&crate::Question { class: Some(model::Uid::parse(find).expect("valid")), ..question() }, now());
    assert_eq!(answer.verdict.expect_err("no storage").code, SopClass);
    let narrow = super::decisions::grant(&table(&rows), &[(CT, &[IMPLICIT])]);
    let other = table(&rows).permit(&narrow, claim(MR, IMPLICIT), now());
    assert_eq!(other.expect_err("the association has no such context").code, SopClass);
}

#[test]
fn a_row_that_fits_is_chosen_before_one_that_only_observes() {
    let strict = CT1_ROW.replace("\"ct1\"\n", "\"strict\"\n").replace("\"hosp-a\"", "\"one\"");
    let loose = observing("").replace("ARCHIVE", "RESEARCH").replace("\"hosp-a\"", "\"two\"");
    for rows in [format!("{strict}{loose}"), format!("{loose}{strict}")] {
        let table = table(&rows);
        for (called, row, observed) in
            [("ARCHIVE", "strict", &[][..]), ("RESEARCH", "ct1", &[]), ("OTHER", "ct1", &["called_aet"])]
        {
            let asked = proposal(called, "HOSPA_FWD", &[(CT, &[IMPLICIT])]);
            let grant = table.grant(peer(CT1), origin(), asked, now()).expect(called);
            assert_eq!((grant.row().id(), codes(grant.observed()).as_slice()), (row, observed), "{called}");
        }
    }
}

#[test]
fn of_rows_that_only_observe_the_one_with_the_fewest_objections_is_chosen_then_the_first_by_name() {
    let row = |id: &str, called: &str, calling: &str| {
        let row = observing("").replace("\"ct1\"\n", &format!("\"{id}\"\n"));
        row.replace("ARCHIVE", called).replace("HOSPA_FWD", calling)
    };
    let (a, b) = (row("a", "ONE", "X"), row("b", "TWO", "X"));
    let c = row("c", "THREE", "HOSPA_FWD");
    for (rows, expected) in [([&a, &b], "a"), ([&b, &a], "a"), ([&a, &c], "c"), ([&c, &a], "c")] {
        let answer = table(&rows.map(String::as_str).concat()).answer(&question(), now());
        assert_eq!(answer.verdict.expect("observed").id(), expected);
    }
}

#[test]
fn an_observed_row_prefers_what_it_lists() {
    let table = table(&observing("").replace("[\"*\"]", &format!("[\"{EXPLICIT}\"]")));
    let chosen = |syntaxes: &[&str]| {
        let grant = grant(&table, &[(CT, syntaxes)]);
        let model::ContextResult::Accepted(syntax) = grant.contexts()[0].result.clone() else { panic!("accepted") };
        (syntax.to_string(), codes(grant.observed()))
    };
    assert_eq!(chosen(&[IMPLICIT, DEFLATED, EXPLICIT]), (EXPLICIT.to_owned(), vec![]));
    assert_eq!(chosen(&[IMPLICIT, DEFLATED]), (IMPLICIT.to_owned(), vec!["transfer_syntax"]));
}

#[test]
fn time_that_an_observed_row_does_not_enforce_ends_nothing() {
    let (window, posture) =
        (format!("windows = [\"{}\"]", closed()), format!("posture_ok_until = {}", now().plus(seconds(9))));
    let grant = grant(&table(&observing(&format!("{window}\n{posture}"))), &[]);
    assert_eq!(grant.expires(), grant.peer().svid().not_after());
}
