//! The acceptor against bytes written by hand.

use model::{ContextAnswer, ContextResult, Uid};

use super::*;
use crate::pdu::Reject;
use crate::{Implementation, Limits};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const VERIFICATION: &str = "1.2.840.10008.1.1";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const DICOM: &[u8] = b"1.2.840.10008.3.1.1.1";

/// Stands for the store's receipt.
struct Durable;

fn inbox_of(bytes: &[u8]) -> Inbox {
    let mut inbox = Inbox::with_capacity(bytes.len());
    inbox.space()[..bytes.len()].copy_from_slice(bytes);
    inbox.filled(bytes.len());
    inbox
}

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn context(id: u8, class: &str, syntaxes: &[&str]) -> Vec<u8> {
    let syntaxes: Vec<u8> = syntaxes.iter().flat_map(|syntax| item(0x40, syntax.as_bytes())).collect();
    item(0x20, &[&[id, 0, 0, 0][..], &item(0x30, class.as_bytes()), &syntaxes].concat())
}

fn user(more: &[u8]) -> Vec<u8> {
    item(0x50, &[&item(0x51, &[0, 0, 0x40, 0])[..], &item(0x52, b"1.2.3.4"), &item(0x55, b"PEER_1"), more].concat())
}

struct Rq {
    version: u16,
    called: [u8; 16],
    calling: [u8; 16],
    items: Vec<u8>,
}

impl Rq {
    fn with(items: &[Vec<u8>]) -> Self {
        Self { version: 1, called: *b"PORTCULLIS      ", calling: *b"CT1             ", items: items.concat() }
    }

    fn usual() -> Self {
        Self::with(&[
            item(0x10, DICOM),
            context(1, CT, &[EXPLICIT, IMPLICIT]),
            context(3, VERIFICATION, &[IMPLICIT]),
            user(&[]),
        ])
    }

