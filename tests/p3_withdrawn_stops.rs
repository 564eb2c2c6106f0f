//! Promise 3: "A change of table, revocation or expiry stops a live association: no commit later than poll interval + 1 s."

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use dimse::Abort;
use testkit::house::House;
use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};

use crate::support::archive::{files, incoming, rows};
use crate::support::instance::Instance;
use crate::support::{
    A, Bystander, CALLED, SUCCESS, amend, associated, associated_b, audited, credentials, house, house_with, issue,
    with_columns, within, without_row, write_table,
};

/// PS3.8 §9.3.8: the receiver itself wants to end it.
const ENDED: Outcome = Outcome::Aborted(Abort { source: 0, reason: 0 });
const NOT_AUTHORISED: Outcome = Outcome::Status(0x0124);

#[test]
fn a_removed_row_ends_an_idle_association() {
    let house = house();
    let mut peer = associated(&house);
    let mut other = associated_b(&house);
    write_table(&house, |text| without_row(&text, "hospital-a"));
    assert_eq!(peer.outcome(), ENDED, "without a word from the peer");
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "policy_revoked")]);
    let instance = Instance::numbered(1);
    assert_eq!(other.store(&instance.claim(), &instance.data_set()), SUCCESS, "another row's association goes on");
}

#[test]
fn nothing_is_committed_under_a_table_that_no_longer_allows_it() {
    let house = house();
    let mut peer = associated(&house);
    let first = Instance::numbered(1);
    assert_eq!(peer.store(&first.claim(), &first.data_set()), SUCCESS);
    let revision = write_table(&house, |text| with_columns(&text, "hospital-a", "state = \"suspended\""));
    let mut stored = 1;
    let last = within(Duration::from_secs(30), "the association ends", || {
        let instance = Instance::numbered(stored + 1);
        let outcome = peer.store(&instance.claim(), &instance.data_set());
        if outcome == SUCCESS {
            stored += 1;
        }
        (outcome != SUCCESS).then_some(outcome)
    });
    assert!(matches!(last, NOT_AUTHORISED | ENDED), "{last:?}");
    let rows = rows(house.dir());
    assert_eq!(rows.len() as u64, stored, "what was not acknowledged is not in the index");
    assert!(rows.iter().all(|row| row.held.table_revision < revision));
}

#[test]
fn a_row_removed_in_the_middle_of_an_instance_stops_it() {
    let house = house();
    let mut peer = associated(&house);
    let instance = Instance::numbered(1).with_pixels(1 << 20, 1);
    let data_set = instance.data_set();
    let context = peer.begin_store(&instance.claim()).expect("the receiver listens");
    for piece in data_set[..600_000].chunks(60_000) {
        peer.send_fragment(context, piece, false).expect("the receiver listens");
    }
    write_table(&house, |text| without_row(&text, "hospital-a"));
    assert_eq!(peer.outcome(), ENDED);
    audited(&house, &[("event", "association"), ("decision", "terminate"), ("reason", "policy_revoked")]);
    assert_eq!(rows(house.dir()).len(), 0);
    assert_eq!(files(house.dir(), "instances"), Vec::<std::path::PathBuf>::new());
    within(Duration::from_secs(30), "the upload is removed", || incoming(house.dir()).is_empty().then_some(()));
}

/// An association of hospital-a by an SVID that ends soon.
fn associated_with(house: &House, credentials: &Credentials) -> Peer {
    let mut peer = Peer::connect(house.addr(), credentials).expect("it has time enough left");
    assert!(matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)));
    peer
}

