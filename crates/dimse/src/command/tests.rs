use super::*;
use crate::status;

/// An element as PS3.7 §6.3.1 draws it.
fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(number.to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
    bytes
}

fn minimal() -> Vec<Vec<u8>> {
    vec![element(0x0100, &[0x30, 0]), element(0x0110, &[7, 0]), element(0x0800, &[1, 1])]
}

#[test]
fn a_store_request_is_read_whatever_the_order() {
    let elements = [
        element(0x1000, b"1.2.3.4\0"),
        element(0x0800, &[0, 0]),
        element(0x0700, &[0, 0]),
        element(0x0110, &[0x34, 0x12]),
        element(0x0100, &[1, 0]),
        element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0"),
        element(0x0000, &[9, 9, 9, 9]),
        element(0x1030, b"MOVER "),
    ];
    let set = CommandSet::parse(&elements.concat()).expect("valid");
    assert_eq!((set.field, set.message_id, set.data_follows), (1, Some(0x1234), true));
    assert_eq!(set.class.expect("present").as_str(), "1.2.840.10008.5.1.4.1.1.2");
    assert_eq!(set.instance.expect("present").as_str(), "1.2.3.4");
}

#[test]
fn a_command_set_that_is_not_one_is_a_violation() {
    let with = |more: Vec<u8>| [minimal().concat(), more].concat();
    let without = |at: usize| {
        let mut elements = minimal();
        elements.remove(at);
        elements.concat()
    };
    let many = (0..MAX_ELEMENTS as u16).flat_map(|number| element(0x5000 + number, &[])).collect();
    let cases: &[(&str, Vec<u8>, bool)] = &[
        ("minimal", minimal().concat(), true),
        ("unknown element", with(element(0x7777, b"x")), true),
        ("invalid UID", with(element(0x0002, b"../../etc")), true),
        ("empty", Vec::new(), false),
        ("no command field", without(0), false),
        ("no data set type", without(2), false),
        ("command field twice", with(element(0x0100, &[1, 0])), false),
        ("unknown element twice", with([element(0x7777, b""), element(0x7777, b"")].concat()), false),
        (
            "empty message id",
            [element(0x0100, &[1, 0]), element(0x0110, &[]), element(0x0800, &[1, 1])].concat(),
            false,
        ),
        ("long status", with(element(0x0900, &[0, 0, 0, 0])), false),
        ("another group", with(vec![8, 0, 0x18, 0, 0, 0, 0, 0]), false),
        ("cut in a header", with(vec![0, 0, 0, 0x10, 4, 0, 0]), false),
        ("cut in a value", with(vec![0, 0, 0, 0x10, 4, 0, 0, 0, b'1']), false),
        ("undefined length", with(vec![0, 0, 0, 0x10, 255, 255, 255, 255]), false),
        ("too many elements", with(many), false),
    ];
    for (name, bytes, valid) in cases {
        let parsed = CommandSet::parse(bytes);
        assert_eq!(parsed.is_ok(), *valid, "{name}");
        if let Err(violation) = parsed {
            assert_eq!(violation.abort(), crate::Abort { source: 2, reason: 6 }, "{name}");
        }
    }
}

#[test]
fn a_failure_has_the_elements_of_ps3_7_section_9_3_1_2() {
    let refusal = StoreRefusal { status: status::DATA_SET_MISMATCH, comment: "odd", offending: &[0x0008_0018] };
    let response =
        Response { class: Some("1.2"), instance: Some("1.2.3"), ..Response::failure(C_STORE_RQ, 0x0102, &refusal) };
    let body = [
        element(0x0002, b"1.2\0"),
        element(0x0100, &[0x01, 0x80]),
        element(0x0120, &[0x02, 0x01]),
        element(0x0800, &[0x01, 0x01]),
        element(0x0900, &[0x00, 0xA9]),
        element(0x0901, &[0x08, 0x00, 0x18, 0x00]),
        element(0x0902, b"odd "),
        element(0x1000, b"1.2.3\0"),
    ]
    .concat();
    let length = (body.len() as u32).to_le_bytes();
    assert_eq!(response.write(), [element(0x0000, &length), body].concat());
}

#[test]
fn an_error_comment_has_64_characters_at_most() {
    let comment = "0123456789012345678901234567890123456789012345678901234567890123456789";
    let refusal = StoreRefusal { status: status::PROCESSING_FAILURE, comment, offending: &[] };
    let set = CommandSet::parse(&Response::failure(1, 1, &refusal).write()).expect("valid");
    assert_eq!(set.comment.expect("present").reveal(), &comment[..64]);
}

#[test]
fn a_comment_from_a_peer_is_printable_and_hidden_from_debug() {
    let set =
        CommandSet::parse(&[minimal().concat(), element(0x0902, b"DOE\x1b[31m^JANE\r\n")].concat()).expect("valid");
    assert!(!format!("{set:?}").contains("DOE"));
    assert_eq!(set.comment.expect("present").reveal(), "DOE[31m^JANE");
}

#[test]
fn a_command_is_cut_to_what_the_peer_takes() {
    let command: Vec<u8> = (0..21).collect();
    let whole = command_pdus(3, &command, 0);
    assert_eq!(whole[..12], [4, 0, 0, 0, 0, 27, 0, 0, 0, 23, 3, 3]);
    assert_eq!(whole[12..], command);
    // 17 bytes hold a fragment of 11; fragments are even (PS3.8 Annex E).
    let cut = command_pdus(3, &command, 17);
    assert_eq!(cut[..22], [&[4, 0, 0, 0, 0, 16, 0, 0, 0, 12, 3, 1][..], &command[..10]].concat());
    assert_eq!(cut[22..44], [&[4, 0, 0, 0, 0, 16, 0, 0, 0, 12, 3, 1][..], &command[10..20]].concat());
    assert_eq!(cut[44..], [4, 0, 0, 0, 0, 7, 0, 0, 0, 3, 3, 3, 20]);
}

#[test]
fn a_fragment_is_even_and_never_empty() {
    for (peer, expected) in [(0, 262_138), (u32::MAX, 262_138), (16_384, 16_378), (17, 10), (8, 2), (7, 2), (1, 2)] {
        assert_eq!(max_fragment(peer), expected, "{peer}");
    }
}
