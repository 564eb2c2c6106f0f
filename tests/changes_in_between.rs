//! What is in force may change at any moment, also between two steps of one connection: between TCP and TLS, between TLS and
//! the association request, and while an association says nothing. No step may go by what an earlier step has seen.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::spawn;
use std::time::SystemTime;

use dimse::Abort;
use gateway::pki::{Authority, SVID_LIFETIME};
use gateway::telemetry::CONNECTIONS;
use model::{SpiffeId, TrustDomain};
use testkit::house::{House, eventually};
use testkit::peer::{Associated, Credentials, NoConnection, Outcome, Peer, plain, sample_contexts};
use testkit::pki::HOSPITAL_A;

use crate::support::archive::{files, rows};
use crate::support::instance::Instance;
use crate::support::{
    A, CALLED, SUCCESS, amend, associated, associated_b, audited, connect, credentials, house_with, without_row,
};

/// The domain whose roots are exchanged.
const DOMAIN: &str = "hospital-a.invalid";

/// A house that gives a connection all the time that a test needs between two steps.
fn patient_house() -> House {
    house_with(&[], &[("PORTCULLIS__RECEIVER__HANDSHAKE_TIMEOUT", "120s"), ("PORTCULLIS__DICOM__ARTIM", "120s")])
}

/// Gives hospital-a another authority, as after a compromise, and waits until it is the one in force.
fn exchange_authority(house: &House) -> Authority {
    let domain = TrustDomain::parse(DOMAIN).expect("a valid name");
    let authority = Authority::create(domain, SystemTime::now()).expect("a development authority can be made");
    let path = house.ca(DOMAIN);
    let new = path.with_extension("new");
    fs::write(&new, authority.pem()).and_then(|()| fs::rename(&new, &path)).expect("the directory is ours");
    audited(house, &[("event", "policy"), ("reason", "certificates_changed")]);
    authority
}

/// The control: it is the old certificate that is refused, not everybody.
fn assert_the_new_authority_counts(house: &House, authority: &Authority) {
    let id = SpiffeId::parse(HOSPITAL_A).expect("a valid ID");
    let issued = authority.issue(&id, SVID_LIFETIME, SystemTime::now()).expect("an SVID can be made");
    let mut peer = Peer::connect(house.addr(), &credentials(house, &issued)).expect("a good certificate is let in");
    assert!(matches!(peer.associate(CALLED, A, sample_contexts()), Associated::Accepted(_)));
    assert_eq!(associated_b(house).echo(), SUCCESS, "another trust domain is none the worse for it");
}

/// A connection that the receiver has accepted and that has not said a word.
struct Held {
    to_house: TcpStream,
    door: TcpListener,
}

impl Held {
    fn open(house: &House) -> Self {
        let before = accepted(house);
        let to_house = plain(house.addr()).expect("the receiver listens");
        // The kernel says "connected" before the receiver knows of it.
        eventually("the receiver has accepted it", || (accepted(house) > before).then_some(()));
        Self { to_house, door: TcpListener::bind("127.0.0.1:0").expect("there is a free port") }
    }

    /// Now the handshake: whoever connects to the door speaks through the connection that was opened long ago.
    fn shake_hands(self, credentials: &Credentials) -> Result<Peer, NoConnection> {
        let address = self.door.local_addr().expect("it is bound");
        spawn(move || {
            let (client, _) = self.door.accept().expect("we connect to it");
            let (up, down) = (clone(&self.to_house), clone(&client));
            let sending = spawn(move || relay(down, up));
            relay(self.to_house, client);
            sending.join().expect("copying does not panic");
        });
        Peer::connect(address, credentials)
    }
}

fn clone(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("there are descriptors")
}

