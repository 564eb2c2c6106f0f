//! What of an instance a row asks about, and what it says about where it goes.

use super::NOT_AUTHORISED;
use crate::support::archive::{data_set, files, rows};
use crate::support::furnish::{assert_log_is_sound, let_in, put, quick, table_of, with_row};
use crate::support::instance::Instance;
use crate::support::{SUCCESS, audited, portcullis, said};

const CHARACTER_SET: u32 = 0x0008_0005;
const MODALITY: u32 = 0x0008_0060;
const INSTITUTION: u32 = 0x0008_0080;
const ISSUER: u32 = 0x0010_0021;

/// What a test does to an instance before it is sent.
type Change = fn(Instance) -> Instance;

fn issuer(name: &'static [u8]) -> impl Fn(Instance) -> Instance {
    move |instance| instance.with(ISSUER, b"LO", name)
}

/// Name, columns, what is stored, what is refused, and why.
const CASES: &[(&str, &str, Change, Change, &str)] = &[
    (
        "another modality",
        "modalities = [\"CT\", \"MR\"]",
        |ct| ct.with(MODALITY, b"CS", b"MR"),
        |ct| ct.with(MODALITY, b"CS", b"US"),
        "modality",
    ),
    ("no modality", "modalities = [\"CT\", \"PT\"]", |ct| ct, |ct| ct.with(MODALITY, b"CS", b""), "modality"),
    (
        "another issuer",
        "patient_issuers = [\"HOSP-A\", \"HOSP-C\"]",
        |ct| issuer(b" HOSP-A ")(ct),
        |ct| issuer(b"HOSP-B")(ct),
        "patient_issuer",
    ),
    ("no issuer", "patient_issuers = [\"HOSP-A\"]", |ct| issuer(b"HOSP-A")(ct), |ct| ct, "patient_issuer"),
    (
        "an issuer is assigned only where there is none",
        "patient_issuers = [\"HOSP-A\"]\ncoerce_issuer = \"HOSP-A\"",
        |ct| ct,
        |ct| issuer(b"HOSP-B")(ct),
        "patient_issuer",
    ),
    (
        "an institution in Latin 1",
        "institutions = [\"Universitätsspital Zürich\"]",
        |ct| {
            let ct = ct.with(CHARACTER_SET, b"CS", b"ISO_IR 100");
            ct.with(INSTITUTION, b"LO", b"Universit\xE4tsspital Z\xFCrich")
        },
        // The same bytes are other letters without the character set.
        |ct| ct.with(INSTITUTION, b"LO", b"Universit\xE4tsspital Z\xFCrich"),
        "institution",
    ),
    (
        "an institution in UTF-8",
        "institutions = [\"東京大学病院\", \"Universitätsspital Zürich\"]",
        |ct| ct.with(CHARACTER_SET, b"CS", b"ISO_IR 192").with(INSTITUTION, b"LO", "東京大学病院".as_bytes()),
        |ct| ct.with(CHARACTER_SET, b"CS", b"ISO_IR 192").with(INSTITUTION, b"LO", "東京大学".as_bytes()),
        "institution",
    ),
    ("no institution", "institutions = [\"X\"]", |ct| ct.with(INSTITUTION, b"LO", b"X"), |ct| ct, "institution"),
    (
        "too large",
        "max_instance_bytes = 10000",
        |ct| ct.with_pixels(9_000, 1),
        |ct| ct.with_pixels(10_000, 1),
        "instance_size",
    ),
];

#[test]
fn what_a_row_does_not_list_of_an_instance_is_0124_and_nothing_of_it_is_kept() {
    let house = quick();
    let base = table_of(&house);
    let mut peer = let_in(&house, "one association for all of them");
    for (number, (name, columns, good, bad, reason)) in (1..).zip(CASES) {
        put(&house, &with_row(&base, "hospital-a", columns));
        let (good, bad) = (good(Instance::of_study(number, 1)), bad(Instance::of_study(number, 2)));
        assert_eq!(peer.store(&good.claim(), &good.data_set()), SUCCESS, "{name}");
        assert_eq!(peer.store(&bad.claim(), &bad.data_set()), NOT_AUTHORISED, "{name}");
        let line = audited(&house, &[("event", "instance"), ("decision", "deny"), ("instance", &bad.uid)]);
        assert_eq!((&line["reason"], &line["row"]), (&(*reason).into(), &"hospital-a".into()), "{name}: {line}");
        assert!(!line.to_string().contains("HOSP-B"), "a value of the data set is in the log: {line}");
    }
    assert_eq!(rows(house.dir()).len(), CASES.len());
    assert_eq!(files(house.dir(), "instances").len(), CASES.len());
    assert_log_is_sound(house);
}

#[test]
fn an_instance_that_names_an_issuer_keeps_it_and_one_that_names_none_is_given_it_in_the_index_alone() {
    let house = quick();
    let columns = "patient_issuers = [\"HOSP-A\", \"HOSP-C\"]\ncoerce_issuer = \"HOSP-A\"";
    put(&house, &with_row(&table_of(&house), "hospital-a", columns));
    let mut peer = let_in(&house, "with an issuer to assign");
    let instances = [Instance::of_study(1, 1), issuer(b"HOSP-C")(Instance::of_study(1, 2))];
    for instance in &instances {
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    }
    let dir = house.dir().to_str().expect("UTF-8");
    let output = portcullis(&["studies", "show", "2.25.1.1", "--dir", dir, "--json"]);
    let shown: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    for (instance, name, assigned) in [(&instances[0], "HOSP-A", true), (&instances[1], "HOSP-C", false)] {
        let row = shown.iter().find(|row| row["instance"] == instance.uid.as_str()).expect("it is in the index");
        assert_eq!(row["attributes"]["issuer_of_patient_id"], name);
        assert_eq!(row["issuer_assigned"] == true, assigned, "{row}");
        let object =
            files(house.dir(), "instances").into_iter().find(|path| path.to_string_lossy().contains(&instance.uid));
        assert_eq!(data_set(&object.expect("it is kept")), instance.data_set(), "as it was sent");
    }
}
