//! What is made of the elements that the walker finds: head, promoted attributes and DICOM JSON.

use dicom_core::VR;
use model::{
    Attribute, InstanceHead, InstanceName, Metadata, Phi, Promoted, Series, SopClass, SopInstance, Study, Uid,
};

use super::charset::CharacterSet;
use super::dictionary::{Samples, vr_of};
use super::json::Json;
use super::value::{Value, is_bulk};
use super::{DataSetError, Limits};

const CHARACTER_SET: u32 = 0x0008_0005;
pub(super) const SOP_CLASS: u32 = 0x0008_0016;
pub(super) const SOP_INSTANCE: u32 = 0x0008_0018;
const MODALITY: u32 = 0x0008_0060;
pub(super) const STUDY: u32 = 0x0020_000D;
pub(super) const SERIES: u32 = 0x0020_000E;
const PIXEL_REPRESENTATION: u32 = 0x0028_0103;
/// Data Set Trailing Padding, PS3.10 §7.2.
const TRAILING_PADDING: u32 = 0xFFFC_FFFC;

/// What to do with the value of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Hand it on whole.
    Keep,
    /// Nobody will look at it.
    Skip,
}

pub(super) struct Collected {
    limits: Limits,
    found: Found,
    head: Option<InstanceHead>,
    promoted: Vec<(Attribute, String)>,
    json: Json,
    /// Elements and items in the JSON.
    elements: usize,
    complete: bool,
    /// In force here.
    charset: CharacterSet,
    samples: Samples,
    levels: Vec<Level>,
}

/// UIDs and modality until the head is complete.
#[derive(Default)]
struct Found {
    class: Option<Uid<SopClass>>,
    instance: Option<Uid<SopInstance>>,
    study: Option<Uid<Study>>,
    series: Option<Uid<Series>>,
    modality: Option<String>,
}

/// An open sequence or item; `written` says whether it is in the JSON.
enum Level {
    Sequence {
        written: bool,
        items: bool,
    },
    Item {
        written: bool,
        /// The last element, for within an item too tags should ascend.
        last: Option<u32>,
        /// The character set around the item.
        outside: CharacterSet,
    },
}