#[test]
fn nothing_is_committed_after_the_svid_has_expired() {
    // V-30 wants 30 s left at the handshake.
    const LIFE: Duration = Duration::from_secs(34);
    // Without the hint that would send the sender away before.
    let house = house_with(&[], &[("PORTCULLIS__DICOM__ROTATE_HINT", "0s")]);
    let mut bystander = Bystander::of(&house);
    let issued = issue(&house, "spiffe://hospital-a.invalid/forwarder", LIFE);
    let credentials = credentials(&house, &issued);
    let associate = || associated_with(&house, &credentials);
    let (mut slow, mut busy) = (associate(), associate());
    // One is in the middle of an instance when the certificate ends, one stores all the time.
    let half = Instance::numbered(1).with_pixels(100_000, 1);
    let data_set = half.data_set();
    let context = slow.begin_store(&half.claim()).expect("the receiver listens");
    slow.send_fragment(context, &data_set[..50_000], false).expect("the receiver listens");
    let mut rest = data_set[50_000..].chunks_exact(2);
    let mut number = 1000;
    let last = within(LIFE + Duration::from_secs(30), "the association ends", || {
        number += 1;
        // The stall timer must not be what ends it; a connection that is gone shows below.
        let _ = slow.send_fragment(context, rest.next().expect("two bytes each time are enough"), false);
        let instance = Instance::numbered(number);
        let outcome = busy.store(&instance.claim(), &instance.data_set());
        (outcome != SUCCESS).then_some(outcome)
    });
    assert!(matches!(last, NOT_AUTHORISED | ENDED), "{last:?}");
    let rest: Vec<u8> = rest.flatten().copied().collect();
    let _ = slow.send_fragment(context, &rest, true);
    let outcome = slow.outcome();
    assert!(matches!(outcome, NOT_AUTHORISED | ENDED | Outcome::Closed), "{outcome:?}");
    bystander.still_served();

    let mut own = rows(house.dir());
    own.retain(|row| !Bystander::stored(&row.held));
    assert!(!own.is_empty());
    // A certificate counts in whole seconds and is good until the end of its last one.
    let end = issued.not_after.plus(Duration::from_secs(1));
    assert!(own.iter().all(|row| row.held.received_at < end), "not_after is {}", issued.not_after);
    assert!(own.iter().all(|row| row.held.name.instance.as_str() != half.uid));
}

#[test]
fn a_sender_is_sent_away_before_its_svid_expires_and_what_is_in_flight_is_kept() {
    const LIFE: Duration = Duration::from_secs(33);
    let house = house();
    let issued = issue(&house, "spiffe://hospital-a.invalid/forwarder", LIFE);
    let credentials = credentials(&house, &issued);
    let associate = || associated_with(&house, &credentials);
    let (mut slow, mut idle) = (associate(), associate());
    let instance = Instance::numbered(1).with_pixels(100_000, 1);
    let data_set = instance.data_set();
    let context = slow.begin_store(&instance.claim()).expect("the receiver listens");
    slow.send_fragment(context, &data_set[..50_000], false).expect("the receiver listens");
    assert_eq!(idle.outcome(), ENDED, "between two messages, without a word from the peer");
    let line = audited(&house, &[("event", "association"), ("reason", "svid_expiring")]);
    assert!(line["ts"].as_str() < line["not_after"].as_str(), "before the certificate ends: {line}");
    slow.send_fragment(context, &data_set[50_000..], true).expect("the receiver listens");
    assert_eq!(slow.outcome(), SUCCESS, "the instance in flight is finished first");
    assert_eq!(slow.outcome(), ENDED);
}

#[test]
fn a_narrowed_row_refuses_what_it_no_longer_lists_and_keeps_the_association() {
    let house = house();
    let mut peer = associated(&house);
    let instance = Instance::numbered(1);
    let store = |peer: &mut Peer| peer.store(&instance.claim(), &instance.data_set());
    assert_eq!(store(&mut peer), SUCCESS);
    let row = "sop_classes = [\"*\"]";
    amend(&house, |text| text.replacen(row, "sop_classes = [\"MRImageStorage\"]", 1));
    assert_eq!(store(&mut peer), NOT_AUTHORISED);
    audited(&house, &[("event", "instance"), ("decision", "deny"), ("reason", "sop_class"), ("status", "0124")]);
    assert_eq!(peer.echo(), SUCCESS, "the association goes on");
    amend(&house, |text| text.replacen("sop_classes = [\"MRImageStorage\"]", row, 1));
    assert_eq!(store(&mut peer), SUCCESS, "and may store again when the row allows it again");
}

#[test]
fn an_instance_is_on_record_with_the_revision_that_decided_it_and_not_that_of_its_association() {
    let house = house();
    let mut peer = associated(&house);
    let (first, second) = (Instance::numbered(1), Instance::numbered(2));
    amend(&house, |text| text.replacen("sop_classes = [\"*\"]", "sop_classes = [\"*\"] # Looked at.", 1));
    assert_eq!(peer.store(&first.claim(), &first.data_set()), SUCCESS);
    let stored = audited(&house, &[("event", "instance"), ("decision", "allow"), ("reason", "stored")]);
    assert_eq!(stored["policy_revision"], 2, "{stored}");
    let deny = "[[row]]\nid = \"no-ct\"\neffect = \"deny\"\nmodalities = [\"CT\"]\n\n[[row]]";
    amend(&house, |text| text.replacen("[[row]]", deny, 1));
    assert_eq!(peer.store(&second.claim(), &second.data_set()), NOT_AUTHORISED);
    let refused = audited(&house, &[("event", "instance"), ("decision", "deny"), ("row", "no-ct")]);
    assert_eq!((&refused["policy_revision"], &refused["tenant"]), (&3.into(), &"hospital-a".into()), "{refused}");
    amend(&house, |text| text.replacen("modalities = [\"CT\"]", "calling_aets = [\"*\"]", 1));
    let ended = audited(&house, &[("event", "association"), ("decision", "terminate"), ("row", "no-ct")]);
    assert_eq!((&ended["reason"], &ended["policy_revision"]), (&"policy_revoked".into(), &4.into()), "{ended}");
}

