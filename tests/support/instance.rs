//! Data sets made by hand, so that a test knows every byte.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use model::{InstanceClaim, Uid};

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// One instance: the four UIDs, and further elements.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) class: String,
    pub(crate) study: String,
    pub(crate) series: String,
    pub(crate) uid: String,
    pub(crate) syntax: &'static str,
    elements: Vec<(u32, [u8; 2], Vec<u8>)>,
}

impl Instance {
    /// A CT slice; each number is another instance in another study.
    pub(crate) fn numbered(number: u64) -> Self {
        Self::of_study(number, 1)
    }

    /// Instance `slice` of the study with that number.
    pub(crate) fn of_study(study: u64, slice: u64) -> Self {
        Self {
            class: CT.to_owned(),
            study: format!("2.25.1.{study}"),
            series: format!("2.25.1.{study}.1"),
            uid: format!("2.25.1.{study}.1.{slice}"),
            syntax: EXPLICIT,
            elements: Vec::new(),
        }
    }

    /// Adds or replaces an element. Text is padded to even length.
    pub(crate) fn with(mut self, tag: u32, vr: &[u8; 2], value: &[u8]) -> Self {
        self.elements.retain(|(known, ..)| *known != tag);
        self.elements.push((tag, *vr, value.to_vec()));
        self
    }

    /// In another transfer syntax than explicit VR little endian.
    pub(crate) fn in_syntax(mut self, syntax: &'static str) -> Self {
        self.syntax = syntax;
        self
    }

    /// With so many bytes of Pixel Data, which differ from seed to seed.
    pub(crate) fn with_pixels(self, length: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let pixels: Vec<u8> = words.take(length.div_ceil(8)).flatten().take(length).collect();
        self.with(0x7FE0_0010, b"OW", &pixels)
    }

    /// What a C-STORE-RQ says of it.
    pub(crate) fn claim(&self) -> InstanceClaim {
        InstanceClaim {
            class: Uid::parse(&self.class).expect("a valid UID"),
            instance: Uid::parse(&self.uid).expect("a valid UID"),
            transfer_syntax: Uid::parse(self.syntax).expect("a valid UID"),
        }
    }

    /// The data set in its transfer syntax.
    pub(crate) fn data_set(&self) -> Vec<u8> {
        let mut all = vec![
            (0x0008_0016, *b"UI", self.class.clone().into_bytes()),
            (0x0008_0018, *b"UI", self.uid.clone().into_bytes()),
            (0x0008_0060, *b"CS", b"CT".to_vec()),
            (0x0020_000D, *b"UI", self.study.clone().into_bytes()),
            (0x0020_000E, *b"UI", self.series.clone().into_bytes()),
        ];
        all.retain(|(tag, ..)| !self.elements.iter().any(|(known, ..)| known == tag));
        all.extend(self.elements.iter().cloned());
        all.sort_by_key(|(tag, ..)| *tag);
        let mut bytes = Vec::new();
        for (tag, vr, value) in &all {
            element(&mut bytes, self.syntax, *tag, *vr, value);
        }
        if self.syntax == DEFLATED { deflate(&bytes) } else { bytes }
    }
}

/// Appends one element, PS3.5 §7.1.
pub(crate) fn element(to: &mut Vec<u8>, syntax: &str, tag: u32, vr: [u8; 2], value: &[u8]) {
    let (group, number) = ((tag >> 16) as u16, (tag & 0xFFFF) as u16);
    let length = value.len().next_multiple_of(2);
    let big = syntax == BIG_ENDIAN;
    let two = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let four = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    to.extend(two(group));
    to.extend(two(number));
    let long = u32::try_from(length).expect("values here are short");
    if syntax == IMPLICIT {
        to.extend(four(long));
    } else {
        to.extend(vr);
        match &vr {
            b"OB" | b"OW" | b"OF" | b"SQ" | b"UN" | b"UT" | b"UC" | b"UR" => {
                to.extend([0, 0]);
                to.extend(four(long));
            }
            _ => to.extend(two(u16::try_from(length).expect("a short form"))),
        }
    }
    to.extend(value);
    if value.len() % 2 == 1 {
        to.push(if matches!(&vr, b"UI" | b"OB" | b"UN") { 0 } else { b' ' });
    }
}

/// PS3.5 §A.5: raw DEFLATE, padded to even length.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("a vector takes every byte");
    let mut deflated = encoder.finish().expect("a vector takes every byte");
    if deflated.len() % 2 == 1 {
        deflated.push(0);
    }
    deflated
}
