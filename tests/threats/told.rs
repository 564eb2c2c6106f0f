//! What a denied peer learns: the code of the standard and nothing else. Which rule it was is for the audit log.

use std::collections::{BTreeMap, BTreeSet};

use model::InstanceClaim;
use testkit::house::House;
use testkit::peer::{Associated, Credentials, Peer, sample_contexts};

use super::house_configured;
use crate::support::instance::Instance;
use crate::support::{A, CALLED, amend, audited, connect, house, with_columns, without_row};

/// A-ASSOCIATE-RJ (PS3.8 §9.3.4): rejected-permanent, service-user, no-reason-given; and then the end.
const REJECTED: [u8; 10] = [3, 0, 0, 0, 0, 4, 0, 1, 1, 1];

/// Everything that hospital-a hears when it asks for an association, to the end of the connection.
fn heard(house: &House, called: &str, calling: &str) -> Vec<u8> {
    let mut peer = connect(house, "hospital-a");
    peer.send_raw(&request(called, calling)).expect("the receiver reads the request");
    let (kind, body) = peer.read_pdu().expect("there is an answer");
    // Sta13: the receiver waits for us to go.
    peer.half_close().expect("it is open");
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[kind, 0], &length[..], &body, &peer.read_to_end()].concat()
}

fn request(called: &str, calling: &str) -> Vec<u8> {
    let title = |text: &str| model::AeTitle::parse(text).expect("a title");
    let (called, calling) = (title(called), title(calling));
    dimse::Request { called, calling, contexts: sample_contexts(), max_pdu_length: 16_384 }.bytes()
}

#[test]
fn without_a_right_in_force_every_reason_is_the_same_bytes() {
    let house = house();
    let column = |columns: &'static str| move |text: String| with_columns(&text, "hospital-a", columns);
    let deny = |text: String| text + "\n[[row]]\nid = \"barred\"\neffect = \"deny\"\nidentity = \"ID\"\n";
    let cases: Vec<(&str, Box<dyn Fn(String) -> String>)> = vec![
        ("row_suspended", Box::new(column("state = \"suspended\""))),
        ("row_expired", Box::new(column("valid_until = 2020-01-01T00:00:00Z"))),
        ("row_not_yet", Box::new(column("not_before = 2199-01-01T00:00:00Z"))),
        ("posture", Box::new(column("posture_ok_until = 2020-01-01T00:00:00Z"))),
        ("vpce_missing", Box::new(column("require_vpce = true"))),
        ("source", Box::new(column("source_cidrs = [\"192.0.2.0/24\"]"))),
        ("svid_lifetime", Box::new(column("max_svid_lifetime = \"1h\""))),
        ("denied", Box::new(move |text| deny(text).replace("ID", testkit::pki::HOSPITAL_A))),
        ("kill_switch", Box::new(|text| format!("kill_switch = true\n{text}"))),
        ("no_row", Box::new(|text| without_row(&text, "hospital-a"))),
    ];
    let path = house.dir().join("access.toml");
    let good = std::fs::read_to_string(&path).expect("dev has written it");
    let mut codes = BTreeSet::new();
    for (name, edit) in &cases {
        amend(&house, |text| {
            let revision = text.lines().find(|line| line.starts_with("revision = ")).expect("it has one").to_owned();
            edit(good.replacen("revision = 1", &revision, 1))
        });
        for (called, calling) in [(CALLED, A), ("ELSEWHERE", A), (CALLED, "SOMEBODY")] {
            assert_eq!(heard(&house, called, calling), REJECTED, "{name}, {called}, {calling}");
        }
        let denials: Vec<_> = house.audit().into_iter().filter(|line| line["decision"] == "deny").collect();
        let reason = denials.last().expect("three denials")["reason"].as_str().expect("text").to_owned();
        assert!(codes.insert(reason.clone()), "{name}: {reason} came before: {denials:#?}");
    }
    assert_eq!(codes.len(), cases.len(), "the audit log tells them apart: {codes:?}");
}

/// Under the strict profile the wrong title is no help for who tries titles.
#[test]
fn under_the_strict_profile_a_wrong_title_is_answered_as_no_row() {
    let house = house();
    let known = heard(&house, "ELSEWHERE", A);
    assert_eq!(known[..10], [3, 0, 0, 0, 0, 4, 0, 1, 1, 7], "the control: by the baseline it is helped");
    let house = strict_house();
    for (called, calling) in [(CALLED, "SOMEBODY"), ("ELSEWHERE", A), ("ELSEWHERE", "SOMEBODY")] {
        assert_eq!(heard(&house, called, calling), REJECTED, "{called}, {calling}");
    }
}

/// Who has tried too many doors is answered as nobody, also at the right one.
#[test]
fn a_suspended_identity_is_answered_as_one_without_a_row() {
    let house = house_configured(&[("[access]", "auto_suspend = { denials = 1, window = \"1h\", ttl = \"1h\" }")]);
    assert_eq!(heard(&house, "ELSEWHERE", A)[..10], [3, 0, 0, 0, 0, 4, 0, 1, 1, 7], "until then it is helped");
    for (called, calling) in [(CALLED, A), ("ELSEWHERE", A), (CALLED, "SOMEBODY")] {
        assert_eq!(heard(&house, called, calling), REJECTED, "{called}, {calling}");
    }
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "auto_suspended")]);
}

