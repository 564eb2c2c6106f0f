//! Just enough PEM to find certificates in it and to know our own again. Certificates are judged by `access` alone.

/// The DER of each CERTIFICATE block of a PEM text (RFC 7468), in order; other blocks are passed over.
#[must_use]
pub fn certificates(pem: &str) -> Vec<Vec<u8>> {
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks.filter_map(|block| base64(block.split_once("-----END CERTIFICATE-----")?.0)).collect()
}

pub(super) fn names(chain: &str, uri: &str) -> bool {
    certificates(chain).first().is_some_and(|leaf| contains(leaf, &uri_name(uri)))
}

/// How a URI stands in a subject alternative name: GeneralName \[6\] IA5String (RFC 5280 §4.2.1.6). Enough to know our own
/// certificates again; identity is never taken from here.
fn uri_name(uri: &str) -> Vec<u8> {
    let length = u8::try_from(uri.len()).unwrap_or(u8::MAX);
    let head = if length < 128 { vec![0x86, length] } else { vec![0x86, 0x81, length] };
    [head.as_slice(), uri.as_bytes()].concat()
}

pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// RFC 4648 §4, line breaks passed over; `None` when another character or a wrong length is met.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for character in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xFF).expect("masked to eight bits"));
        }
    }
    (held < 6).then_some(bytes)
}
