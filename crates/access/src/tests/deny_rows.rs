//! A deny row denies what all of its columns match, at the door where the last of them is known.

use std::sync::Arc;

use model::{Attribute, Promoted, Uid};

use super::instances::{claim, head};
use super::precedence::{CT1_ROW, table};
use super::questions::question;
use crate::testing::{CT, CT1, EXPLICIT, IMPLICIT, MR, now, origin, peer, proposal};
use crate::{Content, DenialCode, Grant, Operation, Origin, Question, RowOutcome, Table};

const VERIFICATION: &str = "1.2.840.10008.1.1";
const VPCE: &str = "vpce-08d2bf15fac5001c9";

/// CT1's row for every class, and a deny row with these columns.
fn denying(columns: &str) -> Table {
    let wide = CT1_ROW.replace("\"CTImageStorage\"", "\"*\"").replace("\"store\"]", "\"store\", \"commit\"]");
    table(&format!("{wide}[[row]]\nid = \"stop\"\neffect = \"deny\"\n{columns}\n"))
}

fn is_denied(columns: &str, question: &Question) -> bool {
    let answer = denying(columns).answer(question, now());
    answer.verdict.is_err_and(|denial| {
        assert_eq!((denial.code, denial.row.as_deref()), (DenialCode::DenyRow, Some("stop")), "{columns}");
        true
    })
}

/// Every column, with a value that [`question`] has and one that it has not.
const COLUMNS: [(&str, &str, &str); 10] = [
    ("source_vpce", VPCE, "vpce-00000000"),
    ("source_cidrs", "192.0.2.0/24", "198.51.100.0/24"),
    ("called_aets", "ARCHIVE", "OTHER"),
    ("calling_aets", "HOSPA_FWD", "OTHER"),
    ("operations", "store", "echo"),
    ("sop_classes", "CTImageStorage", "MRImageStorage"),
    ("transfer_syntaxes", "ImplicitVRLittleEndian", "ExplicitVRLittleEndian"),
    ("modalities", "CT", "MR"),
    ("patient_issuers", "HOSP_A", "HOSP_B"),
    ("institutions", "Hospital A", "Hospital B"),
];

fn here() -> Question {
    Question { origin: Origin { vpce: Some(VPCE.to_owned()), ..origin() }, ..question() }
}

#[test]
fn every_populated_column_must_match() {
    let whole = |except: usize| {
        let columns = COLUMNS.iter().enumerate();
        let of = |(at, (name, yes, no)): (usize, &(&str, &str, &str))| {
            format!("{name} = [\"{}\"]\n", if at == except { no } else { yes })
        };
        columns.map(of).collect::<String>()
    };
    assert!(is_denied(&whole(usize::MAX), &here()), "all ten match");
    for (at, (name, yes, no)) in COLUMNS.iter().enumerate() {
        assert!(is_denied(&format!("{name} = [\"{yes}\"]"), &here()), "{name} alone matches");
        assert!(!is_denied(&format!("{name} = [\"{no}\"]"), &here()), "{name} alone does not");
        assert!(!is_denied(&whole(at), &here()), "all but {name} match");
    }
}

#[test]
fn what_should_be_known_and_is_missing_matches() {
    let silent = Question { content: Some(Content::default()), origin: origin(), ..question() };
    for name in ["source_vpce", "modalities", "patient_issuers", "institutions"] {
        let (_, _, no) = COLUMNS.iter().find(|(column, ..)| *column == name).expect("a column");
        assert!(is_denied(&format!("{name} = [\"{no}\"]"), &silent), "{name}");
        let elsewhere = format!("{name} = [\"{no}\"]\ncalled_aets = [\"OTHER\"]");
        assert!(!is_denied(&elsewhere, &silent), "{name} is missing, and the row is about another title");
    }
}

