use std::ops::Range;

use super::ProxyRefusal;

/// §2.2.3: CRC32c over the whole header.
const CRC32C: u8 = 0x03;
/// Of the range for applications (§2.2.8): what AWS adds. The first byte of its value is a subtype.
const AWS: u8 = 0xEA;
const AWS_VPC_ENDPOINT: u8 = 0x01;

/// Type and length (two bytes) of a TLV.
const TLV_HEADER: usize = 3;

/// One TLV: its type, and where in the header its value is.
struct Tlv {
    kind: u8,
    value: Range<usize>,
}

/// Checks the TLVs, which begin at `from`, and finds the VPC endpoint among them. Padding and what is not known is skipped.
pub(super) fn vpc_endpoint(header: &[u8], from: usize) -> Result<Option<String>, ProxyRefusal> {
    if from > header.len() {
        return Err(ProxyRefusal::Address);
    }
    let tlvs = split(header, from)?;
    check_sum(header, &tlvs)?;
    let mut found = None;
    for tlv in tlvs.iter().filter(|tlv| tlv.kind == AWS) {
        match header[tlv.value.clone()].split_first() {
            Some((&AWS_VPC_ENDPOINT, id)) if found.is_none() => found = Some(endpoint(id)?),
            Some((&AWS_VPC_ENDPOINT, _)) | None => return Err(ProxyRefusal::Vpce),
            Some(_) => {}
        }
    }
    Ok(found)
}

fn split(header: &[u8], from: usize) -> Result<Vec<Tlv>, ProxyRefusal> {
    let mut tlvs = Vec::new();
    let mut at = from;
    while at < header.len() {
        let &[kind, high, low] = header[at..].first_chunk::<TLV_HEADER>().ok_or(ProxyRefusal::Tlv)?;
        let begin = at + TLV_HEADER;
        at = begin + usize::from(u16::from_be_bytes([high, low]));
        if at > header.len() {
            return Err(ProxyRefusal::Tlv);
        }
        tlvs.push(Tlv { kind, value: begin..at });
    }
    Ok(tlvs)
}

/// P-5: a checksum that is there must be right, and the only one.
fn check_sum(header: &[u8], tlvs: &[Tlv]) -> Result<(), ProxyRefusal> {
    let mut sums = tlvs.iter().filter(|tlv| tlv.kind == CRC32C).map(|tlv| &tlv.value);
    let Some(place) = sums.next() else { return Ok(()) };
    // It was computed with zeros in its own place.
    let zeroed = header.iter().enumerate().map(|(at, byte)| if place.contains(&at) { 0 } else { *byte });
    let right = header[place.clone()] == crc32c(zeroed).to_be_bytes();
    if right && sums.next().is_none() { Ok(()) } else { Err(ProxyRefusal::Crc) }
}

/// CRC32c (RFC 4960, Appendix B: Castagnoli's polynomial, reflected). Bit by bit: a header has a thousand bytes at most.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let shift = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
    !bytes.fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(byte), shift))
}

/// P-6: `vpce-` and 8 to 17 lower-case hex digits.
fn endpoint(id: &[u8]) -> Result<String, ProxyRefusal> {
    let digits = id.strip_prefix(b"vpce-").unwrap_or_default();
    let hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if !(8..=17).contains(&digits.len()) || !digits.iter().all(hex) {
        return Err(ProxyRefusal::Vpce);
    }
    String::from_utf8(id.to_vec()).map_err(|_| ProxyRefusal::Vpce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value that every catalogue of CRCs gives for CRC-32C (iSCSI).
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
        assert_eq!(crc32c([].into_iter()), 0);
    }
}
