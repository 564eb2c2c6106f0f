use model::SpiffeId;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::testing::{CT1, Ca, GATEWAY, anonymous, domain, now, peer_over, seconds, shake, valid};
use crate::{Caller, RejectionCode, Rules, Trust, TrustBundles};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[test]
fn a_caller_is_who_its_svid_says_in_tls_1_2_and_1_3() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let caller = ca.intermediate(|_| ()).leaf(CT1);
    for (version, name) in VERSIONS.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let handshake = trust.await_caller(now());
        let (server, client, result) = shake(handshake.config(), caller.stranger(version));
        result.expect(name);
        let peer = handshake.finish(&server).expect(name);
        assert_eq!((peer.id().as_str(), peer.tls_version()), (CT1, name));
        assert!(peer.cipher_suite().contains("AES") || peer.cipher_suite().contains("CHACHA20"));
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full).filter(|_| !client.is_handshaking()));
    }
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    for version in VERSIONS {
        let handshake = trust.await_caller(now());
        let (server, _, result) = shake(handshake.config(), anonymous(version));
        let error = result.expect_err("anonymous");
        assert_eq!(handshake.rejection(), None);
        assert_eq!(handshake.blame(&error).map(|rejection| rejection.code), Some(RejectionCode::NoClientCert));
        assert!(handshake.finish(&server).is_err());
    }
}

#[test]
fn an_expired_caller_is_refused_and_every_reason_looks_alike_on_the_wire() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let expired = ca.leaf_with(CT1, |params| valid(params, -3600, -1));
    let foreign = Ca::root().leaf(CT1);
    for version in VERSIONS {
        let mut errors = Vec::new();
        for (leaf, code) in [(&expired, RejectionCode::Expired), (&foreign, RejectionCode::ChainUntrusted)] {
            let handshake = trust.await_caller(now());
            let (server, _, result) = shake(handshake.config(), leaf.stranger(version));
            errors.push(result.expect_err("refused"));
            assert_eq!(handshake.rejection().map(|rejection| rejection.code), Some(code));
            assert_eq!(handshake.finish(&server).expect_err("refused").code, code);
        }
        assert_eq!(errors[0], errors[1]);
    }
}

/// V-33: with rustls' defaults the second handshake would be a resumption and the verifier would never run.
#[test]
fn a_caller_that_comes_again_shakes_hands_in_full() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let caller = ca.leaf(CT1);
    for version in VERSIONS {
        let config = caller.stranger(version);
        for visit in ["first", "second"] {
            let handshake = trust.await_caller(now());
            let (server, client, result) = shake(handshake.config(), config.clone());
            result.expect(visit);
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full), "{visit}");
            assert_eq!(client.tls13_tickets_received(), 0, "{visit}");
            handshake.finish(&server).expect(visit);
        }
    }
}

/// V-33: the caller has kept every session that it was given, as rustls' clients do by default.
#[test]
fn a_caller_whose_svid_has_expired_since_cannot_resume() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let caller = ca.leaf(CT1);
    for version in VERSIONS {
        let config = caller.stranger(version);
        let first = trust.await_caller(now());
        let (server, _, result) = shake(first.config(), config.clone());
        result.expect("in time");
        let end = first.finish(&server).expect("in time").svid().not_after();
        let second = trust.await_caller(end.plus(seconds(1)));
        let (server, _, result) = shake(second.config(), config);
        result.expect_err("expired");
        assert_eq!(second.rejection().map(|rejection| rejection.code), Some(RejectionCode::Expired));
        assert!(second.finish(&server).is_err());
    }
}

/// The gateway's clock never goes backwards; rustls reads the system's, which may.
#[test]
fn certificates_are_judged_at_the_moment_that_is_given() {
    let ca = Ca::root();
    let (own, caller) = (ca.leaf(GATEWAY).trust(ca.bundle()), ca.leaf(CT1));
    let cases = [("now", now(), None), ("an hour ago", now().minus(seconds(3600)), Some(RejectionCode::NotYet))];
    for (name, at, expected) in cases {
        let handshake = own.await_caller(at);
        let (server, _, _) = shake(handshake.config(), caller.stranger(&TLS13));
        let peer = handshake.finish(&server);
        assert_eq!(peer.as_ref().err().map(|rejection| rejection.code), expected, "{name}");
        assert!(peer.is_err() || peer.is_ok_and(|peer| peer.established() == at), "{name}");

        let call = caller.trust(ca.bundle()).call(SpiffeId::parse(GATEWAY).expect("valid"), at);
        let _ = shake(own.await_caller(now()).config(), call.config());
        assert_eq!(call.rejection().map(|rejection| rejection.code), expected, "{name}, calling");
    }
}

