use std::net::{Ipv4Addr, TcpListener};
use std::thread::JoinHandle;

use access::RejectionCode;
use dimse::{Acceptor, Event, Implementation, Limits, Opening};
use model::{ContextAnswer, ContextResult};
use rustls::{ServerConnection, StreamOwned as Owned};

use super::*;
use crate::pki::{HOSPITAL_A, Pki};

/// A receiver for one connection that accepts every context and answers every C-STORE with Success; gives back the data
/// sets' bytes, or why it refused the caller.
fn receiver_of_one(pki: &Pki, shows: &Issued) -> (SocketAddr, JoinHandle<Result<Vec<u8>, RejectionCode>>) {
    let trust = pki.trust(shows);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let addr = listener.local_addr().expect("bound");
    (addr, std::thread::spawn(move || serve(&trust, listener.accept().expect("a caller").0)))
}

fn serve(trust: &Trust, mut socket: TcpStream) -> Result<Vec<u8>, RejectionCode> {
    let handshake = trust.await_caller(SystemTime::now().into());
    let mut connection = ServerConnection::new(handshake.config()).expect("a usable configuration");
    while connection.is_handshaking() {
        if connection.complete_io(&mut socket).is_err() {
            return Err(handshake.rejection().map_or(RejectionCode::NoClientCert, |rejection| rejection.code));
        }
    }
    handshake.finish(&connection).map_err(|rejection| rejection.code)?;
    Ok(converse(Owned::new(connection, socket)))
}

fn converse(mut stream: Owned<ServerConnection, TcpStream>) -> Vec<u8> {
    let (mut inbox, mut kept) = (Inbox::with_capacity(INBOX), Vec::new());
    let mut acceptor = Acceptor::<()>::new(Limits::default(), Implementation::PORTCULLIS);
    let request = loop {
        match acceptor.next(&mut inbox).expect("the sender keeps to the protocol") {
            Some(Opening::Request(request)) => break request,
            Some(_) => panic!("only a request was sent"),
            None => assert!(receive(&mut stream, &mut inbox)),
        }
    };
    let accept = |context: &ProposedContext| ContextAnswer {
        id: context.id,
        result: ContextResult::Accepted(context.transfer_syntaxes[0].clone()),
    };
    let answers: Vec<_> = request.proposal().contexts.iter().map(accept).collect();
    let (mut association, answer) = request.accept(&answers);
    stream.write_all(&answer).expect("the sender listens");
    let mut storing = None;
    loop {
        let Some(event) = association.next(&mut inbox).expect("the sender keeps to the protocol") else {
            if receive(&mut stream, &mut inbox) {
                continue;
            }
            return kept;
        };
        let answer = match event {
            Event::Store(request) => {
                storing = Some(request);
                continue;
            }
            Event::Data(piece) => {
                kept.extend_from_slice(piece);
                continue;
            }
            Event::DataEnd => association.stored(storing.take().expect("a C-STORE-RQ came first"), ()),
            Event::Echo(request) => association.echoed(request),
            Event::ReleaseRequested => association.released(),
            _ => panic!("nothing else was sent"),
        };
        stream.write_all(&answer).expect("the sender listens");
    }
}

fn receive(stream: &mut impl Read, inbox: &mut Inbox) -> bool {
    let read = stream.read(inbox.space()).unwrap_or(0);
    inbox.filled(read);
    read > 0
}

fn ca(pki: &Pki) -> &str {
    pki.authority("gateway.invalid").pem()
}

#[test]
fn a_sample_arrives_as_it_was_sent() {
    let pki = Pki::new();
    let (addr, receiver) = receiver_of_one(&pki, &pki.issue(RECEIVER));
    let mut peer = Peer::connect(addr, &Credentials::of(&pki.issue(HOSPITAL_A), ca(&pki))).expect("connected");
    assert_eq!(peer.associate("GATEWAY", "CT1", sample_contexts()), Associated::Accepted(3));
    let sample = &crate::samples::ct_study(1, 300, 1)[0];
    assert_eq!(peer.echo(), Outcome::Status(0));
    assert_eq!(peer.store(&sample.claim(), sample.data_set()), Outcome::Status(0));
    assert_eq!(peer.release(), Outcome::Released);
    drop(peer);
    assert_eq!(receiver.join().expect("no panic").expect("a good peer"), sample.data_set());
}

