use super::*;
use crate::limits::Limits;

fn inbox_of(bytes: &[u8]) -> Inbox {
    let mut inbox = Inbox::with_capacity(bytes.len());
    inbox.space()[..bytes.len()].copy_from_slice(bytes);
    inbox.filled(bytes.len());
    inbox
}

#[test]
fn an_abort_has_the_bytes_of_ps3_8_table_9_26() {
    assert_eq!(Abort::user().bytes(), [7, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(Violation::unrecognised("").abort().bytes(), [7, 0, 0, 0, 0, 4, 0, 0, 2, 1]);
    assert_eq!(Violation::unexpected("").abort().bytes(), [7, 0, 0, 0, 0, 4, 0, 0, 2, 2]);
    assert_eq!(Violation::invalid("").abort().bytes(), [7, 0, 0, 0, 0, 4, 0, 0, 2, 6]);
}

#[test]
fn a_rejection_has_the_bytes_of_ps3_8_table_9_21() {
    let cases = [
        (Reject::NoReason, [1, 1, 1]),
        (Reject::ApplicationContext, [1, 1, 2]),
        (Reject::CallingAeTitle, [1, 1, 3]),
        (Reject::CalledAeTitle, [1, 1, 7]),
        (Reject::ProtocolVersion, [1, 2, 2]),
        (Reject::Congestion, [2, 3, 1]),
        (Reject::LocalLimit, [2, 3, 2]),
    ];
    for (why, [result, source, reason]) in cases {
        assert_eq!(why.bytes(), [3, 0, 0, 0, 0, 4, 0, result, source, reason], "{why:?}");
    }
}

#[test]
fn release_pdus_have_four_reserved_bytes() {
    assert_eq!(release(PduType::ReleaseRq), [5, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(release(PduType::ReleaseRp), [6, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn the_type_is_judged_before_the_length_and_the_length_before_anything_else() {
    use PduType::{Abort, AssociateRq, PData, ReleaseRq};
    let limits = Limits { max_pdu_length: 100, max_association_request: 200, ..Limits::default() };
    let all: &[PduType] = &[AssociateRq, PData, ReleaseRq, Abort];
    // None: the header is good. Otherwise the reason of the A-ABORT.
    type Case = (&'static str, &'static [u8], &'static [PduType], Option<u8>);
    let cases: &[Case] = &[
        ("type 0", &[0], all, Some(1)),
        ("type 8", &[8], all, Some(1)),
        ("an HTTP GET", b"GET / HTTP/1.1", all, Some(1)),
        ("out of place, only its first byte", &[4], &[AssociateRq], Some(2)),
        ("out of place and too long", &[4, 0, 255, 255, 255, 255], &[AssociateRq], Some(2)),
        ("request of 67 bytes", &[1, 0, 0, 0, 0, 67], all, Some(6)),
        ("request of 68 bytes", &[1, 0, 0, 0, 0, 68], all, None),
        ("longest request", &[1, 0, 0, 0, 0, 200], all, None),
        ("too long request", &[1, 0, 0, 0, 0, 201], all, Some(6)),
        ("request of 4 GiB", &[1, 0, 255, 255, 255, 255], all, Some(6)),
        ("empty P-DATA", &[4, 0, 0, 0, 0, 0], all, Some(6)),
        ("P-DATA shorter than a PDV", &[4, 0, 0, 0, 0, 5], all, Some(6)),
        ("shortest P-DATA", &[4, 0, 0, 0, 0, 6], all, None),
        ("longest P-DATA", &[4, 0, 0, 0, 0, 100], all, None),
        ("P-DATA longer than advertised", &[4, 0, 0, 0, 0, 101], all, Some(6)),
        ("release of 3 bytes", &[5, 0, 0, 0, 0, 3], all, Some(6)),
        ("release", &[5, 0, 0, 0, 0, 4], all, None),
        ("release of 5 bytes", &[5, 0, 0, 0, 0, 5], all, Some(6)),
        ("abort of 0 bytes", &[7, 0, 0, 0, 0, 0], all, Some(6)),
        ("abort with reserved byte set", &[7, 9, 0, 0, 0, 4], all, None),
    ];
    for (name, bytes, expected, reason) in cases {
        let header = Header::peek(&inbox_of(bytes), expected, &limits);
        assert_eq!(header.as_ref().err().map(|violation| violation.abort().reason), *reason, "{name}");
        assert_eq!(header.is_ok_and(|header| header.is_some()), reason.is_none(), "{name}");
    }
}

#[test]
fn a_header_is_awaited_to_its_last_byte() {
    for count in 0..HEADER_LENGTH {
        let inbox = inbox_of(&[7, 0, 0, 0, 0, 4][..count]);
        assert!(Header::peek(&inbox, &[PduType::Abort], &Limits::default()).is_ok_and(|header| header.is_none()));
    }
}

#[test]
fn a_stranger_is_known_by_its_first_byte() {
    let first = |byte| Violation::unrecognised("").of_first_byte(byte);
    assert!(first(0x16).tls_hello() && !first(0x16).http());
    for byte in b"GHPDOCT" {
        assert!(first(*byte).http() && !first(*byte).tls_hello());
    }
    assert!(!first(0xFF).http() && !first(0xFF).tls_hello());
}
