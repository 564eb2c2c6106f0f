//! Who calls itself like somebody else: an AE title narrows a row and stands for nobody.

use testkit::peer::{Associated, Peer, sample_contexts};
use testkit::stranger::Tls;

use super::forge::{Door, Forge, row};
use crate::support::archive::study;
use crate::support::instance::Instance;
use crate::support::{A, B, CALLED, SUCCESS, amend, associated, audited, connect, house};

/// Fails if rows, tenants or quotas are found by the title.
#[test]
fn a_borrowed_ae_title_gets_the_row_of_the_identity() {
    let house = house();
    let all = "calling_aets = [\"*\"]";
    amend(&house, |text| {
        text.replacen("calling_aets = [\"HOSPITAL_A\"]", all, 1).replacen("calling_aets = [\"HOSPITAL_B\"]", all, 1)
    });
    let mut own = associated(&house);
    let instance = Instance::numbered(1);
    assert_eq!(own.store(&instance.claim(), &instance.data_set()), SUCCESS);

    let mut borrower = connect(&house, "hospital-b");
    let answer = borrower.associate(CALLED, A, sample_contexts());
    // The row of hospital-a takes three of the contexts; that of hospital-b has no secondary capture.
    assert_eq!(answer, Associated::Accepted(2));
    let other = Instance::numbered(1).with_pixels(100, 1);
    assert_eq!(borrower.store(&other.claim(), &other.data_set()), SUCCESS, "into its own archive");
    let line = audited(&house, &[("event", "instance"), ("decision", "allow"), ("tenant", "hospital-b")]);
    assert_eq!((&line["row"], &line["alert"]), (&"hospital-b".into(), &"cross_tenant_uid".into()), "{line}");
    for (tenant, sent) in [("hospital-a", &instance), ("hospital-b", &other)] {
        let rows = study(house.dir(), tenant, &sent.study);
        assert_eq!(rows.len(), 1, "{tenant}");
        assert_eq!(rows[0].held.digest, model::Digest::of(&sent.data_set()), "{tenant}");
    }
    assert_eq!(connect(&house, "hospital-a").associate(B, A, sample_contexts()), Associated::Rejected(1, 1, 7));
}

#[test]
fn no_title_makes_up_for_a_missing_row() {
    let forge = Forge::new("hosp-a.example");
    let door = Door::trusting(&[&forge], &row("ct1", "identity = \"spiffe://hosp-a.example/ct1\""));
    let nobody = forge.svid("spiffe://hosp-a.example/nobody");
    for title in [A, "ct1", "*", "ADMIN", "PORTCULLIS"] {
        let mut peer = Peer::connect_as(door.house.addr(), &nobody.shown(Tls::V13)).expect("a good certificate");
        assert_eq!(peer.associate(CALLED, title, sample_contexts()), Associated::Rejected(1, 1, 1), "{title}");
    }
}
