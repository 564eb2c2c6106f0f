//! A row that denies, by each of its columns: it matches with all of them or not at all, and wins over every row that allows.

use testkit::peer::Associated;

use super::{ENDED, NOT_AUTHORISED, closed, open};
use crate::support::furnish::{
    ID_A, asks, assert_log_is_sound, assert_others_are_served, let_in, put, quick, table_of, with_key,
};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, audited};

/// The table with one more row, which denies.
fn denying(base: &str, columns: &str) -> String {
    format!("{base}\n[[row]]\nid = \"stop\"\neffect = \"deny\"\n{columns}\n")
}

const AWAY: Associated = Associated::Rejected(1, 1, 1);
const IN: Associated = Associated::Accepted(3);

#[test]
fn each_column_of_a_deny_row_denies_what_it_lists_and_nothing_else() {
    let house = quick();
    let base = with_key(&table_of(&house), "allow_prefix = [\"hospital-a.invalid\"]");
    let past = "2020-01-01T00:00:00Z";
    let cases: [(String, Associated); 26] = [
        (String::new(), AWAY),
        (format!("identity = \"{ID_A}\""), AWAY),
        ("identity = \"spiffe://hospital-b.invalid/forwarder\"".into(), IN),
        ("prefix = \"spiffe://hospital-a.invalid/forwarder/\"".into(), IN),
        ("state = \"suspended\"".into(), IN),
        (format!("valid_until = {past}"), IN),
        ("not_before = 2999-01-01T00:00:00Z".into(), IN),
        (closed(), IN),
        (open(), AWAY),
        ("source_cidrs = [\"127.0.0.0/8\"]".into(), AWAY),
        ("source_cidrs = [\"192.0.2.0/24\"]".into(), IN),
        // What a connection does not show counts as a match.
        ("source_vpce = [\"vpce-08d2bf15fac5001c9\"]".into(), AWAY),
        (format!("called_aets = [\"{CALLED}\"]"), AWAY),
        ("called_aets = [\"OTHER\"]".into(), IN),
        (format!("calling_aets = [\"{A}\"]"), AWAY),
        ("calling_aets = [\"*\"]".into(), AWAY),
        ("calling_aets = [\"OTHER\"]".into(), IN),
        (format!("calling_aets = [\"{A}\"]\nsource_cidrs = [\"192.0.2.0/24\"]"), IN),
        ("operations = [\"echo\"]".into(), Associated::Accepted(2)),
        ("operations = [\"store\"]".into(), Associated::Accepted(1)),
        ("sop_classes = [\"CTImageStorage\"]".into(), Associated::Accepted(2)),
        ("sop_classes = [\"*\"]".into(), Associated::Accepted(1)),
        ("sop_classes = [\"MRImageStorage\"]".into(), IN),
        ("transfer_syntaxes = [\"ExplicitVRLittleEndian\"]".into(), Associated::Accepted(1)),
        ("transfer_syntaxes = [\"JPEGBaseline8Bit\"]".into(), IN),
        ("sop_classes = [\"CTImageStorage\"]\ntransfer_syntaxes = [\"JPEGBaseline8Bit\"]".into(), IN),
    ];
    for (columns, expected) in cases {
        put(&house, &denying(&base, &columns));
        assert_eq!(asks(&house, CALLED, A).1, expected, "{columns}");
    }
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "deny_row"), ("row", "stop")]);
    assert_others_are_served(&house);
    assert_log_is_sound(house);
}

#[test]
fn a_deny_row_about_a_data_set_refuses_what_it_lists_and_what_does_not_say() {
    let house = quick();
    let base = table_of(&house);
    let mut peer = let_in(&house, "one association for all of them");
    let said = |number| {
        let ct = Instance::numbered(number).with(0x0010_0021, b"LO", b"HOSP-A");
        ct.with(0x0008_0080, b"LO", b"Hospital A")
    };
    let silent = Instance::numbered;
    let cases: [(&str, fn(u64) -> Instance, bool); 9] = [
        ("modalities = [\"CT\"]", said, true),
        ("modalities = [\"US\"]", said, false),
        ("patient_issuers = [\"HOSP-A\"]", said, true),
        ("patient_issuers = [\"HOSP-B\"]", said, false),
        ("patient_issuers = [\"HOSP-B\"]", silent, true),
        ("institutions = [\"Hospital A\"]", said, true),
        ("institutions = [\"Hospital B\"]", said, false),
        ("modalities = [\"CT\"]\ninstitutions = [\"Hospital B\"]", said, false),
        ("modalities = [\"CT\"]\noperations = [\"store\"]\nsource_cidrs = [\"127.0.0.1/32\"]", said, true),
    ];
    for (number, (columns, instance, denied)) in (1..).zip(cases) {
        // The number in the row's reason makes each table another one.
        put(&house, &denying(&base, &format!("{columns}\nticket = \"SEC-{number}\"")));
        let instance = instance(number);
        let outcome = peer.store(&instance.claim(), &instance.data_set());
        assert_eq!(outcome, if denied { NOT_AUTHORISED } else { SUCCESS }, "{number}: {columns}");
        if denied {
            let line = audited(&house, &[("event", "instance"), ("decision", "deny"), ("instance", &instance.uid)]);
            assert_eq!((&line["reason"], &line["row"]), (&"deny_row".into(), &"stop".into()), "{line}");
        }
    }
    assert_eq!(peer.echo(), SUCCESS, "the association lived through all of it");
    assert_log_is_sound(house);
}

#[test]
fn a_deny_row_that_comes_later_ends_an_association_at_once_or_at_its_next_message() {
    let house = quick();
    let base = table_of(&house);
    for (columns, reason) in [
        ("source_cidrs = [\"127.0.0.0/8\"]", "policy_revoked"),
        ("operations = [\"echo\", \"store\"]", "policy_narrowed"),
    ] {
        put(&house, &base.replace("owner = \"you@", &format!("owner = \"{reason}@")));
        let mut peer = let_in(&house, columns);
        put(&house, &denying(&base, &format!("identity = \"{ID_A}\"\n{columns}")));
        assert_eq!(peer.outcome(), ENDED, "{columns}");
        audited(&house, &[("decision", "terminate"), ("reason", reason), ("spiffe_id", ID_A), ("row", "stop")]);
        assert_others_are_served(&house);
    }
    assert_log_is_sound(house);
}
