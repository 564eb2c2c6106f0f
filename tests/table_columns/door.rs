//! Who is let in, and what the others are told: nothing.

use std::time::Duration;

use dimse::Request;
use model::AeTitle;
use testkit::house::House;
use testkit::peer::{Associated, Peer, contexts, sample_contexts};
use testkit::stranger::{Stranger, Tls};

use super::{ENDED, NO_ECHO, NOT_AUTHORISED, closed, open};
use crate::support::furnish::{
    ID_A, asks, assert_log_is_sound, assert_others_are_served, assert_turned_away, furnished, let_in, put, quick,
    table_of, with_key, with_row,
};
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, audited, connect, credentials, issue, without_row};

const PAST: &str = "2020-01-01T00:00:00Z";
const FUTURE: &str = "2999-01-01T00:00:00Z";
/// A-ASSOCIATE-RJ (PS3.8 §9.3.4).
const REJECT: u8 = 0x03;

/// The answer of hospital-a's next association request, as it is on the wire.
fn wire(house: &House, called: &str, calling: &str) -> (u8, Vec<u8>) {
    let title = |text: &str| AeTitle::parse(text).expect("a valid AE title");
    let request = Request {
        called: title(called),
        calling: title(calling),
        contexts: sample_contexts(),
        max_pdu_length: 16 * 1024,
    };
    let mut peer = connect(house, "hospital-a");
    peer.send_raw(&request.bytes()).expect("the receiver listens");
    peer.read_pdu().expect("an answer")
}

#[test]
fn whoever_has_no_row_in_force_is_told_the_same_bytes_whatever_the_reason() {
    let house = quick();
    let base = table_of(&house);
    let row = |columns: &str| with_row(&base, "hospital-a", columns);
    let deny = format!("{base}\n[[row]]\nid = \"stop\"\neffect = \"deny\"\nidentity = \"{ID_A}\"\n");
    let cases = [
        ("no_row", without_row(&base, "hospital-a")),
        ("row_suspended", row("state = \"suspended\"\nreason = \"moved\"")),
        ("row_suspended", row(&format!("state = \"suspended\"\nuntil = {FUTURE}"))),
        ("row_expired", row(&format!("valid_until = {PAST}"))),
        ("row_not_yet", row(&format!("not_before = {FUTURE}"))),
        ("outside_window", row(&closed())),
        ("posture", row(&format!("posture_ok_until = {PAST}"))),
        ("kill_switch", with_key(&base, "kill_switch = true")),
        ("deny_row", deny),
        ("source", row("source_cidrs = [\"192.0.2.0/24\"]")),
        ("vpce_missing", row("require_vpce = true")),
        ("vpce_missing", row("source_vpce = [\"vpce-08d2bf15fac5001c9\"]")),
        ("svid_lifetime", row("max_svid_lifetime = \"1h\"")),
    ];
    for (reason, table) in cases {
        put(&house, &table);
        assert_eq!(wire(&house, CALLED, A), (REJECT, vec![0, 1, 1, 1]), "{reason}");
        audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", reason), ("spiffe_id", ID_A)]);
        // What is asked for makes no difference either.
        assert_eq!(wire(&house, "ELSEWHERE", "SOMEBODY"), (REJECT, vec![0, 1, 1, 1]), "{reason}");
    }
    put(&house, &base);
    for (reason, called, calling, told) in [
        ("called_aet", "ELSEWHERE", A, 7),
        ("called_aet", "portcullis", A, 7),
        ("calling_aet", CALLED, "SOMEBODY", 3),
        ("called_aet", "ELSEWHERE", "SOMEBODY", 7),
    ] {
        assert_eq!(wire(&house, called, calling), (REJECT, vec![0, 1, 1, told]), "{called} {calling}");
        audited(&house, &[("reason", reason), ("called_ae", called), ("calling_ae", calling)]);
    }
    assert_log_is_sound(house);
}

