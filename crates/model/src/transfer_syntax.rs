//! Transfer syntaxes (PS3.5 Annex A, PS3.6 Table A-1): what is needed to walk a data set, not to decode an image.

use crate::uid::{TransferSyntax, Uid};

/// Implicit VR Little Endian, the default transfer syntax: every peer must know it (PS3.5 §10.1).
pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";

/// How the elements of a data set are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// No VR on the wire; the data dictionary says it.
    ImplicitLittle,
    /// The usual one; all encapsulated syntaxes use it (PS3.5 §A.4).
    ExplicitLittle,
    /// Retired, still sent.
    ExplicitBig,
    /// Explicit little endian, then deflated as a whole (RFC 1951).
    Deflated,
}

/// How data sets in this transfer syntax are written. One that is private or newer than this table is taken for explicit
/// little endian, as PS3.5 §A.4 demands of every encapsulated syntax.
#[must_use]
pub fn encoding(uid: &Uid<TransferSyntax>) -> Encoding {
    KNOWN
        .iter()
        .find(|(known, _, _)| *known == uid.as_str())
        .map_or(Encoding::ExplicitLittle, |(_, _, encoding)| *encoding)
}

/// The transfer syntax with this keyword.
#[must_use]
pub fn by_keyword(keyword: &str) -> Option<Uid<TransferSyntax>> {
    KNOWN.iter().find(|(_, known, _)| *known == keyword).map(|(uid, _, _)| Uid::known(uid))
}

/// The keyword, for people's eyes.
#[must_use]
pub fn keyword(uid: &Uid<TransferSyntax>) -> Option<&'static str> {
    KNOWN.iter().find(|(known, _, _)| *known == uid.as_str()).map(|(_, keyword, _)| *keyword)
}

/// `(UID, keyword, encoding)`.
#[rustfmt::skip]
const KNOWN: &[(&str, &str, Encoding)] = &[
    ("1.2.840.10008.1.2", "ImplicitVRLittleEndian", Encoding::ImplicitLittle),
    ("1.2.840.10008.1.2.1", "ExplicitVRLittleEndian", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.1.98", "EncapsulatedUncompressedExplicitVRLittleEndian", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.1.99", "DeflatedExplicitVRLittleEndian", Encoding::Deflated),
    ("1.2.840.10008.1.2.2", "ExplicitVRBigEndian", Encoding::ExplicitBig),
    ("1.2.840.10008.1.2.4.50", "JPEGBaseline8Bit", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.51", "JPEGExtended12Bit", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.52", "JPEGExtended35", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.53", "JPEGSpectralSelectionNonHierarchical68", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.54", "JPEGSpectralSelectionNonHierarchical79", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.55", "JPEGFullProgressionNonHierarchical1012", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.56", "JPEGFullProgressionNonHierarchical1113", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.57", "JPEGLossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.58", "JPEGLosslessNonHierarchical15", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.59", "JPEGExtendedHierarchical1618", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.60", "JPEGExtendedHierarchical1719", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.61", "JPEGSpectralSelectionHierarchical2022", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.62", "JPEGSpectralSelectionHierarchical2123", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.63", "JPEGFullProgressionHierarchical2426", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.64", "JPEGFullProgressionHierarchical2527", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.65", "JPEGLosslessHierarchical28", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.66", "JPEGLosslessHierarchical29", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.70", "JPEGLosslessSV1", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.80", "JPEGLSLossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.81", "JPEGLSNearLossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.90", "JPEG2000Lossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.91", "JPEG2000", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.92", "JPEG2000MCLossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.93", "JPEG2000MC", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.94", "JPIPReferenced", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.95", "JPIPReferencedDeflate", Encoding::Deflated),
    ("1.2.840.10008.1.2.4.100", "MPEG2MPML", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.100.1", "MPEG2MPMLF", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.101", "MPEG2MPHL", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.101.1", "MPEG2MPHLF", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.102", "MPEG4HP41", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.102.1", "MPEG4HP41F", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.103", "MPEG4HP41BD", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.103.1", "MPEG4HP41BDF", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.104", "MPEG4HP422D", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.104.1", "MPEG4HP422DF", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.105", "MPEG4HP423D", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.105.1", "MPEG4HP423DF", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.106", "MPEG4HP42STEREO", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.106.1", "MPEG4HP42STEREOF", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.107", "HEVCMP51", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.108", "HEVCM10P51", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.110", "JPEGXLLossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.111", "JPEGXLJPEGRecompression", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.112", "JPEGXL", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.201", "HTJ2KLossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.202", "HTJ2KLosslessRPCL", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.203", "HTJ2K", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.204", "JPIPHTJ2KReferenced", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.4.205", "JPIPHTJ2KReferencedDeflate", Encoding::Deflated),
    ("1.2.840.10008.1.2.5", "RLELossless", Encoding::ExplicitLittle),
    ("1.2.840.10008.1.2.8.1", "DeflatedImageFrameCompression", Encoding::ExplicitLittle),
    // GE's private syntax: implicit little endian with big-endian pixels.
    ("1.2.840.113619.5.2", "PrivateGEBigEndianPixels", Encoding::ImplicitLittle),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_syntax_is_walked_as_explicit_little_endian() {
        let of = |text: &str| encoding(&Uid::parse(text).expect("valid"));
        assert_eq!(of(IMPLICIT_LITTLE), Encoding::ImplicitLittle);
        assert_eq!(of("1.2.840.10008.1.2.1.99"), Encoding::Deflated);
        assert_eq!(of("1.2.840.10008.1.2.4.90"), Encoding::ExplicitLittle);
        assert_eq!(of("1.3.6.1.4.1.5962.300.1"), Encoding::ExplicitLittle);
    }

    #[test]
    fn every_row_is_a_valid_uid() {
        for (uid, keyword, _) in KNOWN {
            assert!(Uid::<TransferSyntax>::parse(uid).is_ok(), "{uid}");
            assert_eq!(by_keyword(keyword).expect("known").as_str(), *uid);
        }
    }
}
