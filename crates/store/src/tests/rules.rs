//! What every backend makes of a row's rules: whose study, whose instance, and bytes that come again.

use model::Attribute;
use proptest::prelude::*;

use super::door::{Row, after, ask_again, cleared, name, now};
use super::*;
use crate::Apart;

contract![
    a_row_that_binds_adds_only_to_studies_of_its_own_tenant,
    a_study_that_nobody_wrote_becomes_the_first_tenants,
    one_patient_for_a_study_if_the_row_says_so,
    another_patient_is_kept_apart_if_the_row_says_so,
    of_two_conflicts_the_harder_answer_is_given,
    bytes_that_are_held_may_not_come_again_if_the_row_says_so,
    an_issuer_is_assigned_where_the_data_set_has_none,
    an_assigned_issuer_is_the_same_as_one_that_was_sent,
    what_is_kept_apart_is_shown_with_the_reason,
];

type Patient = (Option<&'static str>, Option<&'static str>);

const JANE: Patient = (Some("4711"), Some("A"));
const JOHN: Patient = (Some("4712"), Some("A"));

/// What came of a send, as a word.
fn word(result: &Result<Receipt, Failure>) -> &'static str {
    match result {
        Ok(receipt) => receipt.apart().map_or(receipt.outcome().as_str(), Apart::as_str),
        Err(Failure::ForeignStudy) => "foreign",
        Err(Failure::PatientConflict) => "patient",
        Err(Failure::Conflict) => "conflict",
        Err(Failure::AlreadyHeld) => "again",
        Err(other) => panic!("{other:?}"),
    }
}

/// Sends one after the other, and says what each came to: row, instance, bytes, patient, word.
async fn steps(archive: &Archive, case: &str, study: &str, steps: &[(Row, &str, &str, Patient, &str)]) {
    for (at, (row, instance, data, patient, expected)) in steps.iter().enumerate() {
        let before = numbers(archive, study).await;
        let result = send_of(archive, *row, &name(study, instance), data.as_bytes(), *patient).await;
        assert_eq!(word(&result), *expected, "{case}, step {at}");
        if let Err(failure) = result {
            let (text, now) = (failure.to_string(), numbers(archive, study).await);
            assert_eq!(now, before, "{case}, step {at}: nothing is kept");
            assert!(!text.contains("471") && !text.contains(study), "{case}, step {at}: {text}");
        }
    }
}

/// Rows of the study proper and rows kept apart, of all tenants.
async fn numbers(archive: &Archive, study: &str) -> (usize, usize) {
    let study = name(study, "1").study;
    let held = archive.study(None, &study).await.expect("the index is there");
    let apart = archive.quarantined(None, &study).await.expect("the index is there");
    (held.len(), apart.len())
}

async fn a_row_that_binds_adds_only_to_studies_of_its_own_tenant(archive: Archive) {
    use Row::{Bound, BoundQuarantine, OtherBound, OtherTenant, Revise};
    let all = [
        (Revise, "1", "a", JANE, "stored"),
        (Bound, "2", "a", JANE, "stored"),
        (OtherBound, "1", "a", JANE, "foreign"),
        (OtherBound, "9", "z", JANE, "foreign"),
        (OtherTenant, "1", "b", JANE, "stored"),
        (OtherBound, "1", "b", JANE, "foreign"),
        (Bound, "1", "a", JANE, "already_held"),
        (BoundQuarantine, "1", "c", JANE, "other_bytes"),
    ];
    steps(&archive, "bound", "1.2", &all).await;
    assert_eq!(numbers(&archive, "1.2").await, (3, 1));
}

async fn a_study_that_nobody_wrote_becomes_the_first_tenants(archive: Archive) {
    use Row::{Bound, BoundQuarantine, OtherBound, Revise};
    let all = [
        (OtherBound, "1", "b", JANE, "stored"),
        (Bound, "1", "b", JANE, "foreign"),
        (BoundQuarantine, "1", "a", JANE, "foreign"),
        (Revise, "1", "a", JANE, "stored"),
        (Bound, "2", "a", JANE, "foreign"),
        (OtherBound, "2", "b", JANE, "stored"),
    ];
    steps(&archive, "first", "1.2", &all).await;
}

