//! Synthetic instances for `portcullis dev`, `send --sample` and tests: a small CT study that any viewer opens, and the
//! beginning of an instance as large as one likes. Deterministic: the same arguments give the same bytes. The patient
//! is a phantom; nothing here was ever a person.

use dimse::Implementation;
use dimse::part10::{self, FileMeta};
use model::{
    AeTitle, Digest, InstanceClaim, InstanceName, Series, SopClass, SopInstance, Study, TransferSyntax, Uid,
    transfer_syntax,
};

const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const MULTI_FRAME_BYTE_SC: &str = "1.2.840.10008.5.1.4.1.1.7.2";
/// Everything here was "acquired" at one fixed moment, so that bytes depend on the seed alone.
const DATE: &str = "20260102";
const TIME: &str = "101500";
/// PS3.5 §7.1.2: the length of an element has 32 bits, all ones mean "undefined", and it is even.
const MAX_PIXEL_LENGTH: u64 = 0xFFFF_FFFE;
/// Rows and columns of a frame of [`big_instance_head`].
const BIG_FRAME_SIDE: u16 = 1024;
/// Bytes of such a frame, a byte for each pixel.
const BIG_FRAME: u64 = BIG_FRAME_SIDE as u64 * BIG_FRAME_SIDE as u64;
const UID_IS_VALID: &str = "the UIDs of this file follow the grammar";

/// One instance as a complete Part 10 file, explicit VR little endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleInstance {
    /// SOP Class UID.
    pub class: Uid<SopClass>,
    /// SOP Instance UID.
    pub instance: Uid<SopInstance>,
    /// Series Instance UID.
    pub series: Uid<Series>,
    /// Study Instance UID.
    pub study: Uid<Study>,
    /// Eight characters and `.dcm`: `CT000001.dcm`.
    pub file_name: String,
    /// Preamble, file meta group and data set.
    pub part10: Vec<u8>,
    /// Where in `part10` the data set begins.
    pub data_set_at: usize,
}

impl SampleInstance {
    /// What a C-STORE-RQ for this instance claims.
    #[must_use]
    pub fn claim(&self) -> InstanceClaim {
        InstanceClaim { class: self.class.clone(), instance: self.instance.clone(), transfer_syntax: explicit_little() }
    }

    /// The data set without file meta: what goes over the wire and what the digest is taken of.
    #[must_use]
    pub fn data_set(&self) -> &[u8] {
        &self.part10[self.data_set_at..]
    }
}

/// The beginning of an instance whose pixels the caller makes up while sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigInstance {
    /// What the command says.
    pub claim: InstanceClaim,
    /// What the data set says.
    pub name: InstanceName,
    /// The data set up to and including the header of Pixel Data.
    pub prefix: Vec<u8>,
    /// How many pixel bytes must follow, of any value; the data set ends after them.
    pub pixel_length: u64,
}

/// A CT series of a cylindrical phantom: water with four inserts that wander from slice to slice. `rows` is also the
/// number of columns; 128 gives 32 KiB of pixels a slice.
#[must_use]
pub fn ct_study(slices: u16, rows: u16, seed: u64) -> Vec<SampleInstance> {
    (0..slices).map(|slice| ct_slice(slice, rows, seed)).collect()
}

/// A multi-frame secondary capture with at least `bytes` of pixels (whole frames of 1 MiB, at most the 4 GiB − 1 MiB that
/// a length of 32 bits can say), of which only the head is made.
#[must_use]
pub fn big_instance_head(bytes: u64) -> BigInstance {
    let frames = bytes.clamp(1, MAX_PIXEL_LENGTH).div_ceil(BIG_FRAME).min(MAX_PIXEL_LENGTH / BIG_FRAME);
    let name = InstanceName {
        study: Uid::parse(&uid("big study", frames, 0)).expect(UID_IS_VALID),
        series: Uid::parse(&uid("big series", frames, 0)).expect(UID_IS_VALID),
        instance: Uid::parse(&uid("big instance", frames, 0)).expect(UID_IS_VALID),
        class: Uid::parse(MULTI_FRAME_BYTE_SC).expect(UID_IS_VALID),
    };
    let mut set = Elements::default();
    set.secondary_capture(&name, frames);
    let pixel_length = frames * BIG_FRAME;
    set.header(0x7FE0_0010, "OB", u32::try_from(pixel_length).expect("frames are capped"));
    let claim = InstanceClaim {
        class: name.class.clone(),
        instance: name.instance.clone(),
        transfer_syntax: explicit_little(),
    };
    BigInstance { claim, name, prefix: set.0, pixel_length }
}

