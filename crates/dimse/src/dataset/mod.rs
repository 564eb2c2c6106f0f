//! One data set while it arrives: the head that authorisation asks for, and the metadata for the index.
//!
//! The walker is iterative, works on any chunking and never reserves by a declared length: what a peer declares costs
//! nothing until it sends it. It never changes a byte and keeps none of the bulk data.

mod charset;
mod collect;
mod dictionary;
mod error;
mod inflate;
mod json;
mod value;
mod walk;

#[cfg(test)]
mod tests;

use model::{Encoding, InstanceHead, Metadata};

use collect::Collected;
pub use error::DataSetError;
use inflate::{Inflate, Inflated};
use walk::{Syntax, Walker};

/// Bytes of the data set looked at before all four UIDs were seen. The receiver holds so many back at most; real heads
/// are a few KiB, with large private blocks a few hundred.
pub const HEAD_LIMIT: usize = 4 << 20;
/// Sequences within sequences. Structured reports, the deepest real objects, stay below 20.
pub const DEPTH_LIMIT: usize = 64;
/// Bytes of one value that are kept until it is complete; a longer one is not in the metadata.
pub const VALUE_LIMIT: usize = 64 << 10;
/// Bytes of DICOM JSON for one instance. A CT slice has about 8 KiB, an enhanced multi-frame object some hundred.
pub const METADATA_LIMIT: usize = 1 << 20;
/// Elements and items in the metadata of one instance: bounds what a reader of many tiny ones must unfold.
pub const ELEMENTS_LIMIT: usize = 1 << 16;
/// Bytes inflated from one deflated data set, about 0.2 s of CPU: the head stands far before that.
pub const INFLATED_LIMIT: u64 = 64 << 20;
/// Bytes inflated for each byte received. Text reaches 10, an empty image 1,000.
pub const RATIO_LIMIT: u32 = 100;

/// What one data set may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`HEAD_LIMIT`]; beyond it: an error.
    pub head: usize,
    /// See [`DEPTH_LIMIT`]; beyond it: an error.
    pub depth: usize,
    /// See [`VALUE_LIMIT`]; beyond it: left out of the metadata.
    pub value: usize,
    /// See [`METADATA_LIMIT`]; beyond it: metadata incomplete.
    pub metadata: usize,
    /// See [`ELEMENTS_LIMIT`]; beyond it: metadata incomplete.
    pub elements: usize,
    /// See [`INFLATED_LIMIT`]; beyond it: an error before the head is known, metadata incomplete after.
    pub inflated: u64,
    /// See [`RATIO_LIMIT`]; beyond it: as for `inflated`.
    pub ratio: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HEAD_LIMIT,
            depth: DEPTH_LIMIT,
            value: VALUE_LIMIT,
            metadata: METADATA_LIMIT,
            elements: ELEMENTS_LIMIT,
            inflated: INFLATED_LIMIT,
            ratio: RATIO_LIMIT,
        }
    }
}

/// One data set while it arrives. It holds patient data and therefore has no `Debug`.
pub struct Scan {
    inflate: Option<Inflate>,
    plain: Plain,
    failed: Option<DataSetError>,
}

impl Scan {
    /// Before the first byte.
    #[must_use]
    pub fn new(encoding: Encoding, limits: Limits) -> Self {
        let syntax = match encoding {
            Encoding::ImplicitLittle => Syntax::ImplicitLittle,
            Encoding::ExplicitLittle | Encoding::Deflated => Syntax::ExplicitLittle,
            Encoding::ExplicitBig => Syntax::ExplicitBig,
        };
        Self {
            inflate: (encoding == Encoding::Deflated).then(|| Inflate::new(&limits)),
            plain: Plain {
                walker: Walker::new(syntax, limits.depth),
                collected: Collected::new(&limits),
                head_limit: limits.head as u64,
            },
            failed: None,
        }
    }

    /// Walks the next bytes, however they are cut. Bulk data is skipped without looking at it.
    ///
    /// # Errors
    /// When the bytes are no data set, a limit is reached before the head is known, or a UID is absent or invalid. The
    /// scan is then dead: every further call gives the same error.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), DataSetError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let plain = &mut self.plain;
        let fed = match &mut self.inflate {
            None => plain.feed(bytes),
            Some(inflate) => inflate.feed(bytes, |inflated| plain.feed(inflated).map(|()| plain.head().is_some())),
        };
        self.failed = fed.err();
        fed
    }

    /// What the data set says about itself, as soon as an element after (0020,000E) began at top level.
    #[must_use]
    pub fn head(&self) -> Option<&InstanceHead> {
        self.plain.head()
    }

    /// The data set has ended.
    ///
    /// # Errors
    /// When it ended within an element, item or sequence, when one of the four UIDs never came, or when an earlier call
    /// failed.
    pub fn finish(mut self) -> Result<(InstanceHead, Metadata), DataSetError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.inflate.map(|inflate| inflate.finish()) {
            None | Some(Inflated::Whole) => self.plain.walker.finish(&mut self.plain.collected)?,
            Some(Inflated::Stopped) => self.plain.collected.cut_short(),
            Some(Inflated::Truncated) => return Err(DataSetError::Truncated),
        }
        self.plain.collected.finish()
    }
}

/// The data set as it is when nothing is deflated.
struct Plain {
    walker: Walker,
    collected: Collected,
    head_limit: u64,
}

impl Plain {
    fn head(&self) -> Option<&InstanceHead> {
        self.collected.head()
    }

    /// Until the head is known, not a byte beyond the limit is looked at: so the answer does not depend on the chunking.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), DataSetError> {
        if self.head().is_some() {
            return self.walker.walk(bytes, &mut self.collected);
        }
        let left = self.head_limit.saturating_sub(self.walker.position());
        let (within, beyond) = bytes.split_at(usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len())));
        self.walker.walk(within, &mut self.collected)?;
        match self.head() {
            _ if beyond.is_empty() => Ok(()),
            None => Err(DataSetError::HeadTooLong),
            Some(_) => self.walker.walk(beyond, &mut self.collected),
        }
    }
}