#[test]
fn a_big_instance_is_streamed_to_its_end() {
    let pki = Pki::new();
    let (addr, receiver) = receiver_of_one(&pki, &pki.issue(RECEIVER));
    let mut peer = Peer::connect(addr, &Credentials::of(&pki.issue(HOSPITAL_A), ca(&pki))).expect("connected");
    assert_eq!(peer.associate("GATEWAY", "CT1", sample_contexts()), Associated::Accepted(3));
    let big = crate::samples::big_instance_head(2 << 20);
    let data_set = big.prefix.as_slice().chain(io::repeat(7).take(big.pixel_length));
    assert_eq!(peer.store_from(&big.claim, data_set), Outcome::Status(0));
    peer.half_close().expect("still there");
    let kept = receiver.join().expect("no panic").expect("a good peer");
    assert_eq!(kept.len() as u64, big.prefix.len() as u64 + big.pixel_length);
    assert_eq!(peer.read_to_end(), b"");
}

#[test]
fn a_bad_certificate_is_really_shown() {
    let pki = Pki::new();
    let wrong = [
        (pki.issue("spiffe://stranger.invalid/forwarder"), RejectionCode::TdUnknown),
        (expired(&pki), RejectionCode::Expired),
    ];
    for (issued, code) in wrong {
        let (addr, receiver) = receiver_of_one(&pki, &pki.issue(RECEIVER));
        if let Ok(mut peer) = Peer::connect(addr, &Credentials::of(&issued, ca(&pki))) {
            assert_eq!(peer.associate("GATEWAY", "CT1", sample_contexts()), Associated::Closed, "{}", code.as_str());
        }
        assert_eq!(receiver.join().expect("no panic").err(), Some(code));
    }
}

/// It ended yesterday.
fn expired(pki: &Pki) -> gateway::pki::Issued {
    let id = model::SpiffeId::parse(HOSPITAL_A).expect("a valid ID");
    let authority = pki.authority("hospital-a.invalid");
    authority.issue(&id, SVID_LIFETIME, pki.now() - 2 * SVID_LIFETIME).expect("an SVID can be made")
}

#[test]
fn a_sender_without_a_certificate_shows_none() {
    let pki = Pki::new();
    let (addr, receiver) = receiver_of_one(&pki, &pki.issue(RECEIVER));
    if let Ok(mut peer) = Peer::connect(addr, &Credentials::anonymous(ca(&pki))) {
        assert_eq!(peer.read_to_end(), b"");
    }
    assert_eq!(receiver.join().expect("no panic").err(), Some(RejectionCode::NoClientCert));
}

#[test]
fn a_sender_does_not_talk_to_another_receiver() {
    let pki = Pki::new();
    let (addr, receiver) = receiver_of_one(&pki, &pki.issue("spiffe://gateway.invalid/other"));
    let refused = Peer::connect(addr, &Credentials::of(&pki.issue(HOSPITAL_A), ca(&pki))).err();
    let Some(NoConnection::Receiver(rejection)) = refused else { panic!("the sender must refuse") };
    assert_eq!(rejection.code, RejectionCode::UnexpectedId);
    assert!(receiver.join().expect("no panic").is_err());
}

#[test]
fn contexts_are_numbered_by_the_odd_numbers() {
    let many = vec![("CTImageStorage", &["1.2.840.10008.1.2"][..]); 128];
    let ids: Vec<u8> = contexts(&many).iter().map(|context| context.id).collect();
    assert_eq!(ids, (1..=255).step_by(2).collect::<Vec<u8>>());
}