fn ct_slice(slice: u16, rows: u16, seed: u64) -> SampleInstance {
    let name = InstanceName {
        study: Uid::parse(&uid("ct study", seed, 0)).expect(UID_IS_VALID),
        series: Uid::parse(&uid("ct series", seed, 0)).expect(UID_IS_VALID),
        instance: Uid::parse(&uid("ct instance", seed, slice)).expect(UID_IS_VALID),
        class: Uid::parse(CT_IMAGE_STORAGE).expect(UID_IS_VALID),
    };
    let mut set = Elements::default();
    set.ct_image(&name, slice, rows, &uid("ct frame of reference", seed, 0));
    let pixels: Vec<u8> = phantom(slice, rows, seed).into_iter().flat_map(u16::to_le_bytes).collect();
    set.header(0x7FE0_0010, "OW", u32::try_from(pixels.len()).expect("2 × 65535² is less than 2 GiB × 4"));
    set.0.extend_from_slice(&pixels);
    let mut part10 = part10::header(&file_meta(&name));
    let data_set_at = part10.len();
    part10.extend_from_slice(&set.0);
    let InstanceName { study, series, instance, class } = name;
    let file_name = format!("CT{:06}.dcm", u32::from(slice) + 1);
    SampleInstance { class, instance, series, study, file_name, part10, data_set_at }
}

fn explicit_little() -> Uid<TransferSyntax> {
    Uid::parse(transfer_syntax::EXPLICIT_LITTLE).expect(UID_IS_VALID)
}

fn file_meta(name: &InstanceName) -> FileMeta {
    let title = || AeTitle::parse("SAMPLE").expect("a valid title");
    FileMeta {
        class: name.class.clone(),
        instance: name.instance.clone(),
        transfer_syntax: explicit_little(),
        implementation_class: Implementation::PORTCULLIS.class_uid,
        implementation_version: Implementation::PORTCULLIS.version,
        sending_ae: title(),
        receiving_ae: title(),
    }
}

/// PS3.5 §B.2: `2.25.` and the decimal form of a UUID, here one made from a digest (RFC 9562 §5.8, version 8).
fn uid(of: &str, seed: u64, number: u16) -> String {
    let digest = Digest::of(format!("portcullis sample {of} {seed} {number}").as_bytes());
    let (first, _) = digest.as_bytes().split_first_chunk().expect("a digest has more than 16 bytes");
    let uuid = u128::from_be_bytes(*first) & !(0xF << 76) & !(0b11 << 62) | 0x8 << 76 | 0b10 << 62;
    format!("2.25.{uuid}")
}

/// Hounsfield units + 1024: a disc of water in air with four inserts, and noise of a few units.
fn phantom(slice: u16, rows: u16, seed: u64) -> Vec<u16> {
    const INSERTS: [i32; 4] = [900, -700, 250, -90];
    let size = f64::from(rows);
    let mut noise = seed ^ (u64::from(slice) << 32) ^ 0x9E37_79B9_7F4A_7C15;
    let inserts = INSERTS.iter().zip(0_u32..).map(|(units, number)| {
        let turn = f64::from(number).mul_add(std::f64::consts::FRAC_PI_2, f64::from(slice) * 0.1);
        (size.mul_add(0.5, turn.cos() * size * 0.25), size.mul_add(0.5, turn.sin() * size * 0.25), *units)
    });
    let inserts: Vec<_> = inserts.collect();
    let mut pixels = Vec::with_capacity(usize::from(rows) * usize::from(rows));
    for y in 0..rows {
        for x in 0..rows {
            let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            let within = |cx: f64, cy: f64, radius: f64| (x - cx).hypot(y - cy) < radius * size;
            let insert = inserts.iter().find(|(cx, cy, _)| within(*cx, *cy, 0.08)).map(|(_, _, units)| *units);
            let water = within(size / 2.0, size / 2.0, 0.45).then_some(0);
            let units = insert.or(water).unwrap_or(-1000) + grain(&mut noise);
            pixels.push(u16::try_from(units + 1024).expect("between -1024 and 64511 Hounsfield units"));
        }
    }
    pixels
}

/// Between −8 and 7: the next number of a xorshift generator (Marsaglia 2003).
fn grain(state: &mut u64) -> i32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    i32::try_from(*state >> 60).expect("four bits") - 8
}

/// A data set in explicit VR little endian (PS3.5 §7.1.2), written in tag order.
#[derive(Default)]
struct Elements(Vec<u8>);

