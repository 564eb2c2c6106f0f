//! What a peer writes where our own people will read it: into titles, names, UIDs and headers. A log line must stay one line, one
//! JSON object, and nothing that moves a cursor.

use std::io::Write;

use testkit::house::{House, eventually};
use testkit::peer::{Associated, Peer, plain, sample_contexts};
use testkit::relay::{Header, Relay};
use testkit::stranger::Tls;

use super::forge::{Door, Forge, common_name, dns, row, uri};
use super::house_configured;
use crate::proxy::{ENDPOINT, destination, source};
use crate::support::instance::Instance;
use crate::support::{CALLED, SUCCESS, audited};

const DOMAIN: &str = "hosp-a.example";
const CT1: &str = "spiffe://hosp-a.example/ct1";
/// In everything that is sent here and must not get into a log.
const CANARY: &str = "EVIL";

/// What breaks lines, objects and terminals. At most 16 bytes, so that each fits into an AE title.
const SPITE: [&[u8]; 12] = [
    b"EVIL\r\n{\"seq\":1}",
    b"EVIL\n\nforged",
    b"\x1b[2J\x1b[31mEVIL",
    b"\x1b]0;EVIL\x07",
    b"\x9b31mEVIL",
    b"EVIL\0\0\0",
    b"EVIL\x7f\x08\x08\x08\x08",
    b"EVIL\\u000a\\",
    b"\xe2\x80\xaeEVIL",
    b"\xc2\x85EVIL\xe2\x80\xa8",
    b"EVIL\xff\xfe\xc0\x80",
    b"%0d%0aEVIL\t",
];

/// In the default repertoire, so it is a title; and it is on record as what it is.
const LEGAL: &str = "\"}{\"seq\":0,\"a\":\"";

fn spite(which: usize) -> Vec<u8> {
    let mut title = SPITE[which].to_vec();
    title.resize(16, b' ');
    title
}

#[test]
fn nothing_that_a_peer_writes_breaks_a_line_of_the_logs() {
    for format in ["json", "human"] {
        let forge = Forge::new(DOMAIN);
        let rows = row("ct1", &format!("identity = \"{CT1}\""));
        let house = Door::trusting_with(&[&forge], &rows, &["--log", format]).house;
        let verdicts = [titles(&house, &forge), certificates(&house, &forge), uids(&house, &forge), noise(&house)];
        let sent: usize = verdicts.into_iter().sum();
        // The last of all, so that everything before it has been written.
        let mut last = associated(&house, &forge);
        assert_eq!(last.echo(), SUCCESS);
        let refused = || house.audit().iter().filter(|line| line["decision"] == "deny").count();
        eventually("each attempt is on record", || (refused() >= sent).then_some(()));
        assert_audit_is_clean(&house);
        assert_output_is_clean(&house, format);
    }
}

fn associated(house: &House, forge: &Forge) -> Peer {
    let mut peer = Peer::connect_as(house.addr(), &forge.svid(CT1).shown(Tls::V13)).expect("a good certificate");
    assert!(matches!(peer.associate(CALLED, "ANYBODY", sample_contexts()), Associated::Accepted(_)));
    peer
}

/// A-ASSOCIATE-RQ with other bytes at a place (PS3.8 Table 9-11: the called title is at 10, the calling one at 26).
fn request_with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let title = |text: &str| model::AeTitle::parse(text).expect("a title");
    let (called, calling) = (title(CALLED), title("ANYBODY"));
    let request = dimse::Request { called, calling, contexts: sample_contexts(), max_pdu_length: 16_384 };
    let mut request = request.bytes();
    request[at..at + bytes.len()].copy_from_slice(bytes);
    request
}

fn titles(house: &House, forge: &Forge) -> usize {
    let certificate = forge.svid(CT1);
    let ask = |request: &[u8]| {
        let mut peer = Peer::connect_as(house.addr(), &certificate.shown(Tls::V13)).expect("a good certificate");
        peer.send_raw(request).expect("the receiver reads the request");
        peer.read_pdu().map(|(kind, _)| kind)
    };
    for which in 0..SPITE.len() {
        for at in [10, 26] {
            assert_ne!(ask(&request_with(at, &spite(which))), Some(2), "{which} is no title");
        }
    }
    assert_eq!(ask(&request_with(26, LEGAL.as_bytes())), Some(2), "it is a title, and the row takes any");
    audited(house, &[("reason", "granted"), ("calling_ae", LEGAL)]);
    // A class that is no UID; the name of the implementation, which nobody looks at.
    let request = request_with(10, &model::AeTitle::parse(CALLED).expect("a title").padded());
    for old in [&b"1.2.840.10008.5.1.4.1.1.2"[..], b"1.2.840.10008.1.2.1"] {
        let at = request.windows(old.len()).position(|bytes| bytes == old).expect("it is proposed");
        let _ = ask(&request_with(at, &SPITE[0][..old.len().min(SPITE[0].len())]));
    }
    2 * SPITE.len()
}