/// One direction. However it ends, the other side sees an end.
fn relay(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// How many TCP connections the receiver says it has accepted.
fn accepted(house: &House) -> u64 {
    let mut socket = plain(house.admin()).expect("the admin listener is up");
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    let count = answer.lines().find_map(|line| line.strip_prefix(CONNECTIONS)?.trim().parse().ok());
    // A counter is there from its first count on.
    count.unwrap_or(0)
}

/// Fails if the roots are chosen when TCP is accepted and never asked again: the handshake then succeeds by the old roots, and
/// since the change came before anybody watched for changes, the association is granted and stores.
#[test]
fn roots_exchanged_before_the_handshake_of_a_waiting_connection_count_for_it() {
    let house = patient_house();
    let held = Held::open(&house);
    let old = Credentials::of_house(&house, "hospital-a");
    let authority = exchange_authority(&house);

    match held.shake_hands(&old) {
        // Refused within the handshake already.
        Err(NoConnection::Closed(_)) => {}
        Err(NoConnection::Receiver(why)) => panic!("the receiver's own certificate is good: {why}"),
        Ok(mut peer) => {
            let answer = peer.associate(CALLED, A, sample_contexts());
            if matches!(answer, Associated::Accepted(_)) {
                let instance = Instance::numbered(1);
                let outcome = peer.store(&instance.claim(), &instance.data_set());
                panic!("granted by roots that are no longer in force; a C-STORE gets {outcome:?}");
            }
            assert!(matches!(answer, Associated::Aborted(_) | Associated::Closed), "{answer:?}");
        }
    }
    audited(&house, &[("reason", "bundle_changed"), ("spiffe_id", HOSPITAL_A)]);
    assert!(house.audit().iter().all(|line| line["reason"] != "granted"));
    assert_eq!(rows(house.dir()).len(), 0);
    assert_eq!(files(house.dir(), "instances"), Vec::<std::path::PathBuf>::new());
    assert_the_new_authority_counts(&house, &authority);
}

/// Fails if the roots are asked at the handshake only: the request then comes with nobody watching, and is granted.
#[test]
fn roots_exchanged_between_the_handshake_and_the_request_count_for_it() {
    let house = patient_house();
    let mut peer = connect(&house, "hospital-a");
    let authority = exchange_authority(&house);
    let answer = peer.associate(CALLED, A, sample_contexts());
    assert!(matches!(answer, Associated::Aborted(_) | Associated::Closed), "{answer:?}");
    audited(&house, &[("reason", "bundle_changed"), ("spiffe_id", HOSPITAL_A)]);
    assert!(house.audit().iter().all(|line| line["reason"] != "granted"));
    assert_the_new_authority_counts(&house, &authority);
}

/// Fails if the request is judged by the table that was taken when the connection came: the row is still in that one.
#[test]
fn a_row_removed_between_the_handshake_and_the_request_is_gone_for_it() {
    let house = patient_house();
    let mut peer = connect(&house, "hospital-a");
    amend(&house, |text| without_row(&text, "hospital-a"));
    assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Rejected(1, 1, 1));
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "no_row"), ("spiffe_id", HOSPITAL_A)]);
    assert!(house.audit().iter().all(|line| line["reason"] != "granted"));
    assert_eq!(associated_b(&house).echo(), SUCCESS, "another row is none the worse for it");
}

/// Fails as the one above: in the table of the handshake the title is still allowed.
#[test]
fn a_row_narrowed_between_the_handshake_and_the_request_is_narrow_for_it() {
    let house = patient_house();
    let mut peer = connect(&house, "hospital-a");
    let (old, new) = ("calling_aets = [\"HOSPITAL_A\"]", "calling_aets = [\"ELSEWHERE\"]");
    amend(&house, |text| text.replacen(old, new, 1));
    assert_eq!(peer.associate(CALLED, A, sample_contexts()), Associated::Rejected(1, 1, 3));
    audited(&house, &[("event", "association"), ("decision", "deny"), ("reason", "calling_aet"), ("calling_ae", A)]);
    let mut renamed = connect(&house, "hospital-a");
    assert!(matches!(renamed.associate(CALLED, "ELSEWHERE", sample_contexts()), Associated::Accepted(_)));
}

/// Fails if only the table is watched, or if a peer is taken for judged because it was judged once: the wait for the end of the
/// association then runs into its deadline.
#[test]
fn roots_exchanged_under_an_idle_association_end_it() {
    let house = patient_house();
    let mut peer = associated(&house);
    let instance = Instance::numbered(1);
    assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
    let mut other = associated_b(&house);
    let authority = exchange_authority(&house);
    assert_eq!(peer.outcome(), Outcome::Aborted(Abort { source: 0, reason: 0 }), "without a word from the peer");
    let reason = "bundle_changed";
    let ended = [("event", "association"), ("decision", "terminate"), ("reason", reason), ("spiffe_id", HOSPITAL_A)];
    audited(&house, &ended);
    assert_eq!(other.echo(), SUCCESS, "an association of another trust domain goes on");
    assert_eq!(rows(house.dir()).len(), 1, "what was acknowledged stays");
    assert_the_new_authority_counts(&house, &authority);
}