    fn bytes(&self) -> Vec<u8> {
        let body = [&self.version.to_be_bytes()[..], &[0xEE; 2], &self.called, &self.calling, &[0xAB; 32], &self.items]
            .concat();
        [&[1, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat()
    }
}

fn open(bytes: &[u8]) -> Result<Option<Opening<Durable>>, Violation> {
    Acceptor::new(Limits::default(), Implementation::PORTCULLIS).next(&mut inbox_of(bytes))
}

fn request(bytes: &[u8]) -> AssociationRequest<Durable> {
    match open(bytes) {
        Ok(Some(Opening::Request(request))) => request,
        Ok(Some(Opening::Refused(why, _))) => panic!("refused: {why:?}"),
        Ok(_) => panic!("not a request"),
        Err(violation) => panic!("{violation}"),
    }
}

fn accepted(id: u8, syntax: &str) -> ContextAnswer {
    ContextAnswer { id, result: ContextResult::Accepted(Uid::parse(syntax).expect("valid")) }
}

fn association() -> Association<Durable> {
    request(&Rq::usual().bytes()).accept(&[accepted(1, EXPLICIT), accepted(3, IMPLICIT)]).0
}

#[test]
fn the_accept_pdu_has_the_bytes_of_ps3_8_table_9_17() {
    let answers = [accepted(1, EXPLICIT), ContextAnswer { id: 3, result: ContextResult::UserRejection }];
    let (association, bytes) = request(&Rq::usual().bytes()).accept(&answers);
    let contexts = [
        [&[0x21, 0, 0, 27, 1, 0, 0, 0, 0x40, 0, 0, 19][..], EXPLICIT.as_bytes()].concat(),
        [&[0x21, 0, 0, 25, 3, 0, 1, 0, 0x40, 0, 0, 17][..], IMPLICIT.as_bytes()].concat(),
    ];
    let user = [
        &[0x50, 0, 0, 8 + 4 + 43 + 4 + 14, 0x51, 0, 0, 4, 0, 2, 0, 0, 0x52, 0, 0, 43][..],
        b"2.25.50554425638360176191824229988145299392",
        &[0x55, 0, 0, 14],
        b"PORTCULLIS_0_1",
    ]
    .concat();
    let body = [
        &[0, 1, 0, 0][..],
        b"PORTCULLIS      CT1             ",
        // Bytes 43–74 come back as they were, although they are reserved.
        &[0xAB; 32],
        &[0x10, 0, 0, 21],
        DICOM,
        &contexts.concat(),
        &user,
    ]
    .concat();
    assert_eq!(bytes, [&[2, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat());
    assert_eq!(association.contexts().len(), 1);
}

#[test]
fn a_proposal_says_what_the_request_says() {
    let request = request(&Rq::usual().bytes());
    let proposal = request.proposal();
    assert_eq!((proposal.called.as_str(), proposal.calling.as_str()), ("PORTCULLIS", "CT1"));
    assert_eq!(proposal.contexts.len(), 2);
    assert_eq!(proposal.contexts[0].transfer_syntaxes[1].as_str(), IMPLICIT);
    assert_eq!(request.max_pdu_length(), 0x4000);
    assert_eq!((request.implementation_class(), request.implementation_version()), (Some("1.2.3.4"), Some("PEER_1")));
    assert_eq!(request.objection(), None);
}

#[test]
fn what_was_not_answered_is_refused_and_what_was_not_proposed_is_not_accepted() {
    let cases: &[(&str, &[ContextAnswer], [u8; 2])] = &[
        ("no answer", &[], [1, 1]),
        ("for another id", &[accepted(5, EXPLICIT)], [1, 1]),
        ("other syntax", &[accepted(1, "1.2.840.10008.1.2.4.90"), accepted(3, IMPLICIT)], [4, 0]),
        ("both", &[accepted(3, IMPLICIT), accepted(1, IMPLICIT)], [0, 0]),
    ];
    for (name, answers, results) in cases {
        let (association, bytes) = request(&Rq::usual().bytes()).accept(answers);
        let first = 74 + 4 + DICOM.len();
        let second = first + 4 + usize::from(bytes[first + 3]);
        assert_eq!([bytes[first + 6], bytes[second + 6]], *results, "{name}");
        assert_eq!(association.contexts().len(), results.iter().filter(|result| **result == 0).count(), "{name}");
    }
}

#[test]
fn user_information_is_answered_only_as_far_as_it_was_proposed() {
    let ct = [&[0, CT.len() as u8][..], CT.as_bytes()].concat();
    let verification = [&[0, VERIFICATION.len() as u8][..], VERIFICATION.as_bytes()].concat();
    let other = [&[0, 3][..], b"1.9"].concat();
    let role = |class: &[u8], scu, scp| item(0x54, &[class, &[scu, scp]].concat());
    let cases: &[(&str, Vec<u8>, Vec<u8>)] = &[
        ("nothing", Vec::new(), Vec::new()),
        ("window", item(0x53, &[0, 0, 0, 0]), item(0x53, &[0, 1, 0, 1])),
        ("both roles", role(&ct, 1, 1), role(&ct, 1, 0)),
        ("SCP only", role(&ct, 0, 1), role(&ct, 0, 0)),
        ("the first of two for a class", [role(&ct, 1, 1), role(&ct, 0, 1)].concat(), role(&ct, 1, 0)),
        ("role in a class that was not proposed", role(&other, 1, 1), Vec::new()),
        (
            "storage negotiation",
            item(0x56, &[&ct[..], &[2, 0, 3, 0, 1, 0]].concat()),
            item(0x56, &[&ct[..], &[2, 0, 0, 0, 0, 0]].concat()),
        ),
        ("negotiation of a class without levels", item(0x56, &[&verification[..], &[1]].concat()), Vec::new()),
        ("common extended negotiation", item(0x57, &ct), Vec::new()),
        ("user identity, answer wanted", item(0x58, &[1, 1, 0, 3, b'd', b'o', b'e', 0, 0]), Vec::new()),
        ("unknown", item(0x7F, b"whatever"), Vec::new()),
    ];
    for (name, proposed, answered) in cases {
        let items =
            [item(0x10, DICOM), context(1, CT, &[EXPLICIT]), context(3, VERIFICATION, &[IMPLICIT]), user(proposed)];
        let (_, bytes) = request(&Rq::with(&items).bytes()).accept(&[accepted(1, EXPLICIT), accepted(3, IMPLICIT)]);
        let ours = b"PORTCULLIS_0_1";
        let at = bytes.windows(ours.len()).position(|window| window == ours).expect("our version") + ours.len();
        assert_eq!(bytes[at..], answered[..], "{name}");
    }
}

#[test]
fn roles_are_not_granted_for_a_refused_class() {
    let role = item(0x54, &[&[0, CT.len() as u8][..], CT.as_bytes(), &[1, 0]].concat());
    let (_, bytes) =
        request(&Rq::with(&[item(0x10, DICOM), context(1, CT, &[EXPLICIT]), user(&role)]).bytes()).accept(&[]);
    assert!(bytes.ends_with(b"PORTCULLIS_0_1"));
}

#[test]
fn an_odd_request_is_objected_to_with_the_right_code() {
    let dicom = || item(0x10, DICOM);
    let ct = || context(1, CT, &[EXPLICIT]);
    let version = |version| Rq { version, ..Rq::usual() };
    let cases: &[(&str, Rq, Option<Reject>)] = &[
        ("version 1", version(1), None),
        ("versions 1 and 2: only bit 0 is tested", version(3), None),
        ("version 2", version(2), Some(Reject::ProtocolVersion)),
        ("version 0", version(0), Some(Reject::ProtocolVersion)),
        ("padded application context", Rq::with(&[item(0x10, b"1.2.840.10008.3.1.1.1\0"), ct(), user(&[])]), None),
        (
            "other application context",
            Rq::with(&[item(0x10, b"1.2"), ct(), user(&[])]),
            Some(Reject::ApplicationContext),
        ),
        ("no application context", Rq::with(&[ct(), user(&[])]), Some(Reject::ApplicationContext)),
        ("unknown item", Rq::with(&[item(0x99, b"?"), dicom(), ct(), user(&[])]), None),
        ("no user information", Rq::with(&[dicom(), ct()]), None),
    ];
    for (name, rq, objection) in cases {
        assert_eq!(request(&rq.bytes()).objection(), *objection, "{name}");
    }
}

#[test]
fn what_cannot_be_put_to_the_table_is_refused_with_its_reason() {
    let many: Vec<String> = (0..257).map(|number| format!("1.2.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases = [
        ("called of spaces", Rq { called: [b' '; 16], ..Rq::usual() }, Reject::CalledAeTitle),
        ("called with backslash", Rq { called: *b"A\\B             ", ..Rq::usual() }, Reject::CalledAeTitle),
        ("calling with escape", Rq { calling: *b"A\x1b[31m          ", ..Rq::usual() }, Reject::CallingAeTitle),
        ("257 transfer syntaxes", Rq::with(&[item(0x10, DICOM), context(1, CT, &many), user(&[])]), Reject::LocalLimit),
    ];
    for (name, rq, expected) in cases {
        let Ok(Some(Opening::Refused(why, bytes))) = open(&rq.bytes()) else { panic!("{name}: not refused") };
        assert_eq!((why, bytes), (expected, expected.bytes()), "{name}");
    }
}

#[test]
fn a_context_whose_syntaxes_are_not_uids_is_refused_and_the_others_live() {
    let items = [
        item(0x10, DICOM),
        context(1, "1.02", &[EXPLICIT]),
        context(3, CT, &["x"]),
        context(5, CT, &[EXPLICIT]),
        user(&[]),
    ];
    let request = request(&Rq::with(&items).bytes());
    assert_eq!(request.proposal().contexts.iter().map(|context| context.id).collect::<Vec<_>>(), [5]);
    let (association, bytes) = request.accept(&[accepted(1, EXPLICIT), accepted(3, EXPLICIT), accepted(5, EXPLICIT)]);
    assert_eq!(association.contexts().len(), 1);
    for (id, result) in [(5, 0), (1, 3), (3, 4)] {
        let head = [id, 0, result, 0, 0x40];
        assert!(bytes.windows(5).any(|window| window == head), "context {id}");
    }
}

#[test]
fn a_broken_request_is_a_violation_and_never_waits_for_more() {
    let dicom = || item(0x10, DICOM);
    let ct = || context(1, CT, &[EXPLICIT]);
    let raw_context = |value: &[u8]| item(0x20, &[&[1, 0, 0, 0][..], value].concat());
    let cases: &[(&str, Vec<Vec<u8>>)] = &[
        ("cut item header", vec![dicom(), ct(), vec![0x50, 0, 0]]),
        ("item beyond the PDU", vec![dicom(), ct(), vec![0x50, 0, 0, 9, 1]]),
        ("context without its id", vec![dicom(), item(0x20, &[1, 0])]),
        ("cut sub-item", vec![dicom(), raw_context(&[0x30, 0, 0, 60, b'1'])]),
        ("no abstract syntax", vec![dicom(), raw_context(&item(0x40, b"1.2"))]),
        ("two abstract syntaxes", vec![dicom(), raw_context(&[item(0x30, b"1.2"), item(0x30, b"1.3")].concat())]),
        ("id 0", vec![dicom(), context(0, CT, &[EXPLICIT])]),
        ("even id", vec![dicom(), context(2, CT, &[EXPLICIT])]),
        ("id twice", vec![dicom(), ct(), ct()]),
        ("two application contexts", vec![dicom(), dicom(), ct()]),
        ("two user informations", vec![dicom(), ct(), user(&[]), user(&[])]),
        ("two maximum lengths", vec![dicom(), ct(), user(&item(0x51, &[0; 4]))]),
        ("short maximum length", vec![dicom(), ct(), item(0x50, &item(0x51, &[0, 1]))]),
        ("short window", vec![dicom(), ct(), user(&item(0x53, &[0, 1, 0]))]),
        ("role beyond its item", vec![dicom(), ct(), user(&item(0x54, &[0, 9, b'1', 1, 0]))]),
        ("role without its roles", vec![dicom(), ct(), user(&item(0x54, &[0, 1, b'1', 1]))]),
        ("negotiation beyond its item", vec![dicom(), ct(), user(&item(0x56, &[0, 9, b'1']))]),
    ];
    for (name, items) in cases {
        let Err(violation) = open(&Rq::with(items).bytes()) else { panic!("{name}: no violation") };
        assert_eq!(violation.abort(), Abort { source: 2, reason: 6 }, "{name}");
    }
}

#[test]
fn what_is_not_a_request_is_named_before_anything_is_reserved() {
    let cases: &[(&str, &[u8], u8)] = &[
        ("TLS hello", &[0x16, 3, 1, 2, 0, 1], 1),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", 1),
        ("noise", &[0xFF; 20], 1),
        ("P-DATA", &[4, 0, 0, 0, 0, 6], 2),
        ("accept", &[2], 2),
        ("release", &[5], 2),
        ("request of 4 GiB", &[1, 0, 255, 255, 255, 255], 6),
        ("request of 10 bytes", &[1, 0, 0, 0, 0, 10], 6),
    ];
    for (name, bytes, reason) in cases {
        let Err(heard) = open(bytes) else { panic!("{name}: no violation") };
        assert_eq!(heard.abort(), Abort { source: 2, reason: *reason }, "{name}");
        let unheard = Unheard::new(Limits::default()).next(&mut inbox_of(bytes));
        assert_eq!(unheard, Err(heard), "{name}: the framing is the same for a caller without a row");
        assert_eq!(heard.tls_hello(), *name == "TLS hello");
        assert_eq!(heard.http(), *name == "HTTP");
    }
}

#[test]
fn a_peer_may_abort_before_it_asked() {
    let abort = Abort { source: 0, reason: 0 };
    assert!(matches!(open(&abort.bytes()), Ok(Some(Opening::Aborted(heard))) if heard == abort));
    assert_eq!(Unheard::new(Limits::default()).next(&mut inbox_of(&abort.bytes())), Ok(Some(Vec::new())));
}

#[test]
fn a_caller_without_a_row_is_framed_and_never_interpreted() {
    // Two context ids are the same: for an acceptor a violation, but nobody looks.
    let bytes = Rq::with(&[context(1, CT, &[EXPLICIT]), context(1, CT, &[EXPLICIT])]).bytes();
    assert!(open(&bytes).is_err());
    let mut unheard = Unheard::new(Limits::default());
    let mut inbox = Inbox::with_capacity(0);
    for (at, byte) in bytes.iter().enumerate() {
        inbox.space()[0] = *byte;
        inbox.filled(1);
        let rejected = unheard.next(&mut inbox).expect("no violation");
        let expected = (at + 1 == bytes.len()).then(|| vec![3, 0, 0, 0, 0, 4, 0, 1, 1, 1]);
        assert_eq!(rejected, expected);
    }
}

/// One PDV.
fn pdv(context: u8, control: u8, value: &[u8]) -> Vec<u8> {
    [&(value.len() as u32 + 2).to_be_bytes()[..], &[context, control], value].concat()
}

/// One P-DATA-TF.
fn p_data(pdvs: &[Vec<u8>]) -> Vec<u8> {
    let body = pdvs.concat();
    [&[4, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

fn element(number: u16, value: &[u8]) -> Vec<u8> {
    [&[0, 0][..], &number.to_le_bytes(), &(value.len() as u32).to_le_bytes(), value].concat()
}

/// A command set with the elements that matter; an empty value is left out.
fn command(field: u16, data_set_type: u16, class: &str, instance: &str) -> Vec<u8> {
    let mut elements = vec![element(0x0100, &field.to_le_bytes()), element(0x0110, &[5, 0])];
    elements.push(element(0x0800, &data_set_type.to_le_bytes()));
    for (number, value) in [(0x0002, class), (0x1000, instance)] {
        if !value.is_empty() {
            elements.push(element(number, value.as_bytes()));
        }
    }
    elements.concat()
}

fn store_command() -> Vec<u8> {
    pdv(1, 3, &command(1, 0, CT, "1.2.3"))
}

/// What the peer said, in words.
fn told(bytes: &[u8]) -> (Vec<String>, Option<Violation>) {
    let mut association = association();
    let mut inbox = inbox_of(bytes);
    let mut events = Vec::new();
    loop {
        match association.next(&mut inbox) {
            Ok(None) => return (events, None),
            Err(violation) => return (events, Some(violation)),
            Ok(Some(event)) => events.push(match event {
                Event::Echo(_) => "echo".to_owned(),
                Event::Store(request) => format!("store {}", request.claim().instance),
                Event::Malformed(request) => format!("malformed {}", request.refusal().status),
                Event::Unsupported(request) => {
                    format!("unsupported {:04X} {}", request.command_field(), request.refusal().status)
                }
                Event::Data(piece) => format!("data {}", piece.len()),
                Event::DataEnd => "end".to_owned(),
                Event::Cancel => "cancel".to_owned(),
                Event::ReleaseRequested => "release".to_owned(),
                Event::Aborted(abort) => format!("abort {}", abort.source),
            }),
        }
    }
}

#[test]
fn every_message_becomes_its_events() {
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("echo", p_data(&[pdv(3, 3, &command(0x30, 0x101, VERIFICATION, ""))]), &["echo"]),
        (
            "store in one PDU",
            p_data(&[store_command(), pdv(1, 0, &[0; 10]), pdv(1, 2, &[0; 5])]),
            &["store 1.2.3", "data 10", "data 5", "end"],
        ),
        (
            "empty fragments are not the end",
            [p_data(&[store_command(), pdv(1, 0, &[])]), p_data(&[pdv(1, 0, &[0; 4]), pdv(1, 0, &[]), pdv(1, 2, &[])])]
                .concat(),
            &["store 1.2.3", "data 4", "end"],
        ),
        (
            "bits that are never checked",
            p_data(&[store_command(), pdv(1, 0xFE, &[0; 2])]),
            &["store 1.2.3", "data 2", "end"],
        ),
        (
            "class of another context",
            p_data(&[pdv(1, 3, &command(1, 0, "1.2", "1.2.3")), pdv(1, 2, &[1])]),
            &["malformed 0x0122", "data 1", "end"],
        ),
        ("no class", p_data(&[pdv(1, 3, &command(1, 0, "", "1.2.3"))]), &["malformed 0x0122"]),
        ("no instance", p_data(&[pdv(1, 3, &command(1, 0, CT, ""))]), &["malformed 0x0117"]),
        ("instance that is a path", p_data(&[pdv(1, 3, &command(1, 0, CT, "../../x"))]), &["malformed 0x0117"]),
        ("store without data", p_data(&[pdv(1, 3, &command(1, 0x101, CT, "1.2.3"))]), &["malformed 0xC000"]),
        (
            "find",
            p_data(&[pdv(1, 3, &command(0x20, 0, CT, "")), pdv(1, 2, &[1, 2])]),
            &["unsupported 0020 0x0211", "data 2", "end"],
        ),
        ("action", p_data(&[pdv(1, 3, &command(0x130, 0x101, "", ""))]), &["unsupported 0130 0x0211"]),
        ("echo elsewhere", p_data(&[pdv(1, 3, &command(0x30, 0x101, VERIFICATION, ""))]), &["unsupported 0030 0x0122"]),
        ("echo with data", p_data(&[pdv(3, 3, &command(0x30, 0, VERIFICATION, ""))]), &["unsupported 0030 0x0212"]),
        ("cancel", p_data(&[pdv(1, 3, &command(0xFFF, 0x101, "", ""))]), &["cancel"]),
        ("release", vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0], &["release"]),
        ("abort", Abort::user().bytes().to_vec(), &["abort 0"]),
        (
            "abort in a data set; what follows is thrown away",
            [p_data(&[store_command(), pdv(1, 0, &[0; 3])]), Abort::user().bytes().to_vec(), vec![0xFF; 9]].concat(),
            &["store 1.2.3", "data 3", "abort 0"],
        ),
    ];
    for (name, bytes, expected) in cases {
        let (events, violation) = told(bytes);
        assert_eq!(events, *expected, "{name}");
        assert_eq!(violation, None, "{name}");
    }
}

#[test]
fn every_broken_message_is_a_violation_with_its_reason() {
    let echo = || pdv(3, 3, &command(0x30, 0x101, VERIFICATION, ""));
    let release = || vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let long = || pdv(1, 1, &[0; 40_000]);
    let cases: &[(&str, Vec<u8>, u8)] = &[
        ("unknown PDU", vec![9], 1),
        ("request again", vec![1], 2),
        ("release response", vec![6], 2),
        ("P-DATA beyond our maximum", vec![4, 0, 0, 2, 0, 1], 6),
        ("PDV of length 0", vec![4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 1, 3], 6),
        ("PDV of length 1", vec![4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 1, 3], 6),
        ("PDV beyond its PDU", vec![4, 0, 0, 0, 0, 6, 0, 0, 0, 3, 1, 3], 6),
        ("PDV of 4 GiB", vec![4, 0, 0, 0, 0, 6, 255, 255, 255, 255, 1, 3], 6),
        ("bytes after the last PDV", p_data(&[echo(), vec![0; 5]]), 6),
        ("context that was not proposed", p_data(&[pdv(5, 3, &[])]), 6),
        ("even context", p_data(&[pdv(2, 3, &[])]), 6),
        ("data without a command", p_data(&[pdv(1, 2, &[0; 2])]), 2),
        ("data before the end of the command", p_data(&[pdv(1, 1, &[0; 2]), pdv(1, 2, &[0; 2])]), 2),
        ("command before the end of the data", p_data(&[store_command(), store_command()]), 2),
        ("command on two contexts", p_data(&[pdv(1, 1, &[0; 2]), pdv(3, 3, &[0; 2])]), 6),
        ("data on another context", p_data(&[store_command(), pdv(3, 2, &[0; 2])]), 6),
        ("endless command", [p_data(&[long()]), p_data(&[long()])].concat(), 6),
        ("endless empty fragments", (0..40).flat_map(|_| p_data(&vec![pdv(1, 1, &[]); 30])).collect(), 6),
        ("command that is not one", p_data(&[pdv(1, 3, &[1, 2, 3])]), 6),
        ("no message id", p_data(&[pdv(1, 3, &[element(0x100, &[1, 0]), element(0x800, &[0, 0])].concat())]), 6),
        ("response", p_data(&[pdv(1, 3, &command(0x8001, 0x101, CT, "1.2"))]), 2),
        ("cancel with data", p_data(&[pdv(1, 3, &command(0xFFF, 0, "", ""))]), 6),
        ("second operation", p_data(&[echo(), echo()]), 2),
        ("release in a command", [p_data(&[pdv(1, 1, &[0; 2])]), release()].concat(), 2),
        ("release in a data set", [p_data(&[store_command()]), release()].concat(), 2),
        ("data after release", [release(), p_data(&[echo()])].concat(), 2),
        ("release twice", [release(), release()].concat(), 2),
    ];
    for (name, bytes, reason) in cases {
        let (_, violation) = told(bytes);
        let violation = violation.unwrap_or_else(|| panic!("{name}: no violation"));
        assert_eq!(violation.abort(), Abort { source: 2, reason: *reason }, "{name}");
    }
}

#[test]
fn after_a_violation_nothing_more_is_heard() {
    let mut association = association();
    assert!(association.next(&mut inbox_of(&[9])).is_err());
    let mut inbox = inbox_of(&p_data(&[pdv(3, 3, &command(0x30, 0x101, VERIFICATION, ""))]));
    assert!(matches!(association.next(&mut inbox), Ok(None)));
    assert!(inbox.is_empty());
}

fn next_of<'a>(association: &mut Association<Durable>, inbox: &'a mut Inbox) -> Event<'a> {
    association.next(inbox).expect("no violation").expect("an event")
}

#[test]
fn success_and_failures_have_their_bytes() {
    let mut association = association();
    let response = |context: u8, elements: &[Vec<u8>]| {
        let body = elements.concat();
        p_data(&[pdv(context, 3, &[element(0, &(body.len() as u32).to_le_bytes()), body].concat())])
    };
    let mut inbox = inbox_of(&p_data(&[pdv(3, 3, &command(0x30, 0x101, VERIFICATION, ""))]));
    let Event::Echo(echo) = next_of(&mut association, &mut inbox) else { panic!("not an echo") };
    let expected = response(
        3,
        &[
            element(0x0002, b"1.2.840.10008.1.1\0"),
            element(0x0100, &[0x30, 0x80]),
            element(0x0120, &[5, 0]),
            element(0x0800, &[1, 1]),
            element(0x0900, &[0, 0]),
        ],
    );
    assert_eq!(association.echoed(echo), expected);

    let mut inbox = inbox_of(&p_data(&[store_command(), pdv(1, 2, &[])]));
    let Event::Store(store) = next_of(&mut association, &mut inbox) else { panic!("not a store") };
    assert_eq!((store.context_id(), store.message_id()), (1, 5));
    assert_eq!(store.claim().transfer_syntax.as_str(), EXPLICIT);
    assert!(matches!(next_of(&mut association, &mut inbox), Event::DataEnd));
    let expected = response(
        1,
        &[
            element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0"),
            element(0x0100, &[0x01, 0x80]),
            element(0x0120, &[5, 0]),
            element(0x0800, &[1, 1]),
            element(0x0900, &[0, 0]),
            element(0x1000, b"1.2.3\0"),
        ],
    );
    assert_eq!(association.stored(store, Durable), expected);

    let mut inbox = inbox_of(&p_data(&[pdv(1, 3, &command(0x20, 0x101, CT, ""))]));
    let Event::Unsupported(find) = next_of(&mut association, &mut inbox) else { panic!("not unsupported") };
    assert!(!find.data_follows());
    let expected = response(
        1,
        &[
            element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0"),
            element(0x0100, &[0x20, 0x80]),
            element(0x0120, &[5, 0]),
            element(0x0800, &[1, 1]),
            element(0x0900, &[0x11, 0x02]),
            element(0x0901, &[0, 0, 0, 1]),
            element(0x0902, b"this operation is not supported "),
        ],
    );
    assert_eq!(association.unsupported(find), expected);

    // What a peer wrote where a UID belongs is never written back.
    let mut inbox = inbox_of(&p_data(&[pdv(1, 3, &command(1, 0, CT, "DOE^JANE"))]));
    let Event::Malformed(store) = next_of(&mut association, &mut inbox) else { panic!("not malformed") };
    let answer = association.malformed(store);
    assert!(!answer.windows(3).any(|window| window == b"DOE"));
    assert!(answer.windows(10).any(|window| window == element(0x0900, &[0x17, 0x01])));
}

#[test]
fn a_store_may_be_refused_before_its_data_set_has_ended() {
    let mut association = association();
    let mut inbox = inbox_of(
        &[p_data(&[store_command(), pdv(1, 0, &[0; 4])]), p_data(&[pdv(1, 2, &[0; 4]), store_command()])].concat(),
    );
    let Event::Store(store) = next_of(&mut association, &mut inbox) else { panic!("not a store") };
    let refusal = StoreRefusal { status: status::NOT_AUTHORISED, comment: "", offending: &[] };
    assert!(association.refused(store, refusal).windows(10).any(|window| window == element(0x0900, &[0x24, 0x01])));
    assert!(matches!(next_of(&mut association, &mut inbox), Event::Data([0, 0, 0, 0])));
    assert!(matches!(next_of(&mut association, &mut inbox), Event::Data([0, 0, 0, 0])));
    assert!(matches!(next_of(&mut association, &mut inbox), Event::DataEnd));
    assert!(matches!(next_of(&mut association, &mut inbox), Event::Store(_)));
}

#[test]
fn a_released_association_throws_away_what_still_comes() {
    let mut association = association();
    let mut inbox = inbox_of(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    assert!(matches!(next_of(&mut association, &mut inbox), Event::ReleaseRequested));
    assert_eq!(association.released(), [6, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    assert!(matches!(association.next(&mut inbox_of(&[0xFF; 30])), Ok(None)));
}

#[test]
fn a_request_as_large_as_the_limit_passes_through_a_small_inbox() {
    let contexts: Vec<Vec<u8>> = (0..128_u8)
        .map(|at| {
            let syntaxes: Vec<String> = (0..40).map(|number| format!("1.2.840.10008.1.2.4.{number}.{at}")).collect();
            context(2 * at + 1, CT, &syntaxes.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let bytes = Rq::with(&[vec![item(0x10, DICOM)], contexts, vec![user(&[])]].concat()).bytes();
    assert!(bytes.len() > 128 * 1024);
    let mut acceptor = Acceptor::<Durable>::new(Limits::default(), Implementation::PORTCULLIS);
    let mut inbox = Inbox::with_capacity(1024);
    for (at, chunk) in bytes.chunks(1000).enumerate() {
        inbox.space()[..chunk.len()].copy_from_slice(chunk);
        inbox.filled(chunk.len());
        let opening = acceptor.next(&mut inbox).expect("no violation");
        match opening {
            None => assert!((at + 1) * 1000 < bytes.len()),
            Some(Opening::Request(request)) => {
                assert_eq!(request.proposal().contexts.len(), 128);
                return;
            }
            Some(_) => panic!("not a request"),
        }
    }
    panic!("the request never became whole");
}
