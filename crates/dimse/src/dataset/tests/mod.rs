//! Whole data sets, built by hand.

mod chunking;
mod limits;
mod refusals;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use model::{Attribute, Encoding, InstanceHead, Metadata};

use super::{DataSetError, Limits, Scan};
use refusals::in_single_bytes;

const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;

/// A data set under construction.
#[derive(Clone)]
struct Made {
    encoding: Encoding,
    bytes: Vec<u8>,
}

impl Made {
    fn new(encoding: Encoding) -> Self {
        Self { encoding, bytes: Vec::new() }
    }

    /// The four UIDs and nothing else.
    fn head(encoding: Encoding) -> Self {
        Self::up_to_study(encoding).element(0x0020_000E, "UI", b"1.2.4\0")
    }

    fn up_to_study(encoding: Encoding) -> Self {
        Self::new(encoding)
            .element(0x0008_0016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
            .element(0x0008_0018, "UI", b"1.2.3.4\0")
            .element(0x0020_000D, "UI", b"1.2.3\0")
    }

    fn element(self, tag: u32, vr: &str, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).expect("short");
        self.header(tag, vr, length).raw(value)
    }

    fn header(self, tag: u32, vr: &str, length: u32) -> Self {
        let made = self.u16((tag >> 16) as u16).u16(tag as u16);
        if tag >> 16 == 0xFFFE || made.encoding == Encoding::ImplicitLittle {
            return made.u32(length);
        }
        let made = made.raw(vr.as_bytes());
        let short = "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".contains(vr);
        if short { made.u16(length as u16) } else { made.u16(0).u32(length) }
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn u16(self, number: u16) -> Self {
        let big = self.encoding == Encoding::ExplicitBig;
        self.raw(&if big { number.to_be_bytes() } else { number.to_le_bytes() })
    }

    fn u32(self, number: u32) -> Self {
        let big = self.encoding == Encoding::ExplicitBig;
        self.raw(&if big { number.to_be_bytes() } else { number.to_le_bytes() })
    }

    fn scan(&self) -> Result<(InstanceHead, Metadata), DataSetError> {
        scan(self.encoding, &self.bytes, Limits::default())
    }

    fn json(&self) -> String {
        let (_, metadata) = self.scan().expect("a data set");
        assert!(metadata.complete);
        json(&metadata)
    }

    fn error(&self) -> DataSetError {
        self.scan().expect_err("not a data set")
    }
}

fn scan(encoding: Encoding, bytes: &[u8], limits: Limits) -> Result<(InstanceHead, Metadata), DataSetError> {
    let mut scan = Scan::new(encoding, limits);
    scan.feed(bytes)?;
    scan.finish()
}

/// The JSON without the four UIDs of [`Made::head`]; that it parses is checked on the way.
fn json(metadata: &Metadata) -> String {
    let mut object: serde_json::Value = serde_json::from_slice(metadata.json.reveal()).expect("valid JSON");
    let elements = object.as_object_mut().expect("an object");
    for uid in ["00080016", "00080018", "0020000D", "0020000E"] {
        elements.remove(uid).expect("every head has it");
    }
    object.to_string()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

const PLAIN: [Encoding; 3] = [Encoding::ImplicitLittle, Encoding::ExplicitLittle, Encoding::ExplicitBig];

/// A little of everything.
fn rich(encoding: Encoding) -> Made {
    let number =
        |number: u16| if encoding == Encoding::ExplicitBig { number.to_be_bytes() } else { number.to_le_bytes() };
    let made = Made::new(encoding)
        .element(0x0008_0000, "UL", &[0; 4])
        .element(0x0008_0005, "CS", b"ISO_IR 100")
        .element(0x0008_0016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
        .element(0x0008_0018, "UI", b"1.2.3.4\0")
        .element(0x0008_0060, "CS", b"CT")
        .header(0x0008_1140, "SQ", UNDEFINED)
        .header(ITEM, "", UNDEFINED)
        .element(0x0008_0005, "CS", b"ISO_IR 192")
        .element(0x0008_0104, "LO", "é ".as_bytes())
        .header(ITEM_END, "", 0)
        .header(ITEM, "", 0)
        .header(SEQUENCE_END, "", 0);
    let inner = Made::new(encoding).element(0x0008_0104, "LO", b"\xE9 ").bytes;
    let items = Made::new(encoding).element(ITEM, "", &inner).bytes;
    let made = made
        .element(0x0008_1199, "SQ", &items)
        .element(0x0009_0010, "LO", b"ACME")
        .element(0x0010_0010, "PN", b"Buc^J\xE9r\xF4me")
        .element(0x0010_0020, "LO", b"")
        .element(0x0020_000D, "UI", b"1.2.3\0")
        .element(0x0020_000E, "UI", b"1.2.4\0")
        .element(0x0028_0010, "US", &number(2));
    made.element(0x7FE0_0010, "OW", &[0; 64]).element(0xFFFC_FFFC, "OB", &[0; 6])
}

const RICH: &str = concat!(
    r#"{"00080005":{"Value":["ISO_IR 100"],"vr":"CS"},"00080060":{"Value":["CT"],"vr":"CS"},"#,
    r#""00081140":{"Value":[{"00080005":{"Value":["ISO_IR 192"],"vr":"CS"},"00080104":{"Value":["é"],"vr":"LO"}},{}],"#,
    r#""vr":"SQ"},"00081199":{"Value":[{"00080104":{"Value":["é"],"vr":"LO"}}],"vr":"SQ"},"#,
    r#""00090010":{"Value":["ACME"],"vr":"LO"},"00100010":{"Value":[{"Alphabetic":"Buc^Jérôme"}],"vr":"PN"},"#,
    r#""00100020":{"vr":"LO"},"00280010":{"Value":[2],"vr":"US"},"7FE00010":{"vr":"OW"}}"#
);

#[test]
fn every_encoding_gives_the_same_head_and_metadata() {
    let plain = PLAIN.map(|encoding| (encoding, rich(encoding).bytes));
    let squeezed = (Encoding::Deflated, deflated(&rich(Encoding::ExplicitLittle).bytes));
    for (encoding, bytes) in plain.into_iter().chain([squeezed]) {
        let (head, metadata) = scan(encoding, &bytes, Limits::default()).expect("a data set");
        assert_eq!(head.name.class.as_str(), "1.2.840.10008.5.1.4.1.1.2", "{encoding:?}");
        assert_eq!(head.name.instance.as_str(), "1.2.3.4", "{encoding:?}");
        assert_eq!(head.name.study.as_str(), "1.2.3", "{encoding:?}");
        assert_eq!(head.name.series.as_str(), "1.2.4", "{encoding:?}");
        assert_eq!(head.modality.as_deref(), Some("CT"), "{encoding:?}");
        assert!(metadata.complete, "{encoding:?}");
        assert_eq!(json(&metadata), RICH, "{encoding:?}");
        assert_eq!(metadata.promoted.get(Attribute::PatientName), Some("Buc^Jérôme"), "{encoding:?}");
        assert_eq!(metadata.promoted.get(Attribute::Rows), Some("2"), "{encoding:?}");
        assert_eq!(metadata.promoted.get(Attribute::PatientId), None, "{encoding:?}");
    }
}

#[test]
fn the_json_is_exactly_that_of_ps3_18_annex_f() {
    let made = Made::head(Encoding::ExplicitLittle).element(0x0020_0013, "IS", b"7 ");
    let (_, metadata) = made.scan().expect("a data set");
    let expected = concat!(
        r#"{"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["1.2.3.4"]},"#,
        r#""0020000D":{"vr":"UI","Value":["1.2.3"]},"0020000E":{"vr":"UI","Value":["1.2.4"]},"#,
        r#""00200013":{"vr":"IS","Value":[7]}}"#
    );
    assert_eq!(String::from_utf8_lossy(metadata.json.reveal()), expected);
}

#[test]
fn the_head_is_known_when_an_element_after_it_begins_and_not_before() {
    let made = Made::head(Encoding::ExplicitLittle);
    let next = Made::new(Encoding::ExplicitLittle).header(0x0020_0013, "IS", 2).bytes;
    let mut scan = Scan::new(made.encoding, Limits::default());
    scan.feed(&made.bytes).expect("the head");
    scan.feed(&next[..next.len() - 1]).expect("a part of a header");
    assert!(scan.head().is_none());
    scan.feed(&next[next.len() - 1..]).expect("the rest of it");
    assert_eq!(scan.head().expect("known").name.series.as_str(), "1.2.4");
}

#[test]
fn a_data_set_may_end_with_its_head() {
    for encoding in PLAIN {
        assert!(Made::head(encoding).scan().is_ok(), "{encoding:?}");
    }
}

#[test]
fn what_is_searched_by_is_found_even_if_sent_as_un() {
    let (head, metadata) = Made::new(Encoding::ExplicitBig)
        .element(0x0008_0016, "UN", b"1.2\0")
        .element(0x0008_0018, "UN", b"1.3\0")
        .element(0x0010_0010, "UN", b"DOE^JANE")
        .element(0x0020_000D, "UN", b"1.4\0")
        .element(0x0020_000E, "UN", b"1.5\0")
        .element(0x0028_0010, "UN", &[2, 0])
        .scan()
        .expect("a data set");
    assert_eq!(head.name.series.as_str(), "1.5");
    assert_eq!(metadata.promoted.get(Attribute::PatientName), Some("DOE^JANE"));
    let expected = r#"{"00100010":{"Value":[{"Alphabetic":"DOE^JANE"}],"vr":"PN"},"00280010":{"Value":[2],"vr":"US"}}"#;
    assert_eq!(json(&metadata), expected);
}

#[test]
fn within_an_item_a_repeated_tag_is_left_out_and_said_so() {
    let items = Made::new(Encoding::ExplicitLittle)
        .header(ITEM, "", UNDEFINED)
        .element(0x0010_0020, "LO", b"B ")
        .element(0x0010_0010, "PN", b"A ")
        .element(0x0010_0020, "LO", b"C ")
        .header(ITEM_END, "", 0)
        .bytes;
    let (_, metadata) =
        Made::head(Encoding::ExplicitLittle).element(0x0040_A730, "SQ", &items).scan().expect("tolerated");
    assert!(!metadata.complete);
    assert_eq!(json(&metadata), r#"{"0040A730":{"Value":[{"00100020":{"Value":["B"],"vr":"LO"}}],"vr":"SQ"}}"#);
}

#[test]
fn encapsulated_pixels_are_walked_fragment_by_fragment() {
    for encoding in [Encoding::ExplicitLittle, Encoding::ExplicitBig] {
        let made = Made::head(encoding)
            .header(0x7FE0_0010, "OB", UNDEFINED)
            .element(ITEM, "", &[])
            .element(ITEM, "", b"\xFF\xD8 looks like \xFE\xFF\xDD\xE0")
            .element(ITEM, "", &[0xFF; 4])
            .header(SEQUENCE_END, "", 0)
            .element(0xFFFC_FFFC, "OB", &[0; 2]);
        assert_eq!(made.json(), r#"{"7FE00010":{"vr":"OB"}}"#, "{encoding:?}");
        assert_eq!(in_single_bytes(&made), Ok(()), "{encoding:?}");
    }
}

#[test]
fn un_of_undefined_length_is_implicit_little_endian_inside() {
    let inside = Made::new(Encoding::ImplicitLittle)
        .header(ITEM, "", UNDEFINED)
        .element(0x0010_0010, "", b"DOE ")
        .header(ITEM_END, "", 0)
        .header(SEQUENCE_END, "", 0)
        .bytes;
    for encoding in [Encoding::ExplicitLittle, Encoding::ExplicitBig] {
        let made = Made::head(encoding)
            .element(0x0021_0010, "LO", b"ACME")
            .header(0x0021_1010, "UN", UNDEFINED)
            .raw(&inside)
            .element(0x0028_0103, "US", &[0, 0]);
        let expected = concat!(
            r#"{"00210010":{"Value":["ACME"],"vr":"LO"},"00211010":{"Value":[{"00100010":{"Value":[{"Alphabetic":"DOE"}],"#,
            r#""vr":"PN"}}],"vr":"SQ"},"00280103":{"Value":[0],"vr":"US"}}"#
        );
        assert_eq!(made.json(), expected, "{encoding:?}");
    }
}

#[test]
fn every_long_vr_has_its_long_header() {
    for vr in ["OB", "OD", "OF", "OL", "OV", "OW", "SV", "UC", "UN", "UR", "UT", "UV", "SQ", "ZZ"] {
        let made =
            Made::head(Encoding::ExplicitLittle).element(0x0021_1010, vr, &[]).element(0x0028_0010, "US", &[1, 0]);
        let written = if vr == "ZZ" { "UN" } else { vr };
        let expected = format!(r#"{{"00211010":{{"vr":"{written}"}},"00280010":{{"Value":[1],"vr":"US"}}}}"#);
        assert_eq!(made.json(), expected);
    }
}

#[test]
fn odd_lengths_are_tolerated() {
    let made =
        Made::head(Encoding::ExplicitLittle).element(0x0020_4000, "LT", b"odd").element(0x0028_0010, "US", &[1, 0]);
    assert_eq!(made.json(), r#"{"00204000":{"Value":["odd"],"vr":"LT"},"00280010":{"Value":[1],"vr":"US"}}"#);
}

#[test]
fn a_number_of_the_wrong_length_is_left_out_and_said_so() {
    let (_, metadata) =
        Made::head(Encoding::ExplicitLittle).element(0x0028_0010, "US", &[1, 0, 0]).scan().expect("kept");
    assert!(!metadata.complete);
    assert_eq!(json(&metadata), r#"{"00280010":{"vr":"US"}}"#);
}

#[test]
fn in_implicit_vr_pixel_representation_tells_us_from_ss() {
    for (signed, smallest) in [(0, "65535"), (1, "-1")] {
        let made = Made::head(Encoding::ImplicitLittle).element(0x0028_0103, "", &[signed, 0]).element(
            0x0028_0106,
            "",
            &[255, 255],
        );
        let json = made.json();
        assert!(json.contains(&format!(r#""00280106":{{"Value":[{smallest}]"#)), "{json}");
    }
}