#[test]
fn a_peer_tells_what_the_table_asks() {
    for (version, tls13) in VERSIONS.into_iter().zip([false, true]) {
        let peer = peer_over(CT1, version);
        let svid = peer.svid();
        let (id, not_before, not_after) = (svid.id().clone(), svid.not_before(), svid.not_after());
        assert_eq!(*peer.caller(), Caller { id, not_before, not_after, tls13 });
    }
}

#[test]
fn a_revoked_caller_is_refused_in_the_handshake() {
    let ca = Ca::root();
    let caller = ca.leaf(CT1);
    let list = ca.crl(&[&caller.chain[0]]);
    let bundles = ca.bundle().with_crls([(domain(), list.as_slice())]).expect("usable");
    let trust = ca.leaf(GATEWAY).trust(bundles);
    for version in VERSIONS {
        let handshake = trust.await_caller(now());
        let (_, _, result) = shake(handshake.config(), caller.stranger(version));
        result.expect_err("revoked");
        assert_eq!(handshake.rejection().map(|rejection| rejection.code), Some(RejectionCode::Revoked));
    }
}

#[test]
fn a_certificate_without_its_key_proves_nothing() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let (stolen, thief) = (ca.leaf(CT1), ca.leaf("spiffe://hosp-a.example/thief"));
    for version in VERSIONS {
        let handshake = trust.await_caller(now());
        let (server, _, result) = shake(handshake.config(), stolen.stranger_with_key_of(&thief, version));
        assert!(result.is_err());
        assert_eq!(handshake.finish(&server).expect_err("unproven").code, RejectionCode::Handshake);
    }
}

#[test]
fn a_handshake_is_finished_only_with_its_own_connection_and_only_once() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let (one, two) = (trust.await_caller(now()), trust.await_caller(now()));
    let (first, _, result) = shake(one.config(), ca.leaf(CT1).stranger(&TLS13));
    result.expect("good");
    let (second, _, result) = shake(two.config(), ca.leaf("spiffe://hosp-a.example/b").stranger(&TLS13));
    result.expect("good");
    assert_eq!(one.finish(&second).expect_err("another's connection").code, RejectionCode::Handshake);
    assert_eq!(trust.await_caller(now()).finish(&first).expect_err("nothing verified").code, RejectionCode::Handshake);

    let (_, _, again) = shake(two.config(), ca.leaf(CT1).stranger(&TLS13));
    assert!(again.is_err(), "a configuration is good for one connection");
    assert!(two.finish(&second).is_err(), "and its first use is spoilt by the second");
}

#[test]
fn an_unfinished_handshake_gives_no_peer() {
    let ca = Ca::root();
    let handshake = ca.leaf(GATEWAY).trust(ca.bundle()).await_caller(now());
    let connection = rustls::ServerConnection::new(handshake.config()).expect("usable");
    assert_eq!(handshake.finish(&connection).expect_err("nothing happened").code, RejectionCode::Handshake);
}

/// TLS 1.2 sends its certificate, the proof of its key and the end of the handshake in records of their own.
#[test]
fn who_has_not_finished_the_handshake_is_nobody_even_with_a_proven_key() {
    let ca = Ca::root();
    let trust = ca.leaf(GATEWAY).trust(ca.bundle());
    let caller = ca.leaf(CT1);
    let mut proven = 0;
    for held_back in 0.. {
        let handshake = trust.await_caller(now());
        let mut server = rustls::ServerConnection::new(handshake.config()).expect("usable");
        let mut client =
            rustls::ClientConnection::new(caller.stranger(&TLS12), "receiver.invalid".try_into().expect("a name"))
                .expect("usable");
        exchange(&mut client, &mut server);
        let records = records(&mut client);
        let Some(count) = records.len().checked_sub(held_back).filter(|count| *count > 0) else { break };
        server.read_tls(&mut records[..count].concat().as_slice()).expect("memory");
        server.process_new_packets().expect("good so far");
        proven += usize::from(server.peer_certificates().is_some());
        assert_eq!(handshake.finish(&server).is_ok(), held_back == 0, "without the last {held_back} records");
    }
    assert!(proven > 1, "certificate and proof were seen before the end");
}

