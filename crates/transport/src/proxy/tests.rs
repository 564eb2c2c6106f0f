use proptest::prelude::*;

use super::*;

/// From a load balancer of AWS, for a connection through PrivateLink: captured in aws/elastic-load-balancing-tools
/// (`Compatibility_AwsNetworkLoadBalancerTest`).
const AWS: [u8; 100] = {
    // What is not written is the padding: a NOOP of 36 zeros.
    let mut header = [0; 100];
    let written = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x54\
        \xAC\x1F\x07\x71\xAC\x1F\x0A\x1F\xC8\xF2\0\x50\
        \x03\0\x04\xE8\xD6\x89\x2D\
        \xEA\0\x17\x01vpce-08d2bf15fac5001c9\
        \x04\0\x24";
    let mut at = 0;
    while at < written.len() {
        header[at] = written[at];
        at += 1;
    }
    header
};

const TCP4: u8 = 0x11;
/// Source 198.51.100.9:40000, destination 10.0.0.1:2762.
const ADDRESSES: &[u8] = &[198, 51, 100, 9, 10, 0, 0, 1, 0x9C, 0x40, 0x0A, 0xCA];
const ENDPOINT: &[u8] = b"\x01vpce-08d2bf15fac5001c9";

fn header(version_and_command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let block = parts.concat();
    let length = u16::try_from(block.len()).expect("it fits").to_be_bytes();
    [SIGNATURE.as_slice(), &[version_and_command, family], &length, &block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("it fits").to_be_bytes();
    [&[kind], length.as_slice(), value].concat()
}

/// A PROXY header for TCP over IPv4 with these TLVs.
fn with(tlvs: &[Vec<u8>]) -> Vec<u8> {
    header(0x21, TCP4, &[ADDRESSES, &tlvs.concat()])
}

fn relayed(source: &str, vpce: Option<&str>) -> Announced {
    Announced::Relayed { source: Some(source.parse().expect("an address")), vpce: vpce.map(str::to_owned) }
}

fn announced(bytes: &[u8]) -> Result<Announced, ProxyRefusal> {
    match parse(bytes)? {
        Progress::Complete(header) => {
            assert_eq!(header.length, bytes.len(), "all of it is consumed");
            Ok(header.announced)
        }
        Progress::Need(missing) => panic!("{missing} bytes are missing"),
    }
}

#[test]
fn the_header_that_was_captured_behind_privatelink_is_understood() {
    assert_eq!(announced(&AWS), Ok(relayed("172.31.7.113:51442", Some("vpce-08d2bf15fac5001c9"))));
    let mut with_more = AWS.to_vec();
    with_more.extend_from_slice(b"\x16\x03\x01");
    assert!(matches!(parse(&with_more), Ok(Progress::Complete(ProxyHeader { length: 100, .. }))));
    // Its checksum covers every byte: none can be changed unseen, whether or not it means anything. But for two: one makes it a
    // LOCAL header, which says nothing, and one makes the checksum a TLV of another type.
    for at in (0..AWS.len()).filter(|at| ![12, 28].contains(at)) {
        let mut changed = AWS;
        changed[at] ^= 0x01;
        assert!(!matches!(parse(&changed), Ok(Progress::Complete(_))), "byte {at}");
    }
}

#[test]
fn a_good_header_says_where_a_caller_came_from() {
    let nowhere = Announced::Relayed { source: None, vpce: None };
    let here = relayed("198.51.100.9:40000", None);
    let through = relayed("198.51.100.9:40000", Some("vpce-08d2bf15fac5001c9"));
    let v6: Vec<u8> = [&[0x20, 1, 0x0D, 0xB8][..], &[0; 11], &[9], &[0; 16], &[0x9C, 0x40, 0x0A, 0xCA]].concat();
    let ssl = tlv(0x20, b"\x07\0\0\0\0\x22\0\x04root");
    let cases: Vec<(&str, Vec<u8>, Announced)> = vec![
        ("no TLV", with(&[]), here.clone()),
        ("an endpoint", with(&[tlv(0xEA, ENDPOINT)]), through.clone()),
        (
            "the shortest endpoint",
            with(&[tlv(0xEA, b"\x01vpce-01234567")]),
            relayed("198.51.100.9:40000", Some("vpce-01234567")),
        ),
        ("padding on both sides", with(&[tlv(4, &[0; 9]), tlv(0xEA, ENDPOINT), tlv(4, &[])]), through.clone()),
        ("an unknown TLV", with(&[tlv(0xF3, b"anything"), tlv(0xEA, ENDPOINT)]), through.clone()),
        ("another subtype of AWS", with(&[tlv(0xEA, b"\x02vpce-1"), tlv(0xEA, ENDPOINT)]), through.clone()),
        ("SSL, authority and unique ID", with(&[ssl, tlv(2, b"spiffe://x"), tlv(5, b"id")]), here.clone()),
        ("TCP over IPv6", header(0x21, 0x21, &[&v6]), relayed("[2001:db8::9]:40000", None)),
        ("as long as it may be", with(&[tlv(4, &[0; MAX_BLOCK - 15])]), here.clone()),
        ("LOCAL", header(0x20, 0, &[]), Announced::Local),
        ("LOCAL with what must be ignored", header(0x20, 0xFF, &[b"anything"]), Announced::Local),
        ("LOCAL with an endpoint", header(0x20, TCP4, &[ADDRESSES, &tlv(0xEA, ENDPOINT)]), Announced::Local),
        ("unspecified", header(0x21, 0, &[]), nowhere.clone()),
        ("unspecified, with something", header(0x21, 0, &[&tlv(0xEA, ENDPOINT)]), nowhere.clone()),
        ("UDP over IPv4", header(0x21, 0x12, &[ADDRESSES, &tlv(0xEA, ENDPOINT)]), nowhere.clone()),
        ("UDP over IPv6", header(0x21, 0x22, &[&v6]), nowhere.clone()),
        ("UNIX stream", header(0x21, 0x31, &[&[b'/'; 216]]), nowhere.clone()),
        ("UNIX datagram", header(0x21, 0x32, &[&[b'/'; 216], &tlv(4, b"")]), nowhere.clone()),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(announced(&bytes), Ok(expected), "{name}");
    }
}

#[test]
fn a_header_that_breaks_a_rule_is_refused_by_that_rule() {
    use ProxyRefusal::*;
    let crc = |value: &[u8]| tlv(3, value);
    let endpoint = |id: &str| with(&[tlv(0xEA, &[b"\x01", id.as_bytes()].concat())]);
    let twice = {
        // The first is right, as far as one of two can be.
        let mut header = with(&[crc(&[0; 4]), crc(&[0; 4])]);
        let sum = crc32c(&header);
        header[31..35].copy_from_slice(&sum);
        header
    };
    let overlong = [&with(&[])[..14], &[0x04, 0x01]].concat();
    let cases: Vec<(&str, Vec<u8>, ProxyRefusal)> = vec![
        ("TLS", b"\x16\x03\x01\x02\0".to_vec(), Signature),
        ("DICOM", b"\x01\0\0\0\0\xCD".to_vec(), Signature),
        ("another last byte", b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Signature),
        ("almost version 1", b"PROXZ".to_vec(), Signature),
        ("version 1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), V1),
        ("version 1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), V1),
        ("binary, version 1", header(0x11, TCP4, &[ADDRESSES]), Version),
        ("binary, version 0", header(0x01, TCP4, &[ADDRESSES]), Version),
        ("binary, version 3", header(0x31, TCP4, &[ADDRESSES]), Version),
        ("command 2", header(0x22, TCP4, &[ADDRESSES]), Command),
        ("command 15", header(0x2F, TCP4, &[ADDRESSES]), Command),
        ("family 4", header(0x21, 0x41, &[ADDRESSES]), Family),
        ("protocol 3", header(0x21, 0x13, &[ADDRESSES]), Family),
        ("IPv4 over nothing", header(0x21, 0x10, &[ADDRESSES]), Family),
        ("TCP over nothing", header(0x21, 0x01, &[ADDRESSES]), Family),
        ("one byte too long", overlong, TooLong),
        ("64 KiB", [&with(&[])[..14], &[0xFF, 0xFF]].concat(), TooLong),
        ("no addresses", header(0x21, TCP4, &[]), Address),
        ("half an IPv4 address", header(0x21, TCP4, &[&ADDRESSES[..11]]), Address),
        ("IPv4 addresses for IPv6", header(0x21, 0x21, &[ADDRESSES]), Address),
        ("half a UDP address", header(0x21, 0x12, &[&ADDRESSES[..11]]), Address),
        ("half a UNIX path", header(0x21, 0x31, &[&[b'/'; 215]]), Address),
        ("one byte of a TLV", with(&[vec![4]]), Tlv),
        ("two bytes of a TLV", with(&[vec![4, 0]]), Tlv),
        ("a TLV that goes on", with(&[vec![4, 0, 2, 0]]), Tlv),
        ("a TLV of 64 KiB", with(&[tlv(0xEA, ENDPOINT), vec![4, 0xFF, 0xFF, 0]]), Tlv),
        ("a broken TLV of UDP", header(0x21, 0x12, &[ADDRESSES, &[4, 0, 1]]), Tlv),
        ("a wrong checksum", with(&[crc(&[1, 2, 3, 4])]), Crc),
        ("a checksum of zero", with(&[crc(&[0; 4])]), Crc),
        ("an empty checksum", with(&[crc(&[])]), Crc),
        ("a checksum of five bytes", with(&[crc(&[0; 5])]), Crc),
        ("two checksums", twice, Crc),
        ("a wrong checksum and a wrong endpoint", with(&[tlv(0xEA, b"\x01"), crc(&[1, 2, 3, 4])]), Crc),
        ("two endpoints", with(&[tlv(0xEA, ENDPOINT), tlv(0xEA, ENDPOINT)]), Vpce),
        ("no subtype", with(&[tlv(0xEA, b"")]), Vpce),
        ("an empty endpoint", endpoint(""), Vpce),
        ("no digits", endpoint("vpce-"), Vpce),
        ("7 digits", endpoint("vpce-0123456"), Vpce),
        ("18 digits", endpoint("vpce-0123456789abcdef01"), Vpce),
        ("no hex digit", endpoint("vpce-08d2bf1g"), Vpce),
        ("upper case", endpoint("vpce-08D2BF15"), Vpce),
        ("an endpoint service", endpoint("vpce-svc-08d2bf15"), Vpce),
        ("a line end", endpoint("vpce-08d2bf15\n"), Vpce),
        ("another prefix", endpoint("vpcx-08d2bf15"), Vpce),
        ("not UTF-8", with(&[tlv(0xEA, b"\x01vpce-08d2bf1\xFF")]), Vpce),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(parse(&bytes), Err(expected), "{name}");
    }
}

/// As the specification says it, where only one TLV is a checksum: in the bytes 31 to 34.
fn crc32c(header: &[u8]) -> [u8; 4] {
    let mut sum = u32::MAX;
    for byte in header {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum % 2 == 1 { (sum / 2) ^ 0x82F6_3B78 } else { sum / 2 };
        }
    }
    (!sum).to_be_bytes()
}

#[test]
fn what_is_missing_of_a_header_is_told_exactly() {
    for (heard, missing) in [(0, 16), (1, 15), (15, 1), (16, 84), (99, 1)] {
        assert_eq!(parse(&AWS[..heard]), Ok(Progress::Need(missing)), "{heard} bytes heard");
    }
}

#[test]
fn every_refusal_has_a_code_of_its_own() {
    use ProxyRefusal::*;
    let all = [
        SourceNetwork,
        Timeout,
        Truncated,
        Signature,
        V1,
        Version,
        Command,
        Family,
        TooLong,
        Address,
        Tlv,
        Crc,
        Vpce,
        Duplicate,
        NotTls(crate::FirstBytes::Unknown),
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(|refusal| refusal.code()).collect();
    assert_eq!(codes.len(), all.len());
    assert!(codes.iter().all(|code| code.starts_with("proxy_")));
}

/// The answer to bytes that come in pieces: as the socket's reader asks, no byte more than what is needed.
fn in_pieces(bytes: &[u8], pieces: &[usize]) -> Option<Result<ProxyHeader, ProxyRefusal>> {
    let (mut heard, mut pieces) = (0, pieces.iter().cycle());
    loop {
        match parse(&bytes[..heard]) {
            Ok(Progress::Complete(header)) => {
                assert_eq!(header.length, heard, "nothing beyond the header was asked for");
                return Some(Ok(header));
            }
            Ok(Progress::Need(missing)) => {
                assert!(missing > 0);
                if heard == bytes.len() {
                    return None;
                }
                let piece = pieces.next().copied().unwrap_or(1);
                heard = bytes.len().min(heard + piece.min(missing));
            }
            Err(refusal) => return Some(Err(refusal)),
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Result<ProxyHeader, ProxyRefusal>> {
    match parse(bytes) {
        Ok(Progress::Complete(header)) => Some(Ok(header)),
        Ok(Progress::Need(_)) => None,
        Err(refusal) => Some(Err(refusal)),
    }
}

/// Anything, and what is almost a header.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let noise = || proptest::collection::vec(any::<u8>(), 0..300);
    let tlv =
        (prop_oneof![Just(3), Just(4), Just(0xEA), any::<u8>()], noise()).prop_map(|(kind, value)| tlv(kind, &value));
    let shaped = (prop_oneof![Just(0x20), Just(0x21), any::<u8>()], prop_oneof![Just(TCP4), Just(0x21), any::<u8>()]);
    let shaped =
        (shaped, proptest::collection::vec(tlv, 0..4), noise()).prop_map(|((command, family), tlvs, noise)| {
            [header(command, family, &[ADDRESSES, &tlvs.concat()]), noise].concat()
        });
    let changed = (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
        let mut header = AWS.to_vec();
        header[at.index(AWS.len())] = byte;
        header
    });
    let behind_a_signature = noise().prop_map(|noise| [SIGNATURE.as_slice(), &noise].concat());
    prop_oneof![noise(), behind_a_signature, shaped, changed]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_no_splitting_changes_the_answer(
        bytes in anything(),
        pieces in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        let answer = whole(&bytes);
        prop_assert_eq!(&in_pieces(&bytes, &pieces), &answer);
        prop_assert_eq!(&in_pieces(&bytes, &[1]), &answer);
        if let Some(Ok(header)) = answer {
            prop_assert!(header.length <= FIXED + MAX_BLOCK);
        }
    }

    #[test]
    fn no_more_than_a_header_is_ever_held(bytes in anything()) {
        if let Ok(Progress::Need(missing)) = parse(&bytes) {
            prop_assert!(bytes.len() + missing <= FIXED + MAX_BLOCK);
        }
    }
}
