//! What a hostile data set may cost.

use super::*;

#[test]
fn ten_thousand_nested_sequences_are_too_deep() {
    let nested = |encoding, length: fn(u32) -> u32| {
        (0..10_000).fold(Made::head(encoding), |made, level| {
            made.header(0x0040_A730, "SQ", length(level)).header(ITEM, "", UNDEFINED)
        })
    };
    for encoding in PLAIN {
        assert_eq!(nested(encoding, |_| UNDEFINED).error(), DataSetError::TooDeep { tag: 0x0040_A730 }, "{encoding:?}");
        assert_eq!(
            nested(encoding, |level| (1 << 30) - 100 * level).error(),
            DataSetError::TooDeep { tag: 0x0040_A730 },
            "{encoding:?}"
        );
    }
    let at_limit = |depth: usize| {
        let open = (0..depth).fold(Made::head(Encoding::ExplicitLittle), |made, _| {
            made.header(0x0040_A730, "SQ", UNDEFINED).header(ITEM, "", UNDEFINED)
        });
        (0..depth).fold(open, |made, _| made.header(ITEM_END, "", 0).header(SEQUENCE_END, "", 0))
    };
    assert!(at_limit(64).scan().is_ok());
    assert_eq!(at_limit(65).error(), DataSetError::TooDeep { tag: 0x0040_A730 });
}

#[test]
fn a_declared_length_costs_nothing() {
    const CLAIMED: u32 = 1_500_000_000;
    for (name, made) in [
        ("pixels", Made::head(Encoding::ExplicitLittle).header(0x7FE0_0010, "OW", CLAIMED)),
        ("text", Made::head(Encoding::ExplicitLittle).header(0x0040_A160, "UT", CLAIMED)),
        ("before the UIDs", Made::new(Encoding::ImplicitLittle).header(0x0008_0005, "", CLAIMED)),
        (
            "fragment",
            Made::head(Encoding::ExplicitLittle).header(0x7FE0_0010, "OB", UNDEFINED).header(ITEM, "", CLAIMED),
        ),
    ] {
        let mut scan = Scan::new(made.encoding, Limits::default());
        scan.feed(&made.bytes).expect("so far it could be one");
        assert_eq!(scan.plain.walker.reserved(), 0, "{name}");
        assert_eq!(scan.finish().err(), Some(DataSetError::Truncated), "{name}");
    }
}

#[test]
fn a_value_is_kept_only_up_to_its_limit() {
    let limits = Limits { value: 16, ..Limits::default() };
    let made = Made::head(Encoding::ExplicitLittle).element(0x0020_4000, "LT", &[b'x'; 16]).element(
        0x0028_1201,
        "OW",
        &[0; 200],
    );
    let limits = Limits { value: limits.value.max(26), ..limits };
    let (_, metadata) = scan(made.encoding, &made.bytes, limits).expect("a data set");
    assert!(metadata.complete, "bulk data is no loss");
    let made = made.element(0x0040_A160, "UT", &[b'x'; 27]);
    let (_, metadata) = scan(made.encoding, &made.bytes, limits).expect("a data set");
    assert!(!metadata.complete);
    let expected =
        r#"{"00204000":{"Value":["xxxxxxxxxxxxxxxx"],"vr":"LT"},"00281201":{"vr":"OW"},"0040A160":{"vr":"UT"}}"#;
    assert_eq!(json(&metadata), expected);
}

#[test]
fn a_head_that_does_not_come_is_refused_at_the_limit_however_it_is_cut() {
    let limits = Limits { head: 200, ..Limits::default() };
    let tail = Made::head(Encoding::ExplicitLittle).bytes;
    // The head is complete with the header after it: 8 bytes.
    for (size, expected) in
        [(200 - 12 - 8 - tail.len(), None), (201 - 12 - 8 - tail.len(), Some(DataSetError::HeadTooLong))]
    {
        let padding = Made::new(Encoding::ExplicitLittle).element(0x0008_0001, "OB", &vec![0; size]).bytes;
        let bytes = [padding, tail.clone(), b"\x28\0\x10\0US\x02\0\x01\0".to_vec()].concat();
        for chunk in [1, 7, 8, 1000] {
            let mut scan = Scan::new(Encoding::ExplicitLittle, limits);
            let fed = bytes.chunks(chunk).try_for_each(|chunk| scan.feed(chunk));
            assert_eq!(fed.err(), expected, "chunks of {chunk}");
        }
    }
}

