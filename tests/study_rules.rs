//! What a row says about studies, on the wire: whose they are, whose instances they hold, bytes that come again, and the
//! issuer that an instance does not name.

use serde_json::Value;
use testkit::house::House;
use testkit::peer::Outcome;

use crate::support::archive::{files, rows};
use crate::support::instance::Instance;
use crate::support::{
    SUCCESS, amend, associated, associated_b, audited, house, portcullis, said, stdout, with_columns,
};

const NOT_AUTHORISED: Outcome = Outcome::Status(0x0124);
const DUPLICATE: Outcome = Outcome::Status(0x0111);

fn ruled(columns: &str) -> House {
    let house = house();
    amend(&house, |text| with_columns(&with_columns(&text, "hospital-a", columns), "hospital-b", columns));
    house
}

fn slice(number: u64, patient: &str) -> Instance {
    Instance::of_study(1, number).with(0x0010_0020, b"LO", patient.as_bytes()).with_pixels(500, number)
}

fn shown(house: &House) -> Vec<Value> {
    let dir = house.dir().to_str().expect("UTF-8");
    let output = portcullis(&["studies", "show", "2.25.1.1", "--dir", dir, "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("a list")
}

#[test]
fn a_row_that_binds_is_refused_in_another_tenants_study_and_nothing_is_kept() {
    let house = ruled("study_binding = \"own\"");
    let (ours, theirs) = (slice(1, "P1"), slice(2, "P1"));
    assert_eq!(associated(&house).store(&ours.claim(), &ours.data_set()), SUCCESS);
    assert_eq!(associated_b(&house).store(&theirs.claim(), &theirs.data_set()), NOT_AUTHORISED);
    audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "study_binding")]);
    assert_eq!((rows(house.dir()).len(), files(house.dir(), "instances").len()), (1, 1));
    let next = slice(3, "P1");
    assert_eq!(associated(&house).store(&next.claim(), &next.data_set()), SUCCESS, "the first tenant goes on");
}

#[test]
fn another_patient_in_a_study_is_refused_or_kept_apart_as_the_row_says() {
    for (rule, answer, reason, apart) in
        [("reject", NOT_AUTHORISED, "patient_conflict", 0), ("quarantine", SUCCESS, "quarantined", 1)]
    {
        let house = ruled(&format!("conflict_patient_id = \"{rule}\""));
        let (first, second) = (slice(1, "P1"), slice(2, "P2"));
        let mut peer = associated(&house);
        assert_eq!(peer.store(&first.claim(), &first.data_set()), SUCCESS, "{rule}");
        assert_eq!(peer.store(&second.claim(), &second.data_set()), answer, "{rule}");
        let audit = audited(&house, &[("event", "instance"), ("reason", reason)]);
        assert!(!audit.to_string().contains("\"P2"), "{rule}: {audit}");
        assert_eq!(
            (files(house.dir(), "instances").len(), files(house.dir(), "quarantine").len()),
            (1, apart),
            "{rule}"
        );
        let quarantined: Vec<_> = shown(&house).into_iter().filter(|one| !one["quarantined"].is_null()).collect();
        assert_eq!(quarantined.len(), apart, "{rule}");
        if let Some(one) = quarantined.first() {
            assert_eq!((&one["quarantined"], &one["instance"]), (&"other_patient".into(), &second.uid.clone().into()));
            let output = portcullis(&["studies", "show", "2.25.1.1", "--dir", house.dir().to_str().expect("UTF-8")]);
            let table = stdout(&output);
            assert!(table.contains("quarantined: 1") && table.contains("other patient"), "{table}");
        }
    }
}

#[test]
fn bytes_that_come_again_are_0111_when_the_row_says_reject() {
    let house = ruled("duplicate = \"reject\"");
    let one = slice(1, "P1");
    let mut peer = associated(&house);
    assert_eq!(peer.store(&one.claim(), &one.data_set()), SUCCESS);
    assert_eq!(peer.store(&one.claim(), &one.data_set()), DUPLICATE);
    audited(&house, &[("event", "instance"), ("decision", "deny"), ("status", "0111")]);
    assert_eq!(rows(house.dir()).len(), 1);
}

#[test]
fn an_issuer_is_assigned_in_the_index_and_the_object_stays_as_sent() {
    let house = ruled("patient_issuers = [\"HOSPITAL-A\"]\ncoerce_issuer = \"HOSPITAL-A\"");
    let one = slice(1, "P1");
    assert_eq!(associated(&house).store(&one.claim(), &one.data_set()), SUCCESS);
    let shown = shown(&house);
    assert_eq!(shown[0]["attributes"]["issuer_of_patient_id"], "HOSPITAL-A");
    assert_eq!(shown[0]["issuer_assigned"], true);
    assert_eq!(crate::support::archive::data_set(&files(house.dir(), "instances")[0]), one.data_set());
}
