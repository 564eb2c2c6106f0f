//! A person's question gets the answer that a live peer would get, and the reason of every row.

use model::{AeTitle, SpiffeId, Uid};

use super::precedence::{CT1_ROW, closed, table};
use crate::testing::{CT, CT1, DEFLATED, IMPLICIT, MR, now, origin, seconds};
use crate::{Caller, Content, DenialCode, Effect, Operation, Question, RowOutcome};

/// CT1 as HOSPA_FWD to ARCHIVE: a CT image.
pub(super) fn question() -> Question {
    let caller = Caller {
        id: SpiffeId::parse(CT1).expect("valid"),
        not_before: now().minus(seconds(60)),
        not_after: now().plus(seconds(3600)),
        tls13: true,
    };
    Question {
        caller,
        origin: origin(),
        called: AeTitle::parse("ARCHIVE").expect("valid"),
        calling: AeTitle::parse("HOSPA_FWD").expect("valid"),
        operation: Operation::Store,
        class: Some(Uid::parse(CT).expect("valid")),
        syntax: Some(Uid::parse(IMPLICIT).expect("valid")),
        content: Some(Content::new(Some("CT"), Some("HOSP_A"), Some("Hospital A"))),
        size: Some(1000),
    }
}

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).expect("valid")
}

#[test]
fn every_part_of_a_question_is_asked() {
    use DenialCode::*;
    let row = format!(
        "{CT1_ROW}min_tls = \"1.3\"\nmodalities = [\"CT\"]\npatient_issuers = [\"HOSP_A\"]\ninstitutions = [\"Hospital A\"]\n\
         max_instance_bytes = 1000\n"
    );
    let table = table(&row);
    type Edit = fn(&mut Question);
    let cases: &[(&str, Edit, Option<DenialCode>)] = &[
        ("as the row says", |_| (), None),
        (
            "another identity",
            |q| q.caller.id = SpiffeId::parse("spiffe://hosp-a.example/x").expect("valid"),
            Some(NoRow),
        ),
        ("an expired SVID", |q| q.caller.not_after = now().minus(seconds(1)), Some(SvidExpired)),
        ("TLS 1.2", |q| q.caller.tls13 = false, Some(MinTls)),
        ("called", |q| q.called = title("OTHER"), Some(CalledAet)),
        ("calling", |q| q.calling = title("OTHER"), Some(CallingAet)),
        ("commitment", |q| q.operation = crate::Operation::Commit, Some(Operation)),
        (
            "echo, and nothing of an instance",
            |q| (q.operation, q.class) = (crate::Operation::Echo, Some(Uid::parse(MR).expect("valid"))),
            None,
        ),
        ("class", |q| q.class = Some(Uid::parse(MR).expect("valid")), Some(SopClass)),
        ("no storage class", |q| q.class = Some(Uid::parse("1.2.840.10008.1.1").expect("valid")), Some(SopClass)),
        ("any class", |q| q.class = None, None),
        ("syntax", |q| q.syntax = Some(Uid::parse(DEFLATED).expect("valid")), Some(TransferSyntax)),
        ("any syntax", |q| q.syntax = None, None),
        (
            "modality",
            |q| q.content = Some(Content::new(Some("MR"), Some("HOSP_A"), Some("Hospital A"))),
            Some(Modality),
        ),
        (
            "issuer",
            |q| q.content = Some(Content::new(Some("CT"), Some("HOSP_B"), Some("Hospital A"))),
            Some(PatientIssuer),
        ),
        ("institution", |q| q.content = Some(Content::new(Some("CT"), Some("HOSP_A"), None)), Some(Institution)),
        (
            "spaces do not count",
            |q| q.content = Some(Content::new(Some("CT "), Some(" HOSP_A "), Some("Hospital A\0"))),
            None,
        ),
        (
            "case does",
            |q| q.content = Some(Content::new(Some("CT"), Some("hosp_a"), Some("Hospital A"))),
            Some(PatientIssuer),
        ),
        ("a data set that is not known", |q| q.content = None, None),
        ("size", |q| q.size = Some(1001), Some(InstanceSize)),
        ("any size", |q| q.size = None, None),
    ];
    for (name, edit, expected) in cases {
        let mut question = question();
        edit(&mut question);
        let answer = table.answer(&question, now());
        assert_eq!(answer.verdict.as_ref().err().map(|denial| denial.code), *expected, "{name}");
        let [finding] = table.explain(&question, now()).try_into().expect("one row");
        match answer.verdict {
            Ok(row) => assert_eq!((row.id(), finding.outcome), ("ct1", RowOutcome::Decides(Vec::new())), "{name}"),
            Err(denial) if denial.code == NoRow => {
                assert!(matches!(finding.outcome, RowOutcome::Fails(_)), "{name}");
            }
            Err(denial) => assert_eq!(finding.outcome, RowOutcome::Fails(denial), "{name}"),
        }
    }
}