impl Collected {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            found: Found::default(),
            head: None,
            promoted: Vec::new(),
            json: Json::new(limits.metadata),
            elements: 0,
            complete: true,
            charset: CharacterSet::DEFAULT,
            samples: Samples::Unsigned,
            levels: Vec::new(),
        }
    }

    pub(super) fn head(&self) -> Option<&InstanceHead> {
        self.head.as_ref()
    }

    pub(super) fn samples(&self) -> Samples {
        self.samples
    }

    /// A top-level element begins. Past the last UID the head is complete, or never will be.
    pub(super) fn at_top(&mut self, tag: u32) -> Result<(), DataSetError> {
        if tag > SERIES && self.head.is_none() {
            let said = Promoted::new(self.promoted.clone());
            self.head = Some(std::mem::take(&mut self.found).head(said)?);
        }
        Ok(())
    }

    /// Decides about a value before any of it is there. One to be skipped is noted here and now.
    pub(super) fn wish(&mut self, tag: u32, vr: VR, length: u32) -> Wish {
        let too_long = length as usize > self.limits.value;
        if !too_long && (!is_bulk(vr) && self.writing() || self.wanted(tag)) {
            return Wish::Keep;
        }
        self.bulk(tag, vr);
        self.complete &= !too_long || is_bulk(vr);
        Wish::Skip
    }

    /// An element whose value is left out.
    pub(super) fn bulk(&mut self, tag: u32, vr: VR) {
        if self.admits(tag) {
            self.write(tag, vr, |_| {});
        }
    }

    /// A whole value. Fails if it is one of the four UIDs and invalid.
    pub(super) fn value(&mut self, tag: u32, vr: VR, bytes: &[u8], big_endian: bool) -> Result<(), DataSetError> {
        if tag == CHARACTER_SET {
            self.charset = CharacterSet::of(bytes);
        }
        // PS3.5 §6.2.2: whoever did not know the VR wrote UN, little endian everywhere; the dictionary knows it.
        let (vr, big_endian) = match vr {
            VR::UN if self.wanted(tag) => (vr_of(tag, self.samples), false),
            _ => (vr, big_endian),
        };
        let value = Value { vr, bytes, big_endian, charset: self.charset };
        if self.levels.is_empty() {
            self.top_value(tag, &value)?;
        }
        if !self.admits(tag) {
            return Ok(());
        }
        if value.well_formed() {
            self.write(tag, vr, |out| value.write(out));
        } else {
            self.write(tag, vr, |_| {});
            self.complete = false;
        }
        Ok(())
    }

    pub(super) fn sequence(&mut self, tag: u32) {
        let written = self.admits(tag) && self.json.sequence(tag);
        self.counted(written);
        self.levels.push(Level::Sequence { written, items: false });
    }

    pub(super) fn sequence_end(&mut self) {
        if let Some(Level::Sequence { written: true, items }) = self.levels.pop() {
            self.json.sequence_end(items);
        }
    }

    pub(super) fn item(&mut self) {
        let written = match self.levels.last_mut() {
            Some(Level::Sequence { written: true, items }) if self.json.item(!*items) => {
                *items = true;
                true
            }
            _ => false,
        };
        self.counted(written);
        self.levels.push(Level::Item { written, last: None, outside: self.charset });
    }

    pub(super) fn item_end(&mut self) {
        if let Some(Level::Item { written, outside, .. }) = self.levels.pop() {
            self.charset = outside;
            if written {
                self.json.item_end();
            }
        }
    }

    /// The rest of the data set is not looked at: everything open is closed.
    pub(super) fn cut_short(&mut self) {
        self.complete = false;
        while let Some(level) = self.levels.last() {
            match level {
                Level::Sequence { .. } => self.sequence_end(),
                Level::Item { .. } => self.item_end(),
            }
        }
    }

    /// Everything is closed.
    pub(super) fn finish(self) -> Result<(InstanceHead, Metadata), DataSetError> {
        let head = self.head.map_or_else(|| self.found.head(Promoted::new(self.promoted.clone())), Ok)?;
        let metadata = Metadata {
            json: Phi::new(self.json.finish()),
            complete: self.complete,
            promoted: Promoted::new(self.promoted),
        };
        Ok((head, metadata))
    }

    /// Head, promoted attributes, and what explains other values: kept even if the JSON is full.
    fn wanted(&self, tag: u32) -> bool {
        let at_top = matches!(tag, SOP_CLASS | SOP_INSTANCE | STUDY | SERIES | PIXEL_REPRESENTATION)
            || Attribute::of_tag(tag).is_some();
        tag == CHARACTER_SET || self.levels.is_empty() && at_top
    }

    fn top_value(&mut self, tag: u32, value: &Value<'_>) -> Result<(), DataSetError> {
        self.found.take(tag, value)?;
        if tag == PIXEL_REPRESENTATION {
            let signed = value.first().as_deref() == Some("1");
            self.samples = if signed { Samples::Signed } else { Samples::Unsigned };
        }
        if let Some(attribute) = Attribute::of_tag(tag) {
            self.promoted.extend(value.first().map(|text| (attribute, text)));
        }
        Ok(())
    }

    /// Whether anything can still be written at this level.
    fn writing(&self) -> bool {
        let here = match self.levels.last() {
            None => true,
            Some(Level::Sequence { written, .. } | Level::Item { written, .. }) => *written,
        };
        here && !self.json.full()
    }

    /// Whether this element belongs in the JSON; to be asked once for each. In an item, one out of order could be there
    /// twice, which no JSON object may have: it is left out.
    fn admits(&mut self, tag: u32) -> bool {
        if let Some(Level::Item { last, .. }) = self.levels.last_mut() {
            if last.is_some_and(|last| tag <= last) {
                self.complete = false;
                return false;
            }
            *last = Some(tag);
        }
        // Group lengths and padding say nothing about the instance.
        if tag & 0xFFFF == 0 || tag == TRAILING_PADDING {
            return false;
        }
        self.complete &= self.writing();
        self.writing()
    }

    fn write(&mut self, tag: u32, vr: VR, value: impl FnOnce(&mut Vec<u8>)) {
        let written = self.json.element(tag, vr, value);
        self.counted(written);
    }

    fn counted(&mut self, written: bool) {
        self.elements += usize::from(written);
        if self.elements >= self.limits.elements {
            self.json.close_for_good();
        }
        self.complete &= written;
    }
}

impl Found {
    fn take(&mut self, tag: u32, value: &Value<'_>) -> Result<(), DataSetError> {
        let empty = value.bytes.iter().all(|byte| matches!(byte, 0 | b' '));
        match tag {
            _ if empty => {}
            SOP_CLASS => self.class = Some(Uid::from_wire(value.bytes)?),
            SOP_INSTANCE => self.instance = Some(Uid::from_wire(value.bytes)?),
            STUDY => self.study = Some(Uid::from_wire(value.bytes)?),
            SERIES => self.series = Some(Uid::from_wire(value.bytes)?),
            MODALITY => self.modality = value.first(),
            _ => {}
        }
        Ok(())
    }

    fn head(self, said: Promoted) -> Result<InstanceHead, DataSetError> {
        let name = InstanceName {
            class: self.class.ok_or(DataSetError::MissingUid("SOP Class UID"))?,
            instance: self.instance.ok_or(DataSetError::MissingUid("SOP Instance UID"))?,
            study: self.study.ok_or(DataSetError::MissingUid("Study Instance UID"))?,
            series: self.series.ok_or(DataSetError::MissingUid("Series Instance UID"))?,
        };
        Ok(InstanceHead { name, modality: self.modality, said })
    }
}
