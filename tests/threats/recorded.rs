//! Somebody has every byte of a connection that went well, and says them all again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread::spawn;

use testkit::house::eventually;
use testkit::peer::{Associated, Outcome, Peer, plain, sample_contexts};
use testkit::stranger::Tls;

use super::forge::{Door, Forge, row};
use crate::support::archive::rows;
use crate::support::instance::Instance;
use crate::support::{CALLED, SUCCESS};

const CT1: &str = "spiffe://hosp-a.example/ct1";

/// Fails where a nonce of the receiver's can be had twice.
#[test]
fn a_recorded_connection_cannot_be_played_again() {
    let forge = Forge::new("hosp-a.example");
    let house = Door::trusting(&[&forge], &row("ct1", &format!("identity = \"{CT1}\""))).house;
    for (number, version) in [Tls::V12, Tls::V13].into_iter().enumerate() {
        let door = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let (address, to) = (door.local_addr().expect("it is bound"), house.addr());
        let recorder = spawn(move || record(&door, to));
        let mut peer = Peer::connect_as(address, &forge.svid(CT1).shown(version)).expect("a good certificate");
        assert!(matches!(peer.associate(CALLED, "CT1", sample_contexts()), Associated::Accepted(_)));
        let instance = Instance::numbered(number as u64 + 1);
        assert_eq!(peer.store(&instance.claim(), &instance.data_set()), SUCCESS);
        assert_eq!(peer.release(), Outcome::Released);
        drop(peer);
        let said = recorder.join().expect("recording does not panic");

        let associations = || house.audit().iter().filter(|line| line["reason"] == "granted").count();
        let refused = || house.audit().iter().filter(|line| line["event"] == "connection").count();
        assert_eq!((associations(), refused()), (number + 1, number));
        let mut socket = plain(house.addr()).expect("it listens");
        // A receiver that has closed already has said all it wanted.
        let _ = socket.write_all(&said).and_then(|()| socket.shutdown(Shutdown::Write));
        let _ = socket.read_to_end(&mut Vec::new());
        eventually("it is refused in the handshake", || (refused() == number + 1).then_some(()));
        assert_eq!(associations(), number + 1, "{version:?}");
        assert_eq!(rows(house.dir()).len(), number + 1);
    }
}

/// Relays one connection; gives what its client said.
fn record(door: &TcpListener, to: std::net::SocketAddr) -> Vec<u8> {
    let (mut client, _) = door.accept().expect("we connect to it");
    let mut house = plain(to).expect("it listens");
    let (mut answers, mut hearer) = (house.try_clone().expect("descriptors"), client.try_clone().expect("descriptors"));
    let answering = spawn(move || {
        let _ = std::io::copy(&mut answers, &mut hearer);
        let _ = hearer.shutdown(Shutdown::Write);
    });
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = client.read(&mut piece) {
        said.extend_from_slice(&piece[..count]);
        house.write_all(&piece[..count]).expect("it listens");
    }
    let _ = house.shutdown(Shutdown::Write);
    answering.join().expect("copying does not panic");
    said
}