fn certificates(house: &House, forge: &Forge) -> usize {
    let stranger = Forge::new("nobody.example");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut refused = 0;
    for bytes in SPITE {
        // A URI name is ASCII; with a line break behind it, it is no SPIFFE ID whatever is left of it.
        let (name, ascii) = (text(bytes), text(bytes).replace(|letter: char| !letter.is_ascii(), "") + "\r\n");
        let good = forge.sign(|params| {
            params.subject_alt_names = vec![dns(&ascii), uri(CT1)];
            params.distinguished_name = common_name(&name);
        });
        let mut peer = Peer::connect_as(house.addr(), &good.shown(Tls::V13)).expect("a good certificate");
        assert!(matches!(peer.associate(CALLED, "ANYBODY", sample_contexts()), Associated::Accepted(_)));
        // And where it is the reason of a refusal, by a root that is trusted and by one that is not.
        for forge in [forge, &stranger] {
            for uris in [vec![format!("{CT1}/{ascii}")], vec![format!("spiffe://{ascii}/x")], vec![ascii.clone(); 2]] {
                let bad = forge.sign(|params| {
                    params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
                    params.distinguished_name = common_name(&name);
                });
                if let Ok(mut peer) = Peer::connect_as(house.addr(), &bad.shown(Tls::V13)) {
                    assert_eq!(peer.associate(CALLED, "ANYBODY", sample_contexts()), Associated::Closed);
                }
                refused += 1;
            }
        }
    }
    refused
}

fn uids(house: &House, forge: &Forge) -> usize {
    let mut refused = 0;
    for bytes in SPITE {
        let mut peer = associated(house, forge);
        let good = Instance::numbered(1);
        // In the data set: study, series, instance and class.
        for tag in [0x0020_000D, 0x0020_000E, 0x0008_0018, 0x0008_0016] {
            let spoilt = good.clone().with(tag, b"UI", bytes);
            assert_ne!(peer.store(&good.claim(), &spoilt.data_set()), SUCCESS, "{tag:08X}");
            refused += 1;
        }
        // In the command, where the instance's UID stood.
        let mut named = Instance::numbered(2);
        named.uid = format!("2.25.{}", "7".repeat(bytes.len()));
        let association = peer.association();
        let claim = named.claim();
        let context = association.accepted(&claim.class, &claim.transfer_syntax).expect("CT was accepted");
        let mut command = association.store_command(context, 99, &claim);
        let old = named.uid.as_bytes();
        let at = command.windows(old.len()).position(|bytes| bytes == old).expect("it is in the command");
        command[at..at + bytes.len()].copy_from_slice(bytes);
        peer.send_raw(&command).and_then(|()| peer.send_data(context, &named.data_set()[..])).expect("it listens");
        assert_ne!(peer.outcome(), SUCCESS);
    }
    refused
}

/// What is no TLS at all.
fn noise(house: &House) -> usize {
    for bytes in SPITE {
        let mut socket = plain(house.addr()).expect("it listens");
        let _ = socket.write_all(b"GET /").and_then(|()| socket.write_all(bytes));
    }
    SPITE.len()
}

/// In a PROXY header, where a load balancer of somebody else's says it.
#[test]
fn nothing_in_a_proxy_header_breaks_a_line_of_the_logs() {
    let house =
        house_configured(&[("[receiver]", "proxy_protocol = \"required\"\nproxy_networks = [\"127.0.0.0/8\"]")]);
    let header = || Header::relayed(source(), destination()).checksum();
    for bytes in SPITE {
        // PP2_TYPE_ALPN, AUTHORITY, UNIQUE_ID, SSL, NETNS and one of nobody's: taken for nothing.
        let kinds = [0x01, 0x02, 0x05, 0x20, 0x30, 0xE0];
        let ignored = kinds.into_iter().fold(header(), |header, kind| header.tlv(kind, bytes)).vpce(ENDPOINT);
        let relay = Relay::start(house.addr(), &ignored);
        let credentials = testkit::peer::Credentials::of_house(&house, "hospital-a");
        let mut peer = Peer::connect(relay.addr(), &credentials).expect("the header is good");
        assert!(matches!(peer.associate(CALLED, crate::support::A, sample_contexts()), Associated::Accepted(_)));
        // As the endpoint itself: refused.
        let spoilt = header().tlv(0xEA, &[b"\x01vpce-", bytes].concat()).bytes();
        let mut socket = plain(house.addr()).expect("it listens");
        socket.write_all(&spoilt).expect("it listens");
    }
    let refused = || house.audit().iter().filter(|line| line["reason"] == "proxy_vpce").count();
    eventually("each is on record", || (refused() == SPITE.len()).then_some(()));
    assert_audit_is_clean(&house);
    assert_output_is_clean(&house, "json");
}

/// Byte for byte, and not by a reader that is kind.
fn assert_audit_is_clean(house: &House) {
    let text = std::fs::read(house.dir().join("audit.jsonl")).expect("there is a log");
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).collect();
    for (number, line) in lines.iter().enumerate() {
        let line = &line[..line.len() - 1];
        let shown = String::from_utf8_lossy(line);
        assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')), "line {number}: {shown}");
        let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {shown}"));
        assert_eq!(value["seq"], number + 1, "no line was added: {shown}");
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

fn assert_output_is_clean(house: &House, format: &str) {
    for line in house.output() {
        assert!(!line.contains(CANARY), "{line}");
        assert!(line.chars().all(|letter| !letter.is_control()), "{format}: {line:?}");
        assert!(line.is_ascii(), "{format}: {line:?}");
        // What is said to people begins otherwise.
        if format == "json" && line.starts_with('{') {
            let value: Result<serde_json::Value, _> = serde_json::from_str(&line);
            assert!(value.is_ok_and(|value| value["level"].is_string()), "{line}");
        }
    }
}
