//! Values by their VR (PS3.5 §6.2): as DICOM JSON (PS3.18 §F.2.3) and as text for the columns of the index.

use std::io::Write as _;

use dicom_core::VR;

use super::charset::CharacterSet;
use super::json;

/// Characters of a promoted attribute: longer ones are cut. LO and PN have at most 64 by the standard.
const PROMOTED_LIMIT: usize = 1024;
/// DS has at most 16 characters; a longer one than this is not trusted to be a number.
const NUMBER_LIMIT: usize = 32;
/// Integers up to here are the same number to every reader of JSON (RFC 8259 §6).
const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// A value as it came, with what is needed to read it.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) vr: VR,
    pub(super) bytes: &'a [u8],
    pub(super) big_endian: bool,
    pub(super) charset: CharacterSet,
}

/// Whether values of this VR are bulk data, which the metadata never holds.
pub(super) fn is_bulk(vr: VR) -> bool {
    matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
}

impl Value<'_> {
    /// Whether the length can be right: numbers have a fixed size.
    pub(super) fn well_formed(&self) -> bool {
        number_size(self.vr).is_none_or(|size| self.bytes.len().is_multiple_of(size))
    }

    /// Writes `,"Value":[…]`, or nothing if there is no value (PS3.18 §F.2.5).
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if is_bulk(self.vr) {
            return;
        }
        if let Some(size) = number_size(self.vr) {
            return list(out, self.bytes.chunks_exact(size), |out, bytes| self.write_binary(out, bytes));
        }
        let text = self.text();
        match text.as_ref() {
            "" => {}
            text if is_one_text(self.vr) => list(out, std::iter::once(text), json::string),
            text => list(out, text.split('\\'), |out, value| self.write_text(out, value)),
        }
    }

    /// The first value as text, if there is one; cut, and without control characters: it is shown to people.
    pub(super) fn first(&self) -> Option<String> {
        let number = number_size(self.vr).map(|size| {
            let mut out = Vec::new();
            if let Some(first) = self.bytes.get(..size) {
                self.write_binary(&mut out, first);
            }
            String::from_utf8_lossy(&out).into_owned()
        });
        let text = number.unwrap_or_else(|| self.text().split('\\').next().unwrap_or_default().trim().to_owned());
        let shown = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
        let text: String = text.trim_matches(padding).chars().take(PROMOTED_LIMIT).map(shown).collect();
        (!text.is_empty()).then_some(text)
    }

    /// Decoded, without trailing padding.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
        // PS3.5 §6.1.2.3: only these VRs follow (0008,0005).
        let charset = match self.vr {
            VR::SH | VR::LO | VR::ST | VR::LT | VR::UC | VR::UT | VR::PN => self.charset,
            _ => CharacterSet::DEFAULT,
        };
        charset.decode(&self.bytes[..end], self.vr)
    }

    fn write_text(&self, out: &mut Vec<u8>, value: &str) {
        let value = match self.vr {
            // PS3.5 Table 6.2-1: here leading spaces say nothing either.
            VR::AE | VR::CS | VR::DS | VR::IS => value.trim_matches(padding),
            _ => value.trim_end_matches(padding),
        };
        match self.vr {
            _ if value.is_empty() => out.extend_from_slice(b"null"),
            VR::PN => write_name(out, value),
            VR::DS if write_decimal(out, value) => {}
            VR::IS => match value.parse::<i64>() {
                Ok(number) => write_integer(out, number.unsigned_abs(), number),
                Err(_) => json::string(out, value),
            },
            _ => json::string(out, value),
        }
    }

    /// One number; `bytes` has the size of the VR.
    fn write_binary(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self.vr {
            VR::AT => {
                out.push(b'"');
                let (group, element) = bytes.split_at(2);
                json::hex(out, (self.unsigned(group) << 16 | self.unsigned(element)) as u32);
                out.push(b'"');
            }
            VR::US | VR::UL => write_display(out, self.unsigned(bytes)),
            VR::SS => write_display(out, self.unsigned(bytes) as i16),
            VR::SL => write_display(out, self.unsigned(bytes) as i32),
            VR::UV => write_integer(out, self.unsigned(bytes), self.unsigned(bytes)),
            VR::SV => {
                let number = self.unsigned(bytes) as i64;
                write_integer(out, number.unsigned_abs(), number);
            }
            VR::FL => {
                let number = f32::from_bits(self.unsigned(bytes) as u32);
                write_float(out, number.into(), |out| write_debug(out, number));
            }
            _ => {
                let number = f64::from_bits(self.unsigned(bytes));
                write_float(out, number, |out| write_debug(out, number));
            }
        }
    }

    /// Two, four or eight bytes in the byte order of the data set.
    fn unsigned(&self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }
}

fn padding(character: char) -> bool {
    matches!(character, ' ' | '\0')
}

