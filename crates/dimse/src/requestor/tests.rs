//! Both sides in memory, and bytes that nobody would write.

use model::{AeTitle, ContextAnswer, ContextResult, InstanceClaim, ProposedContext, Uid};
use proptest::prelude::*;

use super::*;
use crate::{
    Acceptor, Association, Event, Implementation, Opening, Reject, StoreRefusal, StoreRequest, Unheard, status,
};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const VERIFICATION: &str = "1.2.840.10008.1.1";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";

/// Stands for the store's receipt.
struct Durable;

fn proposal() -> Request {
    let context = |id, class: &str, syntaxes: &[&str]| ProposedContext {
        id,
        abstract_syntax: Uid::parse(class).expect("valid"),
        transfer_syntaxes: syntaxes.iter().map(|syntax| Uid::parse(syntax).expect("valid")).collect(),
    };
    Request {
        called: AeTitle::parse("PORTCULLIS").expect("valid"),
        calling: AeTitle::parse("CT1").expect("valid"),
        contexts: vec![context(1, CT, &[EXPLICIT, IMPLICIT]), context(3, VERIFICATION, &[IMPLICIT])],
        max_pdu_length: 16 * 1024,
    }
}

fn answers() -> [ContextAnswer; 2] {
    [(1, EXPLICIT), (3, IMPLICIT)]
        .map(|(id, syntax)| ContextAnswer { id, result: ContextResult::Accepted(Uid::parse(syntax).expect("valid")) })
}

fn claim() -> InstanceClaim {
    InstanceClaim {
        class: Uid::parse(CT).expect("valid"),
        instance: Uid::parse("1.2.3.4.5").expect("valid"),
        transfer_syntax: Uid::parse(EXPLICIT).expect("valid"),
    }
}

fn fill(inbox: &mut Inbox, bytes: &[u8]) {
    inbox.space()[..bytes.len()].copy_from_slice(bytes);
    inbox.filled(bytes.len());
}

fn inbox_of(bytes: &[u8]) -> Inbox {
    let mut inbox = Inbox::with_capacity(bytes.len());
    fill(&mut inbox, bytes);
    inbox
}

/// An acceptor that takes every byte, accepts every context, stores everything but instances of an odd number of bytes, and
/// notes what it heard.
struct Host {
    side: Side,
    inbox: Inbox,
    stored: Vec<u8>,
    heard: Vec<String>,
    sent: Vec<u8>,
}

enum Side {
    Waiting(Acceptor<Durable>),
    Open(Association<Durable>, Pending),
    Over,
}

enum Pending {
    None,
    Store(StoreRequest),
    Other(Vec<u8>),
}

impl Host {
    fn new(capacity: usize) -> Self {
        let side = Side::Waiting(Acceptor::new(Limits::default(), Implementation::PORTCULLIS));
        Self { side, inbox: Inbox::with_capacity(capacity), stored: Vec::new(), heard: Vec::new(), sent: Vec::new() }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.inbox.space();
            let count = space.len().min(bytes.len());
            assert!(count > 0, "the inbox is full and nobody drains it");
            space[..count].copy_from_slice(&bytes[..count]);
            self.inbox.filled(count);
            bytes = &bytes[count..];
            while self.step() {}
        }
    }

    /// Whether there may be more to hear.
    fn step(&mut self) -> bool {
        match &mut self.side {
            Side::Over => {
                self.inbox.clear();
                false
            }
            Side::Waiting(acceptor) => match acceptor.next(&mut self.inbox) {
                Ok(None) => false,
                Ok(Some(Opening::Request(request))) => {
                    self.heard.push(format!("{:?} {:?}", request.proposal(), request.objection()));
                    let (association, bytes) = request.accept(&answers());
                    self.sent.extend(bytes);
                    self.side = Side::Open(association, Pending::None);
                    true
                }
                Ok(Some(Opening::Refused(why, bytes))) => self.over(&format!("{why:?}"), &bytes),
                Ok(Some(Opening::Aborted(abort))) => self.over(&format!("{abort:?}"), &[]),
                Err(violation) => self.over(&violation.to_string(), &violation.abort().bytes()),
            },
            Side::Open(association, pending) => match association.next(&mut self.inbox) {
                Ok(None) => false,
                Ok(Some(Event::Data(piece))) => {
                    self.stored.extend(piece);
                    true
                }
                Ok(Some(event)) => {
                    let (heard, bytes) = answer(association, pending, event, &mut self.stored);
                    self.heard.push(heard);
                    self.sent.extend(bytes);
                    true
                }
                Err(violation) => self.over(&violation.to_string(), &violation.abort().bytes()),
            },
        }
    }

    fn over(&mut self, heard: &str, sent: &[u8]) -> bool {
        self.heard.push(heard.to_owned());
        self.sent.extend(sent);
        self.side = Side::Over;
        true
    }
}

