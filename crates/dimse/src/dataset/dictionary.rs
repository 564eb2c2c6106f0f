//! Value representations: as written (PS3.5 §7.1.2), or from the data dictionary (PS3.6) where they are not on the wire.

use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr};
use dicom_core::header::Tag;
use dicom_dictionary_std::StandardDataDictionary;

/// Whether samples are signed, by Pixel Representation (0028,0103): decides between US and SS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Samples {
    Unsigned,
    Signed,
}

/// The VR of an element in implicit VR little endian (PS3.5 §A.1); UN where it is not known.
pub(super) fn vr_of(tag: u32, samples: Samples) -> VR {
    let (group, element) = ((tag >> 16) as u16, tag as u16);
    match (group % 2, element) {
        (_, 0) => return VR::UL,
        (1, 0x0010..=0x00FF) => return VR::LO,
        // Asking the dictionary would find overlays and curves: it masks the low byte of their group.
        (1, _) => return VR::UN,
        _ => {}
    }
    match StandardDataDictionary.by_tag(Tag(group, element)).map(|entry| entry.vr()) {
        None => VR::UN,
        Some(VirtualVr::Exact(vr)) => vr,
        Some(VirtualVr::Xs) if samples == Samples::Signed => VR::SS,
        Some(VirtualVr::Xs) => VR::US,
        // OB or OW, US or OW: OW in implicit little endian (PS3.5 §A.1).
        Some(_) => VR::OW,
    }
}

/// A VR on the wire.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub(super) vr: VR,
    /// Two reserved bytes and a 32-bit length follow it.
    pub(super) long_form: bool,
}

impl Written {
    /// PS3.5 §7.1.2: every VR that is newer than this table has the long form; its value is taken as UN.
    pub(super) fn parse(letters: [u8; 2]) -> Option<Self> {
        if !letters.iter().all(u8::is_ascii_uppercase) {
            return None;
        }
        let vr = VR::from_binary(letters);
        let short = matches!(
            &letters,
            b"AE"
                | b"AS"
                | b"AT"
                | b"CS"
                | b"DA"
                | b"DS"
                | b"DT"
                | b"FL"
                | b"FD"
                | b"IS"
                | b"LO"
                | b"LT"
                | b"PN"
                | b"SH"
                | b"SL"
                | b"SS"
                | b"ST"
                | b"TM"
                | b"UI"
                | b"UL"
                | b"US"
        );
        Some(Self { vr: vr.unwrap_or(VR::UN), long_form: !short })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_a_vr() {
        use Samples::{Signed, Unsigned};
        let cases: &[(&str, u32, Samples, VR)] = &[
            ("public", 0x0010_0010, Unsigned, VR::PN),
            ("sequence", 0x0008_1140, Unsigned, VR::SQ),
            ("unsigned sample", 0x0028_0106, Unsigned, VR::US),
            ("signed sample", 0x0028_0106, Signed, VR::SS),
            ("pixel data", 0x7FE0_0010, Unsigned, VR::OW),
            ("lookup table", 0x0028_3006, Unsigned, VR::OW),
            ("repeating group", 0x6002_0010, Unsigned, VR::US),
            ("group length", 0x0008_0000, Unsigned, VR::UL),
            ("private creator", 0x0009_0010, Unsigned, VR::LO),
            ("private creator beside overlays", 0x6001_0010, Unsigned, VR::LO),
            ("private", 0x0009_1010, Unsigned, VR::UN),
            ("private beside overlays", 0x6001_3000, Unsigned, VR::UN),
            ("nobody knows it", 0x0008_9FFE, Unsigned, VR::UN),
        ];
        for (name, tag, samples, expected) in cases {
            assert_eq!(vr_of(*tag, *samples), *expected, "{name}");
        }
    }
}