async fn one_patient_for_a_study_if_the_row_says_so(archive: Archive) {
    use Row::{OnePatient, Revise};
    let cases: [(&str, Patient, Patient, &str); 10] = [
        ("the same", JANE, JANE, "stored"),
        ("padded", JANE, (Some("4711 "), Some(" A")), "stored"),
        ("another number", JANE, JOHN, "patient"),
        ("another issuer", JANE, (Some("4711"), Some("B")), "patient"),
        ("no issuer", JANE, (Some("4711"), None), "patient"),
        ("no number", JANE, (None, Some("A")), "patient"),
        ("neither", JANE, (None, None), "patient"),
        ("a number after none", (None, None), JANE, "patient"),
        ("twice nobody", (None, None), (None, None), "stored"),
        ("empty is none", (None, None), (Some(" "), Some("")), "stored"),
    ];
    for (at, (case, first, second, expected)) in cases.into_iter().enumerate() {
        let study = format!("1.2.{at}");
        let all = [(OnePatient, "1", "a", first, "stored"), (OnePatient, "2", "b", second, expected)];
        steps(&archive, case, &study, &all).await;
    }
    let all = [
        (Revise, "1", "a", JOHN, "stored"),
        (OnePatient, "2", "b", JANE, "stored"),
        (Revise, "3", "c", JOHN, "stored"),
        (OnePatient, "4", "d", JOHN, "patient"),
        (OnePatient, "1", "a", JOHN, "already_held"),
        (OnePatient, "2", "e", JANE, "revised"),
        (OnePatient, "2", "f", JOHN, "patient"),
    ];
    steps(&archive, "a row that accepts compares and notes nothing", "1.3", &all).await;
    let result = send_of(&archive, Row::OtherTenant, &name("1.3", "1"), b"x", JOHN).await;
    assert_eq!(word(&result), "stored", "another tenant's study has its own patient");
    let result = send_of(&archive, Row::OnePatient, &name("1.4", "1"), b"x", JOHN).await;
    assert_eq!(word(&result), "stored", "another study has its own patient");
}

async fn another_patient_is_kept_apart_if_the_row_says_so(archive: Archive) {
    use Row::{OnePatient, OnePatientApart};
    let all = [
        (OnePatientApart, "1", "a", JANE, "stored"),
        (OnePatientApart, "2", "b", JOHN, "other_patient"),
        (OnePatientApart, "2", "b", JOHN, "other_patient"),
        (OnePatientApart, "2", "c", JANE, "stored"),
        (OnePatient, "3", "d", JOHN, "patient"),
        (OnePatient, "3", "d", JANE, "stored"),
    ];
    steps(&archive, "apart", "1.2", &all).await;
    assert_eq!(numbers(&archive, "1.2").await, (3, 1), "what is kept apart is nobody's claim");
    assert_eq!(stabilise(&archive, after(60)).await, [Settled::Stable]);
    let event = archive.unpublished().await.expect("the index is there").remove(0);
    assert_eq!(event.instances, 3, "no event counts it");
}

async fn of_two_conflicts_the_harder_answer_is_given(archive: Archive) {
    use Row::{OnePatientApart, OnePatientApartRejectBytes, OnePatientRejectBytes, OnePatientRejectBytesApart};
    for (at, (row, expected)) in [
        (OnePatientRejectBytes, "patient"),
        (OnePatientApartRejectBytes, "conflict"),
        (OnePatientRejectBytesApart, "patient"),
        (OnePatientApart, "other_patient"),
    ]
    .into_iter()
    .enumerate()
    {
        let study = format!("1.2.{at}");
        steps(&archive, expected, &study, &[(row, "1", "a", JANE, "stored"), (row, "1", "b", JOHN, expected)]).await;
    }
}