/// Bytes of one number; none for text and bulk data.
fn number_size(vr: VR) -> Option<usize> {
    match vr {
        VR::US | VR::SS => Some(2),
        VR::UL | VR::SL | VR::FL | VR::AT => Some(4),
        VR::FD | VR::SV | VR::UV => Some(8),
        _ => None,
    }
}

/// PS3.5 §6.2: a backslash in these is a backslash.
fn is_one_text(vr: VR) -> bool {
    matches!(vr, VR::LT | VR::ST | VR::UT | VR::UR)
}

fn list<T>(out: &mut Vec<u8>, values: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    let before = out.len();
    for value in values {
        out.extend_from_slice(if out.len() == before { b",\"Value\":[".as_slice() } else { b"," });
        write(out, value);
    }
    if out.len() > before {
        out.push(b']');
    }
}

/// PS3.18 §F.2.2: an object with the component groups that are there.
fn write_name(out: &mut Vec<u8>, name: &str) {
    let groups = ["Alphabetic", "Ideographic", "Phonetic"].into_iter().zip(name.split('='));
    out.push(b'{');
    for (group, text) in groups.map(|(group, text)| (group, text.trim_end_matches(padding))) {
        if text.is_empty() {
            continue;
        }
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        json::string(out, group);
        out.push(b':');
        json::string(out, text);
    }
    out.push(b'}');
}

/// A decimal string as a number, digit by digit as sent where JSON can say it so. False, and nothing written, if it is
/// no number.
fn write_decimal(out: &mut Vec<u8>, value: &str) -> bool {
    // `parse` also knows words such as "inf".
    let plausible = value.len() <= NUMBER_LIMIT
        && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let number = if plausible { value.parse::<f64>().ok() } else { None };
    let Some(number) = number.filter(|number| number.is_finite()) else { return false };
    if is_json_number(value) {
        out.extend_from_slice(value.as_bytes());
    } else {
        write_debug(out, number);
    }
    true
}

/// RFC 8259 §6, of what Rust parsed as a number: no plus sign in front, no leading zero, digits on both sides of a point.
fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    !whole.is_empty() && !whole.starts_with('+') && !leading_zero && !fraction.is_empty()
}

fn write_integer(out: &mut Vec<u8>, magnitude: u64, number: impl std::fmt::Display) {
    if magnitude <= SAFE_INTEGER { write_display(out, number) } else { json::string(out, &number.to_string()) }
}

/// JSON has no word for these (RFC 8259 §6).
fn write_float(out: &mut Vec<u8>, number: f64, finite: impl FnOnce(&mut Vec<u8>)) {
    match number {
        _ if number.is_finite() => finite(out),
        _ if number.is_nan() => json::string(out, "NaN"),
        f64::INFINITY => json::string(out, "Infinity"),
        _ => json::string(out, "-Infinity"),
    }
}

fn write_display(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("a vector takes every write");
}

