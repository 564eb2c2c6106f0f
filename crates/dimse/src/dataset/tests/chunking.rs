//! Any bytes, cut anywhere.

use proptest::prelude::*;

use super::*;

/// The outcome in a form that can be compared.
fn outcome(encoding: Encoding, chunks: &[&[u8]]) -> Result<(String, String, bool), DataSetError> {
    let mut scan = Scan::new(encoding, Limits { head: 300, value: 64, metadata: 900, ..Limits::default() });
    chunks.iter().try_for_each(|chunk| scan.feed(chunk))?;
    let (head, metadata) = scan.finish()?;
    let json = String::from_utf8(metadata.json.reveal().clone()).expect("UTF-8");
    Ok((format!("{head:?} {:?}", metadata.promoted.get(Attribute::PatientName)), json, metadata.complete))
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![PLAIN[0], PLAIN[1], PLAIN[2], Encoding::Deflated])
}

fn rich_bytes(encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Deflated => deflated(&rich(Encoding::ExplicitLittle).bytes),
        plain => rich(plain).bytes,
    }
}

/// Cuts at the given places, wherever they fall.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn the_chunking_makes_no_difference(
        encoding in encodings(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        flipped in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = rich_bytes(encoding);
        if let Some((place, value)) = flipped {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        let whole = outcome(encoding, &[&bytes]);
        prop_assert_eq!(&outcome(encoding, &cut(&bytes, &places)), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&outcome(encoding, &single), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(encoding in encodings(), bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = outcome(encoding, &[&bytes]);
    }

    #[test]
    fn damaged_data_sets_do_not_panic_and_give_valid_json(
        encoding in prop::sample::select(PLAIN.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = rich_bytes(encoding);
        for (place, value) in damage {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [&bytes[..], &bytes[..keep.index(bytes.len())]] {
            if let Ok((_, json, _)) = outcome(encoding, &[bytes]) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            }
        }
    }

    #[test]
    fn any_text_in_any_character_set_gives_valid_json(
        charset in prop::sample::select(vec!["", "ISO_IR 13", "ISO_IR 100", "ISO_IR 192", "GB18030", "GBK", "\\ISO 2022 IR 87",
            "\\ISO 2022 IR 149", "ISO 2022 IR 13\\ISO 2022 IR 159"]),
        vr in prop::sample::select(vec!["PN", "LO", "UT", "DS", "IS", "CS", "UC"]),
        value in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\x1B$(B)CD\\^=\"-+.e19".to_vec())], 0..60),
    ) {
        let made = Made::new(Encoding::ExplicitLittle)
            .element(0x0008_0005, "CS", charset.as_bytes())
            .raw(&Made::head(Encoding::ExplicitLittle).bytes)
            .element(0x0040_A160, vr, &value);
        made.json();
    }
}
