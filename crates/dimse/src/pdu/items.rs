//! The building blocks of association PDUs: `type, reserved, length, value` (PS3.8 §9.3.2), big endian throughout.

use super::{PduType, Violation};

/// The items of a value, one after the other; an item that runs past the end is a violation, never "more bytes needed".
pub(crate) struct Items<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Result<(u8, &'a [u8]), Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut fields = Fields(self.0);
        let item = fields.item();
        // After an error there is no telling where the next item begins.
        self.0 = if item.is_ok() { fields.0 } else { &[] };
        Some(item)
    }
}

/// Reads fields from the front of a value.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (array, rest) =
            self.0.split_first_chunk().ok_or(Violation::invalid("an item that is shorter than its fields"))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    /// A two-byte length and as many bytes.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Violation> {
        let length = usize::from(self.u16()?);
        let (value, rest) =
            self.0.split_at_checked(length).ok_or(Violation::invalid("an item that is longer than what holds it"))?;
        self.0 = rest;
        Ok(value)
    }

    fn item(&mut self) -> Result<(u8, &'a [u8]), Violation> {
        let [kind, _reserved] = self.array()?;
        Ok((kind, self.counted()?))
    }
}

/// Writes one item.
pub(crate) fn item(out: &mut Vec<u8>, kind: u8, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend([kind, 0]);
    counted(out, value);
}

/// Writes a two-byte length and as many bytes.
pub(crate) fn counted(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0, 0]);
    value(out);
    let length = u16::try_from(out.len() - at - 2).expect("what we write holds at most 256 UIDs or 128 items of one");
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// Writes one PDU.
pub(crate) fn pdu(kind: PduType, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![kind as u8, 0, 0, 0, 0, 0];
    body(&mut out);
    let length = u32::try_from(out.len() - 6).expect("what we write is far below 4 GiB");
    out[2..6].copy_from_slice(&length.to_be_bytes());
    out
}
