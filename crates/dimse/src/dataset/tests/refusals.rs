//! What is no data set, and what is said about it.

use model::UidError;

use super::*;

#[test]
fn an_absent_or_empty_uid_is_named() {
    let cases = [
        ("SOP Class UID", 0x0008_0016),
        ("SOP Instance UID", 0x0008_0018),
        ("Study Instance UID", 0x0020_000D),
        ("Series Instance UID", 0x0020_000E),
    ];
    for (what, missing) in cases {
        for value in [None, Some(b"".as_slice()), Some(b"\0\0")] {
            let mut made = Made::new(Encoding::ExplicitLittle);
            for (_, tag) in cases {
                made = match value {
                    _ if tag != missing => made.element(tag, "UI", b"1.2.3\0"),
                    Some(value) => made.element(tag, "UI", value),
                    None => made,
                };
            }
            assert_eq!(made.error(), DataSetError::MissingUid(what), "at the end");
            let error = made.element(0x7FE0_0010, "OW", &[]).error();
            assert_eq!(error, DataSetError::MissingUid(what), "when the pixels come");
            assert_eq!(error.offending(), Some(missing));
        }
    }
}

#[test]
fn an_invalid_uid_is_refused_whatever_vr_it_has() {
    for (vr, value) in [("UI", b"1.02\0\0".as_slice()), ("UI", b"1.2\\1.3\0"), ("LO", b"../../x "), ("UN", b"1.2/")] {
        let error = Made::new(Encoding::ExplicitLittle).element(0x0008_0018, vr, value).error();
        assert!(matches!(error, DataSetError::InvalidUid(UidError { what: "SOP Instance UID", .. })), "{error}");
        assert_eq!(error.offending(), Some(0x0008_0018));
    }
}

#[test]
fn top_level_elements_ascend() {
    use Encoding::ExplicitLittle;
    let twice = Made::head(ExplicitLittle).element(0x0020_000E, "UI", b"1.9\0");
    assert_eq!(twice.error(), DataSetError::OutOfOrder { tag: 0x0020_000E });
    let hidden = Made::head(ExplicitLittle).element(0x7FE0_0010, "OW", &[0; 8]).element(0x0008_0018, "UI", b"1.9\0");
    assert_eq!(hidden.error(), DataSetError::OutOfOrder { tag: 0x0008_0018 });
    assert_eq!(hidden.error().offending(), Some(0x0008_0018));
    let pixels_first = Made::new(ExplicitLittle).element(0x7FE0_0010, "OW", &[0; 8]);
    assert_eq!(pixels_first.error(), DataSetError::MissingUid("SOP Class UID"));
}