#[test]
fn metadata_beyond_a_limit_is_valid_and_marked() {
    let made = rich(Encoding::ExplicitLittle);
    let (_, whole) = made.scan().expect("a data set");
    let size = whole.json.reveal().len();
    for metadata in (2..=size).step_by(3).chain([size]) {
        let (head, cut) =
            scan(made.encoding, &made.bytes, Limits { metadata, ..Limits::default() }).expect("a data set");
        let text = cut.json.reveal();
        assert!(text.len() <= metadata, "{metadata}");
        assert_eq!(cut.complete, metadata == size, "{metadata}");
        assert!(serde_json::from_slice::<serde_json::Value>(text).is_ok(), "{metadata}");
        assert_eq!(head.name.series.as_str(), "1.2.4");
        assert_eq!(cut.promoted.get(Attribute::PatientName), Some("Buc^Jérôme"), "{metadata}");
        assert_eq!(cut.promoted.get(Attribute::Rows), Some("2"), "{metadata}");
    }
    // Four UIDs, nine other elements of which two are sequences, three items and three elements in them.
    for elements in 0..22 {
        let (_, cut) = scan(made.encoding, &made.bytes, Limits { elements, ..Limits::default() }).expect("a data set");
        assert_eq!(cut.complete, elements >= 19, "{elements}");
        assert!(serde_json::from_slice::<serde_json::Value>(cut.json.reveal()).is_ok(), "{elements}");
    }
}

#[test]
fn a_deflated_data_set_may_be_padded_but_not_cut() {
    let bytes = deflated(&rich(Encoding::ExplicitLittle).bytes);
    let with = |tail: &[u8]| scan(Encoding::Deflated, &[&bytes, tail].concat(), Limits::default()).map(|_| ());
    assert_eq!(with(&[]), Ok(()));
    assert_eq!(with(&[0]), Ok(()));
    assert_eq!(with(b"\x01\x02\x03\x04\x05\x06\x07\x08\0"), Ok(()), "the trailer of gzip, padded");
    assert_eq!(with(&[0; 10]), Err(DataSetError::Deflate));
    for length in 0..bytes.len() {
        let cut = scan(Encoding::Deflated, &bytes[..length], Limits::default());
        assert_eq!(cut.err(), Some(DataSetError::Truncated), "{length}");
    }
    assert_eq!(scan(Encoding::Deflated, &[0xFF; 9], Limits::default()).err(), Some(DataSetError::Deflate));
    let cut_inside = deflated(&Made::head(Encoding::ExplicitLittle).header(0x0028_0010, "US", 2).bytes);
    assert_eq!(scan(Encoding::Deflated, &cut_inside, Limits::default()).err(), Some(DataSetError::Truncated));
}

#[test]
fn a_deflate_bomb_stops_at_the_limit() {
    const SIZE: usize = 16 << 20;
    let zeros = vec![0; SIZE];
    let pixels = Made::head(Encoding::ExplicitLittle).element(0x7FE0_0010, "OW", &zeros).bytes;
    let before = Made::new(Encoding::ExplicitLittle).element(0x0008_0001, "OB", &zeros).bytes;
    let limits = Limits { head: usize::MAX, ..Limits::default() };
    for (name, limits) in [("ratio", limits), ("size", Limits { inflated: 1 << 20, ratio: u32::MAX, ..limits })] {
        let (_, metadata) = scan(Encoding::Deflated, &deflated(&pixels), limits).expect("the head is known");
        assert!(!metadata.complete, "{name}");
        let error = scan(Encoding::Deflated, &deflated(&before), limits).err();
        assert_eq!(error, Some(DataSetError::DeflateRatio), "{name}");
        let mut scan = Scan::new(Encoding::Deflated, limits);
        scan.feed(&deflated(&pixels)).expect("the head is known");
        let inflated = scan.inflate.as_ref().expect("deflated").inflated();
        assert!(inflated <= (4 << 20) + (32 << 10), "{name}: {inflated}");
    }
    let patient = Limits { ratio: u32::MAX, ..Limits::default() };
    let (_, metadata) = scan(Encoding::Deflated, &deflated(&pixels), patient).expect("a data set");
    assert!(metadata.complete);
}

#[test]
fn a_cut_short_item_leaves_valid_json() {
    let made = Made::head(Encoding::ExplicitLittle)
        .header(0x0040_A730, "SQ", UNDEFINED)
        .header(ITEM, "", UNDEFINED)
        .element(0x0040_A160, "OB", &vec![0; 16 << 20]);
    let (_, metadata) = scan(Encoding::Deflated, &deflated(&made.bytes), Limits::default()).expect("the head is known");
    assert!(!metadata.complete);
    assert_eq!(json(&metadata), r#"{"0040A730":{"Value":[{"0040A160":{"vr":"OB"}}],"vr":"SQ"}}"#);
}