fn answer(
    association: &mut Association<Durable>,
    pending: &mut Pending,
    event: Event<'_>,
    stored: &mut Vec<u8>,
) -> (String, Vec<u8>) {
    let heard = format!("{event:?}");
    let mut later = |bytes, data_follows| match data_follows {
        false => bytes,
        true => {
            *pending = Pending::Other(bytes);
            Vec::new()
        }
    };
    let bytes = match event {
        Event::Echo(request) => association.echoed(request),
        Event::Store(request) => {
            *pending = Pending::Store(request);
            Vec::new()
        }
        Event::Malformed(request) => {
            let data_follows = request.data_follows();
            later(association.malformed(request), data_follows)
        }
        Event::Unsupported(request) => {
            let data_follows = request.data_follows();
            later(association.unsupported(request), data_follows)
        }
        Event::DataEnd => {
            let data = std::mem::take(stored);
            let bytes = match std::mem::replace(pending, Pending::None) {
                Pending::None => panic!("a data set without a request"),
                Pending::Other(bytes) => bytes,
                Pending::Store(request) if data.len() % 2 == 1 => {
                    let comment = "a data set has an even length";
                    association
                        .refused(request, StoreRefusal { status: status::CANNOT_UNDERSTAND, comment, offending: &[] })
                }
                Pending::Store(request) => association.stored(request, Durable),
            };
            return (format!("{data:?}"), bytes);
        }
        Event::Data(_) => unreachable!("collected before"),
        Event::ReleaseRequested => association.released(),
        Event::Cancel | Event::Aborted(_) => Vec::new(),
    };
    (heard, bytes)
}

/// The association of [`proposal`] as its requestor sees it.
fn requested() -> Requested {
    let mut host = Host::new(4096);
    host.hear(&proposal().bytes());
    match Requestor::new(proposal()).next(&mut inbox_of(&host.sent)) {
        Ok(Some(Answer::Accepted(requested))) => requested,
        _ => panic!("not accepted"),
    }
}

fn store(requested: &Requested, message_id: u16, data: &[u8], fragment: usize) -> Vec<u8> {
    let context = requested.accepted(&claim().class, &claim().transfer_syntax).expect("accepted");
    let mut bytes = requested.store_command(context, message_id, &claim());
    let mut fragments = data.chunks(fragment).peekable();
    while let Some(piece) = fragments.next() {
        bytes.extend(requested.data_header(context, piece.len(), fragments.peek().is_none()));
        bytes.extend(piece);
    }
    bytes
}

/// A whole conversation: request, echo, two stores, release.
fn conversation() -> Vec<u8> {
    let mut requested = requested();
    let data: Vec<u8> = (0..3000_u32).map(|at| (at % 251) as u8).collect();
    [
        proposal().bytes(),
        requested.echo_command(3, 1),
        store(&requested, 2, &data, 1000),
        store(&requested, 3, &data[..7], 4),
        requested.release(),
    ]
    .concat()
}

