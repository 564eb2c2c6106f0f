//! The Part 10 file around a data set (PS3.10 §7.1): writing our own header, and reading how somebody else's file begins.

use model::{AeTitle, Encoding, SopClass, SopInstance, TransferSyntax, Uid, UidError, transfer_syntax};

/// Bytes of the preamble, PS3.10 §7.1. Ours are zero: nothing else can be smuggled in front of an image (CVE-2019-11687).
const PREAMBLE: usize = 128;
/// Preamble and prefix.
const META_START: usize = PREAMBLE + PREFIX.len();
const PREFIX: &[u8] = b"DICM";

/// What our own file meta group says, PS3.10 Table 7.1-1.
#[derive(Debug, Clone)]
pub struct FileMeta {
    /// (0002,0002).
    pub class: Uid<SopClass>,
    /// (0002,0003).
    pub instance: Uid<SopInstance>,
    /// (0002,0010): the negotiated one, for the data set is stored as sent.
    pub transfer_syntax: Uid<TransferSyntax>,
    /// (0002,0012): ours.
    pub implementation_class: &'static str,
    /// (0002,0013): ours, at most 16 characters.
    pub implementation_version: &'static str,
    /// (0002,0016) and (0002,0017): who sent it.
    pub sending_ae: AeTitle,
    /// (0002,0018): whom it was sent to.
    pub receiving_ae: AeTitle,
}

/// What a sender needs to know of a Part 10 file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// (0002,0002).
    pub class: Uid<SopClass>,
    /// (0002,0003).
    pub instance: Uid<SopInstance>,
    /// (0002,0010).
    pub transfer_syntax: Uid<TransferSyntax>,
    /// Where the data set begins, in bytes from the start of the file.
    pub data_set: u64,
}