#[rustfmt::skip]
impl Elements {
    /// The CT Image IOD, PS3.3 §A.3: everything of type 1 and 2, up to Pixel Data.
    fn ct_image(&mut self, name: &InstanceName, slice: u16, rows: u16, frame_of_reference: &str) {
        const SPACING_MM: f64 = 2.0;
        const THICKNESS_MM: f64 = 2.5;
        let number = (u32::from(slice) + 1).to_string();
        let corner = -SPACING_MM * (f64::from(rows) - 1.0) / 2.0;
        let z = f64::from(slice) * THICKNESS_MM;
        self.text(0x0008_0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
        self.general(name, "CT", None);
        self.text(0x0008_1030, "LO", "Portcullis sample study");
        self.text(0x0008_103E, "LO", "Cylinder phantom");
        self.text(0x0008_1090, "LO", "Sample generator");
        self.patient();
        self.text(0x0018_0015, "CS", "PHANTOM");
        self.text(0x0018_0050, "DS", &THICKNESS_MM.to_string());
        self.text(0x0018_0060, "DS", "120");
        self.text(0x0018_5100, "CS", "HFS");
        self.text(0x0020_000D, "UI", name.study.as_str());
        self.text(0x0020_000E, "UI", name.series.as_str());
        self.text(0x0020_0010, "SH", "SAMPLE");
        self.text(0x0020_0011, "IS", "1");
        self.text(0x0020_0012, "IS", "1");
        self.text(0x0020_0013, "IS", &number);
        self.text(0x0020_0032, "DS", &format!("{corner}\\{corner}\\{z}"));
        self.text(0x0020_0037, "DS", "1\\0\\0\\0\\1\\0");
        self.text(0x0020_0052, "UI", frame_of_reference);
        self.text(0x0020_1040, "LO", "");
        self.text(0x0020_1041, "DS", &z.to_string());
        self.number(0x0028_0002, 1);
        self.text(0x0028_0004, "CS", "MONOCHROME2");
        self.number(0x0028_0010, rows);
        self.number(0x0028_0011, rows);
        self.text(0x0028_0030, "DS", &format!("{SPACING_MM}\\{SPACING_MM}"));
        self.unsigned_bits(16);
        self.text(0x0028_1050, "DS", "40");
        self.text(0x0028_1051, "DS", "400");
        self.text(0x0028_1052, "DS", "-1024");
        self.text(0x0028_1053, "DS", "1");
        self.text(0x0028_1054, "LO", "HU");
    }

    /// The Multi-frame Grayscale Byte Secondary Capture Image IOD, PS3.3 §A.8.3, up to Pixel Data.
    fn secondary_capture(&mut self, name: &InstanceName, frames: u64) {
        self.text(0x0008_0008, "CS", "DERIVED\\SECONDARY");
        self.general(name, "OT", Some("SYN"));
        self.patient();
        self.text(0x0018_1063, "DS", "40");
        self.text(0x0020_000D, "UI", name.study.as_str());
        self.text(0x0020_000E, "UI", name.series.as_str());
        self.text(0x0020_0010, "SH", "SAMPLE");
        self.text(0x0020_0011, "IS", "1");
        self.text(0x0020_0013, "IS", "1");
        self.text(0x0020_0020, "CS", "");
        self.number(0x0028_0002, 1);
        self.text(0x0028_0004, "CS", "MONOCHROME2");
        self.text(0x0028_0008, "IS", &frames.to_string());
        // Frame Increment Pointer: to Frame Time (0018,1063).
        self.value(0x0028_0009, "AT", &[0x18, 0x00, 0x63, 0x10], 0);
        self.number(0x0028_0010, BIG_FRAME_SIDE);
        self.number(0x0028_0011, BIG_FRAME_SIDE);
        self.unsigned_bits(8);
        self.text(0x0028_0301, "CS", "NO");
        self.text(0x0028_1052, "DS", "0");
        self.text(0x0028_1053, "DS", "1");
        self.text(0x0028_1054, "LO", "US");
        self.text(0x2050_0020, "CS", "IDENTITY");
    }
}

impl Elements {
    /// SOP Common, General Study, General Series and Equipment as far as they stand in group 0008.
    fn general(&mut self, name: &InstanceName, modality: &str, conversion_type: Option<&str>) {
        self.text(0x0008_0016, "UI", name.class.as_str());
        self.text(0x0008_0018, "UI", name.instance.as_str());
        // Study, series, acquisition and content: date and time.
        (0x0008_0020..=0x0008_0023).for_each(|tag| self.text(tag, "DA", DATE));
        (0x0008_0030..=0x0008_0033).for_each(|tag| self.text(tag, "TM", TIME));
        self.text(0x0008_0050, "SH", "");
        self.text(0x0008_0060, "CS", modality);
        if let Some(conversion_type) = conversion_type {
            self.text(0x0008_0064, "CS", conversion_type);
        }
        self.text(0x0008_0070, "LO", "Portcullis");
        self.text(0x0008_0090, "PN", "");
    }

