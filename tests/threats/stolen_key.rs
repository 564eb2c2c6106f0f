//! Somebody has the key of a hospital and uses it from another place: through another VPC endpoint of the load balancer.

use std::time::Duration;

use dimse::Abort;
use gateway::pki::SVID_LIFETIME;
use model::Digest;
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Credentials, Outcome, Peer, sample_contexts};
use testkit::pki::HOSPITAL_A;
use testkit::relay::{Header, Relay};

use super::house_configured;
use crate::proxy::{ENDPOINT, OTHER_ENDPOINT, destination, source};
use crate::support::archive::rows;
use crate::support::instance::Instance;
use crate::support::{A, CALLED, SUCCESS, amend, audited, credentials, issue, with_columns};

const ENDED: Outcome = Outcome::Aborted(Abort { source: 0, reason: 0 });

/// A house behind a load balancer, and the two endpoints by which it is reached.
struct TwoPlaces {
    house: House,
    hospital: Relay,
    elsewhere: Relay,
}

impl TwoPlaces {
    fn new() -> Self {
        let house = house_configured(&[
            ("[receiver]", "proxy_protocol = \"required\"\nproxy_networks = [\"127.0.0.0/8\"]"),
            ("[access]", "deny_list = \"denied.toml\""),
        ]);
        let through = |vpce| Relay::start(house.addr(), &Header::aws(source(), destination(), vpce));
        let (hospital, elsewhere) = (through(ENDPOINT), through(OTHER_ENDPOINT));
        Self { house, hospital, elsewhere }
    }

    /// With the one key that two have.
    fn come(&self, by: &Relay, key: &Credentials) -> (Peer, Associated) {
        let mut peer = Peer::connect(by.addr(), key).expect("the key is good");
        let answer = peer.associate(CALLED, A, sample_contexts());
        (peer, answer)
    }
}

fn store(peer: &mut Peer, number: u64) -> Outcome {
    let instance = Instance::numbered(number);
    peer.store(&instance.claim(), &instance.data_set())
}

#[test]
fn a_stolen_key_opens_nothing_from_another_endpoint_than_that_of_its_row() {
    let places = TwoPlaces::new();
    amend(&places.house, |text| with_columns(&text, "hospital-a", &format!("source_vpce = [\"{ENDPOINT}\"]")));
    let key = Credentials::of_house(&places.house, "hospital-a");
    let (mut owner, answer) = places.come(&places.hospital, &key);
    assert!(matches!(answer, Associated::Accepted(_)), "{answer:?}");
    for _ in 0..3 {
        assert_eq!(places.come(&places.elsewhere, &key).1, Associated::Rejected(1, 1, 1));
    }
    let line = audited(&places.house, &[("decision", "deny"), ("reason", "vpce"), ("vpce", OTHER_ENDPOINT)]);
    assert_eq!(line["spiffe_id"], HOSPITAL_A, "whose key it is: {line}");
    assert_eq!(store(&mut owner, 1), SUCCESS, "the owner is none the worse for it");
    assert_eq!(rows(places.house.dir()).len(), 1);
}

#[test]
fn a_key_that_is_seen_in_a_second_place_raises_an_alert() {
    let places = TwoPlaces::new();
    let key = Credentials::of_house(&places.house, "hospital-a");
    assert!(matches!(places.come(&places.hospital, &key).1, Associated::Accepted(_)));
    assert!(matches!(places.come(&places.hospital, &key).1, Associated::Accepted(_)));
    assert!(matches!(places.come(&places.elsewhere, &key).1, Associated::Accepted(_)), "nothing binds the row");
    let line = audited(&places.house, &[("alert", "new_vpce")]);
    assert_eq!((&line["vpce"], &line["spiffe_id"]), (&OTHER_ENDPOINT.into(), &HOSPITAL_A.into()), "{line}");
    let alerts = places.house.audit().iter().filter(|line| line["alert"] == "new_vpce").count();
    assert_eq!(alerts, 1, "the place it is known from is none");
}

#[test]
fn a_stolen_key_gets_no_more_associations_than_its_owner_may_have() {
    let places = TwoPlaces::new();
    amend(&places.house, |text| with_columns(&text, "hospital-a", "max_associations = 1"));
    let key = Credentials::of_house(&places.house, "hospital-a");
    // Another certificate of the same identity is the same identity.
    let another = credentials(&places.house, &issue(&places.house, HOSPITAL_A, SVID_LIFETIME));
    let (mut owner, answer) = places.come(&places.hospital, &key);
    assert!(matches!(answer, Associated::Accepted(_)), "{answer:?}");
    for key in [&key, &another] {
        assert_eq!(places.come(&places.elsewhere, key).1, Associated::Rejected(2, 3, 2));
    }
    audited(&places.house, &[("decision", "deny"), ("reason", "associations"), ("vpce", OTHER_ENDPOINT)]);
    assert_eq!(store(&mut owner, 1), SUCCESS);
}

/// The hospital rotates its key; the certificate that was stolen goes on the deny-list, and where it is in use it ends.
#[test]
fn a_stolen_certificate_ends_where_it_is_used_once_it_is_on_the_deny_list() {
    let mut places = TwoPlaces::new();
    let stolen = issue(&places.house, HOSPITAL_A, SVID_LIFETIME);
    let key = credentials(&places.house, &stolen);
    let (mut thief, answer) = places.come(&places.elsewhere, &key);
    assert!(matches!(answer, Associated::Accepted(_)), "{answer:?}");
    assert_eq!(store(&mut thief, 1), SUCCESS);
    let own = Credentials::of_house(&places.house, "hospital-a");
    let (mut owner, _) = places.come(&places.hospital, &own);

    let leaf = Digest::of(&gateway::pki::certificates(&stolen.chain_pem)[0]);
    let list = format!("[[deny]]\nleaf_sha256 = \"{leaf}\"\nreason = \"stolen\"\nticket = \"SEC-1\"\n");
    std::fs::write(places.house.dir().join("denied.toml"), list).expect("ours");
    assert_eq!(thief.outcome(), ENDED, "in the middle of doing nothing");
    let line = audited(&places.house, &[("decision", "terminate"), ("reason", "revoked")]);
    assert!(line["detail"].as_str().is_some_and(|why| why.contains("stolen (SEC-1)")), "{line}");
    let (_, answer) = match Peer::connect(places.elsewhere.addr(), &key) {
        Ok(mut peer) => (None, peer.associate(CALLED, A, sample_contexts())),
        Err(closed) => (Some(closed), Associated::Closed),
    };
    assert_eq!(answer, Associated::Closed);
    eventually("it is refused at the door", || {
        places.house.audit().into_iter().find(|line| line["event"] == "connection" && line["reason"] == "revoked")
    });
    assert_eq!(store(&mut owner, 2), SUCCESS, "another certificate of the same identity is good");
    assert!(places.house.terminate().success());
}

/// What a stolen key is worth without any of it: no longer than its certificate lives, which is a day at most.
#[test]
fn a_certificate_that_would_be_good_for_long_is_not_taken() {
    let places = TwoPlaces::new();
    let long = issue(&places.house, HOSPITAL_A, SVID_LIFETIME + Duration::from_secs(3600));
    if let Ok(mut peer) = Peer::connect(places.hospital.addr(), &credentials(&places.house, &long)) {
        assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Closed);
    }
    audited(&places.house, &[("event", "connection"), ("reason", "lifetime"), ("vpce", ENDPOINT)]);
}
