//! "Duplicates by data-set digest: same bytes: Success and already held; other bytes: revise, reject or quarantine by row."

use testkit::house::{House, eventually};
use testkit::peer::{Associated, Outcome, sample_contexts};

use crate::support::archive::{assert_objects_are_whole, assert_rows_have_objects, files, rows};
use crate::support::instance::Instance;
use crate::support::{CALLED, SUCCESS, amend, associated, audited, connect, house, with_columns};

const DUPLICATE: Outcome = Outcome::Status(0x0111);

/// Two instances of one UID.
fn pair() -> (Instance, Instance) {
    (Instance::numbered(1).with_pixels(500, 1), Instance::numbered(1).with_pixels(500, 2))
}

/// Waits for these outcomes in the audit log, whose lines may be written a moment after the answer, and for no other.
fn await_outcomes(house: &House, expected: &[&str], name: &str) {
    let outcomes = eventually(name, || {
        let lines = house.audit().into_iter().filter(|line| line["event"] == "instance");
        let outcomes: Vec<_> = lines.map(|line| line["reason"].as_str().expect("a reason").to_owned()).collect();
        (outcomes.len() >= expected.len()).then_some(outcomes)
    });
    assert_eq!(outcomes, expected, "{name}");
}

fn policy(house: &House, on_conflict: &str) {
    let new = format!("on_conflict = \"{on_conflict}\"");
    amend(house, |text| text.replacen("on_conflict = \"revise\"", &new, 1));
}

#[test]
fn the_same_bytes_are_success_and_kept_once_whatever_the_row_says() {
    for on_conflict in ["revise", "reject", "quarantine"] {
        let house = house();
        if on_conflict != "revise" {
            policy(&house, on_conflict);
        }
        let (instance, _) = pair();
        let mut peer = associated(&house);
        for _ in 0..3 {
            assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "{on_conflict}");
        }
        await_outcomes(&house, &["stored", "already_held", "already_held"], on_conflict);
        assert_eq!(rows(house.dir()).len(), 1, "{on_conflict}");
        assert_eq!(assert_objects_are_whole(house.dir()).len(), 1, "{on_conflict}");
    }
}

#[test]
fn the_digest_is_of_the_data_set_and_not_of_the_file_meta() {
    let house = house();
    amend(&house, |text| {
        text.replacen("calling_aets = [\"HOSPITAL_A\"]", "calling_aets = [\"HOSPITAL_A\", \"OTHER\"]", 1)
    });
    let (instance, _) = pair();
    assert_eq!(associated(&house).store(&instance.claim(), &instance.data_set()), SUCCESS);
    let mut other = connect(&house, "hospital-a");
    assert!(matches!(other.associate(CALLED, "OTHER", sample_contexts()), Associated::Accepted(_)));
    assert_eq!(other.store(&instance.claim(), &instance.data_set()), SUCCESS);
    audited(&house, &[("event", "instance"), ("reason", "already_held")]);
    assert_eq!(files(house.dir(), "instances").len(), 1);
}

#[test]
fn other_bytes_are_a_revision_and_the_older_ones_are_kept() {
    let house = house();
    let (first, second) = pair();
    let mut peer = associated(&house);
    for instance in [&first, &second, &first] {
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    }
    await_outcomes(&house, &["stored", "revised", "already_held"], "other bytes");
    let rows = rows(house.dir());
    assert_eq!(rows.len(), 2);
    assert_rows_have_objects(house.dir(), &rows);
}

#[test]
fn other_bytes_are_0111_when_the_row_says_reject() {
    let house = house();
    policy(&house, "reject");
    let (first, second) = pair();
    let mut peer = associated(&house);
    assert_eq!(peer.store(&first.claim(), &first.data_set()), SUCCESS);
    assert_eq!(peer.store(&second.claim(), &second.data_set()), DUPLICATE);
    audited(
        &house,
        &[("event", "instance"), ("decision", "deny"), ("reason", "duplicate_instance"), ("status", "0111")],
    );
    assert_eq!(rows(house.dir()).len(), 1);
    assert_eq!(files(house.dir(), "instances").len(), 1);
    assert_eq!(peer.store(&first.claim(), &first.data_set()), SUCCESS, "the first bytes are still held");
}

#[test]
fn other_bytes_are_kept_apart_when_the_row_says_quarantine() {
    let house = house();
    policy(&house, "quarantine");
    let (first, second) = pair();
    let mut peer = associated(&house);
    assert_eq!(peer.store(&first.claim(), &first.data_set()), SUCCESS);
    assert_eq!(peer.store(&second.claim(), &second.data_set()), SUCCESS);
    audited(&house, &[("event", "instance"), ("reason", "quarantined")]);
    let held = rows(house.dir());
    assert_eq!(held.len(), 1, "the study has the first bytes only");
    assert_eq!(held[0].held.digest, model::Digest::of(&first.data_set()));
    let apart = files(house.dir(), "quarantine");
    assert_eq!(apart.len(), 1);
    assert_eq!(crate::support::archive::data_set(&apart[0]), second.data_set());
    assert_eq!(files(house.dir(), "instances").len(), 1);
}

#[test]
fn an_instance_larger_than_its_row_allows_is_refused() {
    let house = house();
    amend(&house, |text| with_columns(&text, "hospital-a", "max_instance_bytes = 100000"));
    let mut peer = associated(&house);
    let large = Instance::numbered(1).with_pixels(400_000, 1);
    assert_eq!(peer.store(&large.claim(), &large.data_set()), Outcome::Status(0x0124));
    audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "instance_size")]);
    let small = Instance::numbered(2).with_pixels(50_000, 1);
    assert_eq!(peer.store(&small.claim(), &small.data_set()), SUCCESS);
    assert_eq!(files(house.dir(), "instances").len(), 1);
}