    fn patient(&mut self) {
        self.text(0x0010_0010, "PN", "SAMPLE^PHANTOM");
        self.text(0x0010_0020, "LO", "SAMPLE-1");
        self.text(0x0010_0030, "DA", "");
        self.text(0x0010_0040, "CS", "O");
    }

    /// Bits Allocated, Bits Stored, High Bit, Pixel Representation.
    fn unsigned_bits(&mut self, bits: u16) {
        self.number(0x0028_0100, bits);
        self.number(0x0028_0101, bits);
        self.number(0x0028_0102, bits - 1);
        self.number(0x0028_0103, 0);
    }

    /// PS3.5 §6.2: text is padded to an even length with a space, a UID with NUL.
    fn text(&mut self, tag: u32, vr: &str, text: &str) {
        self.value(tag, vr, text.as_bytes(), if vr == "UI" { 0 } else { b' ' });
    }

    fn number(&mut self, tag: u32, number: u16) {
        self.value(tag, "US", &number.to_le_bytes(), 0);
    }

    fn value(&mut self, tag: u32, vr: &str, value: &[u8], padding: u8) {
        let odd = value.len() % 2;
        self.header(tag, vr, u32::try_from(value.len() + odd).expect("values here are short"));
        self.0.extend_from_slice(value);
        self.0.extend(std::iter::repeat_n(padding, odd));
    }

    /// PS3.5 §7.1.2: binary VRs have a length of 32 bits, the others one of 16.
    fn header(&mut self, tag: u32, vr: &str, length: u32) {
        let [group, element] = [tag >> 16, tag & 0xFFFF].map(|half| u16::try_from(half).expect("half of 32 bits"));
        self.0.extend_from_slice(&group.to_le_bytes());
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0.extend_from_slice(vr.as_bytes());
        if matches!(vr, "OB" | "OW") {
            self.0.extend_from_slice(&[0, 0]);
            self.0.extend_from_slice(&length.to_le_bytes());
        } else {
            self.0.extend_from_slice(&u16::try_from(length).expect("values here are short").to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(data_set: &[u8]) -> (model::InstanceHead, model::Metadata) {
        let mut scan = dimse::dataset::Scan::new(model::Encoding::ExplicitLittle, dimse::dataset::Limits::default());
        scan.feed(data_set).expect("walks");
        scan.finish().expect("complete")
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_another_study() {
        let study = ct_study(3, 16, 7);
        assert_eq!(study, ct_study(3, 16, 7));
        assert_ne!(study[0].study, ct_study(1, 16, 8)[0].study);
        assert!(study.iter().all(|one| one.study == study[0].study && one.series == study[0].series));
        assert!(study.windows(2).all(|pair| pair[0].instance != pair[1].instance && pair[0].part10 != pair[1].part10));
    }

    #[test]
    fn every_slice_says_about_itself_what_its_claim_says() {
        for sample in ct_study(4, 128, 1) {
            let (head, metadata) = scan(sample.data_set());
            assert_eq!(head.name.class, sample.claim().class);
            assert_eq!(head.name.instance, sample.claim().instance);
            assert_eq!((&head.name.study, &head.name.series), (&sample.study, &sample.series));
            assert_eq!(head.modality.as_deref(), Some("CT"));
            assert_eq!(metadata.promoted.get(model::Attribute::Rows), Some("128"));
            let start = part10::read_start(&sample.part10).expect("a Part 10 file");
            assert_eq!(start.data_set, sample.data_set_at as u64);
        }
    }

    #[test]
    fn a_big_instance_is_complete_after_exactly_its_pixel_length() {
        let big = big_instance_head(3_000_000);
        assert_eq!(big.pixel_length, 3 * BIG_FRAME);
        let pixels = vec![0; usize::try_from(big.pixel_length).expect("small")];
        let (head, _) = scan(&[big.prefix.as_slice(), &pixels].concat());
        assert_eq!(head.name, big.name);
        assert_eq!(head.name.instance, big.claim.instance);
        assert_eq!(big_instance_head(u64::MAX).pixel_length, 4095 * BIG_FRAME);
        assert_eq!(big_instance_head(0).pixel_length, BIG_FRAME);
    }

    #[test]
    fn a_sample_uid_is_a_uuid() {
        let number: u128 = uid("ct study", 1, 0)["2.25.".len()..].parse().expect("decimal");
        assert_eq!((number >> 76 & 0xF, number >> 62 & 0b11), (8, 0b10));
    }
}