#[test]
fn what_is_wrong_with_a_data_set_is_said() {
    use Encoding::{ExplicitLittle, ImplicitLittle};
    let head = || Made::head(ExplicitLittle);
    let sequence = || head().header(0x0040_A730, "SQ", UNDEFINED);
    let item = || sequence().header(ITEM, "", UNDEFINED);
    let pixels = || head().header(0x7FE0_0010, "OB", UNDEFINED);
    let inside = |bytes: &Made| head().element(0x0040_A730, "SQ", &bytes.bytes);
    let bare = || Made::new(ExplicitLittle);
    let cases: &[(&str, Made, DataSetError)] = &[
        ("command group", bare().element(0x0000_0002, "UI", b"1\0"), DataSetError::ForeignGroup { tag: 2 }),
        ("file meta group", bare().element(0x0002_0010, "UI", b"1\0"), DataSetError::ForeignGroup { tag: 0x0002_0010 }),
        ("VR in lower case", bare().header(0x0008_0005, "cs", 0), DataSetError::BadVr { tag: 0x0008_0005 }),
        ("VR of NULs", bare().header(0x0008_0005, "\0\0", 0), DataSetError::BadVr { tag: 0x0008_0005 }),
        ("half a header", head().raw(&[0x28, 0, 0x10]), DataSetError::Truncated),
        ("half a long header", head().raw(b"\x28\0\x10\x11OW\0\0\x01"), DataSetError::Truncated),
        ("half a value", head().header(0x0028_0010, "US", 2).raw(&[1]), DataSetError::Truncated),
        ("half the pixels", head().header(0x7FE0_0010, "OW", 100).raw(&[0; 99]), DataSetError::Truncated),
        ("value that never comes", head().header(0x0028_0010, "US", 2), DataSetError::Truncated),
        ("open sequence", sequence(), DataSetError::Truncated),
        ("open item", item(), DataSetError::Truncated),
        ("open fragments", pixels().element(ITEM, "", &[]), DataSetError::Truncated),
        ("short sequence", head().header(0x0040_A730, "SQ", 8), DataSetError::Truncated),
        ("item at top level", head().header(ITEM, "", 0), DataSetError::UnexpectedDelimiter { tag: ITEM }),
        ("item end at top level", head().header(ITEM_END, "", 0), DataSetError::UnexpectedDelimiter { tag: ITEM_END }),
        (
            "sequence end at top level",
            head().header(SEQUENCE_END, "", 0),
            DataSetError::UnexpectedDelimiter { tag: SEQUENCE_END },
        ),
        (
            "sequence end in an item",
            item().header(SEQUENCE_END, "", 0),
            DataSetError::UnexpectedDelimiter { tag: SEQUENCE_END },
        ),
        ("item in an item", item().header(ITEM, "", 0), DataSetError::UnexpectedDelimiter { tag: ITEM }),
        ("item end in a sequence", sequence().header(ITEM_END, "", 0), DataSetError::ItemExpected { tag: ITEM_END }),
        (
            "element in a sequence",
            sequence().element(0x0008_0104, "LO", b""),
            DataSetError::ItemExpected { tag: 0x0008_0104 },
        ),
        ("item end with a length", item().header(ITEM_END, "", 2), DataSetError::UnexpectedDelimiter { tag: ITEM_END }),
        (
            "sequence end with a length",
            sequence().header(SEQUENCE_END, "", 2),
            DataSetError::UnexpectedDelimiter { tag: SEQUENCE_END },
        ),
        (
            "sequence end where the length is defined",
            inside(&bare().header(SEQUENCE_END, "", 0)),
            DataSetError::UnexpectedDelimiter { tag: SEQUENCE_END },
        ),
        (
            "item end where the length is defined",
            inside(&bare().element(ITEM, "", &bare().header(ITEM_END, "", 0).bytes)),
            DataSetError::UnexpectedDelimiter { tag: ITEM_END },
        ),
        (
            "item longer than its sequence",
            inside(&bare().header(ITEM, "", 1)),
            DataSetError::LengthBeyondParent { tag: ITEM },
        ),
        (
            "element longer than its item",
            inside(&bare().element(ITEM, "", &bare().header(0x0008_0104, "LO", 1).bytes)),
            DataSetError::LengthBeyondParent { tag: 0x0008_0104 },
        ),
        (
            "element longer than the sequence around an open item",
            inside(&bare().header(ITEM, "", UNDEFINED).header(0x0008_0104, "LO", 1)),
            DataSetError::LengthBeyondParent { tag: 0x0008_0104 },
        ),
        ("no room for a header", inside(&bare().raw(&[0xFE])), DataSetError::LengthBeyondParent { tag: 0x0040_A730 }),
        (
            "no room for a long header",
            inside(&bare().element(ITEM, "", b"\x08\0\x04\x01UT\0\0")),
            DataSetError::LengthBeyondParent { tag: 0x0040_A730 },
        ),
        (
            "text of undefined length",
            head().header(0x0040_A160, "UT", UNDEFINED),
            DataSetError::UndefinedLength { tag: 0x0040_A160 },
        ),
        (
            "fragment of undefined length",
            pixels().header(ITEM, "", UNDEFINED),
            DataSetError::UndefinedLength { tag: ITEM },
        ),
        (
            "element among fragments",
            pixels().element(0x0008_0104, "LO", b""),
            DataSetError::ItemExpected { tag: 0x0008_0104 },
        ),
        (
            "implicit sequence, element in it",
            Made::head(ImplicitLittle).header(0x0040_A730, "", UNDEFINED).element(0x0008_0104, "", b""),
            DataSetError::ItemExpected { tag: 0x0008_0104 },
        ),
    ];
    for (name, made, expected) in cases {
        assert_eq!(made.error(), *expected, "{name}");
        assert_eq!(in_single_bytes(made), Err(*expected), "{name}, byte by byte");
    }
}

pub(super) fn in_single_bytes(made: &Made) -> Result<(), DataSetError> {
    let mut scan = Scan::new(made.encoding, Limits::default());
    made.bytes.iter().try_for_each(|byte| scan.feed(&[*byte]))?;
    scan.finish().map(|_| ())
}

#[test]
fn each_invalid_uid_is_named_by_its_tag() {
    for tag in [0x0008_0016, 0x0008_0018, 0x0020_000D, 0x0020_000E] {
        let error = Made::new(Encoding::ExplicitLittle).element(tag, "UI", b"1..2").error();
        assert_eq!(error.offending(), Some(tag), "{error}");
    }
}

#[test]
fn a_failed_scan_stays_failed() {
    let mut scan = Scan::new(Encoding::ExplicitLittle, Limits::default());
    let error = scan.feed(b"\x08\0\x05\0cs\0\0").expect_err("lower case");
    assert_eq!(scan.feed(b""), Err(error));
    assert_eq!(scan.finish().err(), Some(error));
}

#[test]
fn no_error_shows_a_value() {
    let error = Made::new(Encoding::ExplicitLittle).element(0x0008_0018, "UI", b"DOE^JANE").error();
    assert!(!format!("{error} {error:?}").contains("DOE"));
    let error = Made::head(Encoding::ExplicitLittle).element(0x0020_000E, "UI", b"1.9\0").error();
    assert_eq!(error.to_string(), "element (0020,000E) is out of order");
    let metadata = rich(Encoding::ExplicitLittle).scan().expect("a data set").1;
    assert!(!format!("{metadata:?}").contains("Buc"));
}