#[test]
fn both_sides_understand_each_other() {
    let mut host = Host::new(4096);
    host.hear(&conversation());
    let mut inbox = inbox_of(&host.sent);
    let Ok(Some(Answer::Accepted(mut requested))) = Requestor::new(proposal()).next(&mut inbox) else {
        panic!("not accepted")
    };
    assert_eq!(requested.max_pdu_length(), 128 * 1024);
    assert_eq!(requested.max_fragment(), 128 * 1024 - 6);
    assert_eq!(requested.contexts().len(), 2);
    assert_eq!(requested.accepted(&claim().class, &Uid::parse(IMPLICIT).expect("valid")), None);
    requested.release();
    let mut replies = Vec::new();
    while let Some(reply) = requested.next(&mut inbox).expect("no violation") {
        replies.push(reply);
    }
    let response = |message_id, status, comment: Option<&str>| Reply::Response {
        message_id,
        status,
        comment: comment.map(|comment| Phi::new(comment.to_owned())),
    };
    let expected = [
        response(1, 0, None),
        response(2, 0, None),
        response(3, 0xC000, Some("a data set has an even length")),
        Reply::Released,
    ];
    assert_eq!(replies, expected);
}

#[test]
fn byte_by_byte_or_at_once_the_events_are_the_same() {
    let bytes = conversation();
    let mut at_once = Host::new(bytes.len());
    at_once.hear(&bytes);
    for (capacity, chunk) in [(64, 1), (64, 64), (100, 7), (4096, 1000), (65_536, 65_536)] {
        let mut host = Host::new(capacity);
        bytes.chunks(chunk).for_each(|chunk| host.hear(chunk));
        assert_eq!(host.heard, at_once.heard, "{capacity} {chunk}");
        assert_eq!(host.sent, at_once.sent, "{capacity} {chunk}");
    }
}