/// Why a file cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Part10Error {
    /// There are no `DICM` bytes after the preamble.
    #[error("no DICM prefix: not a Part 10 file")]
    NotPart10,
    /// The file meta group does not end within the bytes given.
    #[error("the file meta group is longer than what was read of the file, or the file ends inside it")]
    NeedMore,
    /// The file meta group is not written in explicit VR little endian.
    #[error("the file meta group is malformed: it is not explicit VR little endian")]
    Malformed,
    /// A required element is absent or empty.
    #[error("the file meta group has no {0}")]
    Missing(&'static str),
    /// A UID breaks the grammar.
    #[error(transparent)]
    InvalidUid(#[from] UidError),
}

/// Everything that stands before the data set: 128 zero bytes, `DICM` and our own file meta group.
#[must_use]
pub fn header(meta: &FileMeta) -> Vec<u8> {
    let mut group = Vec::with_capacity(512);
    element(&mut group, 0x0001, *b"OB", &[0, 1], 0);
    element(&mut group, 0x0002, *b"UI", meta.class.as_str().as_bytes(), 0);
    element(&mut group, 0x0003, *b"UI", meta.instance.as_str().as_bytes(), 0);
    element(&mut group, 0x0010, *b"UI", meta.transfer_syntax.as_str().as_bytes(), 0);
    element(&mut group, 0x0012, *b"UI", meta.implementation_class.as_bytes(), 0);
    element(&mut group, 0x0013, *b"SH", meta.implementation_version.as_bytes(), b' ');
    element(&mut group, 0x0016, *b"AE", meta.sending_ae.as_str().as_bytes(), b' ');
    element(&mut group, 0x0017, *b"AE", meta.sending_ae.as_str().as_bytes(), b' ');
    element(&mut group, 0x0018, *b"AE", meta.receiving_ae.as_str().as_bytes(), b' ');

    let length = u32::try_from(group.len()).expect("nine short values");
    let mut file = vec![0; PREAMBLE];
    file.extend_from_slice(PREFIX);
    element(&mut file, 0x0000, *b"UL", &length.to_le_bytes(), 0);
    file.extend_from_slice(&group);
    file
}

/// Reads preamble, prefix and file meta group from the first bytes of a file; 64 KiB of it are always enough in practice.
///
/// A group length that is absent or wrong is tolerated: the group ends where another group begins.
///
/// # Errors
/// When it is no Part 10 file, the group is broken or incomplete, or one of the three UIDs is absent or invalid.
pub fn read_start(bytes: &[u8]) -> Result<Start, Part10Error> {
    let meta = bytes.get(..META_START).and_then(|start| start.strip_suffix(PREFIX)).map(|_| &bytes[META_START..]);
    let mut rest = meta.ok_or(Part10Error::NotPart10)?;
    let mut found = Found::default();
    while !found.ended(bytes.len() - rest.len(), rest)? {
        let (tag, value, next) = meta_element(rest)?;
        found.take(tag, value, bytes.len() - next.len())?;
        rest = next;
    }
    Ok(Start {
        class: found.class.ok_or(Part10Error::Missing("Media Storage SOP Class UID (0002,0002)"))?,
        instance: found.instance.ok_or(Part10Error::Missing("Media Storage SOP Instance UID (0002,0003)"))?,
        transfer_syntax: found.transfer_syntax.ok_or(Part10Error::Missing("Transfer Syntax UID (0002,0010)"))?,
        data_set: (bytes.len() - rest.len()) as u64,
    })
}

#[derive(Default)]
struct Found {
    class: Option<Uid<SopClass>>,
    instance: Option<Uid<SopInstance>>,
    transfer_syntax: Option<Uid<TransferSyntax>>,
    /// Where the group ends if (0002,0000) is right.
    declared_end: Option<usize>,
}

impl Found {
    /// `at` is the offset in the file after this element.
    fn take(&mut self, tag: u32, value: &[u8], at: usize) -> Result<(), Part10Error> {
        let empty = value.iter().all(|byte| matches!(byte, 0 | b' '));
        match tag {
            0x0002_0000 => {
                let length = <[u8; 4]>::try_from(value).map(u32::from_le_bytes).map_err(|_| Part10Error::Malformed)?;
                self.declared_end = at.checked_add(length as usize);
            }
            0x0002_0002 if !empty => self.class = Some(Uid::from_wire(value)?),
            0x0002_0003 if !empty => self.instance = Some(Uid::from_wire(value)?),
            0x0002_0010 if !empty => self.transfer_syntax = Some(Uid::from_wire(value)?),
            _ => {}
        }
        Ok(())
    }

    /// Whether the data set begins here. Bytes of a deflated one may look like another meta element: there the group
    /// length decides.
    fn ended(&self, at: usize, rest: &[u8]) -> Result<bool, Part10Error> {
        let declared = self.declared_end == Some(at);
        let deflated =
            self.transfer_syntax.as_ref().is_some_and(|syntax| transfer_syntax::encoding(syntax) == Encoding::Deflated);
        match rest {
            _ if declared && deflated => Ok(true),
            [2, 0, ..] => Ok(false),
            [_, _, ..] => Ok(true),
            _ if declared => Ok(true),
            _ => Err(Part10Error::NeedMore),
        }
    }
}

/// Tag, value and the bytes after it. Explicit VR little endian, PS3.10 §7.1.
fn meta_element(bytes: &[u8]) -> Result<(u32, &[u8], &[u8]), Part10Error> {
    let (header, rest) = bytes.split_first_chunk::<8>().ok_or(Part10Error::NeedMore)?;
    let [g0, g1, e0, e1, vr0, vr1, l0, l1] = *header;
    if !vr0.is_ascii_uppercase() || !vr1.is_ascii_uppercase() {
        return Err(Part10Error::Malformed);
    }
    // Of the 32-bit forms (PS3.5 §7.1.2) only these can be in the group: private information, its version, and text.
    let (length, rest) = if matches!(&[vr0, vr1], b"OB" | b"OW" | b"UN" | b"UT" | b"UR" | b"UC" | b"SQ") {
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(Part10Error::NeedMore)?;
        (u32::from_le_bytes(*length) as usize, rest)
    } else {
        (usize::from(u16::from_le_bytes([l0, l1])), rest)
    };
    let (value, rest) = rest.split_at_checked(length).ok_or(Part10Error::NeedMore)?;
    let tag = u32::from(u16::from_le_bytes([g0, g1])) << 16 | u32::from(u16::from_le_bytes([e0, e1]));
    Ok((tag, value, rest))
}

/// Appends one element of group 0002, padded to even length.
fn element(to: &mut Vec<u8>, element: u16, vr: [u8; 2], value: &[u8], padding: u8) {
    let length = u16::try_from(value.len().next_multiple_of(2)).expect("file meta values are short");
    to.extend_from_slice(&[2, 0]);
    to.extend_from_slice(&element.to_le_bytes());
    to.extend_from_slice(&vr);
    if &vr == b"OB" {
        to.extend_from_slice(&[0, 0]);
        to.extend_from_slice(&u32::from(length).to_le_bytes());
    } else {
        to.extend_from_slice(&length.to_le_bytes());
    }
    to.extend_from_slice(value);
    to.extend((value.len() % 2 == 1).then_some(padding));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> FileMeta {
        FileMeta {
            class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").expect("valid"),
            instance: Uid::parse("1.2.3").expect("valid"),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").expect("valid"),
            implementation_class: "2.25.1",
            implementation_version: "PORTCULLIS",
            sending_ae: AeTitle::parse("CT1").expect("valid"),
            receiving_ae: AeTitle::parse("ARCHIVE").expect("valid"),
        }
    }

    #[test]
    fn the_header_is_a_zero_preamble_the_prefix_and_our_own_group() {
        let file = header(&meta());
        assert_eq!(file[..128], [0; 128]);
        let mut expected = b"DICM\x02\0\0\0UL\x04\0".to_vec();
        expected.extend_from_slice(&[162, 0, 0, 0]);
        expected.extend_from_slice(b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01");
        expected.extend_from_slice(b"\x02\0\x02\0UI\x1A\x001.2.840.10008.5.1.4.1.1.2\0");
        expected.extend_from_slice(b"\x02\0\x03\0UI\x06\x001.2.3\0");
        expected.extend_from_slice(b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0");
        expected.extend_from_slice(b"\x02\0\x12\0UI\x06\x002.25.1");
        expected.extend_from_slice(b"\x02\0\x13\0SH\x0A\0PORTCULLIS");
        expected.extend_from_slice(b"\x02\0\x16\0AE\x04\0CT1 ");
        expected.extend_from_slice(b"\x02\0\x17\0AE\x04\0CT1 ");
        expected.extend_from_slice(b"\x02\0\x18\0AE\x08\0ARCHIVE ");
        assert_eq!(file[128..], expected);
        assert_eq!(usize::from(file[140]), file.len() - 144, "the group length counts what follows it");
    }

    #[test]
    fn our_own_header_is_read_back() {
        let mut file = header(&meta());
        let data_set = file.len() as u64;
        file.extend_from_slice(b"\x08\0\x16\0UI");
        let start = read_start(&file).expect("ours");
        assert_eq!(start.data_set, data_set);
        assert_eq!(start.class, meta().class);
        assert_eq!(start.instance, meta().instance);
        assert_eq!(start.transfer_syntax, meta().transfer_syntax);
    }

    #[test]
    fn a_group_length_that_is_absent_or_wrong_is_tolerated() {
        let mut file = header(&meta());
        file.extend_from_slice(b"\x08\0\x16\0UI");
        let expected = read_start(&file).expect("ours");

        let mut wrong = file.clone();
        wrong[140] = 7;
        assert_eq!(read_start(&wrong), Ok(expected.clone()));

        file.drain(132..144);
        assert_eq!(read_start(&file), Ok(Start { data_set: expected.data_set - 12, ..expected }));
    }

    #[test]
    fn a_deflated_data_set_that_looks_like_file_meta_is_not_taken_for_it() {
        let deflated = Uid::parse("1.2.840.10008.1.2.1.99").expect("valid");
        let mut file = header(&FileMeta { transfer_syntax: deflated, ..meta() });
        let data_set = file.len() as u64;
        file.extend_from_slice(b"\x02\0\x16\0AE\x04\0CT2 ");
        assert_eq!(read_start(&file).expect("ours").data_set, data_set);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let whole = header(&meta());
        let with = |at: usize, byte: u8| {
            let mut file = whole.clone();
            file[at] = byte;
            file.extend_from_slice(b"\x08\0\x16\0UI");
            file
        };
        let without_class = [&whole[..158], &whole[192..], b"\x08\0"].concat();
        let cases: &[(&str, Vec<u8>, Part10Error)] = &[
            ("empty", Vec::new(), Part10Error::NotPart10),
            ("short", vec![0; 131], Part10Error::NotPart10),
            ("another prefix", with(131, b'N'), Part10Error::NotPart10),
            ("preamble and prefix only", whole[..132].to_vec(), Part10Error::NeedMore),
            ("inside the group", whole[..200].to_vec(), Part10Error::NeedMore),
            ("implicit VR", with(162, 0), Part10Error::Malformed),
            ("no SOP class", without_class, Part10Error::Missing("Media Storage SOP Class UID (0002,0002)")),
            ("a letter in the SOP class", with(166, b'x'), {
                let why = "it has a character other than digits and dots";
                Part10Error::InvalidUid(UidError { what: "SOP Class UID", why })
            }),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(read_start(bytes), Err(*expected), "{name}");
        }
    }
}