/// The shortest digits that read back as the same number, with an exponent where that is shorter.
fn write_debug(out: &mut Vec<u8>, number: impl std::fmt::Debug) {
    write!(out, "{number:?}").expect("a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(vr: VR, bytes: &[u8], charset: &[u8], big_endian: bool) -> String {
        let mut out = Vec::new();
        Value { vr, bytes, big_endian, charset: CharacterSet::of(charset) }.write(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        text.strip_prefix(",\"Value\":").unwrap_or(&text).to_owned()
    }

    #[test]
    fn every_vr_is_written_as_ps3_18_annex_f_says() {
        let cases: &[(&str, VR, &[u8], &str)] = &[
            ("empty", VR::LO, b"", ""),
            ("padding only", VR::LO, b"  ", ""),
            ("AE", VR::AE, b" CT1 \\ CT2", r#"["CT1","CT2"]"#),
            ("CS with an empty value", VR::CS, b"ORIGINAL\\\\AXIAL ", r#"["ORIGINAL",null,"AXIAL"]"#),
            ("LO keeps leading spaces", VR::LO, b" a \\b ", r#"[" a","b"]"#),
            ("UI", VR::UI, b"1.2.3\0", r#"["1.2.3"]"#),
            ("LT is one value", VR::LT, b" a\\b ", r#"[" a\\b"]"#),
            ("UR is one value", VR::UR, b"http://x/a\\b ", r#"["http://x/a\\b"]"#),
            ("quotation mark", VR::LO, b"\"}", r#"["\"}"]"#),
            ("CS does not follow the character set", VR::CS, b"\xE9", "[\"\u{FFFD}\"]"),
            ("LO does", VR::LO, b"\xE9", r#"["é"]"#),
            ("PN", VR::PN, b"A^B=C=D ", r#"[{"Alphabetic":"A^B","Ideographic":"C","Phonetic":"D"}]"#),
            ("PN without the first group", VR::PN, b"==D", r#"[{"Phonetic":"D"}]"#),
            ("PN twice", VR::PN, b"A\\B", r#"[{"Alphabetic":"A"},{"Alphabetic":"B"}]"#),
            ("PN of too many groups", VR::PN, b"A=B=C=D", r#"[{"Alphabetic":"A","Ideographic":"B","Phonetic":"C"}]"#),
            ("IS", VR::IS, b" 12\\-3 \\+4", "[12,-3,4]"),
            ("IS that is none", VR::IS, b"1.5\\x", r#"["1.5","x"]"#),
            ("IS beyond JSON", VR::IS, b"9007199254740993", r#"["9007199254740993"]"#),
            ("DS as sent", VR::DS, b"0.50\\-1e-3 ", "[0.50,-1e-3]"),
            ("DS that JSON writes otherwise", VR::DS, b"+1.5\\.5\\5.\\007\\-.5", "[1.5,0.5,5.0,7.0,-0.5]"),
            ("DS that is none", VR::DS, b"inf\\1e999\\NaN\\1 2", r#"["inf","1e999","NaN","1 2"]"#),
            ("DS of forty digits", VR::DS, &[b'1'; 40], "[\"1111111111111111111111111111111111111111\"]"),
            ("US", VR::US, &[1, 0, 255, 255], "[1,65535]"),
            ("SS", VR::SS, &[255, 255], "[-1]"),
            ("UL", VR::UL, &[255, 255, 255, 255], "[4294967295]"),
            ("SL", VR::SL, &[254, 255, 255, 255], "[-2]"),
            ("FL", VR::FL, &0.1f32.to_le_bytes(), "[0.1]"),
            ("FL large", VR::FL, &1e30f32.to_le_bytes(), "[1e30]"),
            ("FD", VR::FD, &(-2.5f64).to_le_bytes(), "[-2.5]"),
            ("FD not a number", VR::FD, &f64::NAN.to_le_bytes(), r#"["NaN"]"#),
            ("FL infinite", VR::FL, &f32::NEG_INFINITY.to_le_bytes(), r#"["-Infinity"]"#),
            ("FD infinite", VR::FD, &f64::INFINITY.to_le_bytes(), r#"["Infinity"]"#),
            ("UV safe", VR::UV, &9_007_199_254_740_991u64.to_le_bytes(), "[9007199254740991]"),
            ("UV unsafe", VR::UV, &u64::MAX.to_le_bytes(), r#"["18446744073709551615"]"#),
            ("SV safe", VR::SV, &(-5i64).to_le_bytes(), "[-5]"),
            ("SV unsafe", VR::SV, &i64::MIN.to_le_bytes(), r#"["-9223372036854775808"]"#),
            ("AT", VR::AT, &[0x28, 0, 0x09, 0], r#"["00280009"]"#),
            ("OW is bulk", VR::OW, &[1, 2], ""),
            ("UN is bulk", VR::UN, b"text", ""),
        ];
        for (name, vr, bytes, expected) in cases {
            assert_eq!(written(*vr, bytes, b"ISO_IR 100", false), *expected, "{name}");
        }
    }

    #[test]
    fn big_endian_numbers_are_read_as_such() {
        let cases: &[(&str, VR, &[u8], &str)] = &[
            ("US", VR::US, &[1, 2], "[258]"),
            ("SL", VR::SL, &[255, 255, 255, 254], "[-2]"),
            ("AT", VR::AT, &[0, 0x28, 0, 0x09], r#"["00280009"]"#),
            ("FD", VR::FD, &2.5f64.to_be_bytes(), "[2.5]"),
        ];
        for (name, vr, bytes, expected) in cases {
            assert_eq!(written(*vr, bytes, b"", true), *expected, "{name}");
        }
    }

    #[test]
    fn values_are_split_after_decoding() {
        let gbk = written(VR::LO, b"\x95\x5C\\a", b"GBK", false);
        assert_eq!(gbk.matches(',').count(), 1, "{gbk}");
        assert!(!gbk.contains('\u{FFFD}') && gbk.ends_with(r#","a"]"#), "{gbk}");
    }

    #[test]
    fn the_first_value_is_cut_and_shows_no_control_characters() {
        let first =
            |vr, bytes: &[u8]| Value { vr, bytes, big_endian: false, charset: CharacterSet::of(b"ISO_IR 192") }.first();
        assert_eq!(first(VR::LO, b" one \\two").as_deref(), Some("one"));
        assert_eq!(first(VR::PN, b"A^B=C ").as_deref(), Some("A^B=C"));
        assert_eq!(first(VR::US, &[0, 2, 1, 1]).as_deref(), Some("512"));
        assert_eq!(first(VR::IS, b" 7 ").as_deref(), Some("7"));
        assert_eq!(first(VR::LO, b"a\x1B[31m").as_deref(), Some("a\u{FFFD}[31m"));
        assert_eq!(first(VR::LO, b"  "), None);
        assert_eq!(first(VR::US, b"\x01"), None);
        assert_eq!(first(VR::LO, "é".repeat(2000).as_bytes()), Some("é".repeat(1024)));
    }
}