#[test]
fn a_request_has_the_bytes_of_ps3_8_table_9_11() {
    let mut request = proposal();
    request.contexts.truncate(1);
    let context = [
        &[0x20, 0, 0, 4 + 29 + 23 + 21, 1, 0, 0, 0, 0x30, 0, 0, 25][..],
        CT.as_bytes(),
        &[0x40, 0, 0, 19],
        EXPLICIT.as_bytes(),
        &[0x40, 0, 0, 17],
        IMPLICIT.as_bytes(),
    ]
    .concat();
    let user = [
        &[0x50, 0, 0, 73, 0x51, 0, 0, 4, 0, 0, 0x40, 0, 0x52, 0, 0, 43][..],
        Implementation::PORTCULLIS.class_uid.as_bytes(),
        &[0x55, 0, 0, 14],
        b"PORTCULLIS_0_1",
    ]
    .concat();
    let body = [
        &[0, 1, 0, 0][..],
        b"PORTCULLIS      CT1             ",
        &[0; 32],
        &[0x10, 0, 0, 21],
        b"1.2.840.10008.3.1.1.1",
        &context,
        &user,
    ]
    .concat();
    assert_eq!(request.bytes(), [&[1, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat());
}

#[test]
fn a_data_header_is_that_of_a_pdu_and_its_one_pdv() {
    assert_eq!(requested().data_header(1, 300, false), [4, 0, 0, 0, 1, 0x32, 0, 0, 1, 0x2E, 1, 0]);
    assert_eq!(requested().data_header(1, 0, true), [4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 2]);
}

#[test]
fn an_answer_other_than_yes_is_told_as_it_is() {
    let answer = |bytes: &[u8]| Requestor::new(proposal()).next(&mut inbox_of(bytes));
    for why in [Reject::NoReason, Reject::Congestion] {
        let Ok(Some(Answer::Rejected { result, source, reason })) = answer(&why.bytes()) else { panic!("{why:?}") };
        assert_eq!((result, source, reason), why.code());
    }
    assert!(matches!(answer(&Abort::user().bytes()), Ok(Some(Answer::Aborted(Abort { source: 0, reason: 0 })))));
    assert!(matches!(answer(&[2, 0, 0]), Ok(None)));
}

#[test]
fn an_answer_that_breaks_the_protocol_is_a_violation() {
    let context = |id: u8, result: u8, syntax: &str| {
        let syntax = [&[0x40, 0, 0, syntax.len() as u8][..], syntax.as_bytes()].concat();
        [&[0x21, 0, 0, 4 + syntax.len() as u8, id, 0, result, 0][..], &syntax].concat()
    };
    let cases: &[(&str, Vec<Vec<u8>>, bool)] = &[
        ("good", vec![context(1, 0, EXPLICIT), context(3, 0, IMPLICIT)], true),
        ("none", vec![], true),
        ("refused, syntax empty", vec![context(1, 3, "")], true),
        ("not proposed id", vec![context(5, 0, EXPLICIT)], false),
        ("id twice", vec![context(1, 0, EXPLICIT), context(1, 3, "")], false),
        ("syntax not proposed", vec![context(3, 0, EXPLICIT)], false),
        ("syntax not a UID", vec![context(1, 0, "1..2")], false),
        ("no syntax", vec![vec![0x21, 0, 0, 4, 1, 0, 0, 0]], false),
        ("cut", vec![vec![0x21, 0, 0, 40, 1, 0, 0, 0]], false),
    ];
    for (name, items, good) in cases {
        let body = [vec![0; 68], items.concat()].concat();
        let bytes = [&[2, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat();
        let answer = Requestor::new(proposal()).next(&mut inbox_of(&bytes));
        assert_eq!(matches!(answer, Ok(Some(Answer::Accepted(_)))), *good, "{name}");
        assert_eq!(answer.err().map(|violation| violation.abort().reason), (!good).then_some(6), "{name}");
    }
}

#[test]
fn a_release_may_come_from_the_peer_and_may_collide() {
    let asked = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let confirmed = [6, 0, 0, 0, 0, 4, 0, 0, 0, 0];

    let mut first = requested();
    assert_eq!(first.next(&mut inbox_of(&asked)), Ok(Some(Reply::ReleaseRequested)));
    assert_eq!(first.released(), confirmed);
    assert_eq!(first.next(&mut inbox_of(&[0xFF])), Ok(None));

    let mut both = requested();
    assert_eq!(both.release(), asked);
    assert_eq!(both.next(&mut inbox_of(&asked)), Ok(Some(Reply::ReleaseRequested)));
    assert_eq!(both.released(), confirmed);
    assert_eq!(both.next(&mut inbox_of(&confirmed)), Ok(Some(Reply::Released)));

    assert!(requested().next(&mut inbox_of(&confirmed)).is_err(), "nobody asked");
}

#[test]
fn a_reply_that_is_none_is_a_violation() {
    let echo = requested().echo_command(3, 1);
    let store = store(&requested(), 1, &[0; 4], 4);
    for (name, bytes) in [("a request", echo), ("a store", store), ("data", vec![4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 2])] {
        assert!(requested().next(&mut inbox_of(&bytes)).is_err(), "{name}");
    }
    assert_eq!(
        requested().next(&mut inbox_of(&Abort::user().bytes())),
        Ok(Some(Reply::Aborted(Abort { source: 0, reason: 0 })))
    );
}

/// Cuts at the given places, in any order.
fn chunks<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
    cuts.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for to in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[from..to]);
        from = to;
    }
    pieces
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1_u8..8) {
        // Half of the input gets past the header, so that something behind it is tried.
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        let framed = [&[kind, 0][..], &length, &bytes].concat();
        for bytes in [&bytes, &framed] {
            Host::new(64).hear(bytes);
            let mut open = Host::new(64);
            open.hear(&proposal().bytes());
            open.hear(bytes);
            let _ = Unheard::new(Limits::default()).next(&mut inbox_of(bytes));
            let _ = Requestor::new(proposal()).next(&mut inbox_of(bytes));
            let mut requested = requested();
            let mut inbox = inbox_of(bytes);
            while let Ok(Some(_)) = requested.next(&mut inbox) {}
        }
    }

    #[test]
    fn random_chunks_give_the_same_events(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        capacity in 64_usize..5000,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = conversation();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut at_once = Host::new(bytes.len());
        at_once.hear(&bytes);
        let mut in_pieces = Host::new(capacity);
        chunks(&bytes, &cuts).into_iter().for_each(|piece| in_pieces.hear(piece));
        prop_assert_eq!(at_once.heard, in_pieces.heard);
        prop_assert_eq!(at_once.sent, in_pieces.sent);
        prop_assert_eq!(at_once.stored, in_pieces.stored);
    }
}
