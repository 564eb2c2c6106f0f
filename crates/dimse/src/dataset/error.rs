use std::fmt;

use model::UidError;

use super::collect::{SERIES, SOP_CLASS, SOP_INSTANCE, STUDY};

/// Why the bytes are not a data set that can be archived. Names tags, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataSetError {
    /// It ended within an element, item or sequence.
    #[error("the data set ended inside an element")]
    Truncated,
    /// PS3.5 §7.1: top-level tags ascend and none comes twice. A second UID behind the pixel data would be read by some
    /// programs and not by others.
    #[error("element {} is out of order", Tag(*tag))]
    OutOfOrder {
        /// The element that came too late or twice.
        tag: u32,
    },
    /// A command or file meta element (groups 0000 and 0002) has no place in a data set.
    #[error("element {} does not belong in a data set", Tag(*tag))]
    ForeignGroup {
        /// The element.
        tag: u32,
    },
    /// Sequences are nested deeper than the limit.
    #[error("sequence {} is nested too deeply", Tag(*tag))]
    TooDeep {
        /// The sequence one too deep.
        tag: u32,
    },
    /// The four UIDs were not complete within the limit.
    #[error("the head of the data set is too long: its UIDs do not come within the limit")]
    HeadTooLong,
    /// An element that the archive needs is absent or empty.
    #[error("the data set has no {0}")]
    MissingUid(&'static str),
    /// A UID breaks the grammar of PS3.5 §9.1.
    #[error(transparent)]
    InvalidUid(#[from] UidError),
    /// PS3.5 §7.1.2: a value representation is two upper-case letters.
    #[error("element {} has no valid value representation", Tag(*tag))]
    BadVr {
        /// The element.
        tag: u32,
    },
    /// Only sequences, encapsulated pixel data and UN have an undefined length (PS3.5 §7.1.1).
    #[error("element {} must not have an undefined length", Tag(*tag))]
    UndefinedLength {
        /// The element.
        tag: u32,
    },
    /// An element or item is longer than the sequence or item that holds it.
    #[error("element {} is longer than what holds it", Tag(*tag))]
    LengthBeyondParent {
        /// The element or item; the innermost sequence when not even a header fits.
        tag: u32,
    },
    /// Something other than an item stands directly in a sequence or among fragments.
    #[error("element {} stands where an item is due", Tag(*tag))]
    ItemExpected {
        /// The element found there.
        tag: u32,
    },
    /// An item or delimiter where nothing is open, or a delimiter with a length.
    #[error("unexpected item or delimiter {}", Tag(*tag))]
    UnexpectedDelimiter {
        /// The item or delimiter tag.
        tag: u32,
    },
    /// The deflated stream is broken (RFC 1951), or more than padding follows it (PS3.5 §A.5).
    #[error("the deflated data set cannot be inflated")]
    Deflate,
    /// It inflates beyond the limits before its head is known.
    #[error("the deflated data set inflates beyond all measure")]
    DeflateRatio,
}

impl DataSetError {
    /// The element at fault, for Offending Element (0000,0901).
    #[must_use]
    pub fn offending(&self) -> Option<u32> {
        match self {
            Self::OutOfOrder { tag }
            | Self::ForeignGroup { tag }
            | Self::TooDeep { tag }
            | Self::BadVr { tag }
            | Self::UndefinedLength { tag }
            | Self::LengthBeyondParent { tag }
            | Self::ItemExpected { tag }
            | Self::UnexpectedDelimiter { tag } => Some(*tag),
            Self::MissingUid(what) => uid_tag(what),
            Self::InvalidUid(error) => uid_tag(error.what),
            Self::Truncated | Self::HeadTooLong | Self::Deflate | Self::DeflateRatio => None,
        }
    }
}

/// By the words that [`UidError`] uses.
fn uid_tag(what: &str) -> Option<u32> {
    match what {
        "SOP Class UID" => Some(SOP_CLASS),
        "SOP Instance UID" => Some(SOP_INSTANCE),
        "Study Instance UID" => Some(STUDY),
        "Series Instance UID" => Some(SERIES),
        _ => None,
    }
}

/// `(gggg,eeee)`.
struct Tag(u32);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.0 >> 16, self.0 & 0xFFFF)
    }
}