#[test]
fn an_association_may_collect_so_many_refusals_and_c_echo_counts() {
    let house = house_with(&[], &[("PORTCULLIS__DICOM__MAX_DENIALS", "2")]);
    let instance = Instance::numbered(1);
    let store: fn(&mut Peer, &Instance) -> Outcome = |peer, it| peer.store(&it.claim(), &it.data_set());
    let echo: fn(&mut Peer, &Instance) -> Outcome = |peer, _| peer.echo();
    let narrowed = [
        ("C-STORE", "sop_classes = [\"*\"]", "sop_classes = [\"MRImageStorage\"]", store, NOT_AUTHORISED),
        ("C-ECHO", "operations = [\"echo\", \"store\"]", "operations = [\"store\"]", echo, Outcome::Status(0x0122)),
    ];
    for (name, from, to, ask, refused) in narrowed {
        let mut peer = associated(&house);
        amend(&house, |text| text.replacen(from, to, 1));
        let answers: Vec<_> = (0..3).map(|_| ask(&mut peer, &instance)).collect();
        assert_eq!(answers, [refused, refused, refused], "{name}");
        assert!(matches!(ask(&mut peer, &instance), Outcome::Aborted(_) | Outcome::Closed), "{name}");
        amend(&house, |text| text.replacen(to, from, 1));
    }
    let ended = house.audit().into_iter().filter(|line| line["reason"] == "too_many_denials").count();
    assert_eq!(ended, 2);
}

#[test]
fn a_table_that_cannot_be_used_leaves_the_old_one_in_force() {
    let house = house();
    let mut peer = associated(&house);
    let path = house.dir().join("access.toml");
    let good = fs::read_to_string(&path).expect("dev has written a table");
    let cases = [
        ("not TOML", good.replacen("[[row]]", "[[row", 1)),
        ("empty", String::new()),
        ("unknown column", with_columns(&good, "hospital-a", "operatoins = []")),
        ("two rows of one id", good.replacen("id = \"hospital-b\"", "id = \"hospital-a\"", 1)),
        ("an older revision", good.replacen("revision = 1", "revision = 0", 1)),
    ];
    for (number, (name, text)) in cases.iter().enumerate() {
        fs::write(&path, text).expect("the directory is ours");
        within(Duration::from_secs(30), name, || {
            let failures = house.audit().into_iter().filter(|line| line["reason"] == "reload_failed").count();
            (failures > number).then_some(())
        });
        let instance = Instance::numbered(number as u64 + 1);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS, "{name}");
        let mut new = associated(&house);
        assert_eq!(new.echo(), SUCCESS, "{name}");
    }
    fs::write(&path, without_row(&good, "hospital-a").replacen("revision = 1", "revision = 2", 1)).expect("ours");
    assert_eq!(peer.outcome(), ENDED, "and a good one is taken again");
}

#[test]
fn a_table_behind_a_swapped_symlink_is_seen() {
    let house = house();
    let mut peer = associated(&house);
    let path = house.dir().join("access.toml");
    let text = fs::read_to_string(&path).expect("dev has written a table");
    let swap = |name: &str, text: &str| {
        // As Kubernetes mounts a ConfigMap: a directory for each version, and a link that is renamed over.
        let version = house.dir().join(name);
        fs::create_dir(&version).and_then(|()| fs::write(version.join("access.toml"), text)).expect("ours");
        let link = house.dir().join("link");
        symlink(version.join("access.toml"), &link).and_then(|()| fs::rename(&link, &path)).expect("ours");
    };
    swap("v1", &text);
    assert_eq!(peer.echo(), SUCCESS);
    swap("v2", &without_row(&text, "hospital-a").replacen("revision = 1", "revision = 2", 1));
    assert_eq!(peer.outcome(), ENDED);
}