#[test]
fn a_row_in_force_lets_in() {
    let house = quick();
    let base = table_of(&house);
    for columns in [
        format!("state = \"suspended\"\nuntil = {PAST}"),
        format!("not_before = {PAST}\nvalid_until = {FUTURE}"),
        format!("posture_ok_until = {FUTURE}"),
        open(),
        "source_cidrs = [\"192.0.2.0/24\", \"127.0.0.0/8\"]".to_owned(),
        "min_tls = \"1.3\"".to_owned(),
        "max_svid_lifetime = \"25h\"".to_owned(),
        "called_aets = [\"*\"]\ncalling_aets = [\"*\"]".to_owned(),
    ] {
        put(&house, &with_row(&base, "hospital-a", &columns));
        assert_eq!(let_in(&house, &columns).echo(), SUCCESS, "{columns}");
    }
    put(&house, &with_row(&base, "hospital-a", "called_aets = []"));
    assert_eq!(asks(&house, CALLED, A).1, Associated::Rejected(1, 1, 7), "an empty list allows nothing");
}

#[test]
fn a_row_that_wants_tls_1_3_refuses_1_2() {
    let house = quick();
    let base = table_of(&house);
    let pem = |name: &str| std::fs::read_to_string(house.dir().join("certs").join(name)).expect("dev has made it");
    let chain = gateway::pki::certificates(&pem("hospital-a.pem"));
    let ask = |version| {
        let stranger = Stranger::new(&chain, Some(&pem("hospital-a.key")), version);
        let mut peer = Peer::connect_as(house.addr(), &stranger).expect("a good certificate");
        peer.associate(CALLED, A, sample_contexts())
    };
    assert_eq!(ask(Tls::V12), Associated::Accepted(3));
    put(&house, &with_row(&base, "hospital-a", "min_tls = \"1.3\""));
    assert_eq!((ask(Tls::V12), ask(Tls::V13)), (Associated::Rejected(1, 1, 1), Associated::Accepted(3)));
    audited(&house, &[("reason", "min_tls"), ("tls_version", "TLSv1.2"), ("decision", "deny")]);
    put(&house, &with_row(&base, "hospital-a", "min_tls = \"1.2\""));
    assert_eq!(ask(Tls::V12), Associated::Accepted(3));
}

#[test]
fn a_row_may_want_certificates_of_shorter_life() {
    let house = quick();
    put(&house, &with_row(&table_of(&house), "hospital-a", "max_svid_lifetime = \"1h\""));
    let ask = |minutes: u64| {
        let issued = issue(&house, ID_A, Duration::from_secs(minutes * 60));
        let mut peer = Peer::connect(house.addr(), &credentials(&house, &issued)).expect("a good certificate");
        peer.associate(CALLED, A, sample_contexts())
    };
    assert_eq!((ask(90), ask(30)), (Associated::Rejected(1, 1, 1), Associated::Accepted(3)));
    audited(&house, &[("reason", "svid_lifetime"), ("decision", "deny")]);
}

#[test]
fn operations_are_allowed_one_by_one_also_while_an_association_lives() {
    let house = quick();
    let base = table_of(&house);
    let with = |operations: &str| put(&house, &with_row(&base, "hospital-a", &format!("operations = {operations}")));
    let mut peer = let_in(&house, "echo and store");
    with("[\"store\"]");
    assert_eq!(peer.echo(), NO_ECHO);
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "operation")]);
    let instance = Instance::numbered(1);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "it may still store");
    assert_eq!(asks(&house, CALLED, A).1, Associated::Accepted(2), "no context for C-ECHO");
    with("[\"echo\"]");
    let instance = Instance::numbered(2);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), NOT_AUTHORISED);
    audited(&house, &[("event", "instance"), ("reason", "operation"), ("instance", &instance.uid)]);
    assert_eq!(peer.echo(), SUCCESS);
    assert_eq!(asks(&house, CALLED, A).1, Associated::Accepted(1));
    with("[]");
    assert_eq!(peer.outcome(), ENDED, "nothing is left of it");
    assert_turned_away(&house, "no operation is no context");
    assert_log_is_sound(house);
}

