//! The walker: tags, VRs and lengths (PS3.5 §7), byte by byte if need be, with a stack of its own.

use dicom_core::VR;

use super::DataSetError;
use super::collect::{Collected, Wish};
use super::dictionary::{Written, vr_of};

const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;
/// PS3.5 §7.1.1.
const UNDEFINED: u32 = 0xFFFF_FFFF;
/// No end is known: a delimiter will tell.
const OPEN: u64 = u64::MAX;
/// Tag and 32-bit length, or tag, VR and 16-bit length.
const SHORT_HEADER: usize = 8;
/// Tag, VR, two reserved bytes and 32-bit length.
const LONG_HEADER: usize = 12;

/// How elements are written at one place of the data set; it changes inside UN of undefined length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    /// Encapsulated pixel data: items that hold bytes, PS3.5 §A.4.
    Fragments,
}

struct Frame {
    kind: Kind,
    /// Of the sequence.
    tag: u32,
    syntax: Syntax,
    /// Position where it ends, [`OPEN`] for an undefined length.
    end: u64,
    /// Position that nothing inside may pass: the nearest end around.
    limit: u64,
}

enum State {
    Header,
    /// Bytes of no interest to go.
    Skip(u64),
    /// A value to be handed on whole.
    Keep {
        tag: u32,
        vr: VR,
        left: usize,
    },
}

pub(super) struct Walker {
    top: Syntax,
    depth: usize,
    stack: Vec<Frame>,
    state: State,
    /// Bytes walked, without the header that is being gathered.
    position: u64,
    header: [u8; LONG_HEADER],
    /// Bytes of the header that are here.
    have: usize,
    /// A kept value of which only the beginning has come; grows with what was received.
    value: Vec<u8>,
    /// The last top-level element.
    last: Option<u32>,
}

impl Walker {
    pub(super) fn new(top: Syntax, depth: usize) -> Self {
        Self {
            top,
            depth,
            stack: Vec::new(),
            state: State::Header,
            position: 0,
            header: [0; LONG_HEADER],
            have: 0,
            value: Vec::new(),
            last: None,
        }
    }

    /// Bytes walked so far.
    pub(super) fn position(&self) -> u64 {
        self.position + self.have as u64
    }