#[test]
fn every_row_says_why() {
    let deny = |id: &str, columns: &str| format!("[[row]]\nid = \"{id}\"\neffect = \"deny\"\n{columns}\n");
    let named = |id: &str| CT1_ROW.replace("\"ct1\"\n", &format!("\"{id}\"\n"));
    let prefix = named("site")
        .replace("identity = \"spiffe://hosp-a.example/ingest/ct1\"", "prefix = \"spiffe://hosp-a.example/ingest/\"");
    let rows = [
        "allow_prefix = [\"hosp-a.example\"]\n".to_owned(),
        CT1_ROW.to_owned(),
        named("research").replace("ARCHIVE", "RESEARCH"),
        named("ct2").replace("ingest/ct1", "ingest/ct2"),
        prefix,
        deny("mr", "modalities = [\"MR\"]"),
        deny("ct2-deny", "identity = \"spiffe://hosp-a.example/ingest/ct2\""),
        deny("later", &format!("windows = [\"{}\"]", closed())),
        deny("off", "state = \"suspended\""),
    ]
    .concat();
    let told = |rows: &str, question: &Question| -> Vec<(String, Effect, String, String)> {
        let findings = table(rows).explain(question, now()).into_iter();
        findings
            .map(|finding| {
                let outcome = match finding.outcome {
                    RowOutcome::Decides(observed) => format!("decides {}", observed.len()),
                    RowOutcome::Allows => "allows".to_owned(),
                    RowOutcome::Denies(detail) => format!("denies: {detail}"),
                    RowOutcome::Fails(denial) => denial.code.as_str().to_owned(),
                    RowOutcome::NotAsked(why) => format!("not asked: {why}"),
                };
                (finding.row, finding.effect, finding.subject, outcome)
            })
            .collect()
    };
    let outcome = |told: &[(String, Effect, String, String)], row: &str| {
        told.iter().find(|(id, ..)| id == row).map(|(.., outcome)| outcome.clone()).expect("every row is listed")
    };
    let plain = told(&rows, &question());
    assert_eq!(plain.len(), 8);
    assert_eq!(plain[0].1, Effect::Deny, "rows that deny come first");
    assert_eq!((plain[0].2.as_str(), plain[4].2.as_str()), ("everybody", CT1));
    for (row, expected) in [
        ("ct1", "decides 0"),
        ("research", "called_aet"),
        ("ct2", "no_row"),
        ("site", "not asked: a row that names the identity more exactly speaks for it"),
        ("mr", "deny_row"),
        ("ct2-deny", "no_row"),
        ("later", "outside_window"),
        ("off", "row_suspended"),
    ] {
        assert_eq!(outcome(&plain, row), expected, "{row}");
    }
    let unknown = told(&rows, &Question { content: None, ..question() });
    let waits = "not asked: the deny row matches so far, and the question does not say: modalities";
    assert_eq!(outcome(&unknown, "mr"), waits);
    let denied = told(&rows.replace("\"MR\"", "\"CT\""), &question());
    assert_eq!(outcome(&denied, "mr"), "denies: a deny row matches: modalities");
    assert_eq!(outcome(&denied, "ct1"), "allows");
    let killed = told(&format!("kill_switch = true\n{rows}"), &question());
    assert!(killed.iter().all(|(.., outcome)| outcome == "not asked: the table's kill switch is on"));
}

/// What has an end is good at its last moment, and what has a beginning at its first; a millisecond beyond, it is not.
#[test]
fn the_first_and_the_last_moment_of_everything_count() {
    use DenialCode::*;
    let moment = model::Timestamp::parse("2026-11-22T12:00:00Z").expect("valid");
    let instant = std::time::Duration::from_millis(1);
    let (earlier, later) = (moment.minus(instant), moment.plus(instant));
    let long = |question: &mut Question| {
        (question.caller.not_before, question.caller.not_after) = (moment.minus(seconds(60)), moment.plus(seconds(60)));
    };
    let ending = |question: &mut Question| question.caller.not_after = moment;
    let deny = |columns: &str| format!("[[row]]\nid = \"stop\"\neffect = \"deny\"\n{columns}\n");
    type Edit<'a> = &'a dyn Fn(&mut Question);
    let cases: &[(&str, String, Edit<'_>, [(model::Timestamp, Option<DenialCode>); 2])] = &[
        ("valid_until", "valid_until = MOMENT".into(), &long, [(moment, None), (later, Some(RowExpired))]),
        ("posture_ok_until", "posture_ok_until = MOMENT".into(), &long, [(moment, None), (later, Some(Posture))]),
        ("not_before", "not_before = MOMENT".into(), &long, [(moment, None), (earlier, Some(RowNotYet))]),
        (
            "suspended until",
            "state = \"suspended\"\nuntil = MOMENT".into(),
            &long,
            [(moment, None), (earlier, Some(RowSuspended))],
        ),
        ("the SVID", String::new(), &ending, [(moment, None), (later, Some(SvidExpired))]),
        ("a deny row's valid_until", deny("valid_until = MOMENT"), &long, [(moment, Some(DenyRow)), (later, None)]),
        ("a deny row's not_before", deny("not_before = MOMENT"), &long, [(moment, Some(DenyRow)), (earlier, None)]),
    ];
    for (name, columns, edit, moments) in cases {
        let table = table(&format!("{CT1_ROW}{}\n", columns.replace("MOMENT", &moment.to_string())));
        let mut question = Question { content: None, ..question() };
        long(&mut question);
        edit(&mut question);
        for (at, expected) in moments {
            let verdict = table.answer(&question, *at).verdict;
            assert_eq!(verdict.err().map(|denial| denial.code), *expected, "{name} at {at}");
        }
    }
}

#[test]
fn an_svid_may_be_valid_for_exactly_as_long_as_the_row_takes() {
    let table = table(&format!("{CT1_ROW}max_svid_lifetime = \"1h\"\n"));
    let mut question = question();
    question.caller.not_after = question.caller.not_before.plus(seconds(3600));
    assert!(table.answer(&question, now()).verdict.is_ok());
    question.caller.not_after = question.caller.not_after.plus(std::time::Duration::from_millis(1));
    let denial = table.answer(&question, now()).verdict.expect_err("longer");
    assert_eq!(denial.code, DenialCode::SvidLifetime);
}