#[test]
fn classes_and_syntaxes_are_accepted_one_by_one() {
    let house = quick();
    let base = table_of(&house);
    let (implicit, explicit) = ("ImplicitVRLittleEndian", "ExplicitVRLittleEndian");
    let proposed = || {
        contexts(&[
            ("CTImageStorage", &[implicit, explicit]),
            ("MRImageStorage", &[explicit]),
            ("1.2.3.4.5", &[implicit]),
            ("CTImageStorage", &["DeflatedExplicitVRLittleEndian"]),
            ("1.2.840.10008.5.1.4.1.2.2.1", &[implicit]),
        ])
    };
    for (columns, accepted) in [
        ("sop_classes = [\"*\"]\ntransfer_syntaxes = [\"*\"]", 3),
        ("sop_classes = [\"all-storage\"]\ntransfer_syntaxes = [\"*\"]", 2),
        ("sop_classes = [\"MRImageStorage\"]\ntransfer_syntaxes = [\"*\"]", 1),
        ("sop_classes = [\"*\"]\ntransfer_syntaxes = [\"ImplicitVRLittleEndian\"]", 2),
        ("sop_classes = [\"1.2.3.4.5\"]\ntransfer_syntaxes = [\"1.2.840.10008.1.2\"]", 1),
        ("sop_classes = [\"CTImageStorage\"]\ntransfer_syntaxes = [\"*\", \"DeflatedExplicitVRLittleEndian\"]", 2),
    ] {
        put(&house, &with_row(&base, "hospital-a", columns));
        let answer = connect(&house, "hospital-a").associate(CALLED, A, proposed());
        assert_eq!(answer, Associated::Accepted(accepted), "{columns}");
    }
}

#[test]
fn the_kill_switch_ends_everything_and_lets_in_again_when_it_is_off() {
    let house = quick();
    let base = table_of(&house);
    let (mut idle, mut busy) = (let_in(&house, "idle"), let_in(&house, "in the middle of an instance"));
    let half = Instance::numbered(1).with_pixels(50_000, 1);
    let context = busy.begin_store(&half.claim()).expect("the receiver listens");
    busy.send_fragment(context, &half.data_set()[..20_000], false).expect("the receiver listens");
    put(&house, &with_key(&base, "kill_switch = true"));
    assert_eq!((idle.outcome(), busy.outcome()), (ENDED, ENDED), "where they are");
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "kill_switch")]);
    let changed = audited(&house, &[("event", "policy"), ("reason", "policy_changed")]);
    assert!(changed["detail"].as_str().is_some_and(|detail| detail.contains("kill_switch: on")), "{changed}");
    assert_turned_away(&house, "the kill switch");
    put(&house, &base);
    assert_eq!(let_in(&house, "lifted").echo(), SUCCESS);
    assert_others_are_served(&house);
    assert_eq!(crate::support::archive::rows(house.dir()).len(), 0);
    assert_log_is_sound(house);
}

#[test]
fn a_row_may_want_a_vpc_endpoint_whichever() {
    use testkit::relay::{Header, Relay};
    let proxied = "[receiver]\nproxy_protocol = \"required\"\nproxy_networks = [\"127.0.0.0/8\"]\n";
    let house = furnished(
        |config| config.replacen("[receiver]\n", proxied, 1),
        |table| with_row(&table, "hospital-a", "require_vpce = true"),
    );
    let from = "198.51.100.9:40000".parse().expect("an address");
    let to = "10.0.0.1:2762".parse().expect("an address");
    let ask = |header: &Header| {
        let relay = Relay::start(house.addr(), header);
        let credentials = testkit::peer::Credentials::of_house(&house, "hospital-a");
        let mut peer = Peer::connect(relay.addr(), &credentials).expect("the header is good");
        peer.associate(CALLED, A, sample_contexts())
    };
    assert_eq!(ask(&Header::relayed(from, to)), Associated::Rejected(1, 1, 1));
    audited(&house, &[("event", "association"), ("reason", "vpce_missing")]);
    for endpoint in ["vpce-08d2bf15fac5001c9", "vpce-0123456789abcdef0"] {
        assert_eq!(ask(&Header::aws(from, to, endpoint)), Associated::Accepted(3), "{endpoint}");
    }
}