/// What D1, D2, each context and D4 say to CT1 with a CT and an MR context and one for C-ECHO: the first that denies.
fn first_door(columns: &str) -> String {
    let (table, peer) = (denying(columns), peer(CT1));
    if table.admit(&peer, &origin(), now()).is_err() {
        return "D1".to_owned();
    }
    let contexts: &[(&str, &[&str])] = &[(CT, &[IMPLICIT, EXPLICIT]), (MR, &[EXPLICIT]), (VERIFICATION, &[IMPLICIT])];
    let Ok(grant) = table.grant(peer, origin(), proposal("ARCHIVE", "HOSPA_FWD", contexts), now()) else {
        return "D2".to_owned();
    };
    let results: Vec<_> = grant.contexts().iter().map(|answer| answer.result.code().to_string()).collect();
    let mut said = format!("contexts {}", results.join(" "));
    said += if grant.allows_echo() { "" } else { ", no echo" };
    said += if grant.allows_commit() { "" } else { ", no commit" };
    said + content_denied(&table, &Arc::new(grant))
}

/// Whether a CT instance with these attributes is refused at D4.
fn content_denied(table: &Table, grant: &Arc<Grant>) -> &'static str {
    let Some(syntax) = [IMPLICIT, EXPLICIT].into_iter().find(|syntax| {
        grant.accepted_contexts().any(|(class, accepted)| class.as_str() == CT && accepted.as_str() == *syntax)
    }) else {
        return "";
    };
    let Ok(permit) = table.permit(grant, claim(CT, syntax), now()) else { return ", D3" };
    let said = vec![(Attribute::InstitutionName, "Hospital A".to_owned())];
    let head = model::InstanceHead { said: Promoted::new(said), ..head(CT, "1.2.3.4", Some("CT")) };
    if permit.confirm(head).is_err() { ", D4" } else { "" }
}

#[test]
fn a_row_is_asked_where_its_last_column_is_known() {
    for (columns, expected) in [
        ("", "D1"),
        ("source_vpce = [\"vpce-00000000\"]", "D1"),
        ("source_vpce = [\"vpce-00000000\"]\nsource_cidrs = [\"192.0.2.0/24\"]", "D1"),
        ("source_cidrs = [\"192.0.2.0/24\"]\ncalled_aets = [\"ARCHIVE\"]", "D2"),
        ("called_aets = [\"ARCHIVE\"]\ncalling_aets = [\"OTHER\"]", "contexts 0 0 0"),
        ("called_aets = [\"ARCHIVE\"]\noperations = [\"store\"]", "contexts 1 1 0"),
        ("operations = [\"echo\"]", "contexts 0 0 1, no echo"),
        ("operations = [\"commit\"]", "contexts 0 0 0, no commit"),
        ("operations = [\"echo\", \"store\", \"commit\"]", "contexts 1 1 1, no echo, no commit"),
        ("sop_classes = [\"*\"]", "contexts 1 1 0"),
        ("sop_classes = [\"*\"]\noperations = [\"echo\"]", "contexts 0 0 0"),
        ("source_cidrs = [\"192.0.2.0/24\"]\nsop_classes = [\"MRImageStorage\"]", "contexts 0 1 0"),
        ("source_cidrs = [\"198.51.100.0/24\"]\nsop_classes = [\"MRImageStorage\"]", "contexts 0 0 0"),
        ("transfer_syntaxes = [\"ExplicitVRLittleEndian\"]", "contexts 0 4 0"),
        ("sop_classes = [\"CTImageStorage\"]\ntransfer_syntaxes = [\"ExplicitVRLittleEndian\"]", "contexts 0 0 0"),
        ("sop_classes = [\"CTImageStorage\"]\ntransfer_syntaxes = [\"*\"]", "contexts 4 0 0"),
        ("modalities = [\"CT\"]", "contexts 0 0 0, D4"),
        ("modalities = [\"CT\"]\nsop_classes = [\"MRImageStorage\"]", "contexts 0 0 0"),
        ("modalities = [\"CT\"]\ninstitutions = [\"Hospital B\"]", "contexts 0 0 0"),
        ("modalities = [\"CT\"]\npatient_issuers = [\"X\"]\ninstitutions = [\"Hospital A\"]", "contexts 0 0 0, D4"),
        ("modalities = [\"CT\"]\ncalling_aets = [\"HOSPA_FWD\"]\noperations = [\"store\"]", "contexts 0 0 0, D4"),
        ("modalities = [\"CT\"]\noperations = [\"echo\"]", "contexts 0 0 0"),
    ] {
        assert_eq!(first_door(columns), expected, "{columns}");
    }
}