    /// Bytes of memory held for a value that is not complete.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.value.capacity()
    }

    pub(super) fn walk(&mut self, mut bytes: &[u8], found: &mut Collected) -> Result<(), DataSetError> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Header => self.header(bytes, found)?,
                State::Skip(left) => self.skip(bytes, left),
                State::Keep { tag, vr, left } => self.keep(bytes, (tag, vr, left), found)?,
            };
        }
        Ok(())
    }

    /// Nothing may be open any more.
    pub(super) fn finish(&mut self, found: &mut Collected) -> Result<(), DataSetError> {
        if !matches!(self.state, State::Header) || self.have > 0 {
            return Err(DataSetError::Truncated);
        }
        self.close_ended(found);
        if self.stack.is_empty() { Ok(()) } else { Err(DataSetError::Truncated) }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let now = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - now as u64;
        self.position += now as u64;
        self.state = if left == 0 { State::Header } else { State::Skip(left) };
        &bytes[now..]
    }

    fn keep<'a>(
        &mut self,
        bytes: &'a [u8],
        (tag, vr, left): (u32, VR, usize),
        found: &mut Collected,
    ) -> Result<&'a [u8], DataSetError> {
        let (now, rest) = bytes.split_at(left.min(bytes.len()));
        self.position += now.len() as u64;
        if now.len() < left {
            self.value.extend_from_slice(now);
            self.state = State::Keep { tag, vr, left: left - now.len() };
            return Ok(rest);
        }
        self.state = State::Header;
        if self.value.is_empty() {
            // The usual case: the value lies whole in what arrived, and nothing is copied.
            found.value(tag, vr, now, self.big_endian())?;
        } else {
            self.value.extend_from_slice(now);
            found.value(tag, vr, &self.value, self.big_endian())?;
            self.value.clear();
        }
        Ok(rest)
    }

    fn header<'a>(&mut self, bytes: &'a [u8], found: &mut Collected) -> Result<&'a [u8], DataSetError> {
        if self.have == 0 {
            self.close_ended(found);
            self.room_for(SHORT_HEADER)?;
        }
        let bytes = self.gather(bytes, SHORT_HEADER);
        if self.have < SHORT_HEADER {
            return Ok(bytes);
        }
        let tag = self.tag();
        let vr = self.vr(tag)?;
        let long = vr.is_some_and(|vr| vr.long_form);
        let bytes = if long { self.gather_long(bytes)? } else { bytes };
        if long && self.have < LONG_HEADER {
            return Ok(bytes);
        }
        let length = match vr {
            None => self.u32_at(4),
            Some(Written { long_form: true, .. }) => self.u32_at(8),
            Some(_) => u32::from(self.u16_at(6)),
        };
        self.position += self.have as u64;
        self.have = 0;
        self.begin(tag, vr.map(|vr| vr.vr), length, found)?;
        Ok(bytes)
    }

    /// Takes header bytes until there are `need`.
    fn gather<'a>(&mut self, bytes: &'a [u8], need: usize) -> &'a [u8] {
        let (now, rest) = bytes.split_at(need.saturating_sub(self.have).min(bytes.len()));
        self.header[self.have..self.have + now.len()].copy_from_slice(now);
        self.have += now.len();
        rest
    }

    fn gather_long<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], DataSetError> {
        self.room_for(LONG_HEADER)?;
        Ok(self.gather(bytes, LONG_HEADER))
    }

    /// A header must fit into what holds it.
    fn room_for(&self, header: usize) -> Result<(), DataSetError> {
        match self.stack.last() {
            Some(frame) if frame.limit - self.position < header as u64 => {
                Err(DataSetError::LengthBeyondParent { tag: frame.tag })
            }
            _ => Ok(()),
        }
    }

    /// The VR as written; none in implicit VR and for items and delimiters.
    fn vr(&self, tag: u32) -> Result<Option<Written>, DataSetError> {
        if self.syntax() == Syntax::ImplicitLittle || tag >> 16 == 0xFFFE {
            return Ok(None);
        }
        Written::parse([self.header[4], self.header[5]]).map(Some).ok_or(DataSetError::BadVr { tag })
    }

    /// An element, item or delimiter whose header is complete.
    fn begin(&mut self, tag: u32, written: Option<VR>, length: u32, found: &mut Collected) -> Result<(), DataSetError> {
        match self.stack.last().map(|frame| frame.kind) {
            None | Some(Kind::Item) => self.element(tag, written, length, found),
            Some(Kind::Sequence) => self.item(tag, length, found),
            Some(Kind::Fragments) => self.fragment(tag, length),
        }
    }

    fn element(
        &mut self,
        tag: u32,
        written: Option<VR>,
        length: u32,
        found: &mut Collected,
    ) -> Result<(), DataSetError> {
        if tag == ITEM_END {
            return self.end_item(length, found);
        }
        if tag >> 16 == 0xFFFE {
            return Err(DataSetError::UnexpectedDelimiter { tag });
        }
        if self.stack.is_empty() {
            self.at_top(tag)?;
            found.at_top(tag)?;
        }
        let vr = written.unwrap_or_else(|| vr_of(tag, found.samples()));
        if length == UNDEFINED {
            return self.open_undefined(tag, vr, written.is_some(), found);
        }
        self.within(tag, length)?;
        if vr == VR::SQ {
            return self.open(tag, self.syntax(), self.position + u64::from(length), found);
        }
        match found.wish(tag, vr, length) {
            Wish::Skip => self.state = State::Skip(u64::from(length)),
            Wish::Keep if length == 0 => found.value(tag, vr, &[], self.big_endian())?,
            Wish::Keep => self.state = State::Keep { tag, vr, left: length as usize },
        }
        if length == 0 {
            self.state = State::Header;
        }
        Ok(())
    }

    /// PS3.5 §7.1: top-level elements ascend, and belong there.
    fn at_top(&mut self, tag: u32) -> Result<(), DataSetError> {
        if matches!(tag >> 16, 0x0000 | 0x0002) {
            return Err(DataSetError::ForeignGroup { tag });
        }
        if self.last.is_some_and(|last| tag <= last) {
            return Err(DataSetError::OutOfOrder { tag });
        }
        self.last = Some(tag);
        Ok(())
    }

    fn open_undefined(&mut self, tag: u32, vr: VR, explicit: bool, found: &mut Collected) -> Result<(), DataSetError> {
        match vr {
            VR::SQ => self.open(tag, self.syntax(), OPEN, found),
            // PS3.5 §6.2.2: what was UN on the way is implicit little endian inside.
            VR::UN => self.open(tag, Syntax::ImplicitLittle, OPEN, found),
            VR::OB | VR::OW => {
                found.bulk(tag, vr);
                self.push(Kind::Fragments, tag, self.syntax(), OPEN);
                Ok(())
            }
            // The dictionary knows another VR, but without a VR on the wire only a sequence can have it.
            _ if !explicit => self.open(tag, self.syntax(), OPEN, found),
            _ => Err(DataSetError::UndefinedLength { tag }),
        }
    }

    fn open(&mut self, tag: u32, syntax: Syntax, end: u64, found: &mut Collected) -> Result<(), DataSetError> {
        // Sequences and items take turns on the stack.
        if self.stack.len() / 2 >= self.depth {
            return Err(DataSetError::TooDeep { tag });
        }
        found.sequence(tag);
        self.push(Kind::Sequence, tag, syntax, end);
        Ok(())
    }

    fn push(&mut self, kind: Kind, tag: u32, syntax: Syntax, end: u64) {
        let limit = self.stack.last().map_or(OPEN, |frame| frame.limit).min(end);
        self.stack.push(Frame { kind, tag, syntax, end, limit });
    }

    fn item(&mut self, tag: u32, length: u32, found: &mut Collected) -> Result<(), DataSetError> {
        match tag {
            SEQUENCE_END => {
                self.delimited(tag, length)?;
                found.sequence_end();
            }
            ITEM => {
                if length != UNDEFINED {
                    self.within(tag, length)?;
                }
                let sequence = self.stack.last().expect("an item is looked for in a sequence only");
                let (of, syntax) = (sequence.tag, sequence.syntax);
                let end = if length == UNDEFINED { OPEN } else { self.position + u64::from(length) };
                found.item();
                self.push(Kind::Item, of, syntax, end);
            }
            _ => return Err(DataSetError::ItemExpected { tag }),
        }
        Ok(())
    }

    fn end_item(&mut self, length: u32, found: &mut Collected) -> Result<(), DataSetError> {
        self.delimited(ITEM_END, length)?;
        found.item_end();
        Ok(())
    }

    /// PS3.5 §A.4: the basic offset table and the fragments are items of defined length.
    fn fragment(&mut self, tag: u32, length: u32) -> Result<(), DataSetError> {
        match tag {
            SEQUENCE_END => self.delimited(tag, length),
            ITEM if length == UNDEFINED => Err(DataSetError::UndefinedLength { tag }),
            ITEM => {
                self.within(tag, length)?;
                self.state = if length == 0 { State::Header } else { State::Skip(u64::from(length)) };
                Ok(())
            }
            _ => Err(DataSetError::ItemExpected { tag }),
        }
    }

    /// Closes what was opened with an undefined length; a delimiter has length 0 (PS3.5 §7.5.2).
    fn delimited(&mut self, tag: u32, length: u32) -> Result<(), DataSetError> {
        match self.stack.pop() {
            Some(frame) if frame.end == OPEN && length == 0 => Ok(()),
            _ => Err(DataSetError::UnexpectedDelimiter { tag }),
        }
    }

    /// Sequences and items of defined length end without a delimiter.
    fn close_ended(&mut self, found: &mut Collected) {
        while let Some(frame) = self.stack.pop_if(|frame| frame.end == self.position) {
            match frame.kind {
                Kind::Sequence => found.sequence_end(),
                Kind::Item => found.item_end(),
                Kind::Fragments => {}
            }
        }
    }

    fn within(&self, tag: u32, length: u32) -> Result<(), DataSetError> {
        match self.stack.last() {
            Some(frame) if frame.limit - self.position < u64::from(length) => {
                Err(DataSetError::LengthBeyondParent { tag })
            }
            _ => Ok(()),
        }
    }

    fn syntax(&self) -> Syntax {
        self.stack.last().map_or(self.top, |frame| frame.syntax)
    }

    fn big_endian(&self) -> bool {
        self.syntax() == Syntax::ExplicitBig
    }

    fn tag(&self) -> u32 {
        u32::from(self.u16_at(0)) << 16 | u32::from(self.u16_at(2))
    }

    fn u16_at(&self, at: usize) -> u16 {
        let bytes = [self.header[at], self.header[at + 1]];
        if self.big_endian() { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32_at(&self, at: usize) -> u32 {
        let (first, second) = (u32::from(self.u16_at(at)), u32::from(self.u16_at(at + 2)));
        if self.big_endian() { first << 16 | second } else { second << 16 | first }
    }
}