/// A house under the strict profile, whose rows say what it demands.
fn strict_house() -> House {
    let house = house();
    let (config, table) = (house.dir().join("gateway.toml"), house.dir().join("access.toml"));
    let read = |path| std::fs::read_to_string(path).expect("dev has written it");
    let people = "contact = \"x\"\nticket = \"T-1\"\ncreated_by = \"one\"\napproved_by = \"two\"\nupdated_at = \
                  2026-01-01T00:00:00Z";
    let rows = with_columns(&with_columns(&read(&table), "hospital-a", people), "hospital-b", people);
    std::fs::write(&table, rows).expect("ours");
    std::fs::write(&config, format!("profile = \"strict\"\n{}", read(&config))).expect("ours");
    house.restart()
}

/// An association whose answers are read as bytes.
struct Raw {
    peer: Peer,
    house: House,
}

impl Raw {
    fn open(columns: &str) -> Self {
        let house = house();
        if !columns.is_empty() {
            amend(&house, |text| with_columns(&text, "hospital-a", columns));
        }
        let mut peer =
            Peer::connect(house.addr(), &Credentials::of_house(&house, "hospital-a")).expect("a good certificate");
        assert!(matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)));
        Self { peer, house }
    }

    fn answer(&mut self, claim: &InstanceClaim, data_set: &[u8]) -> Vec<u8> {
        let context = self.peer.begin_store(claim).expect("the receiver listens");
        self.peer.send_data(context, data_set).expect("the receiver listens");
        let (kind, body) = self.peer.read_pdu().expect("there is an answer");
        assert_eq!(kind, 4, "P-DATA");
        body
    }
}

/// Which column of its row refuses an instance is not for the sender, not by one byte: same status, same comment.
#[test]
fn an_instance_that_is_not_allowed_gets_the_same_bytes_whatever_forbids_it() {
    let instance = Instance::numbered(1)
        .with(0x0010_0021, b"LO", b"ISSUER CANARY")
        .with(0x0008_0080, b"LO", b"INSTITUTION CANARY")
        .with_pixels(2000, 1);
    let cases = [
        ("modality", "modalities = [\"MR\"]"),
        ("patient_issuer", "patient_issuers = [\"Somebody else\"]"),
        ("institution", "institutions = [\"Somewhere else\"]"),
        ("instance_size", "max_instance_bytes = 1234"),
    ];
    let mut answers = BTreeMap::new();
    for (reason, columns) in cases {
        let mut raw = Raw::open(columns);
        let answer = raw.answer(&instance.claim(), &instance.data_set());
        audited(&raw.house, &[("event", "instance"), ("decision", "deny"), ("reason", reason), ("status", "0124")]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains("not authorised"), "{reason}: {text:?}");
        for detail in ["CANARY", "else", "MR", "hospital-a", "1234", reason] {
            assert!(!text.contains(detail), "{reason}: {detail} is told: {text:?}");
        }
        answers.entry(answer).or_insert_with(Vec::new).push(reason);
    }
    assert_eq!(answers.len(), 1, "{answers:02X?}");
}

/// What a data set says comes back in no answer: the comments are constants.
#[test]
fn no_answer_repeats_what_was_sent() {
    const CANARY: &str = "CANARY^VALUE";
    let mut raw = Raw::open("");
    let good = Instance::numbered(1).with(0x0010_0010, b"PN", CANARY.as_bytes());
    let other_class = good.clone().with(0x0008_0016, b"UI", b"1.2.840.10008.5.1.4.1.1.4");
    let other_uid = good.clone().with(0x0008_0018, b"UI", b"2.25.77777777");
    let bad_uid = good.clone().with(0x0020_000D, b"UI", b"2.25.77777777.x");
    let torn = [&good.data_set()[..60], CANARY.as_bytes()].concat();
    let sent = [
        ("A900", other_class.data_set()),
        ("A900", other_uid.data_set()),
        ("C000", bad_uid.data_set()),
        ("C000", torn),
    ];
    let mut comments = BTreeSet::new();
    for (status, data_set) in sent {
        let answer = raw.answer(&good.claim(), &data_set);
        let text = String::from_utf8_lossy(&answer).into_owned();
        for told in [CANARY, "CANARY", "77777777"] {
            assert!(!text.contains(told), "{status}: {text:?}");
        }
        audited(&raw.house, &[("event", "instance"), ("decision", "deny"), ("status", status)]);
        comments.insert(comment(&answer));
    }
    assert_eq!(
        comments,
        BTreeSet::from([
            "SOP Class UID of data set and command differ".to_owned(),
            "SOP Instance UID of data set and command differ".to_owned(),
            "the data set cannot be parsed".to_owned(),
        ])
    );
}

/// Error Comment (0000,0902) of a command set in one PDU.
fn comment(body: &[u8]) -> String {
    let at = body.windows(4).position(|tag| tag == [0, 0, 2, 9]).expect("there is a comment");
    let length = usize::from(u16::from_le_bytes([body[at + 4], body[at + 5]]));
    String::from_utf8_lossy(&body[at + 8..at + 8 + length]).trim_end().to_owned()
}

/// So that the request above is one that is understood.
#[test]
fn the_request_of_these_tests_is_granted_when_nothing_forbids_it() {
    let house = house();
    let mut peer = connect(&house, "hospital-a");
    peer.send_raw(&request(CALLED, A)).expect("the receiver reads the request");
    assert_eq!(peer.read_pdu().map(|(kind, _)| kind), Some(2), "A-ASSOCIATE-AC");
}