/// The first flight of each side.
fn exchange(client: &mut rustls::ClientConnection, server: &mut rustls::ServerConnection) {
    let mut wire = Vec::new();
    client.write_tls(&mut wire).expect("memory");
    server.read_tls(&mut wire.as_slice()).expect("memory");
    server.process_new_packets().expect("a good hello");
    wire.clear();
    while server.wants_write() {
        server.write_tls(&mut wire).expect("memory");
    }
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        client.read_tls(&mut rest).expect("memory");
        client.process_new_packets().expect("a good hello");
    }
}

/// What the client has to send, one record at a time (RFC 5246 §6.2.1).
fn records(client: &mut rustls::ClientConnection) -> Vec<Vec<u8>> {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).expect("memory");
    }
    let mut records = Vec::new();
    while !wire.is_empty() {
        let length = 5 + usize::from(u16::from_be_bytes([wire[3], wire[4]]));
        let rest = wire.split_off(length);
        records.push(std::mem::replace(&mut wire, rest));
    }
    records
}

#[test]
fn a_call_reaches_exactly_the_receiver_that_was_meant() {
    let ca = Ca::root();
    let receiver = ca.leaf(GATEWAY).trust(ca.bundle());
    let forwarder = ca.leaf(CT1).trust(ca.bundle());

    let (listening, call) =
        (receiver.await_caller(now()), forwarder.call(SpiffeId::parse(GATEWAY).expect("valid"), now()));
    let (server, client, result) = shake(listening.config(), call.config());
    result.expect("both are good");
    assert_eq!(call.finish(&client).expect("the gateway").id().as_str(), GATEWAY);
    assert_eq!(listening.finish(&server).expect("the forwarder").id().as_str(), CT1);

    let call = forwarder.call(SpiffeId::parse("spiffe://hosp-a.example/other").expect("valid"), now());
    let (_, client, result) = shake(receiver.await_caller(now()).config(), call.config());
    assert!(result.is_err());
    let rejection = call.rejection().expect("refused");
    assert_eq!(rejection.code, RejectionCode::UnexpectedId);
    assert_eq!(rejection.claimed.as_ref().map(SpiffeId::as_str), Some(GATEWAY));
    assert!(call.finish(&client).is_err());
}

#[test]
fn a_live_connection_is_judged_again_by_new_bundles_and_the_time() {
    let (ca, other) = (Ca::root(), Ca::root());
    let own = ca.leaf(GATEWAY);
    let trust = own.trust(ca.bundle());
    let handshake = trust.await_caller(now());
    let (server, _, result) = shake(handshake.config(), ca.leaf(CT1).stranger(&TLS13));
    result.expect("good");
    let peer = handshake.finish(&server).expect("good");

    let code = |result: Result<(), crate::Rejection>| result.err().map(|rejection| rejection.code);
    assert_eq!(code(trust.recheck(&peer, now())), None);
    let end = peer.svid().not_after();
    assert_eq!(code(trust.recheck(&peer, end)), None, "V-30 is for new connections");
    let hurried = Rules { min_remaining: seconds(7200), ..Rules::default() };
    let hurried = Trust::new(own.identity(), ca.bundle(), hurried).expect("usable");
    assert_eq!(code(hurried.recheck(&peer, now())), None, "also when more is asked for since");
    assert_eq!(code(trust.recheck(&peer, end.plus(seconds(1)))), Some(RejectionCode::Expired));
    assert_eq!(code(own.trust(other.bundle()).recheck(&peer, now())), Some(RejectionCode::ChainUntrusted));
    let nobody = TrustBundles::new([]).expect("empty");
    assert_eq!(code(own.trust(nobody).recheck(&peer, now())), Some(RejectionCode::TdUnknown));
    let both = TrustBundles::new([(domain(), format!("{}{}", other.pem, ca.pem).as_bytes())]).expect("usable");
    assert_eq!(code(own.trust(both).recheck(&peer, now())), None, "a root was added");
}