#[test]
fn an_echo_has_nothing_of_an_instance() {
    let echo = Question { operation: Operation::Echo, ..here() };
    let of_instances = ["sop_classes", "transfer_syntaxes", "modalities", "patient_issuers", "institutions"];
    for (name, yes, _) in COLUMNS.into_iter().filter(|(name, ..)| *name != "operations") {
        let columns = format!("{name} = [\"{yes}\"]\noperations = [\"echo\"]");
        assert_eq!(is_denied(&columns, &echo), !of_instances.contains(&name), "{name}");
    }
}

#[test]
fn a_row_that_waits_or_fails_says_for_what() {
    let told = |columns: &str, question: &Question| match denying(columns).explain(question, now()).remove(0).outcome {
        RowOutcome::Denies(detail) => detail,
        RowOutcome::Fails(denial) => denial.to_string(),
        RowOutcome::NotAsked(why) => format!("not asked: {why}"),
        other => panic!("{other:?}"),
    };
    let three = "calling_aets = [\"HOSPA_FWD\"]\nsop_classes = [\"CTImageStorage\"]\nmodalities = [\"CT\"]";
    let open = Question { class: None, content: None, ..question() };
    assert_eq!(told("", &question()), "a deny row matches: everything");
    assert_eq!(told(three, &question()), "a deny row matches: calling_aets, sop_classes, modalities");
    let waits = "not asked: the deny row matches so far, and the question does not say: sop_classes, modalities";
    assert_eq!(told(three, &open), waits);
    let other = Question { class: Some(Uid::parse(MR).expect("valid")), content: None, ..question() };
    assert_eq!(told(three, &other), "deny_row: the deny row does not match: sop_classes", "so it does not wait either");
    let echo = Question { operation: Operation::Echo, ..open };
    assert_eq!(told(three, &echo), "deny_row: the deny row does not match: sop_classes", "an echo has none");
}

#[test]
fn a_live_association_ends_when_no_context_is_left_and_the_row_is_named() {
    let before = denying("called_aets = [\"OTHER\"]");
    let contexts: &[(&str, &[&str])] = &[(CT, &[IMPLICIT]), (MR, &[IMPLICIT])];
    let grant = before.grant(peer(CT1), origin(), proposal("ARCHIVE", "HOSPA_FWD", contexts), now()).expect("granted");
    let grant = Arc::new(grant);
    let after = denying("calling_aets = [\"HOSPA_FWD\"]\nsop_classes = [\"MRImageStorage\"]");
    assert_eq!(after.still_grants(&grant, now()), Ok(()), "CT is left");
    assert!(after.permit(&grant, claim(CT, IMPLICIT), now()).is_ok());
    let refused = after.permit(&grant, claim(MR, IMPLICIT), now()).expect_err("MR is denied");
    assert_eq!((refused.code, refused.row.as_deref()), (DenialCode::DenyRow, Some("stop")));
    let after = denying("calling_aets = [\"HOSPA_FWD\"]\nsop_classes = [\"all-storage\"]");
    let narrowed = after.still_grants(&grant, now()).expect_err("nothing is left");
    assert_eq!((narrowed.code, narrowed.row.as_deref()), (DenialCode::PolicyNarrowed, Some("stop")));
    assert!(narrowed.can_wait() && narrowed.detail.contains("calling_aets, sop_classes"), "{narrowed}");
}
