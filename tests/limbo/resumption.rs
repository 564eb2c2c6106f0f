//! V-33: a client whose SVID has expired does not come back by a session from before.

use std::time::Duration;

use testkit::house::{House, Options, eventually};
use testkit::peer::{Associated, Peer, sample_contexts};
use testkit::stranger::{Stranger, Tls};

use crate::support::clock::Clock;
use crate::support::{A, CALLED, SUCCESS, issue};

const HOSPITAL_A: &str = "spiffe://hospital-a.invalid/forwarder";
const LIFETIME: Duration = Duration::from_secs(600);

/// With rustls' own defaults in `access::tls` each of these clients is given a session to come back by, and this fails.
#[test]
fn a_client_that_may_resume_is_refused_once_its_svid_has_expired() {
    let clock = Clock::ahead(0);
    let house = House::start(Options { env: clock.env(), ..Options::default() });
    let issued = issue(&house, HOSPITAL_A, LIFETIME);
    let chain = gateway::pki::certificates(&issued.chain_pem);
    let clients = [Tls::V12, Tls::V13].map(|version| Stranger::new(&chain, Some(&issued.key_pem), version));
    for client in &clients {
        // Twice, so that a session that was kept would be used.
        for _ in 0..2 {
            let mut peer = Peer::connect_as(house.addr(), client).expect("a good certificate");
            assert!(matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)));
            assert_eq!(peer.echo(), SUCCESS);
            peer.release();
        }
        assert_eq!(client.sessions_given(), 0, "nothing to resume with");
    }
    // Twenty minutes on: the SVID has expired, and the receiver's own has not.
    clock.set(1200);
    for (before, client) in clients.iter().enumerate() {
        assert_eq!(expired(&house), before);
        if let Ok(mut peer) = Peer::connect_as(house.addr(), client) {
            // With TLS 1.3 the client is done before it is judged.
            assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Closed);
        }
        eventually("the expired client is refused by V-28", || (expired(&house) == before + 1).then_some(()));
        assert_eq!(client.sessions_given(), 0);
    }
}

/// Refusals of an expired certificate at the door.
fn expired(house: &House) -> usize {
    let at_the_door = |line: &&serde_json::Value| line["event"] == "connection" && line["decision"] == "deny";
    house.audit().iter().filter(at_the_door).filter(|line| line["reason"] == "expired").count()
}