async fn bytes_that_are_held_may_not_come_again_if_the_row_says_so(archive: Archive) {
    use Row::{Once, OnceQuarantine, Revise};
    let all = [
        (Once, "1", "a", JANE, "stored"),
        (Once, "1", "a", JANE, "again"),
        (Revise, "1", "a", JANE, "already_held"),
        (Once, "1", "b", JANE, "revised"),
        (Once, "1", "a", JANE, "again"),
        (Once, "2", "a", JANE, "stored"),
        (OnceQuarantine, "2", "b", JANE, "other_bytes"),
        (OnceQuarantine, "2", "b", JANE, "again"),
        (Revise, "2", "b", JANE, "revised"),
    ];
    steps(&archive, "once", "1.2", &all).await;
}

async fn an_issuer_is_assigned_where_the_data_set_has_none(archive: Archive) {
    for (at, (row, sent, listed, assigned)) in [
        (Row::Issuer, None, Some("HOSPITAL-A"), true),
        (Row::Issuer, Some("  "), Some("HOSPITAL-A"), true),
        (Row::Issuer, Some("B"), Some("B"), false),
        (Row::Revise, None, None, false),
    ]
    .into_iter()
    .enumerate()
    {
        let name = name(&format!("1.2.{at}"), "1");
        send_of(&archive, row, &name, b"bytes as sent", (Some("4711"), sent)).await.expect("it is new");
        let stored = archive.study(None, &name.study).await.expect("the index is there").remove(0);
        assert_eq!(stored.promoted.get(Attribute::IssuerOfPatientId), listed, "{sent:?}");
        assert_eq!(stored.promoted.get(Attribute::PatientId), Some("4711"), "{sent:?}");
        assert_eq!(stored.issuer_assigned, assigned, "{sent:?}");
        assert_eq!(sound_digests(&archive, row, &name).await, [Digest::of(b"bytes as sent")]);
        let json = archive.metadata(&stored.tenant, &name, &stored.held.digest).await.expect("the index is there");
        assert_eq!(json, Some(metadata("DOE^JANE").json), "the DICOM JSON is the data set's");
    }
}

async fn an_assigned_issuer_is_the_same_as_one_that_was_sent(archive: Archive) {
    let all = [
        (Row::IssuerOnePatient, "1", "a", (Some("4711"), None), "stored"),
        (Row::IssuerOnePatient, "2", "b", (Some("4711"), Some("HOSPITAL-A")), "stored"),
        (Row::IssuerOnePatient, "3", "c", (Some("4711"), Some("HOSPITAL-B")), "patient"),
        (Row::OnePatient, "3", "c", (Some("4711"), None), "patient"),
    ];
    steps(&archive, "assigned", "1.2", &all).await;
}

async fn what_is_kept_apart_is_shown_with_the_reason(archive: Archive) {
    let all = [
        (Row::OnePatientApart, "1", "a", JANE, "stored"),
        (Row::OnePatientApart, "2", "b", JOHN, "other_patient"),
        (Row::Quarantine, "1", "c", JANE, "other_bytes"),
    ];
    steps(&archive, "apart", "1.2", &all).await;
    let study = name("1.2", "1").study;
    let apart = archive.quarantined(None, &study).await.expect("the index is there");
    let told: Vec<_> =
        apart.iter().map(|stored| (stored.held.name.instance.as_str(), stored.apart.map(Apart::as_str))).collect();
    assert_eq!(told, [("1.2.1.1", Some("other_bytes")), ("1.2.1.2", Some("other_patient"))]);
    assert_eq!(apart[1].promoted.get(Attribute::PatientId), Some("4712"));
    for stored in &apart {
        assert_eq!(archive.check(&stored.held).await.expect("it is readable"), crate::Soundness::Sound);
        let json = archive.metadata(&stored.tenant, &stored.held.name, &stored.held.digest).await;
        assert_eq!(json.expect("the index is there"), Some(metadata("DOE^JANE").json));
    }
    let other = tenant(Row::OtherTenant);
    assert!(archive.quarantined(Some(&other), &study).await.expect("the index is there").is_empty());
    assert!(archive.study(None, &study).await.expect("the index is there").iter().all(|held| held.apart.is_none()));
    let summary = archive.studies(None).await.expect("the index is there").remove(0);
    assert_eq!((summary.objects, summary.quarantined), (1, 2));
}

