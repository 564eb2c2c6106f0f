//! Peers that have not proven who they are: they keep nobody out, and are told why they must go.

use std::fs;
use std::time::Duration;

use testkit::house::eventually;
use testkit::peer::{Associated, plain, sample_contexts};
use testkit::pki::{Pki, STRANGER};

use crate::support::archive::rows;
use crate::support::instance::Instance;
use crate::support::witness::python;
use crate::support::{
    A, CALLED, SUCCESS, associated, associated_b, audited, connect, house, house_in, house_with, said, stdout, within,
};

/// More than there are connections.
const SILENT: usize = 12;
/// Of which so many may be without a complete handshake.
const MOST: usize = 4;

/// Fails if a stranger keeps its place until the handshake's time is up: eight of the silent ones then hold all eight places for
/// ten minutes, and the hospital's connection waits in the kernel's queue until the deadline of this test.
#[test]
fn silent_strangers_do_not_keep_a_hospital_out() {
    let home = tempfile::tempdir().expect("a temporary directory");
    assert!(house_in(home.path(), &[], &[]).terminate().success());
    let path = home.path().join("gateway.toml");
    let text = fs::read_to_string(&path).expect("dev has written it");
    // Room for all associations and all strangers at once: a stranger only has to go when it is one too many of its kind.
    let limits =
        "[receiver]\nmax_connections = 8\nmax_handshakes = 4\nmax_associations = 4\nhandshake_timeout = \"600s\"\n";
    assert!(text.contains("[receiver]\n"));
    fs::write(&path, text.replacen("[receiver]\n", limits, 1)).expect("ours");
    let house = house_in(home.path(), &[], &[]);

    let silent: Vec<_> = (0..SILENT).map(|_| plain(house.addr()).expect("the kernel takes it")).collect();
    let mut peer = associated(&house);
    let instance = Instance::numbered(1);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    // Those who are known do not count among the strangers: more of them than there may be handshakes.
    let mut known: Vec<_> = (0..3).map(|_| associated_b(&house)).collect();
    let crowded_out = || house.audit().iter().filter(|line| line["reason"] == "crowded_out").count();
    eventually("the oldest strangers have gone", || (crowded_out() >= SILENT - MOST).then_some(()));
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "crowded_out")]);
    known.iter_mut().for_each(|peer| assert_eq!(peer.echo(), SUCCESS));
    assert_eq!(peer.echo(), SUCCESS, "who is known is never crowded out");
    assert_eq!(rows(house.dir()).len(), 1);
    drop(silent);
}

/// With TLS 1.3 a client is done before its certificate was judged, and sends at once. Fails if the receiver closes with the
/// request unread: the kernel then resets the connection, which may overtake the alert and in any case follows it. The request
/// is longer than what the receiver reads at a time, so that there is always something unread.
#[test]
fn a_client_that_has_sent_its_request_already_is_told_that_its_certificate_is_refused() {
    let house = house();
    let issued = Pki::new().issue(&format!("spiffe://{STRANGER}/forwarder"));
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (cert, key) = (scratch.path().join("cert.pem"), scratch.path().join("key.pem"));
    fs::write(&cert, &issued.chain_pem).and_then(|()| fs::write(&key, &issued.key_pem)).expect("ours");
    let port = house.addr().port().to_string();
    // More than once: where it fails, it may not fail each time.
    for _ in 0..5 {
        let output =
            python("refused.py").args(["127.0.0.1", &port]).args([&cert, &key]).output().expect("Python starts");
        let told = stdout(&output);
        assert!(told.contains("ALERT") && told.trim_end().ends_with("then closed"), "{}", said(&output));
    }
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "td_unknown")]);
    assert!(house.audit().iter().all(|line| line["event"] != "association"), "none of it was read as DICOM");
}

#[test]
fn one_identity_cannot_take_every_connection() {
    let house = house_with(&[], &[("PORTCULLIS__RECEIVER__MAX_CONNECTIONS_PER_IDENTITY", "2")]);
    let silent: Vec<_> = (0..2).map(|_| connect(&house, "hospital-a")).collect();
    let mut third = connect(&house, "hospital-a");
    assert_eq!(third.associate(CALLED, A, sample_contexts()), Associated::Closed);
    audited(&house, &[("event", "connection"), ("decision", "deny"), ("reason", "connection_limit")]);
    assert_eq!(associated_b(&house).echo(), SUCCESS, "another identity is served");
    drop(silent);
    within(Duration::from_secs(30), "a connection given back is free again", || {
        let mut again = connect(&house, "hospital-a");
        matches!(again.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)).then_some(())
    });
}