/// All at once: every one is sealed first, so that the commits meet.
async fn at_once(archive: &Archive, sends: &[(Row, String, Patient)]) -> Vec<&'static str> {
    let mut commits = Vec::new();
    for (number, (row, study, patient)) in sends.iter().enumerate() {
        let name = name(study, &number.to_string());
        let sealed = sealed(archive, *row, &name, b"bytes").await.expect("there is room");
        let (cleared, again) = (cleared(&sealed.instance), ask_again(&sealed.instance));
        commits.push(tokio::spawn(sealed.commit(cleared, again, metadata_of(*patient), now())));
    }
    let mut words = Vec::new();
    for commit in commits {
        words.push(word(&commit.await.expect("no panic")));
    }
    words
}

fn some_sends() -> impl Strategy<Value = Vec<(Row, String, Patient)>> {
    let row = prop::sample::select(vec![Row::Bound, Row::OtherBound]);
    let study = (0..3_u8).prop_map(|study| format!("1.2.{study}"));
    let send = (row, study, Just((None, None)));
    prop::collection::vec(send, 1..16)
}

fn some_patients() -> impl Strategy<Value = Vec<(Row, String, Patient)>> {
    let row = prop::sample::select(vec![Row::OnePatient, Row::OnePatientApart]);
    let study = (0..3_u8).prop_map(|study| format!("1.2.{study}"));
    let patient = prop::sample::select(vec![JANE, JOHN, (None, None)]);
    prop::collection::vec((row, study, patient), 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_they_race_a_bound_study_has_one_tenant(sends in some_sends()) {
        run(async {
            let (_dir, archive) = fresh().await;
            let words = at_once(&archive, &sends).await;
            for study in ["1.2.0", "1.2.1", "1.2.2"] {
                let held = archive.study(None, &name(study, "1").study).await.expect("the index is there");
                let stored = sends.iter().zip(&words).filter(|((_, of, _), word)| of == study && **word == "stored");
                prop_assert_eq!(held.len(), stored.count(), "a row for each receipt and for nothing else");
                prop_assert!(held.iter().all(|stored| stored.tenant == held[0].tenant));
                let any = sends.iter().any(|(_, of, _)| of == study);
                prop_assert_eq!(any, !held.is_empty(), "somebody is first");
            }
            Ok(())
        })?;
    }

    #[test]
    fn however_they_race_a_study_has_one_patient(sends in some_patients()) {
        run(async {
            let (_dir, archive) = fresh().await;
            let words = at_once(&archive, &sends).await;
            for study in ["1.2.0", "1.2.1", "1.2.2"] {
                let of_study = || sends.iter().zip(&words).filter(|((_, of, _), _)| of == study);
                let held = archive.study(None, &name(study, "1").study).await.expect("the index is there");
                let patient = |at: usize| held[at].promoted.get(Attribute::PatientId);
                prop_assert_eq!(held.len(), of_study().filter(|(_, word)| **word == "stored").count());
                prop_assert!((0..held.len()).all(|at| patient(at) == patient(0)));
                for ((row, _, (id, _)), word) in of_study() {
                    let refused = if *row == Row::OnePatient { "patient" } else { "other_patient" };
                    prop_assert_eq!(*word, if *id == patient(0) { "stored" } else { refused });
                }
            }
            Ok(())
        })?;
    }
}
